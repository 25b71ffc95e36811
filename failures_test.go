package wsgi_test

import (
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"strings"
	"testing"
)

// quietLog is where net/http's server complains to in tests.
var quietLog = log.New(io.Discard, "", 0)

// expectRequestAttrs checks that a log record says which request it is about.
func expectRequestAttrs(t testing.TB, r logRecord, method string) {
	t.Helper()
	if r.Attrs["method"] != method || !strings.HasPrefix(r.Attrs["uri"], "/") || !strings.HasPrefix(r.Attrs["remote"], "127.0.0.1:") {
		t.Errorf("a log record without its request: %v", r)
	}
}

const failures = `
import sys
from urllib.parse import unquote

class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")
    __repr__ = __str__

class Hostile(BaseException):
    @property
    def __class__(self):
        raise RuntimeError("no class")
    def __getattribute__(self, name):
        raise RuntimeError("no attribute")

def recursive(n=0):
    return recursive(n + 1) + 1

def deep(n):
    if n:
        deep(n - 1)
    else:
        raise ValueError("at the bottom")

def chained():
    try:
        raise KeyError("the first one")
    except KeyError as e:
        raise ValueError("the second one") from e

def cyclic():
    a, b = ValueError("one end"), ValueError("other end")
    a.__cause__, b.__cause__ = b, a
    raise a

def memory():
    raise MemoryError

def too_much():
    return bytearray(1 << 62)

def group():
    raise ExceptionGroup("several", [ValueError("in a group"), ExceptionGroup("more", [KeyError("inner")])])

def base_group():
    raise BaseExceptionGroup("several", [KeyboardInterrupt("in a group")])

def raiser(exception):
    def f():
        raise exception
    return f

def noted():
    e = ValueError("with a note")
    e.add_note("the note")
    raise e

raisers = {
    "plain": raiser(ValueError("the \N{EURO SIGN} reason")),
    "bare": raiser(ValueError),
    "exit": raiser(SystemExit(3)),
    "exit_text": raiser(SystemExit("goodbye")),
    "sys_exit": lambda: sys.exit(),
    "interrupt": raiser(KeyboardInterrupt()),
    "generator_exit": raiser(GeneratorExit("odd")),
    "stop_iteration": raiser(StopIteration("odd")),
    "base": raiser(BaseException("odd")),
    "recursion": recursive,
    "memory": memory,
    "too_much": too_much,
    "unprintable": raiser(Unprintable()),
    "hostile": raiser(Hostile()),
    "surrogate": raiser(ValueError("\udc80 alone")),
    "nul": raiser(ValueError("before\0after")),
    "long": raiser(ValueError("y" * 300000)),
    "deep": lambda: deep(200),
    "chained": chained,
    "cyclic": cyclic,
    "group": group,
    "base_group": base_group,
    "noted": noted,
    "syntax": lambda: compile("a b c", "somewhere.py", "exec"),
    "os_error": lambda: open("/nonexistent/path"),
    "unicode": lambda: "\u20ac".encode("ascii"),
    "name_error": lambda: undefined_name,
}

class InNext:
    def __init__(self, f):
        self.f = f
    def __iter__(self):
        return self
    def __next__(self):
        self.f()

class InIter:
    def __init__(self, f):
        self.f = f
    def __iter__(self):
        self.f()

class InClose:
    def __init__(self, f):
        self.close = f
    def __iter__(self):
        yield b"whole"

class InCloseLookup:
    def __init__(self, f):
        self.f = f
    def __iter__(self):
        yield b"whole"
    def __getattr__(self, name):
        self.f()

def application(environ, start_response):
    when, _, what = environ["PATH_INFO"].strip("/").partition("/")
    if when == "works":
        start_response("200 OK", [])
        return [b"works"]
    f = raisers[what]
    if when == "before":
        f()
    write = start_response("200 OK", [("X-Failed", "no")])
    if when == "called":
        f()
    if when == "next":
        return InNext(f)
    if when == "iter":
        return InIter(f)
    if when == "body":
        return failing_body(f)
    if when == "write":
        write(b"begin ")
        f()
    if when == "end":
        return failing_end(f)
    if when == "close":
        return InClose(f)
    if when == "close_lookup":
        return InCloseLookup(f)
    raise AssertionError(when)

def failing_body(f):
    yield b""
    f()

def failing_end(f):
    yield b"begin "
    f()
`

// TestExceptionsOfEveryKind raises each at each moment. A client never sees
// more of it than a 500 or a broken answer, the log has the traceback, and the
// next request is served.
func TestExceptionsOfEveryKind(t *testing.T) {
	s := servePlain(t, failures, one(1)...)
	kinds := []struct{ name, says string }{
		{"plain", "ValueError: the € reason"},
		{"bare", "ValueError"},
		{"exit", "SystemExit: 3"},
		{"exit_text", "SystemExit: goodbye"},
		{"sys_exit", "SystemExit"},
		{"interrupt", "KeyboardInterrupt"},
		{"generator_exit", "GeneratorExit: odd"},
		{"base", "BaseException: odd"},
		{"recursion", "RecursionError: maximum recursion depth exceeded"},
		{"memory", "MemoryError"},
		{"too_much", "Error"},
		{"unprintable", "Unprintable"},
		{"hostile", "Hostile"},
		{"surrogate", `ValueError: \udc80 alone`},
		{"nul", `ValueError: before\x00after`},
		{"long", strings.Repeat("y", 300000)},
		{"deep", "ValueError: at the bottom"},
		{"chained", "KeyError: 'the first one'"},
		{"chained", "ValueError: the second one"},
		{"cyclic", "ValueError: one end"},
		{"syntax", "SyntaxError"},
		{"os_error", "FileNotFoundError"},
		{"unicode", "UnicodeEncodeError"},
		{"name_error", "undefined_name"},
	}
	if atLeast(t, 11) {
		kinds = append(kinds, []struct{ name, says string }{
			{"group", "ValueError: in a group"},
			{"group", "KeyError: 'inner'"},
			{"base_group", "KeyboardInterrupt: in a group"},
			{"noted", "the note"},
		}...)
	}
	leaks := []string{"Traceback", "Error", "Exception", "secret", ".py", "the € reason"}
	for _, kind := range kinds {
		for _, when := range []struct {
			name   string
			failed bool   // answered 500
			whole  string // what arrives, where not
			cut    string
		}{
			{name: "before", failed: true}, {name: "called", failed: true}, {name: "next", failed: true},
			{name: "iter", failed: true}, {name: "body", failed: true},
			{name: "write", cut: "begin "}, {name: "end", cut: "begin "},
			{name: "close", whole: "whole"}, {name: "close_lookup", whole: "whole"},
		} {
			path := "/" + when.name + "/" + kind.name
			before := len(s.Logs.All())
			resp, err := s.Client().Get(s.URL + path)
			if err != nil {
				t.Errorf("%s: %v", path, err)
				continue
			}
			data, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			body := string(data)
			switch {
			case when.failed:
				if resp.StatusCode != 500 || body != "Internal Server Error\n" || err != nil {
					t.Errorf("%s: %s %q %v", path, resp.Status, body, err)
				}
				if resp.Header.Get("X-Failed") != "" {
					t.Errorf("%s: the 500 has the headers of the answer that failed: %v", path, resp.Header)
				}
			case when.cut != "":
				if resp.StatusCode != 200 || body != when.cut || err == nil {
					t.Errorf("%s: %s %q %v", path, resp.Status, body, err)
				}
			default:
				if resp.StatusCode != 200 || body != when.whole || err != nil {
					t.Errorf("%s: %s %q %v", path, resp.Status, body, err)
				}
			}
			for _, leak := range leaks {
				text := fmt.Sprint(strings.ReplaceAll(body, "Internal Server Error", ""), resp.Header, resp.Trailer)
				if strings.Contains(text, leak) {
					t.Errorf("%s: the client sees %q", path, text)
				}
			}
			s.expectBody(t, "/works", "works")
			records := s.Logs.All()[before:]
			if len(records) != 1 || records[0].Level != slog.LevelError || !strings.Contains(records[0].Message, kind.says) {
				t.Errorf("%s: logged %.2000s, want one error with %q", path, fmt.Sprint(records), kind.says)
				continue
			}
			if !strings.Contains(records[0].Message, "Traceback (most recent call last)") {
				t.Errorf("%s: logged without a traceback: %v", path, records[0])
			}
			expectRequestAttrs(t, records[0], "GET")
			if records[0].Attrs["uri"] != path {
				t.Errorf("%s: logged for %q", path, records[0].Attrs["uri"])
			}
		}
	}
}

// StopIteration ends an iteration, and is an error elsewhere.
func TestStopIterationOutsideAnIterationIsAnError(t *testing.T) {
	s := servePlain(t, failures, one(1)...)
	for _, when := range []string{"before", "called", "iter", "body"} {
		if resp, _ := s.get(t, "/"+when+"/stop_iteration"); resp.StatusCode != 500 {
			t.Errorf("%s: %s", when, resp.Status)
		}
	}
	s.expectBody(t, "/next/stop_iteration", "")
	s.expectBody(t, "/works", "works")
}

func TestWrongResultsAreErrorsThatSayWhatIsWrong(t *testing.T) {
	s := servePlain(t, `
import collections

class NoIter:
    pass

class BadIter:
    def __iter__(self):
        return 5

class NoneIter:
    __iter__ = None

async def agen():
    yield b"x"

async def coro():
    return [b"x"]

def generator(*chunks):
    yield from chunks

results = {
    "none": lambda: None,
    "str": lambda: "text",
    "bytes": lambda: b"text",
    "bytearray": lambda: bytearray(b"text"),
    "memoryview": lambda: memoryview(b"text"),
    "int": lambda: 5,
    "object": object,
    "class": lambda: NoIter,
    "no_iter": NoIter,
    "bad_iter": BadIter,
    "none_iter": NoneIter,
    "async_generator": agen,
    "function": lambda: agen,
    "list_str": lambda: ['Hello world!\n'],
    "tuple_str": lambda: ("text",),
    "list_mixed": lambda: [b"bytes", "text"],
    "list_bytearray": lambda: [bytearray(b"text")],
    "list_memoryview": lambda: [memoryview(b"text")],
    "list_none": lambda: [None],
    "list_int": lambda: [1, 2],
    "list_list": lambda: [[b"text"]],
    "iterator_str": lambda: iter(["text"]),
    "iterator_bytearray": lambda: iter([bytearray(b"text")]),
    "iterator_memoryview": lambda: iter([memoryview(b"text")]),
    "iterator_none": lambda: iter([None]),
    "iterator_empty_str": lambda: iter([""]),
    "generator_str": lambda: generator(b"", "text"),
    "dict_str": lambda: {"text": 1},
    "array": lambda: __import__("array").array("b", b"text"),
    "range": lambda: range(3),
    "user_string": lambda: collections.UserString("text"),
}

def application(environ, start_response):
    what = environ["PATH_INFO"].strip("/")
    if what == "works":
        start_response("200 OK", [])
        return [b"works"]
    if what == "write":
        start_response("200 OK", [])("text")
    if what == "write_bytearray":
        start_response("200 OK", [])(bytearray(b"text"))
    if what == "write_none":
        start_response("200 OK", [])(None)
    if what == "no_start":
        return [b"body"]
    if what == "no_start_empty":
        return []
    if what == "no_start_iterator":
        return iter([b"body"])
    if what == "no_start_empty_iterator":
        return iter([])
    if what == "late_list":
        class Late(list):
            def close(self):
                start_response("200 OK", [])
        return Late([b"body"])
    if what == "coroutine":
        c = coro()
        c.close()
        start_response("200 OK", [])
        return c
    start_response("200 OK", [])
    return results[what]()
`, one(1)...)
	for _, test := range []struct{ path, says string }{
		{"none", "TypeError: the application returned None: it must return an iterable of bytes"},
		{"str", "TypeError: the application returned str: it must return an iterable of bytes, such as [body.encode('utf-8')]"},
		{"bytes", "TypeError: the application returned bytes: it must return an iterable of bytes, such as [body]"},
		{"bytearray", "must be bytes, not int"},
		{"memoryview", "must be bytes, not int"},
		{"int", "TypeError: 'int' object is not iterable"},
		{"object", "TypeError: 'object' object is not iterable"},
		{"class", "is not iterable"},
		{"no_iter", "TypeError: 'NoIter' object is not iterable"},
		{"bad_iter", "TypeError: iter() returned non-iterator of type 'int'"},
		{"none_iter", "TypeError: 'NoneIter' object is not iterable"},
		{"async_generator", "TypeError: 'async_generator' object is not iterable"},
		{"coroutine", "TypeError: 'coroutine' object is not iterable"},
		{"function", "TypeError: 'function' object is not iterable"},
		{"list_str", "TypeError: an item of the list that the application returned must be bytes, not str: encode it, for example with .encode('utf-8')"},
		{"tuple_str", "must be bytes, not str"},
		{"list_mixed", "must be bytes, not str"},
		{"list_bytearray", "must be bytes, not bytearray"},
		{"list_memoryview", "must be bytes, not memoryview"},
		{"list_none", "must be bytes, not NoneType"},
		{"list_int", "must be bytes, not int"},
		{"list_list", "must be bytes, not list"},
		{"iterator_str", "TypeError: what the application yields must be bytes, not str: encode it, for example with .encode('utf-8')"},
		{"iterator_bytearray", "what the application yields must be bytes, not bytearray"},
		{"iterator_memoryview", "must be bytes, not memoryview"},
		{"iterator_none", "must be bytes, not NoneType"},
		{"iterator_empty_str", "must be bytes, not str"},
		{"generator_str", "must be bytes, not str"},
		{"dict_str", "must be bytes, not str"},
		{"array", "must be bytes, not int"},
		{"range", "must be bytes, not int"},
		{"user_string", "must be bytes"},
		{"write", "TypeError: the argument of write() must be bytes, not str: encode it"},
		{"write_bytearray", "the argument of write() must be bytes, not bytearray"},
		{"write_none", "the argument of write() must be bytes, not NoneType"},
		{"no_start", "RuntimeError: the application returned a response without calling start_response"},
		{"no_start_empty", "without calling start_response"},
		{"no_start_iterator", "without calling start_response"},
		{"no_start_empty_iterator", "without calling start_response"},
		{"late_list", "without calling start_response"},
	} {
		before := len(s.Logs.All())
		resp, body := s.get(t, "/"+test.path)
		if resp.StatusCode != 500 || body != "Internal Server Error\n" {
			t.Errorf("%s: %s %q", test.path, resp.Status, body)
		}
		records := s.Logs.All()[before:]
		if len(records) != 1 || records[0].Level != slog.LevelError || !strings.Contains(records[0].Message, test.says) {
			t.Errorf("%s: logged %v, want %q", test.path, records, test.says)
		}
		s.expectBody(t, "/works", "works")
	}
}

func TestFailedHEADAndPOSTAreAnsweredToo(t *testing.T) {
	s := servePlain(t, failures)
	conn := s.dial(t)
	for range 3 {
		conn.write("HEAD /before/plain HTTP/1.1\r\nHost: h\r\n\r\n")
		if resp, body := conn.answer("HEAD"); resp.StatusCode != 500 || body != "" {
			t.Errorf("HEAD: %s %q", resp.Status, body)
		}
		conn.write("POST /before/plain HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody")
		if resp, body := conn.answer("POST"); resp.StatusCode != 500 || body != "Internal Server Error\n" {
			t.Errorf("POST: %s %q", resp.Status, body)
		}
	}
	for _, r := range s.Logs.With("ValueError")[:2] {
		if r.Attrs["method"] != "HEAD" && r.Attrs["method"] != "POST" {
			t.Errorf("logged: %v", r)
		}
	}
}

func TestErrorsStreamComesInOrderWithTracebacks(t *testing.T) {
	s := servePlain(t, `
def application(environ, start_response):
    errors = environ["wsgi.errors"]
    errors.write("first\n")
    errors.write("second, without a newline")
    if environ["PATH_INFO"] == "/raise":
        raise ValueError("third")
    start_response("200 OK", [])
    def body():
        yield b"a"
        errors.write(" and its end\n")
        yield b"b"
        errors.write("fourth")
    return body()
`)
	s.expectBody(t, "/", "ab")
	resp, _ := s.get(t, "/raise")
	if resp.StatusCode != 500 {
		t.Errorf("%s", resp.Status)
	}
	var got []string
	for _, r := range s.Logs.All() {
		if r.Level == slog.LevelError {
			first, _, _ := strings.Cut(r.Message, "\n")
			got = append(got, r.Attrs["uri"]+" "+first)
			expectRequestAttrs(t, r, http.MethodGet)
		}
	}
	want := []string{"/ first", "/ second, without a newline and its end", "/ fourth",
		"/raise first", "/raise second, without a newline", "/raise the application raised an exception"}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("logged %q, want %q", got, want)
	}
}
