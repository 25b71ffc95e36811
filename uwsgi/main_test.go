package uwsgi_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/seed-a2d07992/wsgi/internal/servertest"
	"github.com/seed-a2d07992/wsgi/uwsgi"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// networks are those over which the protocol is spoken.
var networks = []string{"tcp", "unix"}

func listen(t testing.TB, network string) net.Listener {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = servertest.SocketPath(t)
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A logBuffer is what a server has logged.
type logBuffer struct{ servertest.Buffer }

func (b *logBuffer) logger() *log.Logger { return log.New(b, "", 0) }

// serve runs s on a listener until the test's end, and returns its address.
func serve(t testing.TB, network string, s *uwsgi.Server) string {
	t.Helper()
	if s.ErrorLog == nil {
		s.ErrorLog = log.New(io.Discard, "", 0)
	}
	l := listen(t, network)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
			_ = s.Close()
		}
		if err := <-done; !errors.Is(err, uwsgi.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr().String()
}

// client returns a client of a server that runs h.
func client(t testing.TB, network string, h http.HandlerFunc) *http.Client {
	t.Helper()
	return &http.Client{Transport: &uwsgi.Transport{
		Network: network,
		Address: serve(t, network, &uwsgi.Server{Handler: h}),
	}}
}

func readAll(t testing.TB, r *http.Response) string {
	t.Helper()
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatalf("body: %v after %d bytes", err, len(b))
	}
	return string(b)
}

func await(t testing.TB, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
	}
}

// onNetworks runs a test over each network.
func onNetworks(t *testing.T, test func(t *testing.T, network string)) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) { test(t, network) })
	}
}
