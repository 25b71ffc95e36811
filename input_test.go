package wsgi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-a2d07992/wsgi"
)

// A chunked reader hides its length from net/http's client.
type chunked struct{ io.Reader }

// echo answers with what the request said of its body, and the body.
const echo = `
def application(environ, start_response):
    body = b""
    while True:
        piece = environ["wsgi.input"].read(10000)
        if not piece:
            break
        body += piece
    start_response("200 OK", [
        ("Content-Type", "application/octet-stream"),
        ("Method", environ["REQUEST_METHOD"]),
        ("Length", environ.get("CONTENT_LENGTH", "none")),
        ("Type", environ.get("CONTENT_TYPE", "none")),
        ("Terminated", str(environ["wsgi.input_terminated"])),
        ("Size", str(len(body))),
    ])
    return [body]
`

func pattern(n int) []byte {
	data := make([]byte, n)
	random := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	return data
}

func TestBodiesArriveWhole(t *testing.T) {
	s := serve(t, echo)
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "HEAD"} {
		for _, size := range []int{0, 1, 9999, 10000, 64<<10 - 1, 64 << 10, 64<<10 + 1, 256 << 10, 1<<20 - 1, 1 << 20, 1<<20 + 1} {
			for _, framing := range []string{"length", "chunked"} {
				t.Run(fmt.Sprintf("%s %d by %s", method, size, framing), func(t *testing.T) {
					data := pattern(size)
					r, err := http.NewRequestWithContext(t.Context(), method, s.URL, bytes.NewReader(data))
					if err != nil {
						t.Fatal(err)
					}
					length := fmt.Sprint(size)
					if framing == "chunked" {
						r.Body = io.NopCloser(chunked{bytes.NewReader(data)})
						r.ContentLength = -1
						length = "none"
					} else if size == 0 && (method == "HEAD" || method == "DELETE") {
						length = "none" // the client says nothing then
					}
					r.Header.Set("Content-Type", "a/b; c=d")
					resp, body := s.send(t, r)
					for name, want := range map[string]string{
						"Method": method, "Length": length, "Terminated": "True",
						"Size": fmt.Sprint(size), "Type": "a/b; c=d",
					} {
						if got := resp.Header.Get(name); got != want {
							t.Errorf("%s: got %q, want %q", name, got, want)
						}
					}
					if method == "HEAD" {
						data = nil
					}
					if body != string(data) {
						t.Errorf("the echo of %d bytes has %d, and differs", len(data), len(body))
					}
				})
			}
		}
	}
	s.Logs.expectQuiet(t)
}

func TestGetHasAnEmptyBody(t *testing.T) {
	s := serve(t, `
def application(environ, start_response):
    source = environ["wsgi.input"]
    got = [source.read(10), source.readline(), source.readlines(), list(source)]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr(got).encode()]
`)
	s.expectBody(t, "/", "[b'', b'', [], []]")
}

// compare runs a list of operations on wsgi.input and on an io.BytesIO of the
// same content, and answers with the first difference.
const compare = `
import io, json, os

HERE = os.path.dirname(os.path.abspath(__file__))

def run(stream, operation):
    name, *arguments = operation
    try:
        if name == "next":
            return next(stream, None)
        if name == "list":
            return list(stream)
        return getattr(stream, name)(*arguments)
    except Exception as e:
        return type(e).__name__

def application(environ, start_response):
    with open(os.path.join(HERE, "body"), "rb") as f:
        model = io.BytesIO(f.read())
    with open(os.path.join(HERE, "operations")) as f:
        operations = json.load(f)
    verdict = b"same"
    for i, operation in enumerate(operations):
        got, want = run(environ["wsgi.input"], operation), run(model, operation)
        if got != want or type(got) is not type(want):
            verdict = f"operation {i}, {operation}: got {got!r:.200}, want {want!r:.200}".encode()
            break
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [verdict]
`

func TestInputReadsAsFilesDo(t *testing.T) {
	type operations = [][]any
	bodies := map[string][]byte{
		"lines":            []byte("one\ntwo\n\nfour, which has no end"),
		"newlines":         []byte("\n\n\n"),
		"one line":         []byte("x"),
		"empty":            {},
		"long lines":       bytes.Repeat(append(bytes.Repeat([]byte("a"), 99_999), '\n'), 9),
		"no newline":       bytes.Repeat([]byte("b"), 700_001),
		"larger than ring": pattern(600_000),
	}
	lists := map[string]operations{
		"read()":             {{"read"}, {"read"}, {"read", 1}},
		"read(None)":         {{"read", nil}, {"read", nil}},
		"read(-1)":           {{"read", -1}, {"read", -1}},
		"read(0)":            {{"read", 0}, {"read", 2}, {"read", 0}, {"read"}},
		"read(n)":            {{"read", 1}, {"read", 3}, {"read", 262144}, {"read", 262145}, {"read", 1 << 40}},
		"read(more)":         {{"read", 1 << 62}, {"read", 1}},
		"read(wrong)":        {{"read", "1"}, {"read", 1.5}, {"read", 2}, {"read", 1, 2}},
		"readline()":         {{"readline"}, {"readline"}, {"readline"}, {"readline"}, {"readline"}},
		"readline(None)":     {{"readline", nil}, {"readline", nil}},
		"readline(-1)":       {{"readline", -1}, {"readline", -5}},
		"readline(0)":        {{"readline", 0}, {"readline", 1}, {"readline", 0}},
		"readline(n)":        {{"readline", 2}, {"readline", 2}, {"readline", 2}, {"readline", 4}, {"readline", 300000}},
		"readline(wrong)":    {{"readline", "1"}, {"readline", 2.0}, {"readline", 1, 1}, {"readline"}},
		"readlines()":        {{"readlines"}, {"readlines"}, {"read"}},
		"readlines(None)":    {{"readlines", nil}, {"readlines", nil}},
		"readlines(hint)":    {{"readlines", 1}, {"readlines", 5}, {"readlines", 100000}, {"readlines", 100001}, {"readlines"}},
		"readlines(0)":       {{"readlines", 0}, {"readlines", 0}},
		"readlines(-1)":      {{"readlines", -1}},
		"readlines(wrong)":   {{"readlines", "1"}, {"readlines", 1, 1}, {"readlines"}},
		"iteration":          {{"list"}, {"list"}, {"read"}},
		"next":               {{"next"}, {"next"}, {"next"}, {"next"}, {"next"}, {"next"}},
		"all kinds in turns": {{"readline"}, {"read", 2}, {"next"}, {"readline", 3}, {"readlines", 1}, {"read", 5}, {"list"}},
	}
	random := rand.New(rand.NewPCG(7, 7))
	for n := range 12 {
		var list operations
		for range 60 {
			name := []string{"read", "readline", "readline", "readlines", "next"}[random.IntN(5)]
			if name == "next" {
				list = append(list, []any{name})
			} else {
				list = append(list, []any{name, 1 + random.IntN(1<<random.IntN(18))})
			}
		}
		lists[fmt.Sprint("random ", n)] = append(list, []any{"read"}, []any{"read"})
	}
	for way, open := range map[string]struct {
		buffer  int
		chunked bool
	}{
		"read before":         {buffer: 1 << 20},
		"streamed":            {buffer: 0},
		"streamed and chunks": {chunked: true},
	} {
		t.Run(way, func(t *testing.T) {
			// The validator allows fewer arguments than files do.
			s := servePlain(t, compare, wsgi.WithBodyBuffer(open.buffer), wsgi.WithInterpreters(1))
			for name, list := range lists {
				data, err := json.Marshal(list)
				if err != nil {
					t.Fatal(err)
				}
				writeFile(t, filepath.Join(s.Dir, "operations"), string(data))
				for kind, body := range bodies {
					writeFile(t, filepath.Join(s.Dir, "body"), string(body))
					var reader io.Reader = bytes.NewReader(body)
					if open.chunked {
						reader = chunked{reader}
					}
					if _, verdict := s.do(t, "POST", "/", reader); verdict != "same" {
						t.Errorf("%s of %s: %s", name, kind, verdict)
					}
				}
			}
			s.Logs.expectQuiet(t)
		})
	}
}

func TestInputTakesAnySizeObject(t *testing.T) {
	s := servePlain(t, `
class Index:
    def __index__(self):
        return 2

def application(environ, start_response):
    source = environ["wsgi.input"]
    got = [source.read(Index()), source.read(True), source.readline(Index()), source.read(2**70)]
    start_response("200 OK", [])
    return [repr(got).encode()]
`)
	for _, body := range []io.Reader{strings.NewReader("abcdefg"), chunked{strings.NewReader("abcdefg")}} {
		if _, got := s.do(t, "POST", "/", body); got != "[b'ab', b'c', b'de', b'fg']" {
			t.Error(got)
		}
	}
}

// TestInputLinesInPieces has the body come byte by byte: a line ends where it
// ends, not where the network cut it.
func TestInputLinesInPieces(t *testing.T) {
	s := serve(t, `
def application(environ, start_response):
    lines = []
    while True:
        line = environ["wsgi.input"].readline()
        if not line:
            break
        lines.append(line)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr(lines).encode()]
`)
	r, w := io.Pipe()
	go func() {
		for _, c := range "ab\ncd\n\ne" {
			fmt.Fprint(w, string(c))
		}
		w.Close()
	}()
	if _, got := s.do(t, "POST", "/", r); got != `[b'ab\n', b'cd\n', b'\n', b'e']` {
		t.Error(got)
	}
}

// TestReadReturnsWhatIsThere checks that read(n) of a chunked body gives all n
// bytes where the body has them, and doesn't wait for more than n.
func TestReadOfChunkedBodyWaitsForNoMoreThanItsSize(t *testing.T) {
	s := serve(t, `
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    source = environ["wsgi.input"]
    while True:
        piece = source.read(4)
        if not piece:
            return
        yield piece + b"\n"
`)
	c := s.dial(t)
	c.write("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n")
	resp := c.response("POST")
	buf := make([]byte, 5)
	if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != "abcd\n" {
		t.Fatalf("got %q, %v before the body's end", buf, err)
	}
	c.write("3\r\nfgh\r\n")
	if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != "efgh\n" {
		t.Fatalf("got %q, %v before the body's end", buf, err)
	}
	c.write("1\r\ni\r\n0\r\n\r\n")
	if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "i\n" {
		t.Fatalf("got %q, %v", rest, err)
	}
}

// TestInputFromThreads reads one body from several threads: every byte is had
// once, and nothing crashes.
func TestInputFromThreads(t *testing.T) {
	s := servePlain(t, `
import threading

def application(environ, start_response):
    got = []
    def work():
        while True:
            piece = environ["wsgi.input"].read(1000)
            if not piece:
                return
            got.append(piece)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    start_response("200 OK", [])
    return [str(sum(map(len, got))).encode()]
`)
	for _, body := range []io.Reader{
		bytes.NewReader(make([]byte, 60_000)),
		chunked{bytes.NewReader(make([]byte, 5<<20))},
	} {
		want := "60000"
		if _, ok := body.(chunked); ok {
			want = fmt.Sprint(5 << 20)
		}
		if _, got := s.do(t, "POST", "/", body); got != want {
			t.Errorf("the threads got %s bytes, want %s", got, want)
		}
	}
}

// TestInputAfterTheRequest keeps wsgi.input and what belongs to it beyond the
// request: an error, not a crash, and not the next request's body.
func TestInputAfterTheRequest(t *testing.T) {
	s := servePlain(t, `
kept = []

def application(environ, start_response):
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/keep":
        kept.append((environ["wsgi.input"], start_response, environ["wsgi.early_hints"]))
        return [b"kept"]
    results = []
    for source, start, hints in kept:
        for use in (source.read, source.readline, source.readlines, lambda: next(source), lambda: list(source),
                    lambda: start("200 OK", []), lambda: hints([("Link", "<x>")])):
            try:
                results.append(repr(use()))
            except RuntimeError as e:
                results.append("ended" if "ended" in str(e) else str(e))
    return [", ".join(results).encode()]
`, wsgi.WithInterpreters(1))
	for _, body := range []io.Reader{strings.NewReader("abc"), chunked{strings.NewReader("abc")}} {
		if _, got := s.do(t, "POST", "/keep", body); got != "kept" {
			t.Fatal(got)
		}
	}
	want := strings.TrimSuffix(strings.Repeat("ended, ", 14), ", ")
	if _, got := s.do(t, "POST", "/", strings.NewReader("another body")); got != want {
		t.Error(got)
	}
}
