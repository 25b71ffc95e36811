package wsgi_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-a2d07992/wsgi"
)

// debugBuild reports whether the Python under test counts its references.
var debugBuild = sync.OnceValue(func() bool {
	return exec.Command(pythonPath(), "-c", "import sys; sys.gettotalrefcount()").Run() == nil
})

// needDebugBuild skips a test of counts of references where there are none.
func needDebugBuild(t testing.TB) {
	t.Helper()
	if !debugBuild() {
		t.Skip("this Python doesn't count references: it is no debug build")
	}
}

const counted = `
import gc, io, os, sys

def figures(environ, start_response):
    gc.collect()
    start_response("200 OK", [])
    return [b"%d %d" % (sys.gettotalrefcount(), len(os.listdir("/proc/self/fd")))]

def collect(environ, start_response):
    gc.collect()
    start_response("200 OK", [])
    return []

def ok(start_response, *headers):
    return start_response("200 OK", list(headers))

def list_(environ, start_response):
    ok(start_response, ("Content-Type", "text/plain"), ("X-A", "b"))
    return [b"one", b"two"]

def tuple_(environ, start_response):
    ok(start_response)
    return (b"one",)

class L(list):
    def close(self):
        pass

class I(list):
    def __iter__(self):
        yield b"x"

def list_subclass(environ, start_response):
    ok(start_response)
    return L([b"one"])

def list_with_iter(environ, start_response):
    ok(start_response)
    return I([b"one"])

def generator(environ, start_response):
    ok(start_response)
    yield b"one"
    yield b""
    yield b"x" * 300000

def write(environ, start_response):
    w = ok(start_response)
    w(b"one")
    w(b"x" * 300000)
    return []

def empty(environ, start_response):
    start_response("204 No Content", [])
    return []

def late(environ, start_response):
    yield b""
    ok(start_response)
    yield b"x"

def replaced(environ, start_response):
    for i in range(3):
        try:
            raise ValueError("x")
        except ValueError:
            start_response("200 OK", [("X-A", "b" * 3000)], sys.exc_info())
    return [b"x"]

def exc_info_after(environ, start_response):
    ok(start_response)
    yield b"x"
    for info in [(1, 2, 3), (None, None, None), (ValueError, ValueError("x"), 5), (ValueError, ValueError("x"), None), 5]:
        try:
            start_response("200 OK", [], info)
        except Exception:
            pass
    try:
        raise KeyError
    except KeyError:
        start_response("200 OK", [], sys.exc_info())

def wrong_starts(environ, start_response):
    for args in [(), (1, []), ("200", []), ("200 OK", None), ("200 OK", [1]), ("200 OK", [("a", 1)]), ("200 OK", [("X-A", "b\n")]),
                 ("200 OK", [("X-A", "\u20ac")]), ("200 OK", [("Connection", "x")]), ("200 OK", [("Content-Length", "x")]),
                 ("200 OK", [("X-A", "\udc80")]), ("200 OK", [], 5), ("200 OK", [], (1, 2, 3, 4))]:
        try:
            start_response(*args)
        except (TypeError, ValueError):
            pass
    start_response("200 OK", [], exc_info=None)
    try:
        start_response("200 OK", [])
    except RuntimeError:
        pass
    return []

def too_much(environ, start_response):
    ok(start_response, ("Content-Length", "1"))
    return iter([b"one", b"two"])

def too_little(environ, start_response):
    ok(start_response, ("Content-Length", "100"))
    return [b"one"]

def file_(environ, start_response):
    ok(start_response)
    return environ["wsgi.file_wrapper"](open(__file__, "rb"))

def file_too_short(environ, start_response):
    ok(start_response, ("Content-Length", "1000000"))
    return environ["wsgi.file_wrapper"](open(__file__, "rb"), 100)

def file_bytesio(environ, start_response):
    ok(start_response)
    return environ["wsgi.file_wrapper"](io.BufferedReader(io.BytesIO(b"x" * 200000)))

def file_unused(environ, start_response):
    environ["wsgi.file_wrapper"](io.BytesIO())
    for args in [(), (5,), (io.BytesIO(), "x"), (1, 2, 3)]:
        try:
            environ["wsgi.file_wrapper"](*args)
        except (TypeError, AttributeError):
            pass
    ok(start_response)
    return []

def input_(environ, start_response):
    i = environ["wsgi.input"]
    data = i.read(1) + i.readline(1) + i.readline() + b"".join(i.readlines(1)) + b"".join(i) + i.read()
    for args in [("x",), (1, 2)]:
        for f in i.read, i.readline, i.readlines:
            try:
                f(*args)
            except TypeError:
                pass
    ok(start_response)
    return [data]

def errors(environ, start_response):
    e = environ["wsgi.errors"]
    e.write("one\n")
    e.write("two")
    e.writelines(["three", "\udc80\n"])
    for bad in [5, None, b"x"]:
        try:
            e.write(bad)
        except TypeError:
            pass
        try:
            e.writelines([bad])
        except TypeError:
            pass
    e.flush()
    ok(start_response)
    return []

def hints(environ, start_response):
    h = environ["wsgi.early_hints"]
    h([("Link", "</a>")])
    for bad in [None, [1], [("a", 5)]]:
        try:
            h(bad)
        except TypeError:
            pass
    ok(start_response)
    return []

def environ_kept(environ, start_response):
    environ["self"] = environ, start_response
    ok(start_response)
    return []

def raises(environ, start_response):
    raise ValueError("x")

def raises_after(environ, start_response):
    ok(start_response)
    raise ValueError("x")

def raises_midway(environ, start_response):
    ok(start_response)
    yield b"x"
    raise ValueError("x")

class Unprintable(Exception):
    def __str__(self):
        raise ValueError
    __repr__ = __str__

def raises_unprintable(environ, start_response):
    raise Unprintable

def raises_exit(environ, start_response):
    raise SystemExit(1)

class BadClose:
    def __iter__(self):
        return iter([b"x"])
    def close(self):
        raise ValueError("x")

def bad_close(environ, start_response):
    ok(start_response)
    return BadClose()

class BadLookup(BadClose):
    @property
    def close(self):
        raise ValueError("x")

def bad_lookup(environ, start_response):
    ok(start_response)
    return BadLookup()

def no_start(environ, start_response):
    return [b"x"]

def none(environ, start_response):
    ok(start_response)

def str_(environ, start_response):
    ok(start_response)
    return "x"

def number(environ, start_response):
    ok(start_response)
    return 5

def str_item(environ, start_response):
    ok(start_response)
    return [b"x", "y"]

def str_chunk(environ, start_response):
    ok(start_response)
    return iter([b"x", "y"])

def str_written(environ, start_response):
    ok(start_response)("x")

def endless(environ, start_response):
    ok(start_response)
    while True:
        yield b"x" * 10000

def endless_write(environ, start_response):
    w = ok(start_response)
    while True:
        w(b"x" * 10000)
` + routed

// countedKinds are the names of what the application called counted can do.
func countedKinds() []string {
	var kinds []string
	for line := range strings.Lines(counted) {
		name, ok := strings.CutPrefix(line, "def ")
		name, _, _ = strings.Cut(name, "(")
		if ok && name != "application" && name != "figures" && name != "collect" && name != "ok" {
			kinds = append(kinds, name)
		}
	}
	return kinds
}

// A requestKind is a way to use the application called counted.
type requestKind struct {
	name, method, path string
	body               func() io.Reader
	raw                string // sent as it is, instead of the above; then the client sends no more
}

// requestKinds are all of them.
func requestKinds() []requestKind {
	var kinds []requestKind
	for _, name := range countedKinds() {
		kind := requestKind{name: name, path: "/" + name}
		if name == "input_" {
			kind.method, kind.body = "POST", func() io.Reader { return strings.NewReader("ab\ncd\nef\ngh\nij") }
		}
		kinds = append(kinds, kind)
		if !strings.HasPrefix(name, "endless") && name != "input_" {
			kinds = append(kinds, requestKind{name: name + " by HEAD", method: "HEAD", path: "/" + name})
		}
	}
	long := bytes.Repeat([]byte(strings.Repeat("a long line of a body that is streamed ", 1000)+"\n"), 10)
	return append(kinds,
		requestKind{name: "a streamed body", method: "POST", path: "/input_", body: func() io.Reader { return bytes.NewReader(long) }},
		requestKind{name: "a chunked body", method: "POST", path: "/input_", body: func() io.Reader { return chunked{bytes.NewReader(long)} }},
		requestKind{name: "an unread body", method: "POST", path: "/list_", body: func() io.Reader { return bytes.NewReader(long[:100<<10]) }},
		requestKind{name: "a long query", path: "/list_?" + strings.Repeat("x", 20000)},
		requestKind{name: "a body cut short", raw: "POST /input_ HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc"},
		requestKind{name: "a streamed body cut short", raw: "POST /input_ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc\n"},
		requestKind{name: "a chunked body cut short", raw: "POST /input_ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5\r\n"},
		requestKind{name: "HTTP/1.0", raw: "GET /generator HTTP/1.0\r\n\r\n"},
		requestKind{name: "HTTP/1.0 that fails", raw: "GET /raises_midway HTTP/1.0\r\n\r\n"},
		requestKind{name: "requests behind each other", raw: "GET /generator HTTP/1.1\r\nHost: x\r\n\r\nPOST /list_ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET /raises HTTP/1.1\r\nHost: x\r\n\r\n"},
	)
}

// An outcome is what a client has seen of an answer.
type outcome struct {
	status int
	body   string
	whole  bool // to all appearances
}

// ask sends a request of a kind, as a client does that wants no other.
func ask(s *server, kind requestKind) (o outcome) {
	if kind.raw != "" {
		return askRaw(s, kind.raw)
	}
	var body io.Reader
	if kind.body != nil {
		body = kind.body()
	}
	r, err := http.NewRequest(kind.method, s.URL+kind.path, body)
	if err != nil {
		panic(err)
	}
	resp, err := s.Client().Do(r)
	if err != nil {
		return o
	}
	defer resp.Body.Close()
	o.status = resp.StatusCode
	limit := int64(1 << 62)
	if strings.HasPrefix(kind.path, "/endless") {
		limit = 100
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit))
	o.body, o.whole = string(data), err == nil
	return o
}

// askRaw returns the first answer and reads the others.
func askRaw(s *server, raw string) (o outcome) {
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		return o
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(conn, raw)
	if strings.HasPrefix(raw, "POST") {
		_ = conn.(*net.TCPConn).CloseWrite()
	}
	r := bufio.NewReader(conn)
	for range max(1, strings.Count(raw, " HTTP/")) {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			break
		}
		data, err := io.ReadAll(resp.Body)
		if o.status == 0 {
			o = outcome{resp.StatusCode, string(data), err == nil}
		}
	}
	return o
}

// TestRequestsLeakNoReferences counts on a debug build of Python what each kind
// of request leaves behind: references, and descriptors. It sends some hundreds
// of each, which makes over 10,000 in all, or as many of each as
// WSGI_TEST_REQUESTS says.
func TestRequestsLeakNoReferences(t *testing.T) {
	needDebugBuild(t)
	rounds := 130
	if n, err := strconv.Atoi(os.Getenv("WSGI_TEST_REQUESTS")); err == nil {
		rounds = n
	}
	s := servePlain(t, counted, append(one(1), wsgi.WithLogger(slog.New(slog.DiscardHandler)))...)
	figures := func() (references, descriptors int) {
		// A connection is idle for its client when the head of an answer to HEAD
		// is there; to close it then would be to leave the application in its midst.
		eventually(t, "the requests to end", func() bool { return s.App.Stats().InFlight == 0 })
		// Connections that are on their way out hold descriptors.
		s.Client().CloseIdleConnections()
		_, body := s.get(t, "/figures")
		if _, err := fmt.Sscan(body, &references, &descriptors); err != nil {
			t.Fatal(err)
		}
		return
	}
	// The first traceback loads Python's module for it, and the application's lines.
	ask(s, requestKind{method: "GET", path: "/raises"})
	total := 0
	for _, kind := range requestKinds() {
		for range 20 { // warms up
			ask(s, kind)
		}
		figures()
		before, opened := figures()
		for range rounds {
			ask(s, kind)
		}
		total += rounds
		// A leak is one for each request, or for each that ends in one way.
		limit := max(10, rounds/50)
		if after, _ := figures(); after-before > limit {
			t.Errorf("%s: %d references more after %d requests", kind.name, after-before, rounds)
		}
		eventually(t, kind.name+": the descriptors to be closed", func() bool {
			_, open := figures()
			return open-opened <= limit
		})
	}
	t.Logf("%d requests", total)
	if total < 10000 {
		t.Errorf("only %d requests were sent", total)
	}
}
