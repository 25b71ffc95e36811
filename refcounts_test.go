package wsgi_test

import (
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// debugBuild reports whether the Python under test counts its references.
var debugBuild = sync.OnceValue(func() bool {
	return exec.Command(pythonPath(), "-c", "import sys; sys.gettotalrefcount()").Run() == nil
})

const counted = `
import gc, io, os, sys

def figures(environ, start_response):
    gc.collect()
    start_response("200 OK", [])
    return [b"%d %d" % (sys.gettotalrefcount(), len(os.listdir("/proc/self/fd")))]

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

// TestRequestsLeakNoReferences counts on a debug build of Python what each kind
// of request leaves behind: references, and descriptors.
func TestRequestsLeakNoReferences(t *testing.T) {
	if !debugBuild() {
		t.Skip("this Python doesn't count references: it is no debug build")
	}
	s := servePlain(t, counted, one(1)...)
	figures := func() (references, descriptors int) {
		// Connections that are on their way out hold descriptors.
		s.Client().CloseIdleConnections()
		eventually(t, "the requests to end", func() bool { return s.App.Stats().InFlight == 0 })
		_, body := s.get(t, "/figures")
		if _, err := fmt.Sscan(body, &references, &descriptors); err != nil {
			t.Fatal(err)
		}
		return
	}
	for line := range strings.Lines(counted) {
		name, ok := strings.CutPrefix(line, "def ")
		name, _, _ = strings.Cut(name, "(")
		if !ok || name == "application" || name == "figures" || name == "ok" {
			continue
		}
		request := func(method string) {
			var body io.Reader
			if name == "input_" {
				body = strings.NewReader("ab\ncd\nef\ngh\nij")
				method = "POST"
			}
			r, err := http.NewRequest(method, s.URL+"/"+name, body)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := s.Client().Do(r)
			if err != nil {
				return // cut off early
			}
			defer resp.Body.Close()
			if strings.HasPrefix(name, "endless") {
				_, _ = io.CopyN(io.Discard, resp.Body, 100)
			} else {
				_, _ = io.Copy(io.Discard, resp.Body)
			}
		}
		const rounds = 60
		run := func() {
			for range rounds {
				request("GET")
			}
			for range rounds / 4 {
				if name == "endless_write" {
					break // its client has all that it wants, and stays
				}
				request("HEAD")
			}
		}
		run() // warms up
		figures()
		before, descriptors := figures()
		run()
		after, now := figures()
		// A leak is at least one for each request.
		if after-before > rounds/4 {
			t.Errorf("%s: %d references more after %d requests", name, after-before, rounds+rounds/4)
		}
		if now-descriptors > rounds/4 {
			t.Errorf("%s: %d descriptors more after %d requests", name, now-descriptors, rounds+rounds/4)
		}
	}
}
