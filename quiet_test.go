package wsgi_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/seed-a2d07992/wsgi"
)

// lingering is an application whose responses have a length and a close(), which for
// /wait does not return before /open was asked for.
const lingering = `
import threading
opened = threading.Event()

class Response:
    def __init__(self, path):
        self.path = path

    def __iter__(self):
        yield b"hello"

    def close(self):
        if self.path == "/wait":
            opened.wait()

def application(environ, start_response):
    path = environ["PATH_INFO"]
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    if path == "/open":
        opened.set()
    return Response(path)
`

// TestResponseIsThereBeforeClose: Go isn't woken for a response whose end is near,
// since it is woken for that, but the client gets it also where close() takes long
// after many that did not.
func TestResponseIsThereBeforeClose(t *testing.T) {
	isolations(t, func(t *testing.T, mode wsgi.Isolation) {
		s := servePlain(t, lingering, oneInterpreter(mode, 3)...)
		for range 100 {
			s.get(t, "/")
		}
		// Each on a connection of its own, which is busy until close() returns. The
		// first is alone, so that its goroutine looks for the response.
		for _, path := range []string{"/wait", "/wait", "/open"} {
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport, Timeout: patience}
			resp, err := client.Get(s.URL + path)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || string(body) != "hello" {
				t.Errorf("%s: %q, %v", path, body, err)
			}
			resp.Body.Close()
		}
	})
}

// TestResponsesArriveBesideALongRequest: a worker does not wake Go for each response
// where the next request is likely to be as short, but they arrive also where it is
// not.
func TestResponsesArriveBesideALongRequest(t *testing.T) {
	isolations(t, func(t *testing.T, mode wsgi.Isolation) {
		for range 10 {
			s := servePlain(t, countingUp, oneInterpreter(mode, 1)...)
			b := newBarrier(t, s)
			for range 50 {
				s.get(t, "/")
			}
			var all sync.WaitGroup
			var answered atomic.Int64
			for i := range 24 {
				path := "/"
				if i == 12 {
					path = "/wait"
				}
				all.Go(func() {
					s.get(t, path)
					answered.Add(1)
				})
			}
			b.waitFor(1)
			data, err := os.ReadFile(filepath.Join(s.Dir, "waiting"))
			if err != nil {
				t.Fatal(err)
			}
			before, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "the responses before a long request arrive", func() bool { return answered.Load() >= before-50 })
			b.open()
			all.Wait()
		}
	})
}

// countingUp is the blocking application, which notes how many requests came before
// the one that waits.
const countingUp = blocking + `
count = 0

def application(environ, start_response):
    global count
    if environ["PATH_INFO"] == "/":
        count += 1
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello"]
    start_response("200 OK", [("Content-Type", "text/plain")])
    note("waiting", str(count))
    with open(os.path.join(HERE, "gate")) as gate:
        gate.read()
    return [b"waited"]
`
