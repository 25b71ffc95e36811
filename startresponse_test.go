package wsgi_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

const startResponse = `
import sys

def late_in_generator(environ, start_response):
    yield b""
    yield b""
    start_response("201 Created", [("X-Late", "yes")])
    yield b""
    yield b"body"

class LateInNext:
    def __init__(self, start_response):
        self.start_response, self.n = start_response, 0
    def __iter__(self):
        return self
    def __next__(self):
        self.n += 1
        if self.n == 1:
            self.start_response("201 Created", [("X-Late", "yes")])
            return b"body"
        raise StopIteration

def late_in_next(environ, start_response):
    return LateInNext(start_response)

class LateInIter:
    def __init__(self, start_response):
        self.start_response = start_response
    def __iter__(self):
        self.start_response("201 Created", [("X-Late", "yes")])
        return iter([b"body"])

def late_in_iter(environ, start_response):
    return LateInIter(start_response)

def late_and_empty(environ, start_response):
    yield b""
    start_response("201 Created", [("X-Late", "yes")])

def by_keyword(environ, start_response):
    try:
        raise ValueError("the reason")
    except ValueError:
        start_response("201 Created", [("X-Late", "yes")], exc_info=sys.exc_info())
    return [b"body"]

def exc_info_none(environ, start_response):
    start_response("201 Created", [("X-Late", "yes")], None)
    return [b"body"]

def changed_afterwards(environ, start_response):
    headers = [("X-Late", "yes")]
    start_response("201 Created", headers)
    headers.append(("X-More", "no"))
    headers[0] = ("X-Late", "no")
    return [b"body"]

def replaced(environ, start_response):
    start_response("200 OK", [("X-Old", "1"), ("Content-Length", "100"), ("Content-Type", "text/old")])
    try:
        raise ValueError("the reason")
    except ValueError:
        start_response("201 Created", [("X-Late", "yes")], sys.exc_info())
    return [b"body"]

def replaced_twice(environ, start_response):
    for status in "200 One", "202 Two", "201 Created":
        try:
            raise ValueError("the reason")
        except ValueError:
            start_response(status, [("X-Late", "yes")], sys.exc_info())
    return [b"body"]

def replaced_in_generator(environ, start_response):
    start_response("200 OK", [("X-Old", "1")])
    yield b""
    try:
        raise ValueError("the reason")
    except ValueError:
        start_response("201 Created", [("X-Late", "yes")], sys.exc_info())
    yield b"body"

def replaced_from_204(environ, start_response):
    start_response("204 No Content", [])
    try:
        raise ValueError("the reason")
    except ValueError:
        start_response("201 Created", [("X-Late", "yes")], sys.exc_info())
    return [b"body"]

def second_call_survived(environ, start_response):
    start_response("201 Created", [("X-Late", "yes")])
    for second in [("200 OK", []), ("nonsense", []), ("200 OK", None)]:
        try:
            start_response(*second)
        except Exception:
            pass
        else:
            raise AssertionError("a second call without exc_info is allowed")
    return [b"body"]

def wrong_replacement(environ, start_response):
    start_response("201 Created", [("X-Late", "yes")])
    for args in [("bad", []), ("500 Error", [("Connection", "close")]), ("500 Error", None)]:
        try:
            raise ValueError("the reason")
        except ValueError:
            try:
                start_response(*args, sys.exc_info())
            except (ValueError, TypeError):
                continue
            raise AssertionError("accepted: %r" % (args,))
    return [b"body"]

def wrong_then_right(environ, start_response):
    for args in [("bad", []), ("500 Error", [("Connection", "close")]), ("500 Error", None)]:
        try:
            start_response(*args)
        except (ValueError, TypeError):
            continue
        raise AssertionError("accepted: %r" % (args,))
    start_response("201 Created", [("X-Late", "yes")])
    return [b"body"]

class Text(str):
    def __len__(self):
        raise RuntimeError("not to be asked")
class Pair(tuple):
    pass
class Headers(list):
    pass

def subclasses(environ, start_response):
    start_response(Text("201 Created"), Headers([Pair((Text("X-Late"), Text("yes")))]))
    return [b"body"]
` + routed

func TestStartResponseMayComeUpToTheFirstChunk(t *testing.T) {
	s := servePlain(t, startResponse)
	for _, path := range []string{
		"late_in_generator", "late_in_next", "late_in_iter", "by_keyword", "exc_info_none", "changed_afterwards",
		"replaced", "replaced_twice", "replaced_in_generator", "replaced_from_204", "second_call_survived",
		"wrong_replacement", "wrong_then_right", "subclasses",
	} {
		resp, body := s.get(t, "/"+path)
		if resp.StatusCode != 201 || body != "body" || resp.Header.Get("X-Late") != "yes" {
			t.Errorf("%s: %s %v %q", path, resp.Status, resp.Header, body)
		}
		for _, name := range []string{"X-Old", "X-More", "Content-Type"} {
			if value, ok := resp.Header[name]; ok {
				t.Errorf("%s: %s is %q", path, name, value)
			}
		}
	}
	if resp, body := s.get(t, "/late_and_empty"); resp.StatusCode != 201 || body != "" {
		t.Errorf("late_and_empty: %s %q", resp.Status, body)
	}
	s.Logs.expectQuiet(t)
}

// TestWrongStartResponseIsRaisedWhereItIsCalled makes each wrong call in the
// application, which tells what it got.
func TestWrongStartResponseIsRaisedWhereItIsCalled(t *testing.T) {
	s := servePlain(t, `
import ast

def application(environ, start_response):
    calls = ast.literal_eval(environ["HTTP_X_CALL"])
    try:
        start_response(*calls)
    except BaseException as e:
        start_response("200 OK", [])
        return [(type(e).__name__ + ": " + str(e)).encode()]
    return []
`)
	headers := func(pairs string) string { return `('200 OK', [` + pairs + `])` }
	pair := func(value string) string { return headers(`('X-A', ` + value + `)`) }
	for _, test := range []struct{ call, kind, says string }{
		{`(200, [])`, "TypeError", "status must be str"},
		{`(b'200 OK', [])`, "TypeError", "status must be str"},
		{`(None, [])`, "TypeError", "status must be str"},
		{`('', [])`, "ValueError", "200 to 999"},
		{`('200', [])`, "ValueError", "like '200 OK'"},
		{`('20 OK', [])`, "ValueError", "200 to 999"},
		{`('2000 OK', [])`, "ValueError", "200 to 999"},
		{`(' 200 OK', [])`, "ValueError", "200 to 999"},
		{`('200OK', [])`, "ValueError", "200 to 999"},
		{`('200\tOK', [])`, "ValueError", "control character"},
		{`('-20 OK', [])`, "ValueError", "200 to 999"},
		{`('2e2 OK', [])`, "ValueError", "200 to 999"},
		{`('٢٠٠ OK', [])`, "ValueError", "latin-1"},
		{`('²00 OK', [])`, "ValueError", "200 to 999"},
		{`('OK', [])`, "ValueError", "200 to 999"},
		{`('000 Zero', [])`, "ValueError", "200 to 999"},
		{`('099 Low', [])`, "ValueError", "200 to 999"},
		{`('100 Continue', [])`, "ValueError", "200 to 999"},
		{`('101 Switching Protocols', [])`, "ValueError", "200 to 999"},
		{`('103 Early Hints', [])`, "ValueError", "200 to 999"},
		{`('199 Low', [])`, "ValueError", "200 to 999"},
		{`('200 OK\r\nX-Injected: 1', [])`, "ValueError", "control character"},
		{`('200 OK\n', [])`, "ValueError", "control character"},
		{`('200 OK\x00', [])`, "ValueError", "control character"},
		{`('200 OK\x7f', [])`, "ValueError", "control character"},
		{`('200 \u20ac', [])`, "ValueError", "latin-1"},
		{`('200 \ud800', [])`, "UnicodeEncodeError", "surrogates"},

		{`('200 OK', None)`, "TypeError", "must be a list"},
		{`('200 OK', ())`, "TypeError", "must be a list"},
		{`('200 OK', (('X-A', 'b'),))`, "TypeError", "must be a list"},
		{`('200 OK', {'X-A': 'b'})`, "TypeError", "must be a list"},
		{`('200 OK', 'X-A: b')`, "TypeError", "must be a list"},
		{headers(`['X-A', 'b']`), "TypeError", "tuple (name, value)"},
		{headers(`'X-A: b'`), "TypeError", "tuple (name, value)"},
		{headers(`'ab'`), "TypeError", "tuple (name, value)"},
		{headers(`('X-A', 'b', 'c')`), "TypeError", "tuple (name, value)"},
		{headers(`('X-A',)`), "TypeError", "tuple (name, value)"},
		{headers(`()`), "TypeError", "tuple (name, value)"},
		{headers(`None`), "TypeError", "tuple (name, value)"},
		{headers(`(b'X-A', 'b')`), "TypeError", "name of a response header must be str"},
		{headers(`(None, 'b')`), "TypeError", "name of a response header must be str"},
		{headers(`('X-A', b'b')`), "TypeError", "value of a response header must be str"},
		{headers(`('X-A', 5)`), "TypeError", "value of a response header must be str"},
		{headers(`('X-A', None)`), "TypeError", "value of a response header must be str"},
		{headers(`('Content-Length', 5)`), "TypeError", "value of a response header must be str"},
		{headers(`('X-Good', 'b'), ('X-A', None)`), "TypeError", "value of a response header must be str"},

		{headers(`('', 'b')`), "ValueError", "not a valid header name"},
		{headers(`('X A', 'b')`), "ValueError", "not a valid header name"},
		{headers(`('X-A:', 'b')`), "ValueError", "not a valid header name"},
		{headers(`(' X-A', 'b')`), "ValueError", "not a valid header name"},
		{headers(`('X-A ', 'b')`), "ValueError", "not a valid header name"},
		{headers(`('X-Ä', 'b')`), "ValueError", "not a valid header name"},
		{headers(`('X-€', 'b')`), "ValueError", "latin-1"},
		{headers(`('X(A)', 'b')`), "ValueError", "not a valid header name"},
		{headers(`('X-A\r\nX-Injected', 'b')`), "ValueError", "control character"},
		{headers(`('X-A\x00', 'b')`), "ValueError", "control character"},
		{headers(`('Status', '200 OK'), ('X\tA', 'b')`), "ValueError", "control character"},

		{pair(`'b\r\nX-Injected: 1'`), "ValueError", "control character"},
		{pair(`'b\nX-Injected: 1'`), "ValueError", "control character"},
		{pair(`'b\r'`), "ValueError", "control character"},
		{pair(`'b\n folded'`), "ValueError", "control character"},
		{pair(`'b\x00'`), "ValueError", "control character"},
		{pair(`'\x01'`), "ValueError", "control character"},
		{pair(`'a\tb'`), "ValueError", "control character"},
		{pair(`'\x1f'`), "ValueError", "control character"},
		{pair(`'\x7f'`), "ValueError", "control character"},
		{pair(`'\u0100'`), "ValueError", "latin-1"},
		{pair(`'\U0001f600'`), "ValueError", "latin-1"},
		{pair(`'\udc80'`), "UnicodeEncodeError", "surrogates"},

		{headers(`('Connection', 'close')`), "ValueError", "hop-by-hop"},
		{headers(`('connection', 'keep-alive')`), "ValueError", "hop-by-hop"},
		{headers(`('Keep-Alive', 'timeout=5')`), "ValueError", "hop-by-hop"},
		{headers(`('Proxy-Authenticate', 'Basic')`), "ValueError", "hop-by-hop"},
		{headers(`('Proxy-Authorization', 'x')`), "ValueError", "hop-by-hop"},
		{headers(`('TE', 'trailers')`), "ValueError", "hop-by-hop"},
		{headers(`('Trailer', 'X')`), "ValueError", "hop-by-hop"},
		{headers(`('Trailers', 'X')`), "ValueError", "hop-by-hop"},
		{headers(`('TRANSFER-ENCODING', 'chunked')`), "ValueError", "hop-by-hop"},
		{headers(`('Upgrade', 'h2c')`), "ValueError", "hop-by-hop"},

		{headers(`('Content-Length', '-1')`), "ValueError", "not a number"},
		{headers(`('Content-Length', '+1')`), "ValueError", "not a number"},
		{headers(`('Content-Length', '')`), "ValueError", "not a number"},
		{headers(`('Content-Length', 'five')`), "ValueError", "not a number"},
		{headers(`('Content-Length', '5 ')`), "ValueError", "not a number"},
		{headers(`('Content-Length', '5,5')`), "ValueError", "not a number"},
		{headers(`('Content-Length', '0x5')`), "ValueError", "not a number"},
		{headers(`('Content-Length', '1_0')`), "ValueError", "not a number"},
		{headers(`('Content-Length', '5.0')`), "ValueError", "not a number"},
		{headers(`('Content-Length', '٥')`), "ValueError", "latin-1"},
		{headers(`('Content-Length', '9223372036854775808')`), "ValueError", "not a number"},
		{headers(`('Content-Length', '99999999999999999999999')`), "ValueError", "not a number"},
		{headers(`('Content-Length', '5'), ('content-length', '5')`), "ValueError", "two Content-Length"},
		{headers(`('Content-Length', '5'), ('CONTENT-LENGTH', '6')`), "ValueError", "two Content-Length"},

		{`()`, "TypeError", "status, headers and exc_info"},
		{`('200 OK',)`, "TypeError", "status, headers and exc_info"},
		{`('200 OK', [], None, None)`, "TypeError", "status, headers and exc_info"},
		{`('200 OK', [], 1)`, "TypeError", "exc_info must be a tuple"},
		{`('200 OK', [], (1, 2))`, "TypeError", "exc_info must be a tuple"},
		{`('200 OK', [], [1, 2, 3])`, "TypeError", "exc_info must be a tuple"},
	} {
		r, err := http.NewRequest("GET", s.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Call", escapeNonASCII(test.call))
		resp, body := s.send(t, r)
		kind, text, _ := strings.Cut(body, ": ")
		if resp.StatusCode != 200 || kind != test.kind || !strings.Contains(text, test.says) {
			t.Errorf("start_response%s: %s %q, want %s with %q", test.call, resp.Status, body, test.kind, test.says)
		}
		if resp.Header.Get("X-Injected") != "" || resp.Header.Get("X-Good") != "" {
			t.Errorf("start_response%s: headers of the refused call: %v", test.call, resp.Header)
		}
	}
}

// TestStartResponseTakesWhatTheRulesAllow, be it unusual.
func TestStartResponseTakesWhatTheRulesAllow(t *testing.T) {
	s := servePlain(t, `
import ast

class Hostile(str):
    def __str__(self): return "X"
    def __iter__(self): raise RuntimeError("not to be asked")
    def __len__(self): return 0
    def __getitem__(self, i): raise RuntimeError("not to be asked")
    def encode(self, *_): return b"X"

def application(environ, start_response):
    status, headers = ast.literal_eval(environ["HTTP_X_CALL"])
    if environ["PATH_INFO"] == "/subclasses":
        status, headers = Hostile(status), [(Hostile(name), Hostile(value)) for name, value in headers]
    start_response(status, headers)
    return [b"hello"]
`)
	conn := s.dial(t) // on which a wrong length would be seen
	for _, test := range []struct {
		call, name, value string
		status            int
		body              string
	}{
		{`('200 ', [])`, "Content-Length", "5", 200, "hello"},
		{`('999 Own', [])`, "Content-Length", "5", 999, "hello"},
		{`('200 OK', [('Content-Length', '5')])`, "Content-Length", "5", 200, "hello"},
		{`('200 OK', [('content-length', '005')])`, "Content-Length", "", 200, "hello"},
		{`('200 OK', [('Date', 'today')])`, "Date", "today", 200, "hello"},
		{`('200 OK', [('X-A', '')])`, "X-A", "", 200, "hello"},
		{`('200 OK', [('X-A', 'a, "b;c" =')])`, "X-A", `a, "b;c" =`, 200, "hello"},
		{`('200 OK', [('X-A', '\xe9\xff')])`, "X-A", "\xe9\xff", 200, "hello"},
	} {
		for _, path := range []string{"/", "/subclasses"} {
			conn.write("GET " + path + " HTTP/1.1\r\nHost: h\r\nX-Call: " + test.call + "\r\n\r\n")
			resp, body := conn.answer("GET")
			if resp.StatusCode != test.status || body != test.body {
				t.Errorf("start_response%s by %s: %s %q", test.call, path, resp.Status, body)
			}
			if got := resp.Header.Get(test.name); test.value != "" && got != test.value {
				t.Errorf("start_response%s by %s: %s is %q", test.call, path, test.name, got)
			}
		}
	}
	s.Logs.expectQuiet(t)
}

// escapeNonASCII writes a Python literal in ASCII, which is what a header can
// hold without a question of its encoding.
func escapeNonASCII(literal string) string {
	var b strings.Builder
	for _, r := range literal {
		if r < 0x80 {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	return b.String()
}

const headers = `
def cookies(environ, start_response):
    start_response("200 OK", [("Set-Cookie", "a=1"), ("set-cookie", "b=2; Path=/"), ("SET-COOKIE", "c=3")])
    return []

def repeated(environ, start_response):
    start_response("200 OK", [("Link", "</1>"), ("X-A", "1"), ("link", "</2>"), ("Vary", "Cookie"), ("Vary", "Accept")])
    return []

def many(environ, start_response):
    start_response("200 OK", [("X-Header-%d" % i, "v" * i) for i in range(300)])
    return []

def long(environ, start_response):
    start_response("200 OK", [("X-Long", "y" * 100000)])
    return []

def odd(environ, start_response):
    start_response("200 OK", [("X-Empty", ""), ("X-Colon", "a:b"), ("!#$%&'*+-.^_|~09", "token"), ("x-lower", "Mixed"),
                              ("X-Quoted", '"a, b"'), ("X_Under", "score")])
    return []

def latin1(environ, start_response):
    start_response("200 \xe4\xf6\xfc", [("X-Latin", "".join(map(chr, [*range(0x21, 0x7f), *range(0x80, 0x100)]))),
                              ("X-Utf8", "\u20ac\U0001f600".encode().decode("latin-1"))])
    return []
` + routed

func TestHeadersAreSentAsTheyAre(t *testing.T) {
	s := servePlain(t, headers)
	expect := func(header http.Header, name string, want ...string) {
		t.Helper()
		if got := header[name]; !slices.Equal(got, want) {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	resp, _ := s.get(t, "/cookies")
	expect(resp.Header, "Set-Cookie", "a=1", "b=2; Path=/", "c=3")
	resp, _ = s.get(t, "/repeated")
	expect(resp.Header, "Link", "</1>", "</2>")
	expect(resp.Header, "Vary", "Cookie", "Accept")
	expect(resp.Header, "X-A", "1")
	resp, _ = s.get(t, "/many")
	for i := range 300 {
		expect(resp.Header, fmt.Sprintf("X-Header-%d", i), strings.Repeat("v", i))
	}
	resp, _ = s.get(t, "/long")
	expect(resp.Header, "X-Long", strings.Repeat("y", 100000))
	resp, _ = s.get(t, "/odd")
	expect(resp.Header, "X-Empty", "")
	expect(resp.Header, "X-Colon", "a:b")
	expect(resp.Header, "X-Lower", "Mixed")
	expect(resp.Header, "X-Quoted", `"a, b"`)
	expect(resp.Header, http.CanonicalHeaderKey("!#$%&'*+-.^_|~09"), "token")
	expect(resp.Header, "X_under", "score")

	resp, _ = s.get(t, "/latin1")
	var latin []byte
	for c := range 256 {
		if c >= 0x21 && c != 0x7f {
			latin = append(latin, byte(c))
		}
	}
	expect(resp.Header, "X-Latin", string(latin))
	expect(resp.Header, "X-Utf8", "€😀")
	s.Logs.expectQuiet(t)
}
