package wsgi_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-a2d07992/wsgi/internal/servertest"
)

// countHeaders answers with the HTTP_ variables, their number and the longest value.
const countHeaders = `
import json

def application(environ, start_response):
    shown = {k: v for k, v in environ.items() if k.startswith("HTTP_X_")}
    longest = max(map(len, shown.values()), default=0)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([len(shown), longest, shown.get("HTTP_X_7"), shown.get("HTTP_X_MANY")]).encode()]
`

// serveLargeHeads is serve by a server that allows heads of 8 MiB.
func serveLargeHeads(t *testing.T, source string) *server {
	return serveWith(t, func(s *server, app http.Handler) http.Handler {
		s.Config.MaxHeaderBytes = 8 << 20
		return app
	}, validated(source))
}

func TestTenThousandRequestHeadersAndOneOfAMegabyte(t *testing.T) {
	s := serveLargeHeads(t, countHeaders)
	for _, test := range []struct {
		head string
		want string
	}{
		{strings.Repeat("X-Many: 1\r\n", 10_000), fmt.Sprintf(`[1, 19999, null, "%s1"]`, strings.Repeat("1,", 9999))},
		{"X-7: " + strings.Repeat("v", 1<<20) + "\r\n", fmt.Sprintf(`[1, %d, "%s", null]`, 1<<20, strings.Repeat("v", 1<<20))},
		{manyHeaders(10_000), `[10000, 4, "7", null]`},
	} {
		c := s.dial(t)
		c.write("GET / HTTP/1.1\r\nHost: x\r\n" + test.head + "\r\n")
		if resp, body := c.answer("GET"); resp.StatusCode != 200 || body != test.want {
			t.Errorf("%.30q: %s %.60q of %d bytes, want %.60q of %d", test.head, resp.Status, body, len(body), test.want, len(test.want))
		}
		c.Close()
	}
	s.Logs.expectQuiet(t)
}

func manyHeaders(n int) string {
	var s strings.Builder
	for i := range n {
		fmt.Fprintf(&s, "X-%d: %d\r\n", i, i)
	}
	return s.String()
}

// TestWrongFramingIsRefused has heads that don't tell where their request ends, each
// with a request in what might be its body.
func TestWrongFramingIsRefused(t *testing.T) {
	s := serve(t, `
seen = []

def application(environ, start_response):
    seen.append(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr(seen).encode()]
`, one(1)...)
	for _, head := range []string{
		"Content-Length: 5\r\nContent-Length: 6\r\n",
		"Content-Length: 5, 6\r\n",
		"Content-Length: -5\r\n",
		"Content-Length: +5\r\n",
		"Content-Length: five\r\n",
		"Content-Length: 5 5\r\n",
		"Content-Length: 99999999999999999999\r\n",
		"Transfer-Encoding: gzip\r\n",
		"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
		"Transfer-Encoding: chunked, identity\r\n",
		"Content-Length : 5\r\n",
		"X-A: b\r\n Content-Length: 5\r\nX-B\r\n",
	} {
		c := s.dial(t)
		c.write("POST /wrong HTTP/1.1\r\nHost: x\r\n" + head + "\r\nGET /hidden HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, _ := c.answer("POST")
		if resp.StatusCode != 400 && resp.StatusCode != 501 {
			t.Errorf("%q: %s", head, resp.Status)
		}
		c.expectEnd()
	}
	s.expectBody(t, "/seen", "['/seen']")

	// The same length twice is one length (RFC 9112, section 6.3).
	c := s.dial(t)
	c.write("POST /twice HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhelloGET /next HTTP/1.1\r\nHost: x\r\n\r\n")
	if resp, body := c.answer("POST"); resp.StatusCode != 200 || body != "['/seen', '/twice']" {
		t.Errorf("%s %q", resp.Status, body)
	}
	if resp, body := c.answer("GET"); resp.StatusCode != 200 || body != "['/seen', '/twice', '/next']" {
		t.Errorf("%s %q", resp.Status, body)
	}
}

// TestBodyEndsWhereItsLengthSays: what comes behind it is the next request.
func TestBodyEndsWhereItsLengthSays(t *testing.T) {
	s := serve(t, echo)
	for _, size := range []int{0, 1, 5, 70_000} {
		c := s.dial(t)
		data := strings.Repeat("x", size)
		c.write(fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%sGET /next HTTP/1.1\r\nHost: x\r\n\r\n", size, data))
		if resp, body := c.answer("POST"); resp.StatusCode != 200 || body != data {
			t.Errorf("%d bytes: %s, %d came", size, resp.Status, len(body))
		}
		if resp, body := c.answer("GET"); resp.StatusCode != 200 || body != "" || resp.Header.Get("Method") != "GET" {
			t.Errorf("behind %d bytes: %s %q", size, resp.Status, body)
		}
	}
	s.Logs.expectQuiet(t)
}

// TestChunksOfAnySize: the application sees nothing of how the client has cut its
// body, nor of the trailers.
func TestChunksOfAnySize(t *testing.T) {
	s := serve(t, echo)
	data := string(pattern(2 << 20))
	for _, size := range []int{1, 7, 4095, 65_537, len(data)} {
		for _, trailer := range []string{"", "X-Trailer: x\r\n", "Content-Length: 5\r\nHost: evil\r\n"} {
			text := data
			if size < 10 {
				text = data[:size*5000]
			}
			var body strings.Builder
			for rest := text; rest != ""; {
				n := min(size, len(rest))
				fmt.Fprintf(&body, "%X;extension=\"1\"\r\n%s\r\n", n, rest[:n])
				rest = rest[n:]
			}
			c := s.dial(t)
			go io.WriteString(c.Conn, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"+body.String()+"0\r\n"+trailer+
				"\r\nGET /next HTTP/1.1\r\nHost: x\r\n\r\n")
			resp, got := c.answer("POST")
			if resp.StatusCode != 200 || got != text || resp.Header.Get("Length") != "none" {
				t.Errorf("chunks of %d: %s, %d bytes of %d came", size, resp.Status, len(got), len(text))
			}
			if resp, _ := c.answer("GET"); resp.StatusCode != 200 || resp.Header.Get("Method") != "GET" {
				t.Errorf("behind chunks of %d: %s", size, resp.Status)
			}
			c.Close()
		}
	}
	s.Logs.expectQuiet(t)
}

// TestTargetsWithoutAPath reach the application as they are where the server passes
// them on.
func TestTargetsWithoutAPath(t *testing.T) {
	s := serveWith(t, func(s *server, app http.Handler) http.Handler {
		s.Config.DisableGeneralOptionsHandler = true
		return app
	}, `
import json

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([environ[k] for k in ("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "REQUEST_URI", "SERVER_NAME", "SERVER_PORT")]).encode()]
`)
	for request, want := range map[string][6]string{
		"OPTIONS * HTTP/1.1\r\nHost: x":                     {"OPTIONS", "", "", "*", "x", "80"},
		"CONNECT y:443 HTTP/1.1\r\nHost: y:443":             {"CONNECT", "", "", "y:443", "y", "443"},
		"GET http://y:81/a%2Fb?c HTTP/1.1\r\nHost: ignored": {"GET", "", "/a/b", "http://y:81/a%2Fb?c", "y", "81"},
		"GET http://y HTTP/1.1\r\nHost: ignored":            {"GET", "", "/", "http://y", "y", "80"},
		"GET //a/%00%FF HTTP/1.1\r\nHost: [::1]:8080":       {"GET", "", "//a/\x00\u00ff", "//a/%00%FF", "[::1]", "8080"},
	} {
		c := s.dial(t)
		c.write(request + "\r\nConnection: close\r\n\r\n")
		resp, body := c.answer("GET")
		var got [6]string
		if err := json.Unmarshal([]byte(body), &got); err != nil || resp.StatusCode != 200 || got != want {
			t.Errorf("%q: %s %q, want %q", request, resp.Status, body, want)
		}
	}
}

// TestTruncationOverUnixSockets: there is no reset there, so chunks and lengths
// alone tell a cut answer; one of HTTP/1.0 without a length can't be told.
func TestTruncationOverUnixSockets(t *testing.T) {
	path := servertest.SocketPath(t)
	serveWith(t, func(s *server, app http.Handler) http.Handler {
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		s.Listener.Close()
		s.Listener = l
		return app
	}, cut)
	ask := func(target string) (*http.Response, string, error) {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(conn, "GET /"+target+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s: %v", target, err)
		}
		body, err := io.ReadAll(resp.Body)
		return resp, string(body), err
	}
	for _, target := range append(append([]string(nil), cutWithoutLength...), cutWithLength...) {
		if resp, body, err := ask(target); resp.StatusCode != 200 || err != io.ErrUnexpectedEOF || body != "begin " {
			t.Errorf("%s: %s %q, %v, want an unexpected end", target, resp.Status, body, err)
		}
	}
	if resp, body, err := ask("whole"); resp.StatusCode != 200 || err != nil || body != "whole" {
		t.Errorf("whole: %s %q, %v", resp.Status, body, err)
	}
}
