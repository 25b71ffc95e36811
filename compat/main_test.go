package compat

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-a2d07992/wsgi"
	"github.com/seed-a2d07992/wsgi/embedded"
)

// patience is how long a test waits for what should happen at once. It is only
// spent where something is wrong.
const patience = time.Minute

// python is the interpreter of the virtual environment with all that is tested.
// The first run installs it.
var python = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return embedded.Venv(context.Background(), filepath.Join(cache, "go-wsgi-compat"), "-r", "requirements.txt")
})

// mustPython is python where a test can't go on without it.
func mustPython(t *testing.T) string {
	t.Helper()
	path, err := python()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// newApp starts an application that is closed at the end of the test. It finds
// the modules in apps.
func newApp(t *testing.T, module, callable string, opts ...wsgi.Option) (*wsgi.App, *logs) {
	t.Helper()
	records := &logs{}
	app, err := wsgi.New(module, callable, append([]wsgi.Option{
		wsgi.WithPython(mustPython(t)), wsgi.WithPath("apps"), wsgi.WithLogger(slog.New(records)),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := app.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("logged:\n%s", strings.Join(records.all(), "\n"))
		}
	})
	return app, records
}

// serve starts a server that is closed at the end of the test.
func serve(t *testing.T, handler http.Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server
}

// logs is a slog.Handler that keeps its records of level Warn and above as text.
type logs struct {
	mu      sync.Mutex
	records []string
}

func (l *logs) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }
func (l *logs) WithAttrs([]slog.Attr) slog.Handler               { return l }
func (l *logs) WithGroup(string) slog.Handler                    { return l }

func (l *logs) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = append(l.records, r.Level.String()+" "+r.Message)
	return nil
}

// all returns the records so far.
func (l *logs) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.records...)
}

// take returns the records so far and forgets them.
func (l *logs) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := strings.Join(l.records, "\n")
	l.records = nil
	return text
}

// ---- Requests

// A client sends requests to the application that is mounted at url.
type client struct {
	t    *testing.T
	url  string
	http *http.Client
}

// newClient returns a client that follows no redirects.
func newClient(t *testing.T, url string) *client {
	return &client{t, url, &http.Client{
		Transport:     &http.Transport{DisableCompression: true},
		Timeout:       patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// do sends a request, with pairs of header names and values, and returns the
// answer with its body read.
func (c *client) do(method, target string, body io.Reader, header ...string) (*http.Response, string) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.url+target, body)
	if err != nil {
		c.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	r.Host = r.Header.Get("Host")
	resp, err := c.http.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("%s %s: reading the body after %d bytes: %v", method, target, len(data), err)
	}
	return resp, string(data)
}

// get sends a GET, which must be answered with the status, and returns the body.
func (c *client) get(status int, target string, header ...string) string {
	c.t.Helper()
	resp, body := c.do("GET", target, nil, header...)
	if resp.StatusCode != status {
		c.t.Fatalf("GET %s: %s, want %d\n%s", target, resp.Status, status, body)
	}
	return body
}

// unsized hides the size of a body, so that it is sent in chunks.
type unsized struct{ io.Reader }

// noise returns the given number of bytes that don't compress, the same for the
// same seed.
func noise(size int, seed byte) []byte {
	var key [32]byte
	key[0] = seed
	data := make([]byte, size)
	_, _ = rand.NewChaCha8(key).Read(data) // never fails
	return data
}

// within fails the test when f takes too long.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s has not returned after %v", what, patience)
	}
}
