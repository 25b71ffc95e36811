package wsgi_test

import (
	"io"
	"net/http"
	"testing"
)

// countedBody is the beginning of a module: an iterable that notes each close().
const countedBody = `
closes = []

class Body:
    def __init__(self, chunks):
        self.chunks = iter(chunks)
    def __iter__(self):
        return self.chunks
    def close(self):
        closes.append("body")
`

const closing = countedBody + `
class List(list):
    def close(self):
        closes.append("list")

class Tuple(tuple):
    def close(self):
        closes.append("tuple")

class RaisingClose(Body):
    def close(self):
        closes.append("raising")
        raise ValueError("from close")

class OwnIterator(Body):
    """Its iterator has a close() as well, which is nobody's to call."""
    def __iter__(self):
        return Body(self.chunks)

class Inner:
    def __init__(self, chunks):
        self.chunks = iter(chunks)
    def __iter__(self):
        return self
    def __next__(self):
        return next(self.chunks)
    def close(self):
        closes.append("inner")

class RaisingIter(Body):
    def __iter__(self):
        raise ValueError("from iter")

class NotCallable(list):
    close = 5

class NoneClose(Inner):
    close = None

class Dynamic:
    def __init__(self, chunks):
        self.chunks = iter(chunks)
    def __iter__(self):
        return self.chunks
    def __getattr__(self, name):
        if name == "close":
            return lambda: closes.append("dynamic")
        raise AttributeError(name)

class BadFileWrapped:
    def read(self, size):
        raise OSError("bad sector")
    def close(self):
        closes.append("file")

class FileWrapped(BadFileWrapped):
    left = 3
    def read(self, size):
        self.left -= 1
        return b"x" * (self.left > 0)

def raising(chunks):
    yield from chunks
    raise ValueError("from the body")

def generator(chunks):
    try:
        yield from chunks
    finally:
        closes.append("finally")

def nested(chunks):
    with_close = generator(chunks)
    try:
        for chunk in with_close:
            yield chunk
    finally:
        closes.append("outer")

def application(environ, start_response):
    name = environ["PATH_INFO"].strip("/")
    if name == "closes":
        start_response("200 OK", [])
        result = repr(closes).encode()
        closes.clear()
        return [result]
    if name == "no_start":
        return Body([b"x"])
    if name == "no_start_list":
        return List([b"x"])
    query = environ["QUERY_STRING"]
    status = "204 No Content" if name == "no_content" else "304 Not Modified" if name == "not_modified" else "200 OK"
    write = start_response(status, [("Content-Length", query)] if query else [])
    if name == "write_then_raise":
        write(b"x")
        return Body(raising([]))
    return {
        "normal": lambda: Body([b"x", b"y"]),
        "no_content": lambda: Body([b"x"]),
        "not_modified": lambda: generator([b"x", b"y"]),
        "empty": lambda: Body([]),
        "list": lambda: List([b"x"]),
        "tuple": lambda: Tuple([b"x"]),
        "list_of_str": lambda: List(["x"]),
        "raising_close": lambda: RaisingClose([b"x"]),
        "raising_both": lambda: RaisingClose(raising([b"x"])),
        "raising_at_once": lambda: RaisingClose(raising([])),
        "own_iterator": lambda: OwnIterator([b"x"]),
        "inner": lambda: Inner([b"x"]),
        "dynamic": lambda: Dynamic([b"x"]),
        "raising_iter": lambda: RaisingIter([]),
        "raising": lambda: Body(raising([b"x"])),
        "raising_before": lambda: Body(raising([])),
        "str_chunk": lambda: Body([b"x", "y"]),
        "not_callable": lambda: NotCallable([b"x"]),
        "none_close": lambda: NoneClose([b"x"]),
        "generator": lambda: generator([b"x", b"y"]),
        "generator_empty": lambda: generator([]),
        "generator_str": lambda: generator([b"x", "y", b"z"]),
        "nested": lambda: nested([b"x", b"y", b"z"]),
        "file": lambda: environ["wsgi.file_wrapper"](FileWrapped()),
        "bad_file": lambda: environ["wsgi.file_wrapper"](BadFileWrapped()),
    }[name]()
`

func TestCloseIsCalledOnceInEveryCase(t *testing.T) {
	s := servePlain(t, closing, one(1)...)
	for _, test := range []struct{ method, path, closes string }{
		{"GET", "normal", "['body']"},
		{"HEAD", "normal", "['body']"},
		{"GET", "normal?1", "['body']"},   // too much
		{"GET", "normal?100", "['body']"}, // too little
		{"GET", "no_content", "['body']"},
		{"GET", "not_modified", "['finally']"},
		{"GET", "empty", "['body']"},
		{"HEAD", "empty", "['body']"},
		{"GET", "list", "['list']"},
		{"HEAD", "list", "['list']"},
		{"GET", "list?0", "['list']"},
		{"GET", "list?100", "['list']"},
		{"GET", "tuple", "['tuple']"},
		{"GET", "list_of_str", "['list']"},
		{"GET", "raising_close", "['raising']"},
		{"GET", "raising_both", "['raising']"},
		{"GET", "raising_at_once", "['raising']"},
		{"GET", "own_iterator", "['body']"},
		{"GET", "inner", "['inner']"},
		{"GET", "dynamic", "['dynamic']"},
		{"GET", "raising_iter", "['body']"},
		{"GET", "raising", "['body']"},
		{"GET", "raising_before", "['body']"},
		{"GET", "str_chunk", "['body']"},
		{"GET", "not_callable", "[]"},
		{"GET", "none_close", "[]"},
		{"GET", "no_start", "['body']"},
		{"GET", "no_start_list", "['list']"},
		{"GET", "write_then_raise", "['body']"},
		{"GET", "generator", "['finally']"},
		{"HEAD", "generator", "['finally']"},
		{"GET", "generator_empty", "['finally']"},
		{"GET", "generator_str", "['finally']"},
		{"GET", "generator?1", "['finally']"},
		{"GET", "nested", "['finally', 'outer']"},
		{"HEAD", "nested", "['outer', 'finally']"},
		{"GET", "file", "['file']"},
		{"HEAD", "file", "['file']"},
		{"GET", "bad_file", "['file']"},
	} {
		r, err := http.NewRequest(test.method, s.URL+"/"+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.Client().Do(r)
		if err != nil {
			t.Errorf("%s %s: %v", test.method, test.path, err)
			continue
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if _, closes := s.get(t, "/closes"); closes != test.closes {
			t.Errorf("%s %s: closed %s, want %s", test.method, test.path, closes, test.closes)
		}
	}
	for _, says := range []string{"from close", "from iter", "from the body", "'int' object is not callable"} {
		s.Logs.Wait(t, says)
	}
}

// What a body keeps from its request is of no use after it, and does no harm.
func TestRequestObjectsKeptPastTheRequestRefuseToWork(t *testing.T) {
	s := servePlain(t, `
kept = []

def application(environ, start_response):
    if environ["PATH_INFO"] == "/keep":
        kept.append((environ, start_response, start_response("200 OK", [])))
        return [b"kept"]
    results = []
    while kept:
        old, old_start, old_write = kept.pop()
        for f in [lambda: old_start("200 OK", []), lambda: old_start("500 Error", [], (None, None, None)), lambda: old_write(b"x"),
                  lambda: old_write(b""), lambda: old["wsgi.input"].read(), lambda: old["wsgi.input"].readline(),
                  lambda: list(old["wsgi.input"]), lambda: old["wsgi.early_hints"]([("Link", "</a>")])]:
            try:
                results.append("accepted %r" % (f(),))
            except RuntimeError as e:
                assert "ended" in str(e), e
        old["wsgi.errors"].write("")
        old["wsgi.errors"].flush()
        old["wsgi.file_wrapper"](open(__file__, "rb")).close()
    start_response("200 OK", [])
    return [repr(results).encode()]
`, one(1)...)
	for range 3 {
		s.expectBody(t, "/keep", "kept")
		s.expectBody(t, "/use", "[]")
	}
	s.expectBody(t, "/keep", "kept") // and one that is never used again
	s.Logs.expectQuiet(t)
}

// Other threads of the application may write, and must not get past the end
// of the request.
func TestWriteFromOtherThreads(t *testing.T) {
	s := servePlain(t, `
import threading

def application(environ, start_response):
    write = start_response("200 OK", [])
    late = environ["PATH_INFO"] == "/late"
    refused = []
    def work(i):
        try:
            while late:
                write(b"%d" % i * 1000)
            for _ in range(50):
                write(b"%d" % i * 1000)
        except (RuntimeError, OSError) as e:
            refused.append(e)
    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    if not late:
        for thread in threads:
            thread.join()
    else:
        write(b"begin")
    return []
`, one(2)...)
	for range 5 {
		resp, body := s.get(t, "/")
		if resp.StatusCode != 200 || len(body) != 200000 {
			t.Errorf("%s with %d bytes", resp.Status, len(body))
		}
	}
	for range 5 {
		resp, body := s.get(t, "/late")
		if resp.StatusCode != 200 || len(body) < 5 {
			t.Errorf("%s with %d bytes", resp.Status, len(body))
		}
	}
}
