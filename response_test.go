package wsgi_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-a2d07992/wsgi"
)

// routed is the end of a module whose functions are applications, each found
// at the path of its name.
const routed = `

def application(environ, start_response):
    name = environ["PATH_INFO"].strip("/").partition("/")[0]
    return globals()[name](environ, start_response)
`

// one are the options for an application whose requests must meet: one
// interpreter with that many threads.
func one(threads int) []wsgi.Option {
	return []wsgi.Option{wsgi.WithInterpreters(1), wsgi.WithThreads(threads)}
}

const resultKinds = `
import collections, itertools

def ok(start_response, *headers):
    return start_response("200 OK", list(headers))

def list_(environ, start_response):
    ok(start_response)
    return [b"one ", b"", b"two"]

def tuple_(environ, start_response):
    ok(start_response)
    return (b"one ", b"two")

def list_of_none(environ, start_response):
    ok(start_response)
    return []

def list_with_length(environ, start_response):
    ok(start_response, ("content-length", "7"))
    return [b"one ", b"two"]

def namedtuple_(environ, start_response):
    ok(start_response)
    return collections.namedtuple("Pair", "a b")(b"one ", b"two")

class Bytes(bytes):
    def __len__(self):
        return 1
    def __iter__(self):
        raise RuntimeError("not to be asked")

def bytes_subclass(environ, start_response):
    ok(start_response)
    return [Bytes(b"one "), Bytes(b"two")]

def bytes_subclass_iterator(environ, start_response):
    ok(start_response)
    return iter([Bytes(b"one "), Bytes(b"two")])

def iterator(environ, start_response):
    ok(start_response)
    return iter([b"one ", b"two"])

def iterator_with_length(environ, start_response):
    ok(start_response, ("Content-Length", "7"))
    return iter([b"one ", b"two"])

def generator(environ, start_response):
    ok(start_response)
    yield b"one "
    yield b""
    yield b"two"

def empty_generator(environ, start_response):
    ok(start_response)
    return iter(())

def map_(environ, start_response):
    ok(start_response)
    return map(str.encode, ["one ", "two"])

def deque(environ, start_response):
    ok(start_response)
    return collections.deque([b"one ", b"two"])

def dictionary(environ, start_response):
    ok(start_response)
    return {b"one ": 1, b"two": 2}

def chain(environ, start_response):
    ok(start_response)
    return itertools.chain([b"one "], (b"two",))

class Iterable:
    def __init__(self, length=None):
        self.length = length
    def __iter__(self):
        return iter([b"one ", b"two"])

class Sized(Iterable):
    def __len__(self):
        return self.length

class Broken(Iterable):
    def __len__(self):
        raise RuntimeError("not to be asked")

def iterable(environ, start_response):
    ok(start_response)
    return Iterable()

def too_short(environ, start_response):
    ok(start_response)
    return Sized(0)

def of_one(environ, start_response):
    ok(start_response)
    return Sized(1)

def too_long(environ, start_response):
    ok(start_response)
    return Sized(10**6)

def broken_length(environ, start_response):
    ok(start_response)
    return Broken()

class Sequence:
    def __getitem__(self, i):
        return [b"one ", b"two"][i]

def old_sequence(environ, start_response):
    ok(start_response)
    return Sequence()

class Doubled(list):
    def __iter__(self):
        for item in list.__iter__(self):
            yield item
            yield item

def list_with_iter(environ, start_response):
    ok(start_response)
    return Doubled([b"one ", b"two "])

class DoubledTuple(tuple):
    def __iter__(self):
        for item in tuple.__iter__(self):
            yield item
            yield item

def tuple_with_iter(environ, start_response):
    ok(start_response)
    return DoubledTuple([b"one ", b"two "])

class Callable:
    def __call__(self, environ, start_response):
        ok(start_response)
        return [b"one ", b"two"]

an_instance = Callable()

class AsClass:
    def __init__(self, environ, start_response):
        self.start_response = start_response
    def __iter__(self):
        ok(self.start_response)
        yield b"one "
        yield b"two"

def written(environ, start_response):
    write = ok(start_response)
    write(b"one ")
    write(b"")
    write(b"two")
    return []

def written_and_returned(environ, start_response):
    ok(start_response)(b"one ")
    return [b"two"]

def written_and_yielded(environ, start_response):
    write = ok(start_response)
    def body():
        write(b"one ")
        yield b"two "
        write(b"three ")
        yield b"four"
    return body()

def written_with_length(environ, start_response):
    write = ok(start_response, ("Content-Length", "7"))
    write(b"one ")
    return (b"two",)
` + routed

func TestResultOfEveryKindIsSentWhole(t *testing.T) {
	s := servePlain(t, resultKinds)
	for _, test := range []struct {
		path, body string
		length     string // what Content-Length must be, or "" where there must be none
		any        bool   // either will do: net/http adds one to a small answer
	}{
		{"list_", "one two", "7", false},
		{"tuple_", "one two", "7", false},
		{"list_of_none", "", "0", false},
		{"list_with_length", "one two", "7", false},
		{"namedtuple_", "one two", "7", false},
		{"bytes_subclass", "one two", "7", false},
		{"bytes_subclass_iterator", "one two", "", true},
		{"iterator", "one two", "", true},
		{"iterator_with_length", "one two", "7", false},
		{"generator", "one two", "", true},
		{"empty_generator", "", "", true},
		{"map_", "one two", "", true},
		{"deque", "one two", "", true},
		{"dictionary", "one two", "", true},
		{"chain", "one two", "", true},
		{"iterable", "one two", "", true},
		{"too_short", "one two", "", true},
		{"of_one", "one two", "", true},
		{"too_long", "one two", "", true},
		{"broken_length", "one two", "", true},
		{"old_sequence", "one two", "", true},
		{"list_with_iter", "one one two two ", "", true},
		{"tuple_with_iter", "one one two two ", "", true},
		{"an_instance", "one two", "7", false},
		{"AsClass", "one two", "", true},
		{"written", "one two", "", true},
		{"written_and_returned", "one two", "", true},
		{"written_and_yielded", "one two three four", "", true},
		{"written_with_length", "one two", "7", false},
	} {
		t.Run(test.path, func(t *testing.T) {
			resp, body := s.get(t, "/"+test.path)
			if resp.StatusCode != 200 || body != test.body {
				t.Errorf("%s %q, want 200 OK %q", resp.Status, body, test.body)
			}
			length := resp.Header.Get("Content-Length")
			if !test.any && length != test.length {
				t.Errorf("Content-Length is %q, want %q", length, test.length)
			}
			if length != "" && length != strconv.Itoa(len(test.body)) {
				t.Errorf("Content-Length is %q for a body of %d bytes", length, len(test.body))
			}
			if types, ok := resp.Header["Content-Type"]; ok {
				t.Errorf("a Content-Type was invented: %q", types)
			}
		})
	}
	s.Logs.expectQuiet(t)
}

func TestContentTypeIsNeverGuessed(t *testing.T) {
	s := servePlain(t, `
def application(environ, start_response):
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/list":
        return [b"<html><body>looks like HTML"]
    return iter([b"<html>", b"<body>looks like HTML"])
`)
	for _, path := range []string{"/list", "/iterator"} {
		resp, _ := s.get(t, path)
		if types, ok := resp.Header["Content-Type"]; ok {
			t.Errorf("%s has the Content-Type %q, and the application gave none", path, types)
		}
	}
}

const bodiless = `
from urllib.parse import parse_qs

def application(environ, start_response):
    q = {k: v[0] for k, v in parse_qs(environ["QUERY_STRING"]).items()}
    headers = [("X-Seen", environ["REQUEST_METHOD"])]
    if "length" in q:
        headers.append(("Content-Length", q["length"]))
    write = start_response(q["status"] + " Whatever", headers)
    body = [b"x" * 500] * int(q.get("chunks", "2"))
    kind = q["kind"]
    if kind == "write":
        for chunk in body:
            write(chunk)
        return []
    return body if kind == "list" else iter(body)
`

// TestBodilessAnswersHaveNoBody sends several requests on one connection: a
// body where none belongs would be read as the head of the next answer.
func TestBodilessAnswersHaveNoBody(t *testing.T) {
	s := servePlain(t, bodiless)
	conn := s.dial(t)
	requests := 0
	for _, test := range []struct {
		method string
		status int
	}{{"HEAD", 200}, {"HEAD", 404}, {"GET", 204}, {"HEAD", 204}, {"GET", 304}, {"POST", 204}, {"HEAD", 304}} {
		for _, kind := range []string{"list", "iterator", "write"} {
			for _, query := range []string{"", "&length=1000", "&length=7", "&length=5000", "&chunks=0", "&chunks=0&length=1000"} {
				target := fmt.Sprintf("/?status=%d&kind=%s%s", test.status, kind, query)
				conn.write(test.method + " " + target + " HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
				resp, body := conn.answer(test.method)
				requests++
				if resp.StatusCode != test.status || body != "" || resp.Header.Get("X-Seen") != test.method {
					t.Fatalf("%s %s: %s %v %q", test.method, target, resp.Status, resp.Header, body)
				}
				length, want := resp.Header.Get("Content-Length"), ""
				if test.status != 204 && test.status != 304 {
					switch {
					case strings.Contains(query, "length="):
						_, want, _ = strings.Cut(query, "length=")
					case kind == "list" && query == "":
						want = "1000"
					}
				}
				if length != want && test.status != 304 {
					t.Errorf("%s %s has Content-Length %q, want %q", test.method, target, length, want)
				}
				if length == "0" {
					t.Errorf("%s %s has Content-Length 0, which isn't known to be so", test.method, target)
				}
			}
		}
	}
	conn.write("GET /?status=200&kind=list HTTP/1.1\r\nHost: h\r\n\r\n")
	if resp, body := conn.answer("GET"); resp.StatusCode != 200 || len(body) != 1000 {
		t.Errorf("after %d answers without a body: %s with %d bytes", requests, resp.Status, len(body))
	}
}

func TestStatusFrom200To999IsPassedOn(t *testing.T) {
	s := servePlain(t, bodiless)
	for _, status := range []int{200, 201, 202, 203, 205, 206, 226, 299, 300, 301, 307, 400, 404, 418, 451, 499, 500, 503, 599, 600, 700, 999} {
		r, err := http.NewRequest("GET", fmt.Sprintf("%s/?kind=list&status=%d", s.URL, status), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultTransport.RoundTrip(r) // which follows no redirects
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != status || len(body) != 1000 {
			t.Errorf("status %d: %s with %d bytes, %v", status, resp.Status, len(body), err)
		}
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

func TestLargeBodiesArriveUnchanged(t *testing.T) {
	// Sizes around those of the buffers on the way.
	s := servePlain(t, `
def pattern(n):
    return (b"0123456789abcdef" * (n // 16 + 1))[:n]

def application(environ, start_response):
    kind, size, count = environ["PATH_INFO"].strip("/").split("/")
    write = start_response("200 OK", [])
    chunks = [pattern(int(size))] * int(count)
    if kind == "write":
        for chunk in chunks:
            write(chunk)
        return ()
    return {"list": list, "tuple": tuple, "iterator": iter}[kind](chunks)
`, wsgi.WithResponseBuffer(16<<10))
	pattern := bytes.Repeat([]byte("0123456789abcdef"), 8<<20/16+1)
	for _, kind := range []string{"list", "tuple", "iterator", "write"} {
		for _, size := range []int{1, 2047, 2048, 2049, 4096, 6000, 6144, 6145, 16 << 10, 16<<10 + 1, 256<<10 - 1, 256 << 10, 256<<10 + 1, 8 << 20} {
			count := 1 + 64<<10/size
			if size == 1 {
				count = 3000
			}
			resp, body := s.get(t, fmt.Sprintf("/%s/%d/%d", kind, size, count))
			want := strings.Repeat(string(pattern[:size]), count)
			if resp.StatusCode != 200 || body != want {
				t.Errorf("%s of %d times %d bytes: %s with %d bytes, the same: %v", kind, count, size, resp.Status, len(body), body == want)
			}
		}
	}
	s.Logs.expectQuiet(t)
}

// TestBodilessAnswersOverHTTP2 end with their head.
func TestBodilessAnswersOverHTTP2(t *testing.T) {
	s := serveHTTP2(t, bodiless)
	for _, kind := range []string{"list", "iterator", "write"} {
		for _, length := range []string{"", "&length=1000", "&length=7"} {
			for _, test := range []struct {
				method string
				status int
			}{{"HEAD", 200}, {"HEAD", 404}, {"GET", 204}, {"HEAD", 204}, {"GET", 304}, {"POST", 204}} {
				resp, body := s.do(t, test.method, fmt.Sprintf("/?status=%d&kind=%s%s", test.status, kind, length), nil)
				if resp.ProtoMajor != 2 || resp.StatusCode != test.status || body != "" || resp.Header.Get("X-Seen") != test.method {
					t.Errorf("%s %d, %s%s: %s %s %v %q", test.method, test.status, kind, length, resp.Proto, resp.Status, resp.Header, body)
				}
				if got := resp.Header.Get("Content-Length"); (test.status == 204 || test.status == 304) && got != "" {
					t.Errorf("%s %d, %s%s: Content-Length %s", test.method, test.status, kind, length, got)
				}
			}
		}
	}
	s.expectBody(t, "/?status=200&kind=list&chunks=1", strings.Repeat("x", 500))
}
