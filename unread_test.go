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

// TestAnswerBeforeTheEndOfTheBody has an application answer while its client is
// still sending: the client must get the answer, and not lose it to the reset
// of a connection that is closed with unread data in it.
func TestAnswerBeforeTheEndOfTheBody(t *testing.T) {
	s := serve(t, `
def application(environ, start_response):
    n = int(environ["QUERY_STRING"])
    if n:
        environ["wsgi.input"].read(n)
    start_response("403 Forbidden", [("Content-Type", "text/plain")])
    return [b"no, thank you"]
`)
	for _, framing := range []string{"chunked", "length"} {
		for _, read := range []string{"0", "4", "100000", "300000"} {
			t.Run(framing+" after "+read, func(t *testing.T) {
				for range 20 {
					c := s.dial(t)
					head, piece := "POST /?"+read+" HTTP/1.1\r\nHost: x\r\n", strings.Repeat("x", 0x4000)
					if framing == "chunked" {
						head += "Transfer-Encoding: chunked\r\n\r\n"
						piece = "4000\r\n" + piece + "\r\n"
					} else {
						head += "Content-Length: 99999999\r\n\r\n"
					}
					c.write(head)
					go func() {
						for range 100 {
							if _, err := io.WriteString(c.Conn, piece); err != nil {
								return
							}
						}
					}()
					resp, body := c.answer("POST")
					if resp.StatusCode != 403 || body != "no, thank you" {
						t.Fatalf("got %s %q", resp.Status, body)
					}
					if !resp.Close {
						t.Error("the answer doesn't say that the connection is closed")
					}
					c.Close()
				}
			})
		}
	}
	// net/http's client takes a reset for the end of all, whatever came before.
	t.Run("to a client that gives up", func(t *testing.T) {
		for range 100 {
			resp, body := s.do(t, "POST", "/?4", chunked{bytes.NewReader(make([]byte, 600_000))})
			if resp.StatusCode != 403 || body != "no, thank you" {
				t.Fatalf("got %s %q", resp.Status, body)
			}
		}
	})
	s.Logs.expectQuiet(t)
}

// TestUnreadBodyIsNoRequest hides a request in a body that the application does
// not read, with a true one pipelined behind it.
func TestUnreadBodyIsNoRequest(t *testing.T) {
	const app = `
seen = []

def application(environ, start_response):
    seen.append(environ["PATH_INFO"])
    reads = environ["QUERY_STRING"]
    if reads and reads != "report":
        environ["wsgi.input"].read(int(reads))
    body = ",".join(seen).encode() if reads == "report" else b"ok"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body]
`
	hidden := "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	padding := strings.Repeat("p", 40)
	for _, size := range []int{100, 64 << 10, 64<<10 + 1, 200 << 10, 1 << 20} {
		for _, reads := range []string{"", "1", "50000"} {
			for _, framing := range []string{"length", "chunked"} {
				for _, version := range []string{"1.1", "1.0"} {
					if framing == "chunked" && version == "1.0" {
						continue
					}
					t.Run(strings.Join([]string{framing, version, "reads", reads}, " "), func(t *testing.T) {
						s := serve(t, app, wsgi.WithInterpreters(1), wsgi.WithThreads(1))
						body := padding + strings.Repeat(hidden, size/len(hidden)+1)
						c := s.dial(t)
						head := "POST /first?" + reads + " HTTP/" + version + "\r\nHost: x\r\nConnection: keep-alive\r\n"
						if framing == "chunked" {
							// The chunk's own data begins with a request too.
							body = hidden + body
							head += "Transfer-Encoding: chunked\r\n\r\n" + strconv.FormatInt(int64(len(body)), 16) + "\r\n"
							body += "\r\n0\r\n\r\n"
						} else {
							head += "Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n"
						}
						if version == "1.1" {
							// Without a length, HTTP/1.0 can't tell the reset that
							// an unread request brings from a broken answer.
							body += "GET /second HTTP/1.1\r\nHost: x\r\n\r\n"
						}
						go io.WriteString(c.Conn, head+body)
						resp, got := c.answer("POST")
						if resp.StatusCode != 200 || got != "ok" {
							t.Fatalf("first answer: %s %q", resp.Status, got)
						}
						switch {
						case resp.Close:
							c.expectEnd()
						case version == "1.1":
							if resp, got := c.answer("GET"); resp.StatusCode != 200 || got != "ok" {
								t.Errorf("second answer: %s %q", resp.Status, got)
							}
						}
						c.Close()
						_, seen := s.get(t, "/report?report")
						if seen != "/first,/report" && seen != "/first,/second,/report" {
							t.Errorf("the application saw %s", seen)
						}
						if !resp.Close && version == "1.1" && seen == "/first,/report" {
							t.Error("the second request was lost")
						}
						s.Logs.expectQuiet(t)
					})
				}
			}
		}
	}
}

// TestSmallUnreadBodyKeepsTheConnection: a body that was read before the
// application started is no reason to close.
func TestSmallUnreadBodyKeepsTheConnection(t *testing.T) {
	s := serve(t, hello)
	c := s.dial(t)
	for range 3 {
		c.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde")
		if resp, body := c.answer("POST"); resp.Close || body != "hello" {
			t.Fatalf("close %v, body %q", resp.Close, body)
		}
	}
	s.Logs.expectQuiet(t)
}

// TestBodyReadToItsEndKeepsTheConnection, be it streamed.
func TestBodyReadToItsEndKeepsTheConnection(t *testing.T) {
	s := serve(t, echo, wsgi.WithBodyBuffer(0))
	c := s.dial(t)
	for range 3 {
		c.write("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n")
		if resp, body := c.answer("POST"); resp.Close || body != "abcde" {
			t.Fatalf("close %v, body %q", resp.Close, body)
		}
	}
}

// TestReadingAfterTheResponseBegan echoes a body piece by piece, each answered
// before the next is sent.
func TestReadingAfterTheResponseBegan(t *testing.T) {
	s := serve(t, `
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"go\n"
    while True:
        line = environ["wsgi.input"].readline()
        if not line:
            return
        yield line.upper()
`)
	t.Run("HTTP/1.1", func(t *testing.T) {
		r, w := io.Pipe()
		defer w.Close()
		request, err := http.NewRequestWithContext(t.Context(), "POST", s.URL, r)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.Close != true {
			t.Error("the head doesn't say that the connection closes, while the body is open")
		}
		expect := func(want string) {
			t.Helper()
			buf := make([]byte, len(want))
			if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != want {
				t.Fatalf("got %q, %v, want %q", buf, err, want)
			}
		}
		expect("go\n")
		for range 3 {
			io.WriteString(w, "abc\n")
			expect("ABC\n")
		}
		w.Close()
		if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) != 0 {
			t.Errorf("at the end: %q, %v", rest, err)
		}
	})
	t.Run("large", func(t *testing.T) {
		body := bytes.Repeat([]byte("abcdefghijklmno\n"), 200_000)
		_, got := s.do(t, "POST", "/", bytes.NewReader(body))
		if got != "go\n"+strings.ToUpper(string(body)) {
			t.Errorf("the echo has %d bytes of %d, or differs", len(got), len(body)+3)
		}
	})
	s.Logs.expectQuiet(t)
}

// TestUnreadBodyIsNoRequestWhateverTheAnswer: nor where the application fails, or
// its answer has no body, or another handler is at fault.
func TestUnreadBodyIsNoRequestWhateverTheAnswer(t *testing.T) {
	s := serveWith(t, func(_ *server, app http.Handler) http.Handler {
		mux := http.NewServeMux()
		mux.Handle("/limited/", http.MaxBytesHandler(app, 50))
		mux.Handle("/", app)
		return mux
	}, `
seen = []

def application(environ, start_response):
    kind = environ["PATH_INFO"].strip("/").split("/")[-1]
    if kind == "seen":
        start_response("200 OK", [])
        body = ",".join(seen).encode()
        seen.clear()
        return [body]
    seen.append(kind)
    if kind == "raises":
        raise ValueError("before the head")
    if kind == "reads_and_raises":
        environ["wsgi.input"].read(10)
        raise ValueError("before the head")
    if kind == "reads_all":
        environ["wsgi.input"].read()
    if kind == "exits":
        raise SystemExit
    status = {"204": "204 No Content", "304": "304 Not Modified"}.get(kind, "200 OK")
    write = start_response(status, [])
    if kind == "writes":
        write(b"x")
    if kind == "file":
        return environ["wsgi.file_wrapper"](open(__file__, "rb"))
    return yields(kind) if kind in ("yields", "cut") else [b"x"]

def yields(kind):
    yield b"x"
    if kind == "cut":
        raise ValueError("after the head")
`, one(1)...)
	hidden := "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, test := range []struct {
		method, kind string
		status       int
	}{
		{"POST", "raises", 500}, {"POST", "reads_and_raises", 500}, {"POST", "exits", 500}, {"POST", "cut", 200},
		{"HEAD", "list", 200}, {"HEAD", "yields", 200}, {"POST", "204", 204}, {"POST", "304", 304},
		{"POST", "writes", 200}, {"POST", "file", 200}, {"POST", "limited/list", 200}, {"POST", "limited/reads_all", 413},
	} {
		for _, size := range []int{100, 100 << 10, 1 << 20} {
			for _, framing := range []string{"length", "chunked"} {
				t.Run(fmt.Sprintf("%s %s %d by %s", test.method, test.kind, size, framing), func(t *testing.T) {
					body := strings.Repeat(hidden, size/len(hidden)+1)
					head := test.method + " /" + test.kind + " HTTP/1.1\r\nHost: x\r\n"
					if framing == "chunked" {
						head += "Transfer-Encoding: chunked\r\n\r\n"
						body = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
					} else {
						head += fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body))
					}
					c := s.dial(t)
					go io.WriteString(c.Conn, head+body+"GET /second HTTP/1.1\r\nHost: x\r\n\r\n")
					resp := c.response(test.method)
					_, kind, nested := strings.Cut(test.kind, "/")
					if !nested {
						kind = test.kind
					}
					status, want := test.status, kind
					if nested && framing == "length" && size < 64<<10 {
						status, want = 413, "" // it was to be read before the application
					}
					if resp.StatusCode != status {
						t.Errorf("%s, want %d", resp.Status, status)
					}
					if _, err := io.ReadAll(resp.Body); (err != nil) != (kind == "cut") {
						t.Errorf("the answer's end: %v", err)
					}
					if !resp.Close && kind != "cut" {
						want = strings.TrimPrefix(want+",second", ",")
						if resp, body := c.answer("GET"); resp.StatusCode != 200 || body != "x" {
							t.Errorf("second answer: %s %q", resp.Status, body)
						}
					} else if rest, _ := io.ReadAll(c.r); len(rest) > 0 {
						t.Errorf("after the last answer came %.100q", rest)
					}
					c.Close()
					s.expectBody(t, "/seen", want)
				})
			}
		}
	}
}
