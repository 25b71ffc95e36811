package wsgi_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-a2d07992/wsgi"
)

// expectTruncated reads what is left of a chunked answer, which must be want
// and break off without the chunk that ends a whole one.
func expectTruncated(t testing.TB, conn *rawConn, want string) {
	t.Helper()
	rest, _ := io.ReadAll(conn.r)
	var body strings.Builder
	for text := string(rest); text != ""; {
		var n int
		line, data, _ := strings.Cut(text, "\r\n")
		if _, err := fmt.Sscanf(line, "%x", &n); err != nil || len(data) < n {
			t.Fatalf("not chunks: %q", rest)
		}
		if n == 0 {
			t.Errorf("the answer has an end: %q", rest)
			break
		}
		body.WriteString(data[:n])
		text = strings.TrimPrefix(data[n:], "\r\n")
	}
	if body.String() != want {
		t.Errorf("%q arrived before the end, want %q", body.String(), want)
	}
}

// cut are applications whose answers break off after the first "begin ".
const cut = `
def raising(environ, start_response):
    start_response("200 OK", [])
    yield b"begin "
    raise ValueError("a secret")

def wrong_chunk(environ, start_response):
    start_response("200 OK", [])
    yield b"begin "
    yield "a secret"

def write_and_raise(environ, start_response):
    start_response("200 OK", [])(b"begin ")
    raise ValueError("a secret")

def write_and_none(environ, start_response):
    start_response("200 OK", [])(b"begin ")

def exit(environ, start_response):
    start_response("200 OK", [])
    yield b"begin "
    raise SystemExit("a secret")

def with_length(environ, start_response):
    start_response("200 OK", [("Content-Length", "100")])
    yield b"begin "
    raise ValueError("a secret")

def short_list(environ, start_response):
    start_response("200 OK", [("Content-Length", "100")])
    return [b"begin "]

def short_iterator(environ, start_response):
    start_response("200 OK", [("Content-Length", "100")])
    return iter([b"begin "])

def short_write(environ, start_response):
    start_response("200 OK", [("Content-Length", "100")])(b"begin ")
    return []

def whole(environ, start_response):
    start_response("200 OK", [])
    return [b"whole"]
` + routed

var cutWithoutLength = []string{"raising", "wrong_chunk", "write_and_raise", "write_and_none", "exit"}
var cutWithLength = []string{"with_length", "short_list", "short_iterator", "short_write"}

func TestHTTP11ChunkedAnswerThatFailsHasNoLastChunk(t *testing.T) {
	s := servePlain(t, cut)
	for _, path := range cutWithoutLength {
		conn := s.dial(t)
		conn.write("GET /" + path + " HTTP/1.1\r\nHost: h\r\n\r\n")
		if resp := conn.response("GET"); resp.StatusCode != 200 || len(resp.TransferEncoding) != 1 {
			t.Errorf("%s: %s %v", path, resp.Status, resp.TransferEncoding)
		}
		expectTruncated(t, conn, "begin ")
		s.expectBody(t, "/whole", "whole")
	}
}

func TestAnswerShorterThanItsLengthIsCutOff(t *testing.T) {
	s := servePlain(t, cut)
	for _, path := range cutWithLength {
		for _, proto := range []string{"HTTP/1.0", "HTTP/1.1"} {
			conn := s.dial(t)
			conn.write("GET /" + path + " " + proto + "\r\nHost: h\r\nConnection: keep-alive\r\n\r\n")
			resp := conn.response("GET")
			body, err := io.ReadAll(resp.Body)
			if resp.ContentLength != 100 || string(body) != "begin " || !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s over %s: length %d, body %q, %v", path, proto, resp.ContentLength, body, err)
			}
		}
		s.expectBody(t, "/whole", "whole")
	}
	if n := len(s.Logs.With("promised a Content-Length of 100")); n != 6 {
		t.Errorf("%d log records on short answers, want 6: %v", n, s.Logs.All())
	}
}

// Over HTTP/1.0 the end of the connection is the end of such an answer: only
// a reset tells the client that it isn't.
func TestHTTP10AnswerWithoutLengthThatFailsIsReset(t *testing.T) {
	s := servePlain(t, cut)
	for _, path := range cutWithoutLength {
		conn := s.dial(t)
		conn.write("GET /" + path + " HTTP/1.0\r\n\r\n")
		rest, err := io.ReadAll(conn.r)
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: the connection ended with %v after %q, want a reset", path, err, rest)
		}
		if strings.Contains(string(rest), "secret") {
			t.Errorf("%s: the client got %q", path, rest)
		}
		s.expectBody(t, "/whole", "whole")
	}
	conn := s.dial(t)
	conn.write("GET /whole HTTP/1.0\r\n\r\n")
	if rest, err := io.ReadAll(conn.r); err != nil || !strings.HasSuffix(string(rest), "\r\n\r\nwhole") {
		t.Errorf("a whole answer: %q, %v", rest, err)
	}
}

// serveHTTP2 starts a server that speaks HTTP/2 over TLS.
func serveHTTP2(t testing.TB, source string, opts ...wsgi.Option) *server {
	t.Helper()
	s := &server{}
	s.App, s.Logs, s.Dir = newApp(t, source, opts...)
	s.Server = httptest.NewUnstartedServer(s.App)
	s.Config.ErrorLog = quietLog
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(func() {
		s.CloseClientConnections()
		within(t, "the server's Close", s.Server.Close)
	})
	return s
}

func TestHTTP2AnswerThatFailsEndsInAStreamError(t *testing.T) {
	s := serveHTTP2(t, cut)
	for _, path := range append(cutWithoutLength, cutWithLength...) {
		resp, err := s.Client().Get(s.URL + "/" + path)
		if err != nil {
			// The reset may overtake the head.
			if !strings.Contains(err.Error(), "INTERNAL_ERROR") {
				t.Errorf("%s: %v", path, err)
			}
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.ProtoMajor != 2 || err == nil || !strings.HasPrefix("begin ", string(body)) {
			t.Errorf("%s over %s: %q, %v", path, resp.Proto, body, err)
		}
		s.expectBody(t, "/whole", "whole")
	}
}

// TestHTTP2StreamsCancelledMidwayHarmNobody resets many streams while their
// answers are being written. net/http's HTTP/2 server may look at the bytes
// given to Write after Write has returned: they must still be there.
func TestHTTP2StreamsCancelledMidwayHarmNobody(t *testing.T) {
	s := serveHTTP2(t, `
def application(environ, start_response):
    start_response("200 OK", [])
    size = 33 << 20 # above what malloc ever keeps: memory that was freed is gone
    if environ["PATH_INFO"] == "/list":
        return [b"x" * size]
    return iter([b"x" * (256 << 10)] * 128)
`)
	done := make(chan error)
	const clients, rounds = 6, 8
	for i := range clients {
		go func() {
			for n := range rounds {
				ctx, cancel := context.WithCancel(t.Context())
				path := "/list"
				if n%2 == 1 {
					path = "/iterator"
				}
				r, _ := http.NewRequestWithContext(ctx, "GET", s.URL+path, nil)
				resp, err := s.Client().Do(r)
				if err != nil {
					cancel()
					done <- err
					return
				}
				_, err = io.CopyN(io.Discard, resp.Body, int64(1+(i*rounds+n)*20011%(1<<20)))
				cancel()
				resp.Body.Close()
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range clients {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	eventually(t, "all requests to end", func() bool { return s.App.Stats().InFlight == 0 })
}

func TestOtherServersGetNoPanic(t *testing.T) {
	app, logs, _ := newApp(t, cut)
	for _, path := range append(cutWithoutLength, cutWithLength...) {
		for _, proto := range []string{"HTTP/1.0", "HTTP/1.1"} {
			r := httptest.NewRequest("GET", "/"+path, nil)
			r.Proto, r.ProtoMajor, r.ProtoMinor = proto, 1, int(proto[7]-'0')
			w := httptest.NewRecorder()
			app.ServeHTTP(w, r)
			if w.Code != 200 || w.Body.String() != "begin " {
				t.Errorf("%s over %s: %d %q", path, proto, w.Code, w.Body)
			}
		}
	}
	if n := len(logs.With("cut short")); n != 18 {
		t.Errorf("%d answers were said to be cut short, want 18", n)
	}
	w := httptest.NewRecorder()
	app.ServeHTTP(w, httptest.NewRequest("GET", "/whole", nil))
	if w.Code != 200 || w.Body.String() != "whole" {
		t.Errorf("a whole answer: %d %q", w.Code, w.Body)
	}
}

// TestAbandonedRequestIsNoEmptySuccess: where nothing was sent when a request's
// context ended, no head must go out, which would be a 200.
func TestAbandonedRequestIsNoEmptySuccess(t *testing.T) {
	s := serveWith(t, func(s *server, app http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithCancel(r.Context())
			cancel()
			app.ServeHTTP(w, r.WithContext(ctx))
		})
	}, `
import time

def application(environ, start_response):
    start_response("200 OK", [])
    time.sleep(0.001)
    return iter([b"x"])
`)
	for range 20 { // it depends on who comes first: withdrawn or stopped
		if resp, err := s.Client().Get(s.URL); err == nil {
			data, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err == nil && string(data) != "x" {
				t.Fatalf("the client took %s with the body %q for an answer", resp.Status, data)
			}
		}
	}
	r := httptest.NewRequest("GET", "/", nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	s.App.ServeHTTP(w, r.WithContext(ctx))
	if w.Code == 200 && w.Body.String() != "x" {
		t.Errorf("another server makes %d %q of it", w.Code, w.Body)
	}
}

func TestMoreThanTheContentLengthIsCutAndLogged(t *testing.T) {
	s := servePlain(t, countedBody+`
def application(environ, start_response):
    kind, length = environ["PATH_INFO"].strip("/").split("/")
    if kind == "closed":
        start_response("200 OK", [])
        return [b"%d" % len(closes)]
    write = start_response("200 OK", [("Content-Length", length)])
    chunks = [b"0123", b"", b"4567", b"89"]
    if kind == "write":
        for chunk in chunks:
            write(chunk)
        return []
    if kind == "mixed":
        write(chunks[0])
        return chunks[1:]
    return {"list": list, "tuple": tuple, "iterator": Body}[kind](chunks)
`, one(1)...)
	conn := s.dial(t)
	excess := 0
	for _, kind := range []string{"list", "tuple", "iterator", "write", "mixed"} {
		for _, length := range []int{0, 1, 4, 5, 8, 9, 10} {
			conn.write(fmt.Sprintf("GET /%s/%d HTTP/1.1\r\nHost: h\r\n\r\n", kind, length))
			resp, body := conn.answer("GET")
			if resp.StatusCode != 200 || resp.ContentLength != int64(length) || body != "0123456789"[:length] {
				t.Errorf("%s of %d: %s, length %d, %q", kind, length, resp.Status, resp.ContentLength, body)
			}
			if length < 10 {
				excess++
			}
		}
	}
	s.expectBody(t, "/closed/0", "7")
	records := s.Logs.With("more than its Content-Length")
	if len(records) != excess {
		t.Errorf("%d log records on answers that were too long, want %d", len(records), excess)
	}
	for _, r := range records {
		expectRequestAttrs(t, r, "GET")
	}
}

// TestHTTP10OverTLSThatFailsIsReset: the reset is of the connection below TLS.
func TestHTTP10OverTLSThatFailsIsReset(t *testing.T) {
	s := serveHTTP2(t, cut)
	for _, path := range append(cutWithoutLength, "whole") {
		raw := s.dial(t)
		conn := tls.Client(raw.Conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
		if _, err := io.WriteString(conn, "GET /"+path+" HTTP/1.0\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(conn)
		if path == "whole" {
			if err != nil || !strings.HasSuffix(string(answer), "\r\n\r\nwhole") {
				t.Errorf("a whole answer: %q, %v", answer, err)
			}
		} else if !errors.Is(err, syscall.ECONNRESET) || strings.Contains(string(answer), "secret") {
			t.Errorf("%s: the connection ended with %v after %q, want a reset", path, err, answer)
		}
	}
}
