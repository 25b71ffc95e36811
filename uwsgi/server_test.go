package uwsgi_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-a2d07992/wsgi/uwsgi"
)

func TestDeadlines(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string) {
		result := make(chan error, 1)
		c := client(t, network, func(w http.ResponseWriter, r *http.Request) {
			control := http.NewResponseController(w)
			if err := control.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
				t.Error(err)
			}
			_, err := io.Copy(io.Discard, r.Body)
			result <- err
			if err := control.SetWriteDeadline(time.Now().Add(patience)); err != nil {
				t.Error(err)
			}
			http.Error(w, "late", http.StatusRequestTimeout)
		})
		pr, pw := io.Pipe()
		defer pw.Close()
		r, _ := http.NewRequest("POST", "http://example.com/", pr)
		r.ContentLength = 10
		response, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, response); got != "late\n" || response.StatusCode != http.StatusRequestTimeout {
			t.Errorf("%s %q", response.Status, got)
		}
		if err := <-result; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("reading gives %v", err)
		}
	})
}

// A response that a timeout cuts off must not look whole.
func TestWriteTimeout(t *testing.T) {
	written := make(chan error, 1)
	transport := &uwsgi.Transport{Address: serve(t, "tcp", &uwsgi.Server{
		WriteTimeout: 50 * time.Millisecond,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, err := io.Copy(w, &zeros{1 << 30})
			written <- err
		}),
	})}
	r, _ := http.NewRequest("GET", "http://example.com/", nil)
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := <-written; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the handler got %v", err)
	}
	if n, err := io.Copy(io.Discard, response.Body); err == nil {
		t.Errorf("%d bytes look like the whole response", n)
	}
}

func TestServeFile(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 1<<17)
	path := filepath.Join(t.TempDir(), "file.bin")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	onNetworks(t, func(t *testing.T, network string) {
		c := client(t, network, func(w http.ResponseWriter, r *http.Request) {
			if _, ok := w.(io.ReaderFrom); !ok {
				t.Error("no ReadFrom")
			}
			http.ServeFile(w, r, path)
		})
		r, _ := http.NewRequest("GET", "http://example.com/", nil)
		for _, test := range []struct {
			bytes string
			want  []byte
		}{{"", content}, {"bytes=100000-999999", content[100000:1000000]}} {
			if test.bytes != "" {
				r.Header.Set("Range", test.bytes)
			}
			response, err := c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			if got := readAll(t, response); got != string(test.want) || response.ContentLength != int64(len(got)) {
				t.Errorf("%d bytes of %d", len(got), len(test.want))
			}
		}
	})
}

func TestContexts(t *testing.T) {
	type key string
	l := listen(t, "tcp")
	s := &uwsgi.Server{
		BaseContext: func(l net.Listener) context.Context {
			return context.WithValue(context.Background(), key("base"), l.Addr().String())
		},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if _, ok := c.(*net.TCPConn); !ok {
				t.Errorf("the connection is a %T", c)
			}
			return context.WithValue(ctx, key("conn"), c.LocalAddr().String())
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, address := r.Context(), l.Addr().String()
			local, _ := ctx.Value(http.LocalAddrContextKey).(net.Addr)
			if ctx.Value(key("base")) != address || ctx.Value(key("conn")) != address || local.String() != address {
				t.Errorf("%v", ctx)
			}
			if _, ok := ctx.Value(http.ServerContextKey).(*http.Server); !ok {
				t.Error("no server in the context")
			}
			if _, _, err := http.NewResponseController(w).Hijack(); !errors.Is(err, http.ErrNotSupported) {
				t.Errorf("Hijack: %v", err)
			}
		}),
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	c := &http.Client{Transport: &uwsgi.Transport{Address: l.Addr().String()}}
	response, err := c.Get("http://example.com/")
	if err != nil {
		t.Fatal(err)
	}
	readAll(t, response)
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, uwsgi.ErrServerClosed) {
		t.Error(err)
	}
	if err := s.Serve(listen(t, "tcp")); !errors.Is(err, uwsgi.ErrServerClosed) {
		t.Error(err)
	}
}

// ReverseProxy panics with http.ErrAbortHandler over a response that breaks,
// where it finds a server that recovers that.
func TestReverseProxyAborts(t *testing.T) {
	backend := serve(t, "tcp", &uwsgi.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", 10000))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})})
	front := serve(t, "tcp", &uwsgi.Server{Handler: &httputil.ReverseProxy{
		Rewrite:   func(*httputil.ProxyRequest) {},
		Transport: &uwsgi.Transport{Address: backend},
		ErrorLog:  log.New(io.Discard, "", 0),
	}})
	r, _ := http.NewRequest("GET", "http://example.com/", nil)
	response, err := (&uwsgi.Transport{Address: front}).RoundTrip(r)
	if err != nil {
		return // the reset came before the head was passed on
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusBadGateway {
		return
	}
	if b, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("%d bytes look like the whole response", len(b))
	}
}
