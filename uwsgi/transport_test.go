package uwsgi

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// answering is a Transport to a server that reads a packet, and then writes
// answer and closes the connection.
func answering(t testing.TB, answer []byte) *Transport {
	return &Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			if _, err := readPacket(server, MaxVars); err != nil {
				t.Error(err)
				return
			}
			_, _ = server.Write(answer)
		}()
		return client, nil
	}}
}

func newRequest(body io.Reader) *http.Request {
	r, err := http.NewRequest("POST", "http://shop.test/", body)
	if err != nil {
		panic(err)
	}
	return r
}

func TestBadResponse(t *testing.T) {
	for name, answer := range map[string]string{
		"nothing":          "",
		"no HTTP":          "Status: 200 OK\r\n\r\n",
		"bad status":       "HTTP/1.1 abc\r\n\r\n",
		"status 0":         "HTTP/1.1 000 x\r\n\r\n",
		"cut":              "HTTP/1.1 200 OK\r\nA: b",
		"bad header":       "HTTP/1.1 200 OK\r\nA b: c\r\n\r\n",
		"bad length":       "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
		"two lengths":      "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"switch":           "HTTP/1.1 101 Switching Protocols\r\n\r\n",
		"too many 1xx":     strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 20),
		"too long":         "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", DefaultMaxResponseHeaderBytes) + "\r\n\r\n",
		"unknown encoding": "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := answering(t, []byte(answer)).RoundTrip(newRequest(nil))
			var protocolError *ProtocolError
			if !errors.As(err, &protocolError) || protocolError.Op != "read response" {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestInformationalIsSkipped(t *testing.T) {
	transport := answering(t, []byte("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhello"))
	response, err := transport.RoundTrip(newRequest(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if b, err := io.ReadAll(response.Body); string(b) != "hello" || err != nil || response.Header.Get("Link") != "" {
		t.Errorf("%q, %v, %v", b, err, response.Header)
	}
}

// closeRecorder tells whether a body is closed.
type closeRecorder struct {
	io.Reader
	closed chan struct{}
}

func (c *closeRecorder) Close() error {
	close(c.closed)
	return nil
}

func TestRequestErrors(t *testing.T) {
	broken := errors.New("broken")
	isProtocolError := func(err error) bool {
		var p *ProtocolError
		return errors.As(err, &p)
	}
	for name, test := range map[string]struct {
		change func(*Transport, *http.Request)
		want   func(error) bool
	}{
		"dial": {func(tr *Transport, r *http.Request) {
			tr.DialContext, tr.Address = nil, filepath.Join(t.TempDir(), "none")
		}, func(err error) bool {
			var op *net.OpError
			return errors.As(err, &op) && op.Op == "dial" && !isProtocolError(err)
		}},
		"no URL":       {func(tr *Transport, r *http.Request) { r.URL = nil }, isProtocolError},
		"method":       {func(tr *Transport, r *http.Request) { r.Method = "A B" }, isProtocolError},
		"header":       {func(tr *Transport, r *http.Request) { r.Header.Set("A", "b\r\nC: d") }, isProtocolError},
		"NUL in path":  {func(tr *Transport, r *http.Request) { r.URL.Path = "/\x00" }, isProtocolError},
		"LF in query":  {func(tr *Transport, r *http.Request) { r.URL.RawQuery = "\n" }, isProtocolError},
		"LF in host":   {func(tr *Transport, r *http.Request) { r.Host = "a\n" }, isProtocolError},
		"large header": {func(tr *Transport, r *http.Request) { r.Header.Set("A", strings.Repeat("x", MaxVars)) }, func(err error) bool { return errors.Is(err, errVarsSize) }},
		"empty variable": {func(tr *Transport, r *http.Request) {
			tr.Vars = func(*http.Request) map[string]string { return map[string]string{"": "x"} }
		}, isProtocolError},
		"injected variable": {func(tr *Transport, r *http.Request) {
			tr.Vars = func(*http.Request) map[string]string { return map[string]string{"HTTP_A": "\n"} }
		}, isProtocolError},
		"false length": {func(tr *Transport, r *http.Request) {
			tr.Vars = func(*http.Request) map[string]string { return map[string]string{"CONTENT_LENGTH": "9"} }
		}, isProtocolError},
		"unknown length": {func(tr *Transport, r *http.Request) {
			r.ContentLength, tr.MaxBufferedBody = -1, 2
		}, func(err error) bool {
			var m *http.MaxBytesError
			return errors.As(err, &m) && m.Limit == 2
		}},
		"canceled": {func(tr *Transport, r *http.Request) {
			ctx, cancel := context.WithCancelCause(context.Background())
			cancel(broken)
			tr.DialContext = nil
			*r = *r.WithContext(ctx)
		}, func(err error) bool { return errors.Is(err, broken) }},
		"body": {func(tr *Transport, r *http.Request) {
			r.Body.(*closeRecorder).Reader = iotest.ErrReader(broken)
		}, func(err error) bool { return errors.Is(err, broken) && !isProtocolError(err) }},
		"short body": {func(tr *Transport, r *http.Request) { r.ContentLength = 9 }, isProtocolError},
		"long body":  {func(tr *Transport, r *http.Request) { r.ContentLength = 2 }, isProtocolError},
	} {
		t.Run(name, func(t *testing.T) {
			closed := make(chan struct{})
			r := newRequest(nil)
			r.Body, r.ContentLength = &closeRecorder{strings.NewReader("body"), closed}, 4
			tr := &Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
				client, server := net.Pipe()
				go func() { _, _ = io.Copy(io.Discard, server) }() // and no answer
				return client, nil
			}}
			test.change(tr, r)
			if _, err := tr.RoundTrip(r); !test.want(err) {
				t.Errorf("got %v", err)
			}
			select {
			case <-closed:
			case <-time.After(10 * time.Second):
				t.Error("the body isn't closed")
			}
		})
	}
}

func TestResponseHeaderTimeout(t *testing.T) {
	client, server := socketPair(t)
	defer server.Close()
	tr := &Transport{
		ResponseHeaderTimeout: 20 * time.Millisecond,
		DialContext:           func(context.Context, string, string) (net.Conn, error) { return client, nil },
	}
	_, err := tr.RoundTrip(newRequest(strings.NewReader("body")))
	var protocolError *ProtocolError
	if !errors.As(err, &protocolError) || !protocolError.Timeout() {
		t.Errorf("got %v", err)
	}
}

func TestRequestVars(t *testing.T) {
	r := newRequest(strings.NewReader("body"))
	r.URL, _ = url.Parse("https://ignored.test/app/a%2Fb?c=d")
	r.Host, r.RemoteAddr = "[::1]:8443", "[::2]:99"
	r.Header = http.Header{
		"Cookie": {"a=1", "b=2"}, "X-Many": {"1", "2"}, "X_Under": {"spoofed"}, "Proxy": {"http://evil"},
		"Content-Type": {"text/plain"}, "Content-Length": {"99"}, "X-None": nil,
	}
	vars, err := requestVars(r, 4)
	if err == nil {
		err = setVars(vars, map[string]string{"SCRIPT_NAME": "/app"})
	}
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"REQUEST_METHOD": "POST", "REQUEST_URI": "/app/a%2Fb?c=d", "SCRIPT_NAME": "/app", "PATH_INFO": "/a/b",
		"QUERY_STRING": "c=d", "SERVER_PROTOCOL": "HTTP/1.1", "REQUEST_SCHEME": "https", "HTTPS": "on",
		"SERVER_NAME": "[::1]", "SERVER_PORT": "8443", "HTTP_HOST": "[::1]:8443", "REMOTE_ADDR": "::2",
		"REMOTE_PORT": "99", "CONTENT_LENGTH": "4", "CONTENT_TYPE": "text/plain",
		"HTTP_COOKIE": "a=1; b=2", "HTTP_X_MANY": "1, 2",
	}
	for key, value := range want {
		if vars[key] != value {
			t.Errorf("%s is %q, want %q", key, vars[key], value)
		}
	}
	for key, value := range vars {
		if _, ok := want[key]; !ok {
			t.Errorf("there is %s %q", key, value)
		}
	}
}

func FuzzTransport(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 103 x\r\n\r\nHTTP/1.0 204 No Content\r\n\r\n"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		response, err := answering(t, answer).RoundTrip(newRequest(nil))
		if (response == nil) != (err != nil) {
			t.Fatalf("%v, %v", response, err)
		}
		if err != nil {
			return
		}
		if response.StatusCode < 200 {
			t.Errorf("status %d", response.StatusCode)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		if err := response.Body.Close(); err != nil {
			t.Error(err)
		}
	})
}
