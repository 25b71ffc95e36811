package uwsgi

import (
	"bytes"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-a2d07992/wsgi/internal/rfc9110"
)

// oneConn is a listener of one connection.
type oneConn struct {
	once sync.Once
	c    chan net.Conn
}

func listenOne(c net.Conn) *oneConn {
	l := &oneConn{c: make(chan net.Conn, 1)}
	l.c <- c
	return l
}

func (l *oneConn) Accept() (net.Conn, error) {
	c, ok := <-l.c
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (l *oneConn) Close() error {
	l.once.Do(func() { close(l.c) })
	return nil
}

func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// A scriptedConn reads what a client has sent before it closed its half of the
// connection.
type scriptedConn struct {
	net.Conn // none
	input    *bytes.Reader
	output   bytes.Buffer
	closed   chan struct{}
	once     sync.Once
}

func (c *scriptedConn) Read(p []byte) (int, error)       { return c.input.Read(p) }
func (c *scriptedConn) Write(p []byte) (int, error)      { return c.output.Write(p) }
func (c *scriptedConn) LocalAddr() net.Addr              { return &net.UnixAddr{Name: "local", Net: "unix"} }
func (c *scriptedConn) RemoteAddr() net.Addr             { return &net.UnixAddr{Name: "remote", Net: "unix"} }
func (c *scriptedConn) SetDeadline(time.Time) error      { return nil }
func (c *scriptedConn) SetReadDeadline(time.Time) error  { return nil }
func (c *scriptedConn) SetWriteDeadline(time.Time) error { return nil }

func (c *scriptedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

// exchangeBytes gives a server bytes and returns its answer.
func exchangeBytes(t testing.TB, s *Server, input []byte) []byte {
	t.Helper()
	c := &scriptedConn{input: bytes.NewReader(input), closed: make(chan struct{})}
	done := make(chan error, 1)
	go func() { done <- s.Serve(listenOne(c)) }()
	<-c.closed
	_ = s.Close()
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve: %v", err)
	}
	return c.output.Bytes()
}

func packet(vars ...string) []byte {
	var list []variable
	for i := 0; i < len(vars); i += 2 {
		list = append(list, variable{vars[i], vars[i+1]})
	}
	b, err := appendPacket(nil, list)
	if err != nil {
		panic(err)
	}
	return b
}

// get is packet for a GET request with more variables.
func get(vars ...string) []byte {
	return packet(append([]string{"REQUEST_METHOD", "GET", "REQUEST_URI", "/", "SERVER_PROTOCOL", "HTTP/1.1"}, vars...)...)
}

func TestBadInput(t *testing.T) {
	for name, test := range map[string]struct {
		input  []byte
		status string // "" where there is no answer
		logged string
	}{
		"good":                   {get(), "200", ""},
		"nothing":                {nil, "", ""},
		"part of a header":       {[]byte{0, 5}, "", "unexpected EOF"},
		"part of a packet":       {get()[:20], "", "unexpected EOF"},
		"modifier1":              {[]byte{5, 0, 0, 0}, "400", "modifier1 is 5"},
		"modifier2":              {[]byte{0, 0, 0, 1}, "400", "modifier2 1"},
		"HTTP":                   {[]byte("GET / HTTP/1.1\r\n\r\n"), "400", "looks like HTTP"},
		"no variables":           {[]byte{0, 0, 0, 0}, "400", "REQUEST_METHOD"},
		"key over the end":       {[]byte{0, 3, 0, 0, 9, 0, 'a'}, "400", "name runs over"},
		"key's size over":        {[]byte{0, 1, 0, 0, 9}, "400", "name runs over"},
		"value over the end":     {[]byte{0, 6, 0, 0, 1, 0, 'a', 9, 0, 'b'}, "400", "value of \"a\" runs over"},
		"value missing":          {[]byte{0, 3, 0, 0, 1, 0, 'a'}, "400", "value of \"a\" runs over"},
		"empty key":              {get("", "x"), "400", "empty name"},
		"NUL in key":             {get("A\x00B", "x"), "400", "NUL"},
		"NUL in value":           {get("A", "\x00"), "400", "NUL"},
		"CR in header":           {get("HTTP_A", "b\rC: d"), "400", "control character in HTTP_A"},
		"LF in header":           {get("HTTP_A", "b\nC: d"), "400", "control character in HTTP_A"},
		"LF in type":             {get("CONTENT_TYPE", "b\nC: d"), "400", "control character"},
		"LF in path":             {get("PATH_INFO", "/a\nb"), "200", ""},
		"LF in URI":              {get("REQUEST_URI", "/a\nb"), "400", "REQUEST_URI"},
		"bad URI":                {get("REQUEST_URI", "a"), "400", "REQUEST_URI"},
		"bad escape":             {get("REQUEST_URI", "/%zz"), "400", "REQUEST_URI"},
		"bad method":             {get("REQUEST_METHOD", "GET / HTTP/1.1\r\n"), "400", "REQUEST_METHOD"},
		"bad protocol":           {get("SERVER_PROTOCOL", "INCLUDED"), "400", "SERVER_PROTOCOL"},
		"bad host":               {get("HTTP_HOST", "a/b"), "400", "bad host"},
		"bad name":               {get("HTTP_A B", "x"), "200", ""},
		"negative length":        {get("CONTENT_LENGTH", "-1"), "400", "CONTENT_LENGTH"},
		"signed length":          {get("CONTENT_LENGTH", "+1"), "400", "CONTENT_LENGTH"},
		"length over 63 bits":    {get("CONTENT_LENGTH", "9223372036854775808"), "400", "CONTENT_LENGTH"},
		"chunked":                {get("HTTP_TRANSFER_ENCODING", "chunked"), "411", "Transfer-Encoding"},
		"chunked, with a length": {append(get("HTTP_TRANSFER_ENCODING", "chunked", "CONTENT_LENGTH", "1"), 'x'), "200", ""},
		"too large":              {get("A", strings.Repeat("x", 2000)), "431", "too many bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var logged strings.Builder
			s := &Server{
				MaxVarsBytes: 2000,
				ErrorLog: log.New(writerFunc(func(p []byte) (int, error) {
					mu.Lock()
					defer mu.Unlock()
					return logged.Write(p)
				}), "", 0),
				Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if len(r.Header["A"])+len(r.Header["C"])+len(r.TransferEncoding) > 0 {
						t.Errorf("got %v", r.Header)
					}
				}),
			}
			client, server := socketPair(t)
			go func() {
				// What a server doesn't wait for may be refused.
				_, _ = client.Write(test.input)
				_ = client.CloseWrite()
			}()
			l := listenOne(server)
			done := make(chan error, 1)
			go func() { done <- s.Serve(l) }()
			_ = client.SetReadDeadline(time.Now().Add(10 * time.Second))
			answer, err := io.ReadAll(client)
			if err != nil {
				t.Error(err)
			}
			_ = s.Close()
			<-done
			status := ""
			if len(answer) > 0 {
				status = strings.Fields(string(answer))[1]
			}
			mu.Lock()
			defer mu.Unlock()
			if status != test.status {
				t.Errorf("answered %q", answer)
			}
			if got := logged.String(); test.logged == "" && got != "" || !strings.Contains(got, test.logged) {
				t.Errorf("logged %q", got)
			}
		})
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// socketPair is a connection's two ends.
func socketPair(t testing.TB) (client *net.TCPConn, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn), server
}

func TestHead(t *testing.T) {
	list := []variable{
		{"REQUEST_METHOD", "GET"}, {"SCRIPT_NAME", "/a"}, {"PATH_INFO", "/b c"}, {"QUERY_STRING", "d=e"},
		{"SERVER_NAME", "::1"}, {"SERVER_PORT", "8443"}, {"REQUEST_SCHEME", "https"}, {"SERVER_PROTOCOL", "HTTP/2.0"},
		{"HTTP_X_MANY", "1"}, {"HTTP_X_MANY", "2"}, {"HTTP_CONTENT_LENGTH", "7"}, {"CONTENT_LENGTH", ""},
		{"REMOTE_ADDR", "::2"}, {"REMOTE_PORT", "99"}, {"REMOTE_USER", "one"}, {"REMOTE_USER", "two"},
	}
	h, err := newHead(list)
	if err != nil {
		t.Fatal(err)
	}
	r := h.request(new(http.Request))
	if r.RequestURI != "/a/b%20c?d=e" || r.URL.Path != "/a/b c" || r.URL.RawQuery != "d=e" {
		t.Errorf("URI %q, URL %v", r.RequestURI, r.URL)
	}
	if r.Host != "[::1]:8443" || r.TLS == nil || r.RemoteAddr != "[::2]:99" || r.ProtoMajor != 2 {
		t.Errorf("Host %q, TLS %v, RemoteAddr %q, %s", r.Host, r.TLS, r.RemoteAddr, r.Proto)
	}
	if len(r.Header) != 1 || len(r.Header["X-Many"]) != 2 {
		t.Errorf("%v", r.Header)
	}
	if h.vars["REMOTE_USER"] != "two" || h.vars["HTTP_X_MANY"] != "2" || h.length != 0 {
		t.Errorf("%v", h.vars)
	}
	if ProcessEnv(new(http.Request)) != nil {
		t.Error("another server's request has variables")
	}
}

func TestReadHeaderTimeout(t *testing.T) {
	client, server := socketPair(t)
	s := &Server{ReadHeaderTimeout: 20 * time.Millisecond, ErrorLog: log.New(io.Discard, "", 0)}
	done := make(chan error, 1)
	go func() { done <- s.Serve(listenOne(server)) }()
	_, _ = client.Write([]byte{0, 9})
	_ = client.SetReadDeadline(time.Now().Add(10 * time.Second))
	if b, err := io.ReadAll(client); len(b) > 0 || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	_ = s.Close()
	<-done
}

func FuzzParseVars(f *testing.F) {
	f.Add(get("HTTP_A", "b")[packetHeaderLen:])
	f.Add([]byte{1, 0, 'a', 9, 0})
	f.Fuzz(func(t *testing.T, block []byte) {
		vars, err := parseVars(string(block))
		if err != nil || len(block) > MaxVars {
			return
		}
		again, err := appendPacket(nil, vars)
		if err != nil || !bytes.Equal(again[packetHeaderLen:], block) {
			t.Errorf("%q became %q, %v", block, again, err)
		}
		if h, err := newHead(vars); err == nil {
			for name, values := range h.header {
				if !rfc9110.IsToken(name) || strings.ContainsAny(strings.Join(values, ""), "\r\n\x00") {
					t.Errorf("header %q: %q", name, values)
				}
			}
			if h.url == nil || h.method == "" || h.length < 0 {
				t.Errorf("%+v", h)
			}
		}
	})
}

func FuzzServer(f *testing.F) {
	f.Add(get())
	f.Add(append(get("CONTENT_LENGTH", "3"), "abc"...))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add(get("REQUEST_METHOD", "HEAD"))
	f.Fuzz(func(t *testing.T, input []byte) {
		var panics strings.Builder
		var mu sync.Mutex
		s := &Server{
			ErrorLog: log.New(writerFunc(func(p []byte) (int, error) {
				mu.Lock()
				defer mu.Unlock()
				if bytes.Contains(p, []byte("panic")) {
					panics.Write(p)
				}
				return len(p), nil
			}), "", 0),
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(w, r.Body)
			}),
		}
		answer := exchangeBytes(t, s, input)
		if len(answer) > 0 && !bytes.HasPrefix(answer, []byte("HTTP/1.0 ")) && !bytes.HasPrefix(answer, []byte("HTTP/1.1 ")) {
			t.Errorf("answered %q", answer)
		}
		mu.Lock()
		defer mu.Unlock()
		if panics.Len() > 0 {
			t.Error(panics.String())
		}
	})
}
