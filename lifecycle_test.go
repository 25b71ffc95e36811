package wsgi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-a2d07992/wsgi"
)

func shutdown(t testing.TB, app *wsgi.App) {
	t.Helper()
	within(t, "Shutdown", func() {
		if err := app.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
}

func TestShutdownLeavesNothingBehind(t *testing.T) {
	isolations(t, func(t *testing.T, mode wsgi.Isolation) {
		// Once for what the process keeps for good.
		first, _, _ := startApp(t, hello, wsgi.WithIsolation(mode))
		shutdown(t, first)
		for _, end := range []string{"Shutdown", "Close"} {
			before := measure(t)
			app, records, _ := startApp(t, hello, wsgi.WithIsolation(mode))
			for range 10 {
				if _, body := record(t, app, "POST", "/", chunked{strings.NewReader("x")}); body != "hello" {
					t.Error(body)
				}
			}
			if during := measure(t); len(during.threads) <= len(before.threads) {
				t.Errorf("with an application there are no more threads than %v", before.threads)
			}
			if end == "Close" {
				within(t, "Close", func() {
					if err := app.Close(); err != nil {
						t.Error(err)
					}
				})
			} else {
				shutdown(t, app)
			}
			expectReleased(t, before)
			records.expectQuiet(t)
		}
	})
}

// TestFailedStartLeavesNothingBehind, wherever it failed.
func TestFailedStartLeavesNothingBehind(t *testing.T) {
	isolations(t, func(t *testing.T, mode wsgi.Isolation) {
		failures := []string{
			"raise ValueError('on purpose')",
			"application = 5",
			"def application(: pass",
			"import no_such_module_anywhere",
			"",
		}
		try := func() {
			for _, source := range failures {
				_, file := writeApp(t, source)
				if app, err := wsgi.New(file, "application", wsgi.WithIsolation(mode)); err == nil {
					t.Errorf("%q was served", source)
					app.Close()
				}
			}
		}
		try()
		before := measure(t)
		try()
		expectReleased(t, before)
	})
}

func TestRequestsAfterShutdownAre503(t *testing.T) {
	s := serve(t, hello)
	s.expectBody(t, "/", "hello")
	shutdown(t, s.App)
	for range 3 {
		if resp, _ := s.do(t, "POST", "/", strings.NewReader("x")); resp.StatusCode != 503 {
			t.Errorf("got %s", resp.Status)
		}
	}
	shutdown(t, s.App) // again, and Close after it
	within(t, "Close", func() {
		if err := s.App.Close(); err != nil {
			t.Error(err)
		}
	})
	if stats := s.App.Stats(); stats.Requests != 1 {
		t.Errorf("%+v", stats)
	}
}

// TestShutdownWaitsForRequests: for those in flight, at hand and in the queue.
func TestShutdownWaitsForRequests(t *testing.T) {
	s := serve(t, blocking, oneWorker...)
	b := newBarrier(t, s)
	var answers []<-chan string
	for n := range 6 {
		answers = append(answers, start(t.Context(), s, "/wait"))
		eventually(t, "the request is counted", func() bool {
			stats := s.App.Stats()
			return stats.InFlight+stats.Queued == n+1
		})
	}
	b.waitFor(1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.App.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown with a context that has ended: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- s.App.Shutdown(context.Background()) }()
	if resp, _ := s.get(t, "/late"); resp.StatusCode != 503 {
		t.Errorf("a request during Shutdown: %s", resp.Status)
	}
	select {
	case err := <-done:
		t.Fatalf("Shutdown has returned %v before the requests were over", err)
	default:
	}
	b.open()
	for _, answer := range answers {
		if got := receive(t, "an answer", answer); got != "200 waited" {
			t.Error(got)
		}
	}
	if err := receive(t, "Shutdown", done); err != nil {
		t.Error(err)
	}
}

// TestCloseRefusesTheQueueAndEndsStreams, and still waits for the application.
func TestCloseRefusesTheQueueAndEndsStreams(t *testing.T) {
	s := serve(t, blocking, oneWorker...)
	b := newBarrier(t, s)
	first := start(t.Context(), s, "/wait")
	b.waitFor(1)
	var queued []<-chan string
	for n := range 3 {
		queued = append(queued, start(t.Context(), s, "/queued"))
		eventually(t, "the request is counted", func() bool {
			stats := s.App.Stats()
			return stats.InFlight+stats.Queued == n+2
		})
	}
	done := make(chan error, 1)
	go func() { done <- s.App.Close() }()
	for _, answer := range queued {
		if got := receive(t, "an answer", answer); !strings.HasPrefix(got, "503 ") {
			t.Errorf("a queued request: %s", got)
		}
	}
	select {
	case err := <-done:
		t.Fatalf("Close has returned %v with a request in the application", err)
	default:
	}
	b.open()
	if err := receive(t, "Close", done); err != nil {
		t.Error(err)
	}
	receive(t, "the first answer", first)
	if got := b.seen(); len(got) != 1 {
		t.Errorf("the application saw %v", got)
	}
}

func TestCloseEndsAnEndlessStream(t *testing.T) {
	s := serve(t, `
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    def endless():
        while True:
            yield b"x" * 1000
    return endless()
`)
	resp, err := s.Client().Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := resp.Body.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, resp.Body)
		ended <- err
	}()
	within(t, "Close", func() {
		if err := s.App.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := receive(t, "the stream's end", ended); err == nil {
		t.Error("the client takes a part for the whole")
	}
}

const atexitApp = `
import atexit, os, threading
HERE = os.path.dirname(os.path.abspath(__file__))

def note(text):
    with open(os.path.join(HERE, "notes"), "a") as f:
        f.write(text + "\n")

atexit.register(note, "first registered")
atexit.register(note, "second registered")

@atexit.register
def last():
    import json # an import still works
    note(f"threads {len([t for t in threading.enumerate() if t.name == 'mine'])}")
    note("requests " + json.dumps(requests))

requests = 0

def application(environ, start_response):
    global requests
    requests += 1
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]
`

func TestExitHandlersRunAtShutdown(t *testing.T) {
	subinterpreters(t, func(t *testing.T, mode wsgi.Isolation) {
		app, records, dir := startApp(t, atexitApp, append(oneWorker, wsgi.WithIsolation(mode))...)
		for range 3 {
			record(t, app, "GET", "/", nil)
		}
		if _, err := os.Stat(filepath.Join(dir, "notes")); err == nil {
			t.Error("they ran before")
		}
		shutdown(t, app)
		data, err := os.ReadFile(filepath.Join(dir, "notes"))
		if want := "threads 0\nrequests 3\nsecond registered\nfirst registered\n"; err != nil || string(data) != want {
			t.Errorf("the handlers wrote %q, %v; want %q", data, err, want)
		}
		records.expectQuiet(t)
	})
}

// TestIdleExecutorThreadsEndCleanly: an application may leave a pool's threads
// waiting for work.
func TestIdleExecutorThreadsEndCleanly(t *testing.T) {
	isolations(t, func(t *testing.T, mode wsgi.Isolation) {
		before := measure(t)
		app, records, _ := startApp(t, `
from concurrent.futures import ThreadPoolExecutor
executor = ThreadPoolExecutor(3)

def application(environ, start_response):
    result = list(executor.map(lambda n: b"%d" % n, range(5)))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return result
`, append(oneWorker, wsgi.WithIsolation(mode))...)
		for range 3 {
			if _, body := record(t, app, "GET", "/", nil); body != "01234" {
				t.Error(body)
			}
		}
		began := time.Now()
		shutdown(t, app)
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("it took %v: idle threads were waited for", took)
		}
		records.expectQuiet(t)
		expectReleased(t, before)
	})
}

// TestExecutorsOutliveAnApplication: the main interpreter keeps its modules, and
// their thread pools, for the next application.
func TestExecutorsOutliveAnApplication(t *testing.T) {
	_, file := writeApp(t, `
import threading
from concurrent.futures import ThreadPoolExecutor
executor = ThreadPoolExecutor(2)
done = []

def application(environ, start_response):
    result = list(executor.map(lambda n: b"%d" % n, range(5)))
    with ThreadPoolExecutor(1) as other:
        result.append(other.submit(lambda: b" other").result())
    executor.submit(done.append, 1)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return result
`)
	for n := range 4 {
		app, err := wsgi.New(file, "application", append(oneWorker, wsgi.WithIsolation(wsgi.Main),
			wsgi.WithLogger(slog.New(slog.DiscardHandler)))...)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, body := record(t, app, "GET", "/", nil); body != "01234 other" {
				t.Errorf("start %d: %q", n+1, body)
			}
		}
		before := time.Now()
		shutdown(t, app)
		if took := time.Since(before); took > 4*time.Second {
			t.Errorf("its end took %v", took)
		}
	}
}

// TestThreadsThatNeverEndKeepTheInterpreter: ending it would crash the process.
func TestThreadsThatNeverEndKeepTheInterpreter(t *testing.T) {
	subinterpreters(t, func(t *testing.T, mode wsgi.Isolation) {
		app, records, dir := startApp(t, `
import os, threading, time
HERE = os.path.dirname(os.path.abspath(__file__))

def work():
    while not os.path.exists(os.path.join(HERE, "stop")):
        time.sleep(0.01)
    with open(os.path.join(HERE, "stopped"), "w"):
        pass

threading.Thread(target=work, name="never-ending", daemon=True).start()

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]
`, append(oneWorker, wsgi.WithIsolation(mode))...)
		record(t, app, "GET", "/", nil)
		shutdown(t, app)
		found := false
		for _, r := range records.All() {
			if r.Level == slog.LevelWarn && strings.Contains(fmt.Sprint(r), "never-ending") {
				found = true
			}
		}
		if !found {
			t.Errorf("no warning names the thread: %v", records.All())
		}
		// The thread still runs, and Python with it.
		writeFile(t, filepath.Join(dir, "stop"), "")
		eventually(t, "the thread goes on", func() bool {
			_, err := os.Stat(filepath.Join(dir, "stopped"))
			return err == nil
		})
		next, _, _ := startApp(t, hello, wsgi.WithIsolation(mode))
		if _, body := record(t, next, "GET", "/", nil); body != "hello" {
			t.Error(body)
		}
		shutdown(t, next)
	})
}

// TestStartsAndStopsDoNotAddUp starts and ends an application a thousand times
// (fewer where that takes too long, or where Python itself leaks).
func TestStartsAndStopsDoNotAddUp(t *testing.T) {
	cycles, limit := 1000, int64(24<<20)
	switch {
	case !atLeast(t, 13): // threads of the main interpreter
		cycles = 300
	case !atLeast(t, 14):
		cycles = 20 // a sub-interpreter of this version leaves megabytes behind
		limit = 400 << 20
	case addressSanitizer:
		cycles, limit = 100, 64<<20 // freed memory stays out of use for a while
	case testing.Short():
		cycles, limit = 100, 16<<20
	case raceDetector:
		cycles, limit = 200, 64<<20 // its shadow memory grows by itself
	}
	_, file := writeApp(t, hello)
	cycle := func() {
		app, err := wsgi.New(file, "application", append(oneWorker, wsgi.WithLogger(slog.New(slog.DiscardHandler)))...)
		if err != nil {
			t.Fatal(err)
		}
		if _, body := record(t, app, "GET", "/", nil); body != "hello" {
			t.Fatal(body)
		}
		shutdown(t, app)
	}
	for range cycles / 10 {
		cycle()
	}
	runtime.GC()
	before, resident := measure(t), residentBytes(t)
	began := time.Now()
	for range cycles {
		cycle()
	}
	runtime.GC()
	grown := residentBytes(t) - resident
	t.Logf("%d cycles took %v and left %d KiB", cycles, time.Since(began).Round(time.Millisecond), grown>>10)
	if grown > limit {
		t.Errorf("%d cycles left %d MiB", cycles, grown>>20)
	}
	expectReleased(t, before)
}

// TestHandlerOfABrokenApplication serves 500s, says why, and takes nothing else
// with it.
func TestHandlerOfABrokenApplication(t *testing.T) {
	records := &logs{}
	_, file := writeApp(t, "raise ValueError('broken on purpose')")
	h := wsgi.Handler(file, "application", wsgi.WithLogger(slog.New(records)))
	for range 2 {
		resp, body := record(t, h, "GET", "/", nil)
		if resp.StatusCode != 500 || strings.Contains(body, "purpose") {
			t.Errorf("got %s %q", resp.Status, body)
		}
	}
	text := fmt.Sprint(records.With("could not be started"))
	if !strings.Contains(text, "broken on purpose") || !strings.Contains(text, "Traceback") {
		t.Errorf("the log doesn't say why: %v", text)
	}
}

// TestManyApplicationsAtOnce start, serve and end side by side.
func TestManyApplicationsAtOnce(t *testing.T) {
	isolations(t, func(t *testing.T, mode wsgi.Isolation) {
		files := make([]string, 6)
		for i := range files {
			_, files[i] = writeApp(t, strings.ReplaceAll(hello, "hello", fmt.Sprint("hello ", i)))
		}
		done := make(chan error)
		for i, file := range files {
			go func() {
				done <- func() error {
					for range 3 {
						app, err := wsgi.New(file, "application", append(oneWorker, wsgi.WithIsolation(mode))...)
						if err != nil {
							return err
						}
						if _, body := record(t, app, "GET", "/", nil); body != fmt.Sprint("hello ", i) {
							return fmt.Errorf("application %d: %q", i, body)
						}
						if err := app.Close(); err != nil {
							return err
						}
					}
					return nil
				}()
			}()
		}
		for range files {
			if err := receive(t, "an application's end", done); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestPathsOfApplicationsStartedAtOnce: applications of the main interpreter share
// sys.path, and each finds its directories there once.
func TestPathsOfApplicationsStartedAtOnce(t *testing.T) {
	const paths = `
import sys
sys.setswitchinterval(1e-6) # threads take turns all the time

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(sys.path.count(environ["QUERY_STRING"])).encode()]
`
	t.Cleanup(func() {
		app, _, _ := newApp(t, hello+"import sys\nsys.setswitchinterval(0.005)\n", wsgi.WithIsolation(wsgi.Main))
		app.Close()
	})
	for range 20 {
		var group sync.WaitGroup
		apps := make([]*wsgi.App, 12)
		dirs := make([]string, len(apps))
		for i := range apps {
			var file string
			dirs[i], file = writeApp(t, paths)
			group.Go(func() {
				var err error
				if apps[i], err = wsgi.New(file, "application", append(oneWorker, wsgi.WithIsolation(wsgi.Main))...); err != nil {
					t.Error(err)
				}
			})
		}
		within(t, "starting applications", group.Wait)
		for i, app := range apps {
			if app == nil {
				continue
			}
			if _, body := record(t, app, "GET", "/?"+dirs[i], nil); body != "1" {
				t.Errorf("%s is on sys.path %s times", dirs[i], body)
			}
			if err := app.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
