package wsgi_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const plainHeaders = `
def application(environ, start_response):
    headers = []
    for line in environ.get("HTTP_X_SET", "").split("|"):
        name, _, value = line.partition("=")
        if name:
            headers.append((name, value))
    start_response("200 OK", headers)
    return [b"<html>"] if environ["PATH_INFO"] == "/list" else iter([b"<html>"])
`

// What Go code has set before stays, the application's replace those of the
// same name, and cookies and Vary add up.
func TestHeadersSetByGoCodeBefore(t *testing.T) {
	s := serveWith(t, func(s *server, app http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Set("X-Kept", "go")
			h.Set("X-Both", "go")
			h.Add("X-Both", "go too")
			h.Set("Content-Type", "text/go")
			h.Set("Set-Cookie", "go=1")
			h.Set("Vary", "Origin")
			h.Set("Server", "go")
			app.ServeHTTP(w, r)
		})
	}, plainHeaders)
	expect := func(resp *http.Response, name string, want ...string) {
		t.Helper()
		if got := resp.Header[name]; !slices.Equal(got, want) {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for _, path := range []string{"/list", "/iterator"} {
		resp, _ := s.get(t, path)
		expect(resp, "X-Kept", "go")
		expect(resp, "X-Both", "go", "go too")
		expect(resp, "Content-Type", "text/go")
		expect(resp, "Set-Cookie", "go=1")
		expect(resp, "Vary", "Origin")
		expect(resp, "Server", "go")

		r, err := http.NewRequest("GET", s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Set", "x-both=py|content-type=text/py|set-cookie=py=1|set-cookie=py=2|vary=Cookie|Server=py|X-New=py")
		resp, _ = s.send(t, r)
		expect(resp, "X-Kept", "go")
		expect(resp, "X-Both", "py")
		expect(resp, "Content-Type", "text/py")
		expect(resp, "Set-Cookie", "go=1", "py=1", "py=2")
		expect(resp, "Vary", "Origin", "Cookie")
		expect(resp, "Server", "py")
		expect(resp, "X-New", "py")
	}
}

// A bareWriter is a wrapper as many programs have it: without Flush, Hijack or
// Unwrap.
type bareWriter struct {
	w      http.ResponseWriter
	status []int
}

func (b *bareWriter) Header() http.Header         { return b.w.Header() }
func (b *bareWriter) Write(p []byte) (int, error) { return b.w.Write(p) }
func (b *bareWriter) WriteHeader(status int) {
	b.status = append(b.status, status)
	b.w.WriteHeader(status)
}

// An unwrappingWriter is one of the newer kind.
type unwrappingWriter struct{ bareWriter }

func (u *unwrappingWriter) Unwrap() http.ResponseWriter { return u.w }

const wrapped = `
def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/hints":
        environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload")])
        start_response("404 Not Found", [])
        return [b"hinted"]
    if path == "/file":
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](open(__file__, "rb"))
    if path == "/raise":
        raise ValueError("a secret")
    write = start_response("200 OK", [("X-A", "b")])
    if path == "/list":
        return [b"one ", b"two"]
    if path == "/write":
        write(b"one ")
        return [b"two"]
    def body():
        yield b"one "
        if path == "/cut":
            raise ValueError("a secret")
        yield b"two"
    return body()
`

func TestWrappedResponseWriters(t *testing.T) {
	for name, wrap := range map[string]func(http.ResponseWriter) http.ResponseWriter{
		"bare":      func(w http.ResponseWriter) http.ResponseWriter { return &bareWriter{w: w} },
		"unwrapped": func(w http.ResponseWriter) http.ResponseWriter { return &unwrappingWriter{bareWriter{w: w}} },
	} {
		t.Run(name, func(t *testing.T) {
			s := serveWith(t, func(s *server, app http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { app.ServeHTTP(wrap(w), r) })
			}, wrapped)
			for _, path := range []string{"/list", "/write", "/iterator"} {
				if resp, body := s.get(t, path); resp.StatusCode != 200 || body != "one two" || resp.Header.Get("X-A") != "b" {
					t.Errorf("%s: %s %v %q", path, resp.Status, resp.Header, body)
				}
			}
			if resp, body := s.get(t, "/file"); resp.StatusCode != 200 || !strings.Contains(body, "wsgi.file_wrapper") || resp.ContentLength != int64(len(body)) {
				t.Errorf("/file: %s length %d, %d bytes", resp.Status, resp.ContentLength, len(body))
			}
			if resp, body := s.get(t, "/hints"); resp.StatusCode != 404 || body != "hinted" {
				t.Errorf("/hints: %s %q", resp.Status, body)
			}
			if resp, body := s.get(t, "/raise"); resp.StatusCode != 500 || strings.Contains(body, "secret") {
				t.Errorf("/raise: %s %q", resp.Status, body)
			}
			for _, proto := range []string{"HTTP/1.0", "HTTP/1.1"} {
				conn := s.dial(t)
				conn.write("GET /cut " + proto + "\r\nHost: h\r\n\r\n")
				resp, err := http.ReadResponse(conn.r, nil)
				if err != nil {
					continue // nothing had been flushed: it is cut off from the start
				}
				if body, err := io.ReadAll(resp.Body); err == nil && proto == "HTTP/1.1" {
					t.Errorf("/cut over %s: %q looks whole", proto, body)
				}
			}
		})
	}
}

func TestUnderTimeoutHandler(t *testing.T) {
	s := serveWith(t, func(s *server, app http.Handler) http.Handler {
		return http.TimeoutHandler(app, patience, "too late")
	}, wrapped)
	for _, path := range []string{"/list", "/write", "/iterator"} {
		if resp, body := s.get(t, path); resp.StatusCode != 200 || body != "one two" || resp.Header.Get("X-A") != "b" {
			t.Errorf("%s: %s %v %q", path, resp.Status, resp.Header, body)
		}
	}
	if resp, body := s.get(t, "/file"); resp.StatusCode != 200 || !strings.Contains(body, "wsgi.file_wrapper") {
		t.Errorf("/file: %s %q", resp.Status, body)
	}
	if resp, body := s.get(t, "/hints"); resp.StatusCode != 404 || body != "hinted" {
		t.Errorf("/hints: %s %q, want the status that came after the hints", resp.Status, body)
	}
	if resp, body := s.get(t, "/raise"); resp.StatusCode != 500 || strings.Contains(body, "secret") {
		t.Errorf("/raise: %s %q", resp.Status, body)
	}
	if resp, err := s.Client().Get(s.URL + "/cut"); err == nil {
		resp.Body.Close()
		t.Errorf("/cut: %s", resp.Status)
	}
}

// After the timeout nobody waits for the application, which ends at its next
// chunk.
func TestTimeoutHandlerThatIsTooLateAbandonsTheApplication(t *testing.T) {
	s := serveWith(t, func(s *server, app http.Handler) http.Handler {
		return http.TimeoutHandler(app, 50*time.Millisecond, "too late")
	}, `
import os
closes = 0

class Endless:
    def __iter__(self):
        return self
    def __next__(self):
        return b"z" * 100
    def close(self):
        global closes
        closes += 1

def application(environ, start_response):
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/closes":
        return [b"%d" % closes]
    if environ["PATH_INFO"] == "/wait":
        os.read(int(environ["QUERY_STRING"]), 1)
        return [b"nobody reads this"]
    return Endless()
`, one(1)...)
	for range 3 {
		if resp, body := s.get(t, "/endless"); resp.StatusCode != 503 || body != "too late" {
			t.Errorf("%s %q", resp.Status, body)
		}
	}
	eventually(t, "the application to be done", func() bool { return s.App.Stats().InFlight == 0 })
	s.expectBody(t, "/closes", "3")
	g := newGate(t)
	if resp, body := s.get(t, "/wait?"+g.fd()); resp.StatusCode != 503 || body != "too late" {
		t.Errorf("%s %q", resp.Status, body)
	}
	g.open(t)
	eventually(t, "the application to be done", func() bool { return s.App.Stats().InFlight == 0 })
	s.expectBody(t, "/closes", "3")
	s.Logs.expectQuiet(t)
}

func TestUnderMaxBytesHandler(t *testing.T) {
	s := serveWith(t, func(s *server, app http.Handler) http.Handler {
		return http.MaxBytesHandler(app, 100)
	}, `
def application(environ, start_response):
    if environ["PATH_INFO"] == "/swallow":
        try:
            environ["wsgi.input"].read()
        except OSError:
            pass
        start_response("200 OK", [])
        return [b"swallowed"]
    if environ["PATH_INFO"] == "/ignore":
        start_response("200 OK", [])
        return [b"ignored"]
    n = len(environ["wsgi.input"].read())
    start_response("200 OK", [])
    return [b"%d" % n]
`)
	for _, chunked := range []bool{false, true} {
		for _, test := range []struct {
			size   int
			status int
		}{{0, 200}, {100, 200}, {101, 413}, {100000, 413}} {
			var body io.Reader = strings.NewReader(strings.Repeat("b", test.size))
			if chunked {
				body = struct{ io.Reader }{body}
			}
			r, err := http.NewRequest("POST", s.URL+"/", body)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := s.Client().Do(r)
			if err != nil {
				t.Errorf("%d bytes, chunked %v: %v", test.size, chunked, err)
				continue
			}
			text, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != test.status || test.status == 200 && string(text) != fmt.Sprint(test.size) {
				t.Errorf("%d bytes, chunked %v: %s %q, want %d", test.size, chunked, resp.Status, text, test.status)
			}
		}
	}
}

const hinting = `
import sys
def application(environ, start_response):
    hints = environ["wsgi.early_hints"]
    path = environ["PATH_INFO"]
    if path == "/wrong":
        got = []
        for headers in [None, (), {}, [("Link",)], [("Link", 5)], [("Link", "a\nb")], [("L ink", "a")], [(b"Link", "a")], "Link"]:
            try:
                hints(headers)
                got.append("accepted %r" % (headers,))
            except (TypeError, ValueError):
                pass
        start_response("200 OK", [])
        return [repr(got).encode()]
    if path == "/early":
        assert hints([("Link", "</a.css>; rel=preload"), ("X-Other", "1"), ("link", "</b.js>; rel=preload"), ("Content-Length", "5")]) is None
        hints([])
        hints([("X-Other", "2")])
        hints([("Link", "</c.png>")])
    write = start_response("201 Created", [("X-Final", "yes"), ("Link", "</final>")])
    if path == "/between":
        hints([("Link", "</between>")])
    def body():
        yield b""
        if path == "/empty_chunk":
            hints([("Link", "</still-before>")])
        yield b"begin "
        hints([("Link", "</too-late>")])
        yield b"end"
    return body()
`

// hintsOf sends a GET over the raw connection and returns the Link headers of
// each 103, all headers that came with them, and the answer itself.
func hintsOf(t testing.TB, conn *rawConn, target, proto string) (links [][]string, others []string, resp *http.Response, body string) {
	t.Helper()
	conn.write("GET " + target + " " + proto + "\r\nHost: h\r\n\r\n")
	for {
		resp, err := readAnyResponse(conn.r)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 103 {
			data, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			return links, others, resp, string(data)
		}
		links = append(links, resp.Header["Link"])
		for name := range resp.Header {
			if name != "Link" {
				others = append(others, name)
			}
		}
	}
}

// readAnyResponse reads a response; one that is informational has no body.
func readAnyResponse(r *bufio.Reader) (*http.Response, error) {
	resp, err := http.ReadResponse(r, &http.Request{Method: "GET"})
	if err == nil && resp.StatusCode < 200 {
		resp.Body = http.NoBody
	}
	return resp, err
}

func TestEarlyHints(t *testing.T) {
	s := serveWith(t, func(s *server, app http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Go", "middleware")
			w.Header().Add("Link", "</go>")
			app.ServeHTTP(w, r)
		})
	}, hinting)
	for _, test := range []struct {
		path string
		want string
	}{
		{"/none", "[]"},
		{"/early", "[[</a.css>; rel=preload </b.js>; rel=preload] [</c.png>]]"},
		{"/between", "[[</between>]]"},
		{"/empty_chunk", "[[</still-before>]]"},
	} {
		conn := s.dial(t)
		links, others, resp, body := hintsOf(t, conn, test.path, "HTTP/1.1")
		if fmt.Sprint(links) != test.want || len(others) > 0 {
			t.Errorf("%s: hints %q with %v, want %s", test.path, links, others, test.want)
		}
		if resp.StatusCode != 201 || body != "begin end" || resp.Header.Get("X-Final") != "yes" || resp.Header.Get("X-Go") != "middleware" ||
			!slices.Equal(resp.Header["Link"], []string{"</final>"}) || resp.Header.Get("X-Other") != "" {
			t.Errorf("%s: %s %v %q", test.path, resp.Status, resp.Header, body)
		}
		conn = s.dial(t)
		links, _, resp, body = hintsOf(t, conn, test.path, "HTTP/1.0")
		if len(links) > 0 || resp.StatusCode != 201 || body != "begin end" {
			t.Errorf("%s over HTTP/1.0: hints %q, %s %q", test.path, links, resp.Status, body)
		}
	}
	s.expectBody(t, "/wrong", "[]")
	s.Logs.expectQuiet(t)
}

func TestEarlyHintsOverHTTP2(t *testing.T) {
	s := serveHTTP2(t, hinting)
	var links [][]string
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
		links = append(links, header["Link"])
		if code != 103 || len(header) != 1 {
			t.Errorf("%d %v", code, header)
		}
		return nil
	}}
	r, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "GET", s.URL+"/early", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, body := s.send(t, r)
	if resp.ProtoMajor != 2 || resp.StatusCode != 201 || body != "begin end" || fmt.Sprint(links) != "[[</a.css>; rel=preload </b.js>; rel=preload] [</c.png>]]" {
		t.Errorf("%s %s %q, hints %q", resp.Proto, resp.Status, body, links)
	}
}

// TestEarlyHintsBesideContinue: net/http writes a 100 when the body is read, which
// is not the request's goroutine, and a 103 where it is told to.
func TestEarlyHintsBesideContinue(t *testing.T) {
	s := serve(t, `
from threading import Thread

def application(environ, start_response):
    def hint():
        for i in range(20):
            environ["wsgi.early_hints"]([("Link", "</%d>" % i)])
    thread = Thread(target=hint)
    thread.start()
    body = environ["wsgi.input"].read(4)
    thread.join()
    environ["wsgi.early_hints"]([("Link", "</last>")])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body]
`)
	for range 20 {
		c := s.dial(t)
		c.write("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
		continued, last := 0, ""
		for {
			resp, err := readAnyResponse(c.r)
			if err != nil {
				t.Fatal(err)
			}
			switch resp.StatusCode {
			case 100:
				continued++
				c.write("body")
				continue
			case 103:
				last = resp.Header.Get("Link")
				continue
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != 200 || string(body) != "body" || continued != 1 || last != "</last>" {
				t.Errorf("%s %q, %v, after %d 100s and a hint of %q", resp.Status, body, err, continued, last)
			}
			break
		}
	}
	s.Logs.expectQuiet(t)
}

func TestEarlyHintsElsewhereAreIgnored(t *testing.T) {
	app, _, _ := newApp(t, hinting)
	w := httptest.NewRecorder()
	app.ServeHTTP(w, httptest.NewRequest("GET", "/early", nil))
	if w.Code != 201 || w.Body.String() != "begin end" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}

func TestLengthSetByGoCodeIsDropped(t *testing.T) {
	s := serveWith(t, func(_ *server, app http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "3")
			app.ServeHTTP(w, r)
		})
	}, validated(`
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return iter([b"more than ", b"three bytes"])
`))
	if resp, got := s.do(t, "GET", "/", nil); resp.StatusCode != 200 || got != "more than three bytes" {
		t.Errorf("%s, %q", resp.Status, got)
	}
}

func TestThousandsOfHeadersKeepTheirOrderAndNumber(t *testing.T) {
	s := serve(t, validated(`
def application(environ, start_response):
    headers = [("X-%d" % (i % 5000), str(i)) for i in range(10000)]
    start_response("200 OK", headers + [("Content-Type", "text/plain")])
    return [b""]
`))
	s.Client().Transport.(*http.Transport).MaxResponseHeaderBytes = 16 << 20
	resp, _ := s.do(t, "GET", "/", nil)
	for _, i := range []int{0, 15, 16, 17, 4999} {
		got := resp.Header.Values(fmt.Sprintf("X-%d", i))
		if want := []string{strconv.Itoa(i), strconv.Itoa(i + 5000)}; !slices.Equal(got, want) {
			t.Errorf("X-%d: got %q, want %q", i, got, want)
		}
	}
}
