package wsgi_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/seed-a2d07992/wsgi"
)

// TestConcurrentClientsGetTheirOwnAnswers has 64 clients send bodies that no
// other sends, of all kinds, and check each answer whole.
func TestConcurrentClientsGetTheirOwnAnswers(t *testing.T) {
	const source = `
import time

def application(environ, start_response):
    source = environ["wsgi.input"]
    token = environ["HTTP_TOKEN"]
    start_response("200 OK", [("Content-Type", "text/plain"), ("Token", token), ("Path", environ["PATH_INFO"])])
    kind = environ["QUERY_STRING"]
    if kind == "list":
        return [source.read()]
    if kind == "pieces":
        def pieces():
            while True:
                piece = source.read(7000)
                if not piece:
                    return
                yield piece
        return pieces()
    if kind == "lines":
        return source.readlines()
    time.sleep(0.001)
    environ["wsgi.errors"].write(token + "\n")
    return iter([source.read()])
`
	isolations(t, func(t *testing.T, mode wsgi.Isolation) {
		s := servePlain(t, source, wsgi.WithIsolation(mode))
		s.Client().Transport.(*http.Transport).MaxIdleConnsPerHost = 64
		var group sync.WaitGroup
		for client := range 64 {
			group.Go(func() {
				random := rand.New(rand.NewPCG(uint64(client), 1))
				for n := range 20 {
					token := fmt.Sprintf("%d-%d", client, n)
					size := random.IntN([]int{100, 5000, 60_000, 400_000}[random.IntN(4)])
					body := bytes.Repeat(fmt.Appendf(nil, "%-200s\n", token), size/200+1)
					kind := []string{"list", "pieces", "lines", "iterator"}[random.IntN(4)]
					var reader io.Reader = bytes.NewReader(body)
					if random.IntN(2) == 0 {
						reader = chunked{reader}
					}
					r, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/"+token+"?"+kind, reader)
					if err != nil {
						t.Error(err)
						return
					}
					r.Header.Set("Token", token)
					resp, err := s.Client().Do(r)
					if err != nil {
						t.Error(err)
						return
					}
					got, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if err != nil || resp.StatusCode != 200 || resp.Header.Get("Token") != token ||
						resp.Header.Get("Path") != "/"+token || !bytes.Equal(got, body) {
						t.Errorf("%s of %d bytes by %s: %s, token %q, %d bytes, %v", token, len(body), kind,
							resp.Status, resp.Header.Get("Token"), len(got), err)
						return
					}
				}
			})
		}
		group.Wait()
		stats := s.App.Stats()
		if stats.Requests != 64*20 || stats.Errors != 0 || stats.Rejected != 0 {
			t.Errorf("%+v", stats)
		}
		for _, r := range s.Logs.All() {
			if r.Message != strings.TrimPrefix(strings.Split(r.Attrs["uri"], "?")[0], "/") && r.Attrs["uri"] != "" {
				t.Errorf("a record in another request's log: %v", r)
			}
		}
	})
}

// TestClientsComeAndGo has clients that leave in all ways beside those that
// stay, which must not notice.
func TestClientsComeAndGo(t *testing.T) {
	s := serve(t, `
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/endless":
        def endless():
            while True:
                yield b"x" * 5000
        return endless()
    size = 0
    try:
        while True:
            piece = environ["wsgi.input"].read(5000)
            if not piece:
                break
            size += len(piece)
    except OSError:
        pass
    return [str(size).encode()]
`)
	var group sync.WaitGroup
	stop := make(chan struct{})
	for n := range 8 {
		group.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				c := s.dial(t)
				switch (n + i) % 4 {
				case 0:
					c.write("GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
					_, _ = c.r.Peek(2000)
				case 1:
					c.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\nabc")
				case 2:
					c.write("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n")
				case 3:
					c.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
				}
				if i%2 == 0 {
					c.reset()
				} else {
					c.Close()
				}
			}
		})
	}
	var stayers sync.WaitGroup
	for range 8 {
		stayers.Go(func() {
			for range 50 {
				if _, got := s.do(t, "POST", "/", chunked{bytes.NewReader(make([]byte, 100_000))}); got != "100000" {
					t.Errorf("got %q", got)
				}
			}
		})
	}
	stayers.Wait()
	close(stop)
	group.Wait()
	eventually(t, "no request is in flight", func() bool {
		stats := s.App.Stats()
		return stats.InFlight == 0 && stats.Queued == 0
	})
}

// TestWorkersRunAtTheSameTime: each thread of each interpreter can wait for
// something without keeping the others from work.
func TestWorkersRunAtTheSameTime(t *testing.T) {
	isolations(t, func(t *testing.T, mode wsgi.Isolation) {
		opts := []wsgi.Option{wsgi.WithIsolation(mode), wsgi.WithThreads(3)}
		workers := 3
		if mode == wsgi.OwnGIL {
			opts = append(opts, wsgi.WithInterpreters(2))
			workers = 6
		}
		s := serve(t, blocking, opts...)
		gate := newBarrier(t, s)
		var group sync.WaitGroup
		for range workers {
			group.Go(func() { s.expectBody(t, "/wait", "waited") })
		}
		gate.waitFor(workers)
		// All of them are in the application now.
		gate.open()
		group.Wait()
		if stats := s.App.Stats(); len(stats.Interpreters) != workers/3 || stats.Interpreters[0].Threads != 3 {
			t.Errorf("%+v", stats)
		}
	})
}

// TestConcurrencyIsToldTruly: wsgi.multithread is about one interpreter,
// wsgi.multiprocess about others that have the application too.
func TestConcurrencyIsToldTruly(t *testing.T) {
	const app = `
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    told = [environ["wsgi." + name] for name in ("multithread", "multiprocess", "run_once", "version", "input_terminated")]
    return [repr(told).encode()]
`
	isolations(t, func(t *testing.T, mode wsgi.Isolation) {
		for _, threads := range []int{1, 2} {
			for interpreters := 1; interpreters == 1 || mode == wsgi.OwnGIL && interpreters == 2; interpreters++ {
				s := serve(t, app, wsgi.WithIsolation(mode), wsgi.WithThreads(threads), wsgi.WithInterpreters(interpreters))
				truth := map[bool]string{false: "False", true: "True"}
				s.expectBody(t, "/", fmt.Sprintf("[%s, %s, False, (1, 0), True]", truth[threads > 1], truth[interpreters > 1]))
			}
		}
	})
}

// TestThreadIdentityIsSteady: threading.local and what hangs on it live as long
// as the worker.
func TestThreadIdentityIsSteady(t *testing.T) {
	s := serve(t, `
import threading
local = threading.local()

def application(environ, start_response):
    local.n = getattr(local, "n", 0) + 1
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{local.n} {threading.current_thread() is threading.main_thread()} {threading.active_count()}".encode()]
`, wsgi.WithInterpreters(1), wsgi.WithThreads(1))
	for n := range 5 {
		_, body := s.get(t, "/")
		if got, _, _ := strings.Cut(body, " "); got != fmt.Sprint(n+1) {
			t.Errorf("request %d: %s", n+1, body)
		}
	}
}

// TestTwoApplicationsOfOneName have modules of the same name, and each its own.
func TestTwoApplicationsOfOneName(t *testing.T) {
	subinterpreters(t, func(t *testing.T, mode wsgi.Isolation) {
		for _, byFile := range []bool{false, true} {
			t.Run(fmt.Sprint("by file ", byFile), func(t *testing.T) {
				var apps []http.Handler
				for _, content := range []string{"first", "second"} {
					dir := t.TempDir()
					writeFile(t, dir+"/twin.py", "import twin_data\n"+stateful)
					writeFile(t, dir+"/twin_data.py", "content = "+fmt.Sprintf("%q", content)+"\n")
					module, opts := "twin", []wsgi.Option{wsgi.WithPath(dir)}
					if byFile {
						module, opts = dir+"/twin.py", nil
					}
					app, err := wsgi.New(module, "application", append(opts, wsgi.WithIsolation(mode),
						wsgi.WithInterpreters(1), wsgi.WithThreads(1))...)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { app.Close() })
					apps = append(apps, app)
				}
				for n := range 3 {
					for i, content := range []string{"first", "second"} {
						want := fmt.Sprintf("%s %d", content, n+1)
						if _, got := record(t, apps[i], "GET", "/", nil); got != want {
							t.Errorf("got %q, want %q", got, want)
						}
					}
				}
			})
		}
	})
}

const stateful = `
count = 0

def application(environ, start_response):
    global count
    count += 1
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{twin_data.content} {count}".encode()]
`

// TestTwoApplicationsInTheMainInterpreter: what would be mixed up there is an
// error, and what isn't works.
func TestTwoApplicationsInTheMainInterpreter(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	twin := fmt.Sprint("main_twin_", appNumber.Add(1)) // the interpreter keeps the module
	writeFile(t, first+"/"+twin+".py", hello)
	writeFile(t, second+"/"+twin+".py", hello)
	start := func(module, dir string) error {
		app, err := wsgi.New(module, "application", wsgi.WithPath(dir), wsgi.WithIsolation(wsgi.Main), wsgi.WithThreads(1))
		if err == nil {
			t.Cleanup(func() { app.Close() })
			if _, got := record(t, app, "GET", "/", nil); got != "hello" {
				t.Errorf("%s in %s: %q", module, dir, got)
			}
		}
		return err
	}
	if err := start(twin, first); err != nil {
		t.Error(err)
	}
	if err := start(twin, first); err != nil {
		t.Errorf("the same application a second time: %v", err)
	}
	if err := start(twin, second); err == nil {
		t.Error("a module of the same name and another content was served")
	} else if !strings.Contains(err.Error(), twin) {
		t.Errorf("the error doesn't name the module: %v", err)
	}
}

// TestOneProcessor has everything happen on one P: no goroutine waits for
// another while it holds what that one needs.
func TestOneProcessor(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	s := serve(t, echo)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 10 {
				if _, got := s.do(t, "POST", "/", chunked{bytes.NewReader(make([]byte, 300_000))}); len(got) != 300_000 {
					t.Errorf("%d bytes", len(got))
				}
			}
		})
	}
	group.Wait()
	s.Logs.expectQuiet(t)
}
