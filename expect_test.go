package wsgi_test

import (
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestNoContinueUnlessTheApplicationReads(t *testing.T) {
	s := serve(t, `
def application(environ, start_response):
    start_response("417 Expectation Failed", [("Content-Type", "text/plain")])
    return [b"not wanted"]
`)
	for _, length := range []string{"Content-Length: 5", "Content-Length: 500000", "Transfer-Encoding: chunked"} {
		c := s.dial(t)
		c.write("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n" + length + "\r\n\r\n")
		resp, body := c.answer("POST")
		if resp.StatusCode != 417 || body != "not wanted" {
			t.Errorf("%s: first came %s %q", length, resp.Status, body)
		}
		if !resp.Close {
			t.Errorf("%s: the connection stays open, and a body may follow or not", length)
		}
		c.expectEnd()
	}
	s.Logs.expectQuiet(t)
}

func TestContinueWhenTheApplicationReads(t *testing.T) {
	s := serve(t, `
import os
HERE = os.path.dirname(os.path.abspath(__file__))

def application(environ, start_response):
    with open(os.path.join(HERE, "started"), "a") as f:
        f.write("x")
    with open(os.path.join(HERE, "go")) as f: # a named pipe
        f.read()
    body = environ["wsgi.input"].read(500000)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(len(body)).encode()]
`)
	for _, length := range []string{"5", "300000"} {
		makePipe(t, filepath.Join(s.Dir, "go"))
		c := s.dial(t)
		c.write("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: " + length + "\r\n\r\n")
		eventually(t, "the application starts", func() bool {
			data, _ := os.ReadFile(filepath.Join(s.Dir, "started"))
			return len(data) > 0
		})
		// It has started and not read: nothing may have come.
		c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if b, err := c.r.Peek(1); err == nil {
			t.Fatalf("got %q before the application has read", b)
		}
		c.SetReadDeadline(time.Now().Add(patience))
		openPipe(t, filepath.Join(s.Dir, "go")).Close()
		if resp := c.response("POST"); resp.StatusCode != 100 {
			t.Fatalf("got %s, want a 100", resp.Status)
		}
		n := 5
		if length != "5" {
			n = 300000
		}
		c.write(strings.Repeat("x", n))
		if resp, body := c.answer("POST"); body != length || resp.Close {
			t.Errorf("got %q, close %v", body, resp.Close)
		}
		os.Remove(filepath.Join(s.Dir, "started"))
		os.Remove(filepath.Join(s.Dir, "go"))
		c.Close()
	}
	s.Logs.expectQuiet(t)
}

// TestExpectationsOfEveryKind: what an application does with a body that its client
// holds back until it is asked for.
func TestExpectationsOfEveryKind(t *testing.T) {
	s := servePlain(t, `
def application(environ, start_response):
    source, kind = environ["wsgi.input"], environ["PATH_INFO"].strip("/")
    if kind == "raises":
        raise ValueError("without a look at the body")
    if kind == "answers_first":
        start_response("200 OK", [])
        return answers_first(source)
    if kind == "writes_first":
        write = start_response("200 OK", [])
        write(b"go\n")
        write(source.read())
        return []
    body = {"read": source.read, "readline": source.readline, "iterates": lambda: b"".join(source),
            "line_by_line": lambda: b"".join(source.readlines())}[kind]()
    start_response("200 OK", [])
    return [body]

def answers_first(source):
    yield b"go\n"
    yield source.read()
`)
	for _, framing := range []string{"length", "chunked"} {
		head, body := "Content-Length: 5\r\n\r\n", "hello"
		if framing == "chunked" {
			head, body = "Transfer-Encoding: chunked\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n"
		}
		ask := func(kind, version, expect string) *rawConn {
			c := s.dial(t)
			c.write("POST /" + kind + " HTTP/" + version + "\r\nHost: x\r\nExpect: " + expect + "\r\n" + head)
			return c
		}
		for _, kind := range []string{"read", "readline", "iterates", "line_by_line"} {
			for _, expect := range []string{"100-continue", "100-Continue"} {
				c := ask(kind, "1.1", expect)
				if resp := c.response("POST"); resp.StatusCode != 100 {
					t.Errorf("%s by %s: first came %s", kind, framing, resp.Status)
				}
				c.write(body)
				if resp, got := c.answer("POST"); resp.StatusCode != 200 || got != "hello" || resp.Close {
					t.Errorf("%s by %s: %s %q, close %v", kind, framing, resp.Status, got, resp.Close)
				}
			}
			// A client need not wait for ever, and gets no 100 that is of no use.
			c := s.dial(t)
			c.write("POST /" + kind + " HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n" + head + body)
			resp := c.response("POST")
			if resp.StatusCode == 100 {
				resp = c.response("POST")
			}
			if got, err := io.ReadAll(resp.Body); resp.StatusCode != 200 || string(got) != "hello" || err != nil {
				t.Errorf("%s by %s, sent at once: %s %q, %v", kind, framing, resp.Status, got, err)
			}
		}
		// The answer has begun: a 100 goes before its head or not at all.
		for _, kind := range []string{"answers_first", "writes_first"} {
			c := ask(kind, "1.1", "100-continue")
			resp := c.response("POST")
			if resp.StatusCode == 100 {
				resp = c.response("POST")
			}
			first := make([]byte, 3)
			if _, err := io.ReadFull(resp.Body, first); resp.StatusCode != 200 || string(first) != "go\n" || err != nil {
				t.Fatalf("%s by %s: %s %q, %v", kind, framing, resp.Status, first, err)
			}
			c.write(body)
			if rest, err := io.ReadAll(resp.Body); string(rest) != "hello" || err != nil {
				t.Errorf("%s by %s: %q, %v", kind, framing, rest, err)
			}
		}
		c := ask("raises", "1.1", "100-continue")
		if resp, _ := c.answer("POST"); resp.StatusCode != 500 || !resp.Close {
			t.Errorf("raises by %s: %s, close %v", framing, resp.Status, resp.Close)
		}
		c.expectEnd()
		// What can't be met is said so, and the application is not called.
		before := s.App.Stats().Requests
		if resp, _ := ask("read", "1.1", "a miracle").answer("POST"); resp.StatusCode != 417 {
			t.Errorf("an unknown expectation: %s", resp.Status)
		}
		if n := s.App.Stats().Requests - before; n != 0 {
			t.Errorf("the application was called for an unknown expectation")
		}
	}
	// HTTP/1.0 knows no 100 (RFC 9110, section 10.1.1).
	c := s.dial(t)
	c.write("POST /read HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello")
	if resp, got := c.answer("POST"); resp.StatusCode != 200 || got != "hello" {
		t.Errorf("HTTP/1.0: %s %q", resp.Status, got)
	}
}

// TestNoContinueOverHTTP2UnlessTheApplicationReads: its server keeps the header to
// itself.
func TestNoContinueOverHTTP2UnlessTheApplicationReads(t *testing.T) {
	s := serveHTTP2(t, `
def application(environ, start_response):
    kind = environ["PATH_INFO"].strip("/")
    body = b"" if kind == "refuses" else environ["wsgi.input"].read()
    start_response("417 Expectation Failed" if kind == "refuses" else "200 OK", [])
    return [b"%d" % len(body)]
`)
	transport := s.Client().Transport.(*http.Transport)
	transport.ExpectContinueTimeout = patience
	for _, size := range []int{5, 100, 300_000} {
		for _, framing := range []string{"length", "chunked"} {
			for _, kind := range []string{"refuses", "reads"} {
				var asked atomic.Bool
				ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got100Continue: func() { asked.Store(true) }})
				var body io.Reader = strings.NewReader(strings.Repeat("x", size))
				if framing == "chunked" {
					body = chunked{body}
				}
				r, err := http.NewRequestWithContext(ctx, "POST", s.URL+"/"+kind, body)
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Expect", "100-continue")
				resp, got := s.send(t, r)
				status, want := 200, strconv.Itoa(size)
				if kind == "refuses" {
					status, want = 417, "0"
				}
				if resp.ProtoMajor != 2 || resp.StatusCode != status || got != want || asked.Load() != (kind == "reads") {
					t.Errorf("%s %d by %s: %s %s %q, asked for the body: %v", kind, size, framing, resp.Proto, resp.Status, got, asked.Load())
				}
			}
		}
	}
	s.Logs.expectQuiet(t)
}
