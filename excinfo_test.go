package wsgi_test

import (
	"strings"
	"testing"
)

const excInfoAfterHeaders = `
import sys

class Original(Exception):
    pass

seen = []

def application(environ, start_response):
    kind = environ["PATH_INFO"].strip("/")
    if kind == "seen":
        start_response("200 OK", [])
        result = repr(seen).encode()
        seen.clear()
        return [result]
    return globals()[kind](start_response)

def swallowed(start_response):
    start_response("200 OK", [])
    yield b"begin "
    try:
        raise Original("mine")
    except Original as e:
        try:
            start_response("500 Error", [("X-Replaced", "yes")], sys.exc_info())
        except Original as again:
            seen.append((again is e, again.__traceback__ is not None))
    yield b"end"

def raised(start_response):
    start_response("200 OK", [])
    yield b"begin "
    try:
        raise Original("mine")
    except Original:
        start_response("500 Error", [("X-Replaced", "yes")], sys.exc_info())
    yield b"end"

def without(start_response):
    start_response("200 OK", [])
    yield b"begin "
    for exc_info in [(), (None,), ((None, None, None),)]:
        try:
            start_response("200 OK", [], *exc_info)
        except Exception as e:
            seen.append(type(e).__name__)
    yield b"end"

# What isn't an exc_info must be an error, and nothing worse.
def nonsense(start_response):
    start_response("200 OK", [])
    yield b"begin "
    try:
        raise Original("mine")
    except Original as e:
        trace = e.__traceback__
    for exc_info in [1, "abc", (), (1, 2), (1, 2, 3), [1, 2, 3], ("a", "b", "c"), (Original, None, None),
                     (Original, "text", None), (Original, Original("x"), 3), (int, 5, None), (None, 1, 2),
                     (Original, ValueError("other"), trace), (Original("x"), None, None), (ValueError, (1, 2), trace),
                     (type, None, None), (Original, Original("y"), trace), True, b"", (object(), object(), object())]:
        try:
            start_response("200 OK", [], exc_info)
        except Exception as e:
            str(e), repr(e), e.__traceback__
        else:
            seen.append(exc_info)
    yield b"end"
`

func TestExcInfoAfterTheHeadersIsRaisedAgain(t *testing.T) {
	s := servePlain(t, excInfoAfterHeaders, one(2)...)
	if resp, body := s.get(t, "/swallowed"); resp.StatusCode != 200 || body != "begin end" || resp.Header.Get("X-Replaced") != "" {
		t.Errorf("swallowed: %s %v %q", resp.Status, resp.Header, body)
	}
	s.expectBody(t, "/seen", "[(True, True)]")

	conn := s.dial(t)
	conn.write("GET /raised HTTP/1.1\r\nHost: h\r\n\r\n")
	if resp := conn.response("GET"); resp.StatusCode != 200 || resp.Header.Get("X-Replaced") != "" {
		t.Errorf("raised: %s %v", resp.Status, resp.Header)
	}
	expectTruncated(t, conn, "begin ")
	record := s.Logs.Wait(t, "Original")
	if !strings.Contains(record.Message, "Original: mine") || !strings.Contains(record.Message, "Traceback") {
		t.Errorf("logged: %v", record)
	}
}

func TestSecondStartResponseWithoutExcInfoIsAnError(t *testing.T) {
	s := servePlain(t, excInfoAfterHeaders, one(2)...)
	s.expectBody(t, "/without", "begin end")
	s.expectBody(t, "/seen", "['RuntimeError', 'RuntimeError', 'RuntimeError']")
}

func TestNonsenseForExcInfoIsAnError(t *testing.T) {
	s := servePlain(t, excInfoAfterHeaders, one(2)...)
	s.expectBody(t, "/nonsense", "begin end")
	s.expectBody(t, "/seen", "[]")
}

// excInfoMoments is an application that calls start_response with exc_info at the
// moment that the path names, and keeps what came of it for /log.
const excInfoMoments = `
import sys

log = []

def again(start_response):
    try:
        raise ValueError("the reason")
    except ValueError as e:
        try:
            start_response("201 Created", [("X-Again", "yes")], sys.exc_info())
            log.append("replaced")
        except ValueError as same:
            log.append("raised again" if same is e else "another")

class Body:
    def __init__(self, start_response, chunks):
        self.start_response, self.chunks = start_response, chunks
    def __iter__(self):
        return iter(self.chunks)
    def close(self):
        again(self.start_response)

def application(environ, start_response):
    moment = environ["PATH_INFO"].strip("/")
    if moment == "log":
        start_response("200 OK", [])
        text = repr(log).encode()
        log.clear()
        return [text]
    write = start_response("200 OK", [("Content-Length", "5")] if moment == "after_all_of_its_length" else [])
    def body():
        if moment == "in_the_first_next":
            again(start_response)
        yield b""
        if moment == "after_an_empty_chunk":
            again(start_response)
        yield b"first"
        if moment.startswith(("after_a_chunk", "after_all")):
            again(start_response)
    if moment == "after_an_empty_write":
        write(b"")
        again(start_response)
    if moment == "after_a_write":
        write(b"first")
        again(start_response)
        return []
    if moment == "in_close_of_nothing":
        return Body(start_response, iter(()))
    if moment == "in_close":
        return Body(start_response, iter([b"first"]))
    if moment == "in_close_of_a_list":
        class List(list):
            def close(self):
                again(start_response)
        return List([b"first"])
    return body()
`

// TestExcInfoReplacesUntilTheFirstByte, and raises again from then on: in close()
// too, and after a HEAD's first byte, which is not sent.
func TestExcInfoReplacesUntilTheFirstByte(t *testing.T) {
	s := servePlain(t, excInfoMoments, one(1)...)
	for _, test := range []struct {
		method, moment string
		status         int
		log            string
	}{
		{"GET", "in_the_first_next", 201, "replaced"},
		{"GET", "after_an_empty_chunk", 201, "replaced"},
		{"GET", "after_an_empty_write", 201, "replaced"},
		{"GET", "after_a_write", 200, "raised again"},
		{"GET", "after_a_chunk", 200, "raised again"},
		{"HEAD", "after_an_empty_chunk", 201, "replaced"},
		{"HEAD", "after_an_empty_write", 201, "replaced"},
		{"HEAD", "after_a_write", 200, "raised again"},
		{"GET", "after_all_of_its_length", 200, "raised again"},
		{"GET", "in_close", 200, "raised again"},
		{"GET", "in_close_of_a_list", 200, "raised again"},
		{"GET", "in_close_of_nothing", 200, "raised again"},
	} {
		resp, body := s.do(t, test.method, "/"+test.moment, nil)
		want := "first"
		if test.method == "HEAD" || test.moment == "in_close_of_nothing" {
			want = ""
		}
		if resp.StatusCode != test.status || body != want || (resp.Header.Get("X-Again") == "yes") != (test.status == 201) {
			t.Errorf("%s %s: %s %v %q", test.method, test.moment, resp.Status, resp.Header, body)
		}
		s.expectBody(t, "/log", "['"+test.log+"']")
	}
	s.Logs.expectQuiet(t)
}
