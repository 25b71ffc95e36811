package wsgi_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-a2d07992/wsgi"
)

// cutBody reports by a file what its read of the body came to.
const cutBody = `
import os
HERE = os.path.dirname(os.path.abspath(__file__))

def application(environ, start_response):
    with open(os.path.join(HERE, "started"), "w"):
        pass
    got = []
    for _ in range(2):
        try:
            if environ["QUERY_STRING"] == "line":
                got.append(repr(len(environ["wsgi.input"].readline(10**9))))
            else:
                while environ["wsgi.input"].read(10000):
                    pass
                got.append("the end")
        except OSError as e:
            got.append("OSError: " + str(e))
    with open(os.path.join(HERE, "result.tmp"), "w") as f:
        f.write("\n".join(got))
    os.rename(os.path.join(HERE, "result.tmp"), os.path.join(HERE, "result"))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]
`

// expectOSErrors waits for the file in which cutBody keeps what its reads came to.
func expectOSErrors(t *testing.T, result string) {
	t.Helper()
	var text []byte
	eventually(t, "the application's read ends", func() bool {
		var err error
		text, err = os.ReadFile(result)
		return err == nil
	})
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "OSError: ") {
			t.Errorf("the application saw %q", text)
			break
		}
	}
}

func TestBodyCutShortRaisesOSError(t *testing.T) {
	s := serve(t, cutBody)
	result := filepath.Join(s.Dir, "result")
	for _, how := range []string{"close", "reset"} {
		for _, query := range []string{"read", "line"} {
			for _, request := range []string{
				"Content-Length: 200000\r\n\r\n" + strings.Repeat("x", 150_000),
				"Content-Length: 200000\r\n\r\n",
				"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n",
				"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
				"Transfer-Encoding: chunked\r\n\r\n5\r\nabcdeXX\r\n",
				"Transfer-Encoding: chunked\r\n\r\nnothing\r\n",
			} {
				os.Remove(result)
				os.Remove(filepath.Join(s.Dir, "started"))
				c := s.dial(t)
				c.write("POST /?" + query + " HTTP/1.1\r\nHost: x\r\n" + request)
				// A client that leaves before that never had a request.
				eventually(t, "the application starts", func() bool {
					_, err := os.Stat(filepath.Join(s.Dir, "started"))
					return err == nil
				})
				if how == "close" {
					c.Close()
				} else {
					c.reset()
				}
				t.Logf("%s, %s, %.40q", how, query, request)
				expectOSErrors(t, result)
			}
		}
	}
	eventually(t, "the requests end", func() bool { return s.App.Stats().InFlight == 0 })
}

func TestSmallBodyCutShortNeverReachesTheApplication(t *testing.T) {
	s := serve(t, echo)
	c := s.dial(t)
	c.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabcde")
	if err := c.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if resp, _ := c.answer("POST"); resp.StatusCode != 400 {
		t.Errorf("got %s, want a 400", resp.Status)
	}
	c.expectEnd()
	if n := s.App.Stats().Requests; n != 0 {
		t.Errorf("the application got %d requests", n)
	}
}

// TestBodyOverALimitIs413, whether it is read before or while the application runs.
func TestBodyOverALimitIs413(t *testing.T) {
	limited := func(_ *server, app http.Handler) http.Handler { return http.MaxBytesHandler(app, 1000) }
	s := serveWith(t, limited, validated(echo))
	catching := serveWith(t, limited, validated(`
def application(environ, start_response):
    try:
        environ["wsgi.input"].read(2000)
        text = b"all"
    except OSError as e:
        text = str(e).encode()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [text]
`), wsgi.WithBodyBuffer(0))
	for _, size := range []int{1001, 64 << 10, 64<<10 + 1, 300_000} {
		for _, body := range []io.Reader{bytes.NewReader(make([]byte, size)), chunked{bytes.NewReader(make([]byte, size))}} {
			resp, _ := s.do(t, "POST", "/", body)
			if resp.StatusCode != 413 {
				t.Errorf("%d bytes as %T: %s", size, body, resp.Status)
			}
		}
	}
	for _, body := range []io.Reader{bytes.NewReader(make([]byte, 1000)), chunked{bytes.NewReader(make([]byte, 1000))}} {
		if resp, got := s.do(t, "POST", "/", body); resp.StatusCode != 200 || len(got) != 1000 {
			t.Errorf("1000 bytes as %T: %s, %d bytes", body, resp.Status, len(got))
		}
	}
	if resp, got := catching.do(t, "POST", "/", bytes.NewReader(make([]byte, 1001))); resp.StatusCode != 200 || !strings.Contains(got, "larger than the server allows") {
		t.Errorf("an application that catches the error: %s %q", resp.Status, got)
	}
}

func TestSlowBodyIs408(t *testing.T) {
	for _, buffer := range []int{0, 1000} {
		s := serveWith(t, func(_ *server, app http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(30 * time.Millisecond))
				app.ServeHTTP(w, r)
			})
		}, validated(echo), wsgi.WithBodyBuffer(buffer))
		for _, request := range []string{
			"Content-Length: 10\r\n\r\nabcde",
			"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n",
		} {
			c := s.dial(t)
			c.write("POST / HTTP/1.1\r\nHost: x\r\n" + request)
			if resp, _ := c.answer("POST"); resp.StatusCode != 408 || !resp.Close {
				t.Errorf("buffer %d, %q: %s, close %v", buffer, request, resp.Status, resp.Close)
			}
		}
	}
}

// TestClientThatLeavesMidUploadFreesItsWorker: there is one worker.
func TestClientThatLeavesMidUploadFreesItsWorker(t *testing.T) {
	s := serve(t, cutBody, wsgi.WithInterpreters(1), wsgi.WithThreads(1))
	for range 5 {
		os.Remove(filepath.Join(s.Dir, "result"))
		c := s.dial(t)
		c.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc")
		eventually(t, "the worker takes the request", func() bool { return s.App.Stats().InFlight == 1 })
		c.reset()
		if _, body := s.do(t, "POST", "/", strings.NewReader("x")); body != "done" {
			t.Error(body)
		}
	}
	eventually(t, "all are over", func() bool { return s.App.Stats().InFlight == 0 })
}

// TestClientThatLeavesMidDownloadStopsTheGenerator, and close() is called, once.
func TestClientThatLeavesMidDownloadStopsTheGenerator(t *testing.T) {
	s := serve(t, `
import os
HERE = os.path.dirname(os.path.abspath(__file__))

class Endless:
    def __iter__(self):
        return self
    def __next__(self):
        return b"x" * 10000
    def close(self):
        with open(os.path.join(HERE, "closed"), "a") as f:
            f.write("closed ")

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/endless":
        return Endless()
    return [b"hello"]
`, wsgi.WithInterpreters(1), wsgi.WithThreads(1))
	for round := range 3 {
		c := s.dial(t)
		c.write("GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
		resp := c.response("GET")
		if _, err := io.ReadFull(resp.Body, make([]byte, 100_000)); err != nil {
			t.Fatal(err)
		}
		if round == 1 {
			c.reset()
		} else {
			c.Close()
		}
		s.expectBody(t, "/", "hello") // the only worker is free again
	}
	data, err := os.ReadFile(filepath.Join(s.Dir, "closed"))
	if err != nil || string(data) != "closed closed closed " {
		t.Errorf("of three responses: %q, %v", data, err)
	}
	eventually(t, "each counts as an error", func() bool { return s.App.Stats().Errors == 3 })
	s.Logs.expectQuiet(t)
}

// TestCanceledContextStopsTheApplication: the same by the request's context,
// in a server that is none of net/http's.
func TestCanceledContextStopsTheApplication(t *testing.T) {
	app, logs, _ := newApp(t, validated(`
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    while True:
        yield b"x"
`), wsgi.WithInterpreters(1))
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "GET", "http://x/", nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &countingWriter{header: http.Header{}, cancel: cancel}
	within(t, "ServeHTTP", func() { app.ServeHTTP(w, r) })
	if w.n == 0 || !errors.Is(ctx.Err(), context.Canceled) {
		t.Errorf("%d bytes came", w.n)
	}
	if n := len(logs.With("this server can't tell its client")); n > 1 {
		t.Errorf("said %d times", n)
	}
}

type countingWriter struct {
	header http.Header
	n      int
	cancel func()
}

func (w *countingWriter) Header() http.Header { return w.header }
func (w *countingWriter) WriteHeader(int)     {}
func (w *countingWriter) Write(p []byte) (int, error) {
	if w.n += len(p); w.n > 100 {
		w.cancel()
	}
	return len(p), nil
}

// TestBodyAtFaultAfterTheHead is the application's to notice: an OSError, and where
// it lets that pass, an answer that is cut.
func TestBodyAtFaultAfterTheHead(t *testing.T) {
	s := serveWith(t, func(_ *server, app http.Handler) http.Handler {
		mux := http.NewServeMux()
		mux.Handle("/big/", http.MaxBytesHandler(app, 70_000))
		mux.HandleFunc("/slow/", func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			app.ServeHTTP(w, r)
		})
		return mux
	}, `
def application(environ, start_response):
    start_response("200 OK", [])
    yield b"begin "
    try:
        while environ["wsgi.input"].read(1000):
            pass
    except OSError as e:
        if environ["PATH_INFO"].endswith("/catches"):
            yield b"caught"
            return
        raise
    yield b"all"
`)
	for _, test := range []struct{ path, body string }{
		{"/big/", strings.Repeat("x", 100_000)},
		{"/slow/", "x"},
	} {
		ask := func(how string) *rawConn {
			c := s.dial(t)
			go io.WriteString(c.Conn, "POST "+test.path+how+" HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"+test.body)
			if resp := c.response("POST"); resp.StatusCode != 200 || !resp.Close {
				t.Errorf("%s%s: %s, close %v", test.path, how, resp.Status, resp.Close)
			}
			return c
		}
		expectTruncated(t, ask("raises"), "begin ")
		c := ask("catches")
		if text, _ := io.ReadAll(c.r); !strings.HasSuffix(string(text), "6\r\ncaught\r\n0\r\n\r\n") {
			t.Errorf("%scatches: %q", test.path, text)
		}
	}
}

// TestBodiesOverHTTP2 arrive whole, or raise OSError; and what isn't read is
// nobody's trouble.
func TestBodiesOverHTTP2(t *testing.T) {
	s := serveHTTP2(t, echo)
	for _, size := range []int{0, 1, 64<<10 - 1, 64 << 10, 64<<10 + 1, 1<<20 + 1} {
		data := pattern(size)
		for _, body := range []io.Reader{bytes.NewReader(data), chunked{bytes.NewReader(data)}} {
			resp, got := s.do(t, "POST", "/", body)
			if resp.ProtoMajor != 2 || resp.StatusCode != 200 || got != string(data) {
				t.Errorf("%d bytes as %T: %s %s, %d bytes came", size, body, resp.Proto, resp.Status, len(got))
			}
		}
	}
	s.Logs.expectQuiet(t)

	s = serveHTTP2(t, cutBody)
	result := filepath.Join(s.Dir, "result")
	for _, query := range []string{"read", "line"} {
		for _, length := range []int64{200_000, -1} {
			os.Remove(result)
			os.Remove(filepath.Join(s.Dir, "started"))
			ctx, cancel := context.WithCancel(t.Context())
			r, w := io.Pipe()
			request, err := http.NewRequestWithContext(ctx, "POST", s.URL+"/?"+query, r)
			if err != nil {
				t.Fatal(err)
			}
			request.ContentLength = length
			done := make(chan struct{})
			go func() {
				defer close(done)
				if resp, err := s.Client().Do(request); err == nil {
					resp.Body.Close()
				}
			}()
			if _, err := io.WriteString(w, "some of it"); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the application starts", func() bool {
				_, err := os.Stat(filepath.Join(s.Dir, "started"))
				return err == nil
			})
			cancel()
			<-done
			expectOSErrors(t, result)
		}
	}

	s = serveHTTP2(t, hello)
	for range 5 {
		if resp, body := s.do(t, "POST", "/", chunked{bytes.NewReader(make([]byte, 1<<20))}); resp.StatusCode != 200 || body != "hello" {
			t.Errorf("unread: %s %q", resp.Status, body)
		}
	}
	s.Logs.expectQuiet(t)
}
