package wsgi_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/seed-a2d07992/wsgi"
)

// blocking is an application whose requests for /wait do so until the test
// opens its gate. Each request leaves a line in the file named seen.
const blocking = `
import os, threading
HERE = os.path.dirname(os.path.abspath(__file__))

def note(file, text):
    descriptor = os.open(os.path.join(HERE, file), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, (text + "\n").encode())
    os.close(descriptor)

def application(environ, start_response):
    note("seen", environ["PATH_INFO"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] != "/wait":
        return [b"hello"]
    note("waiting", environ["PATH_INFO"])
    with open(os.path.join(HERE, "gate")) as gate: # a named pipe
        gate.read()
    return [b"waited"]
`

// A barrier holds requests of the blocking application.
type barrier struct {
	t    testing.TB
	dir  string
	once sync.Once
}

func newBarrier(t testing.TB, s *server) *barrier {
	t.Helper()
	makePipe(t, filepath.Join(s.Dir, "gate"))
	b := &barrier{t: t, dir: s.Dir}
	t.Cleanup(b.open) // a test that fails leaves nobody waiting
	return b
}

// waitFor waits until n requests have come to the gate since the start.
func (b *barrier) waitFor(n int) {
	b.t.Helper()
	eventually(b.t, fmt.Sprintf("%d requests wait in the application", n), func() bool {
		data, _ := os.ReadFile(filepath.Join(b.dir, "waiting"))
		return strings.Count(string(data), "\n") >= n
	})
}

// seen lists the paths of the requests that came to the application.
func (b *barrier) seen() []string {
	data, _ := os.ReadFile(filepath.Join(b.dir, "seen"))
	return strings.Fields(string(data))
}

// open lets all pass that wait, and all that come later.
func (b *barrier) open() {
	b.once.Do(func() {
		pipe := filepath.Join(b.dir, "gate")
		writer, err := os.OpenFile(pipe, os.O_RDWR, 0)
		if err != nil {
			b.t.Error(err)
			return
		}
		// Later ones find a file, which takes the pipe's place in one step; those
		// who wait see the last writer go.
		if err := os.WriteFile(pipe+".open", nil, 0o600); err != nil {
			b.t.Error(err)
		}
		if err := os.Rename(pipe+".open", pipe); err != nil {
			b.t.Error(err)
		}
		writer.Close()
	})
}

// start sends a GET without waiting for its answer, which comes on the channel:
// its status and body, or the error.
func start(ctx context.Context, s *server, path string) <-chan string {
	answer := make(chan string, 1)
	go func() {
		r, err := http.NewRequestWithContext(ctx, "GET", s.URL+path, nil)
		if err != nil {
			answer <- err.Error()
			return
		}
		resp, err := s.Client().Do(r)
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		var body bytes.Buffer
		_, err = body.ReadFrom(resp.Body)
		if err != nil {
			answer <- err.Error()
			return
		}
		answer <- fmt.Sprint(resp.StatusCode, " ", strings.TrimSpace(body.String()))
	}()
	return answer
}

// receive waits for what a channel has to give.
func receive[T any](t testing.TB, what string, from <-chan T) (value T) {
	t.Helper()
	within(t, what, func() { value = <-from })
	return value
}

// One worker, so that the test can say how many requests are where.
var oneWorker = []wsgi.Option{wsgi.WithInterpreters(1), wsgi.WithThreads(1)}

func TestFullQueueIs503(t *testing.T) {
	isolations(t, func(t *testing.T, mode wsgi.Isolation) {
		s := serve(t, blocking, append(oneWorker, wsgi.WithIsolation(mode), wsgi.WithQueue(2))...)
		b := newBarrier(t, s)
		var waiting []<-chan string
		// One runs, one is at hand, two are in the queue.
		for n := range 4 {
			waiting = append(waiting, start(t.Context(), s, "/wait"))
			eventually(t, "the request is counted", func() bool {
				stats := s.App.Stats()
				return stats.InFlight+stats.Queued == n+1
			})
		}
		if stats := s.App.Stats(); stats.Queued != 2 || stats.InFlight != 2 || stats.Rejected != 0 {
			t.Errorf("before: %+v", stats)
		}
		for n := range 3 {
			resp, body := s.get(t, "/more")
			if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
				t.Errorf("got %s %q, Retry-After %q", resp.Status, body, resp.Header.Get("Retry-After"))
			}
			if stats := s.App.Stats(); stats.Rejected != uint64(n+1) {
				t.Errorf("after %d: %+v", n+1, stats)
			}
		}
		// A full queue costs nobody the connection.
		c := s.dial(t)
		for range 2 {
			c.write("POST /more HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
			if resp, _ := c.answer("POST"); resp.StatusCode != 503 || resp.Close {
				t.Errorf("got %s, close %v", resp.Status, resp.Close)
			}
		}
		b.open()
		for _, answer := range waiting {
			if got := receive(t, "an answer", answer); got != "200 waited" {
				t.Error(got)
			}
		}
		s.expectBody(t, "/after", "hello")
		if slices.Contains(b.seen(), "/more") {
			t.Error("a refused request came to the application")
		}
		stats := s.App.Stats()
		if stats.Requests != 5 || stats.Rejected != 5 || stats.Errors != 0 || stats.Queued != 0 {
			t.Errorf("at the end: %+v", stats)
		}
	})
}

// TestQueueIsFirstInFirstOut with one worker.
func TestQueueIsFirstInFirstOut(t *testing.T) {
	s := serve(t, blocking, oneWorker...)
	b := newBarrier(t, s)
	answers := []<-chan string{start(t.Context(), s, "/wait")}
	b.waitFor(1)
	want := []string{"/wait"}
	for n := range 12 {
		path := fmt.Sprint("/", n)
		want = append(want, path)
		answers = append(answers, start(t.Context(), s, path))
		eventually(t, "the request is counted", func() bool {
			stats := s.App.Stats()
			return stats.InFlight+stats.Queued == n+2
		})
	}
	b.open()
	for _, answer := range answers {
		receive(t, "an answer", answer)
	}
	if got := b.seen(); !slices.Equal(got, want) {
		t.Errorf("the application saw %v, want %v", got, want)
	}
}

// TestDepartedClientsLeaveTheQueue, be it Go's or the short one at hand.
func TestDepartedClientsLeaveTheQueue(t *testing.T) {
	s := serve(t, blocking, oneWorker...)
	b := newBarrier(t, s)
	first := start(t.Context(), s, "/wait")
	b.waitFor(1)
	ctx, cancel := context.WithCancel(t.Context())
	var gone []<-chan string
	for n := range 8 {
		gone = append(gone, start(ctx, s, "/gone"))
		eventually(t, "the request is counted", func() bool {
			stats := s.App.Stats()
			return stats.InFlight+stats.Queued == n+2
		})
	}
	stays := start(t.Context(), s, "/stays")
	eventually(t, "the request is counted", func() bool {
		stats := s.App.Stats()
		return stats.InFlight+stats.Queued == 10
	})
	cancel()
	for _, answer := range gone {
		receive(t, "the end of a canceled request", answer)
	}
	eventually(t, "the departed leave, and who stays moves up", func() bool {
		stats := s.App.Stats()
		return stats.InFlight == 2 && stats.Queued == 0
	})
	b.open()
	if got := receive(t, "the first answer", first); got != "200 waited" {
		t.Error(got)
	}
	if got := receive(t, "the last answer", stays); got != "200 hello" {
		t.Error(got)
	}
	if got := b.seen(); !slices.Equal(got, []string{"/wait", "/stays"}) {
		t.Errorf("the application saw %v", got)
	}
	if stats := s.App.Stats(); stats.Requests != 2 || stats.Errors != 0 || stats.Rejected != 0 {
		t.Errorf("%+v", stats)
	}
	s.Logs.expectQuiet(t)
}

// TestIdleInterpreterTakesOver: no request waits behind a long one while
// another interpreter has nothing to do.
func TestIdleInterpreterTakesOver(t *testing.T) {
	needOwnGIL(t)
	s := serve(t, blocking, wsgi.WithIsolation(wsgi.OwnGIL), wsgi.WithInterpreters(2), wsgi.WithThreads(1))
	b := newBarrier(t, s)
	long := start(t.Context(), s, "/wait")
	b.waitFor(1)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 50 {
				s.expectBody(t, "/short", "hello")
			}
		})
	}
	within(t, "the short requests beside a long one", group.Wait)
	select {
	case got := <-long:
		t.Errorf("the long request has ended: %q", got)
	default:
	}
	b.open()
	if got := receive(t, "the long request's answer", long); got != "200 waited" {
		t.Error(got)
	}
}

// TestBusyInterpreterTakesOver: what an interpreter has at hand when it gets
// stuck is done by another, even if that one never runs out of work.
func TestBusyInterpreterTakesOver(t *testing.T) {
	needOwnGIL(t)
	busy := strings.Replace(blocking, `return [b"hello"]`, `return [b"hello" for i in range(100000)][:1]`, 1) // some milliseconds
	s := servePlain(t, busy, wsgi.WithIsolation(wsgi.OwnGIL), wsgi.WithInterpreters(2), wsgi.WithThreads(1))
	b := newBarrier(t, s)
	const clients, each = 16, 10
	var stuck atomic.Bool
	var left atomic.Int32
	left.Store(clients)
	var group sync.WaitGroup
	for range clients {
		group.Go(func() {
			// They go on until each of them has had enough answers.
			for n := 0; left.Load() > 0; {
				if _, body := s.get(t, "/short"); body != "hello" {
					t.Errorf("got %q", body)
					left.Store(0)
				}
				if stuck.Load() {
					if n++; n == each {
						left.Add(-1)
					}
				}
			}
		})
	}
	long := start(t.Context(), s, "/wait")
	b.waitFor(1)
	stuck.Store(true)
	within(t, "all clients get answers beside a long request", group.Wait)
	b.open()
	if got := receive(t, "the long request's answer", long); got != "200 waited" {
		t.Error(got)
	}
}

func TestClientWithTheWholeAnswerIsNoError(t *testing.T) {
	s := servePlain(t, `
import time

def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    def whole():
        yield b"whole"
        while True:  # until the server notices that nobody is there
            yield b""
            time.sleep(0.001)
    return whole()
`)
	c := s.dial(t)
	c.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, got := c.answer("GET"); got != "whole" {
		t.Errorf("got %q", got)
	}
	c.Close()
	eventually(t, "the application is stopped", func() bool { return s.App.Stats().InFlight == 0 })
	if stats := s.App.Stats(); stats.Requests != 1 || stats.Errors != 0 {
		t.Errorf("%+v", stats)
	}
}

func TestStatsCountWhatHappened(t *testing.T) {
	s := servePlain(t, `
def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/raise":
        raise ValueError("on purpose")
    start_response("500 Internal Server Error" if path == "/500" else "200 OK", [])
    if path == "/cut":
        def cut():
            yield b"x"
            raise ValueError("on purpose")
        return cut()
    return [b"x"]
`, wsgi.WithThreads(2))
	for range 3 {
		s.get(t, "/")
	}
	s.get(t, "/500") // the application's own answer is no failure
	s.get(t, "/raise")
	if resp, err := s.Client().Get(s.URL + "/cut"); err == nil {
		resp.Body.Close()
	}
	eventually(t, "all are over", func() bool { return s.App.Stats().InFlight == 0 })
	stats := s.App.Stats()
	if stats.Requests != 6 || stats.Errors != 2 || stats.Rejected != 0 || stats.Queued != 0 {
		t.Errorf("%+v", stats)
	}
	var requests, failed uint64
	for _, it := range stats.Interpreters {
		requests += it.Requests
		failed += it.Errors
		if it.Threads != 2 || it.InFlight != 0 {
			t.Errorf("%+v", it)
		}
	}
	if requests != 6 || failed != 2 {
		t.Errorf("the interpreters' sums are %d and %d: %+v", requests, failed, stats)
	}
	want := wsgi.Main
	if atLeast(t, 13) {
		want = wsgi.OwnGIL
	}
	if stats.Isolation != want {
		t.Errorf("isolation %v, want %v", stats.Isolation, want)
	}
}

// oneInterpreter is the options for one interpreter of each mode.
func oneInterpreter(mode wsgi.Isolation, threads int) []wsgi.Option {
	options := []wsgi.Option{wsgi.WithIsolation(mode), wsgi.WithThreads(threads)}
	if mode == wsgi.OwnGIL {
		options = append(options, wsgi.WithInterpreters(1))
	}
	return options
}

// TestShortRequestsPassALongOne sends short requests together with one that
// blocks, after many short ones: they are left to the worker that is awake, which
// may turn out to be the one that is stuck.
func TestShortRequestsPassALongOne(t *testing.T) {
	isolations(t, func(t *testing.T, mode wsgi.Isolation) {
		const rounds, together = 20, 8
		s := servePlain(t, blocking, oneInterpreter(mode, rounds+1)...)
		b := newBarrier(t, s)
		var stuck sync.WaitGroup
		for round := range rounds {
			for range 50 {
				if _, body := s.get(t, "/"); body != "hello" {
					t.Fatalf("a short request: %q", body)
				}
			}
			stuck.Go(func() { s.get(t, "/wait") })
			var short sync.WaitGroup
			for range together {
				short.Go(func() {
					if _, body := s.get(t, "/"); body != "hello" {
						t.Errorf("beside a long request: %q", body)
					}
				})
			}
			within(t, "answering short requests beside a long one", short.Wait)
			b.waitFor(round + 1)
		}
		b.open()
		stuck.Wait()
	})
}
