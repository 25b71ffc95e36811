package wsgi

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-a2d07992/wsgi/pool"
)

// environOf builds r's environ; of a key set twice the last value counts.
func environOf(t testing.TB, c *environConfig, r *http.Request) map[string]string {
	t.Helper()
	var e pool.Environ
	if err := c.build(&e, r); err != nil {
		t.Errorf("build: %v", err) // not Fatal: this may be a handler
	}
	env := make(map[string]string)
	for key, value := range e.All() {
		env[key] = value
	}
	return env
}

// absentVar, as an expected value, means that the variable is not set.
const absentVar = "\x00absent"

// expectVars takes keys and the values they must have.
func expectVars(t testing.TB, env map[string]string, keysAndValues ...string) {
	t.Helper()
	for i := 0; i < len(keysAndValues); i += 2 {
		key, want := keysAndValues[i], keysAndValues[i+1]
		switch got, ok := env[key]; {
		case want == absentVar && ok:
			t.Errorf("%s = %q, want none", key, got)
		case want != absentVar && !ok:
			t.Errorf("%s is missing, want %q", key, want)
		case want != absentVar && got != want:
			t.Errorf("%s = %q, want %q", key, got, want)
		}
	}
}

// environServer is an http.Server that hands over the environ of each request.
type environServer struct {
	listener net.Listener
	environs chan map[string]string
}

func newEnvironServer(t *testing.T, c *environConfig, network, address string, wrap func(http.Handler) http.Handler) *environServer {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return startEnvironServer(t, c, l, wrap)
}

func startEnvironServer(t *testing.T, c *environConfig, l net.Listener, wrap func(http.Handler) http.Handler) *environServer {
	t.Helper()
	s := &environServer{l, make(chan map[string]string, 1)}
	srv := &http.Server{
		Handler: wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.environs <- environOf(t, c, r)
		})),
		DisableGeneralOptionsHandler: true,
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(l)
	}()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	return s
}

// get sends a request, just as it is written, and returns its environ.
func (s *environServer) get(t *testing.T, request string) map[string]string {
	t.Helper()
	conn, err := net.Dial(s.listener.Addr().Network(), s.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(request)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status %s for %q", resp.Status, request)
	}
	return <-s.environs
}

func unwrapped(h http.Handler) http.Handler { return h }

// TestEnviron sends requests over TCP; PORT stands for the listener's port.
func TestEnviron(t *testing.T) {
	const get = "GET / HTTP/1.1\r\nHost: example.com\r\n"
	tests := []struct {
		rule    string
		request string
		want    []string
	}{
		{"every request", "PATCH /a?b=%20c HTTP/1.1\r\nHost: example.com\r\n\r\n", []string{
			"REQUEST_METHOD", "PATCH", "SCRIPT_NAME", "", "PATH_INFO", "/a", "QUERY_STRING", "b=%20c",
			"REQUEST_URI", "/a?b=%20c", "RAW_URI", "/a?b=%20c", "SERVER_PROTOCOL", "HTTP/1.1",
			"SERVER_SOFTWARE", "Go-wsgi", "GATEWAY_INTERFACE", "CGI/1.1", "REMOTE_ADDR", "127.0.0.1",
			"wsgi.url_scheme", "http", "HTTPS", absentVar, "SSL_PROTOCOL", absentVar, "SSL_CLIENT_VERIFY", absentVar,
			"AUTH_TYPE", absentVar, "REMOTE_USER", absentVar, "CONTENT_TYPE", absentVar, "CONTENT_LENGTH", absentVar}},

		{"path is decoded to bytes", "GET //a%2Fb/%00%FF%C3%A9//?q HTTP/1.1\r\nHost: x\r\n\r\n", []string{
			"PATH_INFO", "//a/b/\x00\xff\xc3\xa9//", "REQUEST_URI", "//a%2Fb/%00%FF%C3%A9//?q"}},
		{"no query", get + "\r\n", []string{"QUERY_STRING", "", "REQUEST_URI", "/"}},
		{"asterisk-form has no path", "OPTIONS * HTTP/1.1\r\nHost: example.com\r\n\r\n", []string{
			"PATH_INFO", "", "SCRIPT_NAME", "", "REQUEST_URI", "*", "RAW_URI", "*"}},
		{"absolute-form", "GET http://example.org:81/a?b HTTP/1.1\r\nHost: ignored\r\n\r\n", []string{
			"PATH_INFO", "/a", "QUERY_STRING", "b", "REQUEST_URI", "http://example.org:81/a?b",
			"HTTP_HOST", "example.org:81", "SERVER_NAME", "example.org", "SERVER_PORT", "81"}},
		{"absolute-form without a path, of OPTIONS", "OPTIONS http://example.org HTTP/1.1\r\nHost: x\r\n\r\n", []string{
			"PATH_INFO", "", "REQUEST_URI", "http://example.org"}},
		{"authority-form has no path", "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", []string{
			"PATH_INFO", "", "REQUEST_URI", "example.com:443", "SERVER_NAME", "example.com", "SERVER_PORT", "443"}},

		{"Host without a port means the scheme's", get + "\r\n", []string{
			"HTTP_HOST", "example.com", "SERVER_NAME", "example.com", "SERVER_PORT", "80"}},
		{"Host with a port", "GET / HTTP/1.1\r\nHost: x:8080\r\n\r\n", []string{
			"HTTP_HOST", "x:8080", "SERVER_NAME", "x", "SERVER_PORT", "8080"}},
		{"Host with an empty port", "GET / HTTP/1.1\r\nHost: x:\r\n\r\n", []string{
			"HTTP_HOST", "x:", "SERVER_NAME", "x", "SERVER_PORT", "80"}},
		{"Host with an IPv6 address", "GET / HTTP/1.1\r\nHost: [2001:db8::1]\r\n\r\n", []string{
			"HTTP_HOST", "[2001:db8::1]", "SERVER_NAME", "[2001:db8::1]", "SERVER_PORT", "80"}},
		{"Host with an IPv6 address and a port", "GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", []string{
			"SERVER_NAME", "[::1]", "SERVER_PORT", "8080"}},
		{"no Host: the listener", "GET / HTTP/1.0\r\n\r\n", []string{
			"HTTP_HOST", absentVar, "SERVER_NAME", "127.0.0.1", "SERVER_PORT", "PORT", "SERVER_PROTOCOL", "HTTP/1.0"}},
		{"empty Host: the listener", "GET / HTTP/1.1\r\nHost:\r\n\r\n", []string{
			"HTTP_HOST", absentVar, "SERVER_NAME", "127.0.0.1", "SERVER_PORT", "PORT"}},
		{"malformed Host: the listener", "GET / HTTP/1.1\r\nHost: ::1:http\r\n\r\n", []string{
			"HTTP_HOST", "::1:http", "SERVER_NAME", "127.0.0.1", "SERVER_PORT", "PORT"}},
		{"Host of a port alone: the listener", "GET / HTTP/1.1\r\nHost: :99\r\n\r\n", []string{
			"SERVER_NAME", "127.0.0.1", "SERVER_PORT", "PORT"}},

		{"length and type", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Type: a/b; c=d\r\n\r\nhi", []string{
			"CONTENT_LENGTH", "2", "CONTENT_TYPE", "a/b; c=d",
			"HTTP_CONTENT_LENGTH", absentVar, "HTTP_CONTENT_TYPE", absentVar}},
		{"length zero, as sent", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", []string{"CONTENT_LENGTH", "0"}},
		{"no length", "POST / HTTP/1.1\r\nHost: x\r\n\r\n", []string{"CONTENT_LENGTH", absentVar}},
		{"chunked", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", []string{
			"CONTENT_LENGTH", absentVar, "HTTP_TRANSFER_ENCODING", absentVar}},
		{"first of two types", get + "Content-Type: a/b\r\nContent-Type: c/d\r\n\r\n", []string{"CONTENT_TYPE", "a/b"}},

		{"headers", get + "User-Agent: me\r\nX-One-two:  3 \r\nX.y: z\r\nConnection: close\r\nAuthorization: Basic eDp5\r\nEmpty:\r\n\r\n", []string{
			"HTTP_USER_AGENT", "me", "HTTP_X_ONE_TWO", "3", "HTTP_X.Y", "z", "HTTP_CONNECTION", "close",
			"HTTP_AUTHORIZATION", "Basic eDp5", "HTTP_EMPTY", "", "REMOTE_USER", absentVar}},
		{"header bytes stay", get + "X-A: \xff\xc3\xa9\r\n\r\n", []string{"HTTP_X_A", "\xff\xc3\xa9"}},
		{"repeated headers", get + "X-A: 1\r\nCookie: a=b\r\nX-A: 2\r\ncookie: c=d\r\n\r\n", []string{
			"HTTP_X_A", "1,2", "HTTP_COOKIE", "a=b; c=d"}},
		{"underscores are dropped", get + "X_Real_User: root\r\nX-Real_User: root\r\n_: root\r\n\r\n", []string{
			"HTTP_X_REAL_USER", absentVar, "HTTP__", absentVar}},
		{"an underscore doesn't hide a hyphen", get + "X-Real-User: me\r\nX_Real_User: root\r\n\r\n", []string{
			"HTTP_X_REAL_USER", "me"}},
		{"Proxy is dropped", get + "Proxy: evil\r\nProxy-Authorization: x\r\n\r\n", []string{
			"HTTP_PROXY", absentVar, "HTTP_PROXY_AUTHORIZATION", "x"}},
		{"long header name", get + strings.Repeat("X-", 99) + "Y: z\r\n\r\n", []string{
			"HTTP_" + strings.Repeat("X_", 99) + "Y", "z"}},
	}
	s := newEnvironServer(t, &environConfig{}, "tcp", "127.0.0.1:0", unwrapped)
	_, port, _ := net.SplitHostPort(s.listener.Addr().String())
	for _, test := range tests {
		t.Run(test.rule, func(t *testing.T) {
			env := s.get(t, test.request)
			for i, want := range test.want {
				if want == "PORT" {
					test.want[i] = port
				}
			}
			expectVars(t, env, test.want...)
			if env["REMOTE_PORT"] == "" {
				t.Error("REMOTE_PORT is empty")
			}
		})
	}
}

func TestUnixSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "wsgi") // t.TempDir's name can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	s := newEnvironServer(t, &environConfig{}, "unix", filepath.Join(dir, "s:80"), unwrapped)
	expectVars(t, s.get(t, "GET / HTTP/1.0\r\n\r\n"), "REMOTE_ADDR", "", "REMOTE_PORT", "",
		"SERVER_NAME", "localhost", "SERVER_PORT", "80", "HTTP_HOST", absentVar)
	expectVars(t, s.get(t, "GET / HTTP/1.1\r\nHost: x:81\r\n\r\n"), "SERVER_NAME", "x", "SERVER_PORT", "81")
}

// An ipv6Listener accepts IPv4 connections that say they are IPv6, for machines
// (containers, most often) that have none.
type ipv6Listener struct{ net.Listener }

func (l ipv6Listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return ipv6Conn{conn}, err
}

type ipv6Conn struct{ net.Conn }

func (c ipv6Conn) LocalAddr() net.Addr  { return asIPv6(c.Conn.LocalAddr()) }
func (c ipv6Conn) RemoteAddr() net.Addr { return asIPv6(c.Conn.RemoteAddr()) }

func asIPv6(a net.Addr) net.Addr {
	return &net.TCPAddr{IP: net.IPv6loopback, Port: a.(*net.TCPAddr).Port}
}

func TestIPv6Listener(t *testing.T) {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Logf("no IPv6 here, so by IPv4: %v", err)
		if l, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		l = ipv6Listener{l}
	}
	s := startEnvironServer(t, &environConfig{}, l, unwrapped)
	_, port, _ := net.SplitHostPort(s.listener.Addr().String())
	expectVars(t, s.get(t, "GET / HTTP/1.0\r\n\r\n"), "REMOTE_ADDR", "::1",
		"SERVER_NAME", "[::1]", "SERVER_PORT", port)
}

func TestServerAddr(t *testing.T) {
	tests := []struct {
		rule       string
		local      net.Addr
		name, port string
	}{
		{"no server", nil, "localhost", "443"},
		{"no address", (*net.TCPAddr)(nil), "localhost", "443"},
		{"no address of its own", &net.UDPAddr{IP: net.IPv6zero, Port: 8443}, "localhost", "8443"},
		{"IPv4 by way of IPv6", &net.TCPAddr{IP: net.ParseIP("::ffff:192.0.2.1"), Port: 1}, "192.0.2.1", "1"},
		{"zone is the host's own", &net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0", Port: 1}, "[fe80::1]", "1"},
	}
	for _, test := range tests {
		t.Run(test.rule, func(t *testing.T) {
			r := new(http.Request)
			if test.local != nil {
				r = r.WithContext(context.WithValue(t.Context(), http.LocalAddrContextKey, test.local))
			}
			if name, port := serverAddr(r, "443"); name != test.name || port != test.port {
				t.Errorf("got %q, %q, want %q, %q", name, port, test.name, test.port)
			}
		})
	}
}

func TestRemoteAddr(t *testing.T) {
	for in, want := range map[string][2]string{
		"192.0.2.1:1234":    {"192.0.2.1", "1234"},
		"[2001:db8::1]:1":   {"2001:db8::1", "1"},
		"192.0.2.1":         {"192.0.2.1", ""}, // as handlers leave it that read X-Forwarded-For
		"2001:db8::1":       {"2001:db8::1", ""},
		"@":                 {"", ""},
		"/run/app.sock":     {"", ""},
		"/run/app:80":       {"", ""},
		"":                  {"", ""},
		"pipe":              {"", ""},
		"unknown.test:1234": {"", ""},
	} {
		if ip, port := remoteAddr(in); ip != want[0] || port != want[1] {
			t.Errorf("remoteAddr(%q) = %q, %q, want %q", in, ip, port, want)
		}
	}
}

// TestGoRequests has requests that Go code made or changed.
func TestGoRequests(t *testing.T) {
	r, _ := http.NewRequest("", "http://example.com:81/a%20b?c", strings.NewReader("hi"))
	r.Header["x-lower"] = []string{"1"}
	r.Header["content-type"] = []string{"not canonical"}
	r.Header["X-Nil"] = nil
	r.Header["Host"] = []string{"other"}
	r.Header["cookie"] = []string{"a=b", "c=d"}
	r.Proto = ""
	expectVars(t, environOf(t, &environConfig{}, r), "REQUEST_METHOD", "GET", "REQUEST_URI", "/a%20b?c",
		"RAW_URI", "/a%20b?c", "PATH_INFO", "/a b", "SERVER_PROTOCOL", "HTTP/1.1",
		"SERVER_NAME", "example.com", "SERVER_PORT", "81", "HTTP_HOST", "example.com:81",
		"REMOTE_ADDR", "", "REMOTE_PORT", "", "CONTENT_LENGTH", "2", "CONTENT_TYPE", absentVar,
		"HTTP_CONTENT_TYPE", absentVar, "HTTP_X_LOWER", "1", "HTTP_X_NIL", absentVar, "HTTP_COOKIE", "a=b; c=d")

	r = httptest.NewRequest("OPTIONS", "*", nil)
	expectVars(t, environOf(t, &environConfig{}, r), "PATH_INFO", "", "REQUEST_URI", "*")

	// A handler decompressed the body, and doesn't know its length.
	r = httptest.NewRequest("POST", "/", strings.NewReader("hi"))
	r.Header.Set("Content-Length", "2")
	r.ContentLength = -1
	expectVars(t, environOf(t, &environConfig{}, r), "CONTENT_LENGTH", absentVar)
}

func TestExtra(t *testing.T) {
	var set [][2]string
	c := &environConfig{extra: func(r *http.Request, f func(key, value string)) {
		for _, kv := range set {
			f(kv[0], kv[1])
		}
	}}
	r := httptest.NewRequest("GET", "/a", nil)
	r.Header.Set("X-Plan", "free")

	set = [][2]string{{"REMOTE_USER", "j\xc3\xb6rg"}, {"AUTH_TYPE", "Bearer"}, {"HTTP_X_PLAN", "gold"},
		{"wsgi.url_scheme", "https"}, {"shop.tenant", "7"}, {"SCRIPT_NAME", "/shop"}, {"EMPTY", ""}}
	env := environOf(t, c, r)
	for _, kv := range set {
		expectVars(t, env, kv[0], kv[1])
	}

	for _, bad := range []struct{ rule, key, value, want string }{
		{"objects can't be replaced", "wsgi.input", "x", `"wsgi.input"`},
		{"nor can flags", "wsgi.multithread", "", `"wsgi.multithread"`},
		{"nor what the specification may add", "wsgi.new", "x", `"wsgi.new"`},
		{"empty key", "", "x", "empty key"},
		{"NUL in the key", "A\x00B", "x", `"A\x00B"`},
		{"control character in the key", "A\n", "x", `"A\n"`},
		{"endless key", strings.Repeat("A", 1<<20), "x", `"AAAA`},
		{"unknown scheme", "wsgi.url_scheme", "ftp", "wsgi.url_scheme"},
		{"no method", "REQUEST_METHOD", "", "REQUEST_METHOD"},
		{"no server name", "SERVER_NAME", "", "SERVER_NAME"},
		{"no server port", "SERVER_PORT", "", "SERVER_PORT"},
		{"script name with a slash", "SCRIPT_NAME", "/shop/", "script name"},
	} {
		t.Run(bad.rule, func(t *testing.T) {
			set = [][2]string{{"A", "1"}, {bad.key, bad.value}, {"wsgi.errors", "a later one"}}
			err := c.build(new(pool.Environ), r)
			if err == nil || !strings.Contains(err.Error(), bad.want) || !strings.Contains(err.Error(), "WithEnviron") {
				t.Errorf("build = %v, want an error about WithEnviron and %s", err, bad.want)
			}
		})
	}
}

// newClientCert returns a certificate that its own key signed.
func newClientCert(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	attr := func(value any, oid ...int) []pkix.AttributeTypeAndValue {
		return []pkix.AttributeTypeAndValue{{Type: oid, Value: value}}
	}
	subject := pkix.RDNSequence{
		attr("DE", 2, 5, 4, 6),
		attr("a, b+c", 2, 5, 4, 10),
		attr("one", 2, 5, 4, 11),
		append(attr("two", 2, 5, 4, 11), attr("j\u00f6rg", 0, 9, 2342, 19200300, 100, 1, 1)...),
		attr("#x\n ", 2, 5, 4, 3),
		attr(asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte("j@example.com")}, 1, 2, 840, 113549, 1, 9, 1),
		attr("hi", 1, 2, 3, 4),
	}
	raw, err := asn1.Marshal(subject)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(0x0abc),
		RawSubject:   raw,
		NotBefore:    time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC),
		NotAfter:     time.Date(2120, 11, 12, 13, 14, 15, 0, time.UTC),
		DNSNames:     []string{"a.example", "b.example"}, EmailAddresses: []string{"j@example.com"},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func TestTLS(t *testing.T) {
	cert := newClientCert(t)
	known := x509.NewCertPool()
	known.AddCert(cert.Leaf)
	const dn = `1.2.3.4=#13026869,emailAddress=j@example.com,CN=\#x\0A\ ,UID=jörg+OU=two,OU=one,O=a\, b\+c,C=DE`
	clientCert := []string{
		"SSL_CLIENT_M_VERSION", "3", "SSL_CLIENT_M_SERIAL", "0ABC", "SSL_CLIENT_S_DN", dn, "SSL_CLIENT_I_DN", dn,
		"SSL_CLIENT_S_DN_C", "DE", "SSL_CLIENT_S_DN_O", "a, b+c", "SSL_CLIENT_S_DN_OU", "one",
		"SSL_CLIENT_S_DN_OU_1", "two", "SSL_CLIENT_S_DN_UID", "jörg", "SSL_CLIENT_S_DN_CN", "#x\n ",
		"SSL_CLIENT_S_DN_Email", "j@example.com", "SSL_CLIENT_I_DN_OU_1", "two",
		"SSL_CLIENT_V_START", "Jan  2 03:04:05 2020 GMT", "SSL_CLIENT_V_END", "Nov 12 13:14:15 2120 GMT",
		"SSL_CLIENT_SAN_Email_0", "j@example.com", "SSL_CLIENT_SAN_DNS_1", "b.example",
		"SSL_CLIENT_CERT", pemString(cert.Leaf), "SSL_CLIENT_CERT_CHAIN_0", absentVar,
	}
	tests := []struct {
		rule   string
		server *tls.Config
		client *tls.Config
		want   []string
	}{
		{"no client certificate", &tls.Config{}, &tls.Config{}, []string{
			"SSL_PROTOCOL", "TLSv1.3", "SSL_CLIENT_VERIFY", "NONE", "SSL_CLIENT_S_DN", absentVar,
			"SSL_CLIENT_CERT", absentVar, "SERVER_PROTOCOL", "HTTP/1.1"}},
		{"HTTP/2", &tls.Config{NextProtos: []string{"h2"}}, &tls.Config{}, []string{
			"SERVER_PROTOCOL", "HTTP/2.0", "PATH_INFO", "/a b", "REQUEST_URI", "/a%20b?c", "CONTENT_LENGTH", absentVar}},
		{"older protocol", &tls.Config{MaxVersion: tls.VersionTLS12}, &tls.Config{
			CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}, []string{
			"SSL_PROTOCOL", "TLSv1.2", "SSL_CIPHER", "ECDHE-RSA-AES128-GCM-SHA256"}},
		{"client certificate verified",
			&tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: known},
			&tls.Config{Certificates: []tls.Certificate{cert}},
			append([]string{"SSL_CLIENT_VERIFY", "SUCCESS"}, clientCert...)},
		{"client certificate of unknown origin",
			&tls.Config{ClientAuth: tls.RequireAnyClientCert},
			&tls.Config{Certificates: []tls.Certificate{cert}},
			append([]string{"SSL_CLIENT_VERIFY", "GENEROUS"}, clientCert...)},
		{"client certificate asked for and not given",
			&tls.Config{ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: known}, &tls.Config{},
			[]string{"SSL_CLIENT_VERIFY", "NONE"}},
	}
	for _, test := range tests {
		t.Run(test.rule, func(t *testing.T) {
			environs := make(chan map[string]string, 1)
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				environs <- environOf(t, &environConfig{}, r)
			}))
			s.TLS, s.EnableHTTP2 = test.server, len(test.server.NextProtos) > 0
			s.StartTLS()
			defer s.Close()
			transport := s.Client().Transport.(*http.Transport)
			transport.TLSClientConfig.Certificates = test.client.Certificates
			transport.TLSClientConfig.CipherSuites = test.client.CipherSuites
			transport.TLSClientConfig.ServerName = "example.com" // as in httptest's certificate

			req, _ := http.NewRequest("GET", s.URL+"/a%20b?c", nil)
			req.Host = "example.com"
			resp, err := s.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			env := <-environs
			expectVars(t, env, "HTTPS", "on", "wsgi.url_scheme", "https", "SERVER_PORT", "443",
				"SSL_TLS_SNI", "example.com", "HTTP_HOST", "example.com")
			expectVars(t, env, test.want...)
		})
	}
}

func TestTLSNames(t *testing.T) {
	for id, want := range map[uint16]string{
		tls.TLS_AES_128_GCM_SHA256:                        "TLS_AES_128_GCM_SHA256",
		tls.TLS_CHACHA20_POLY1305_SHA256:                  "TLS_CHACHA20_POLY1305_SHA256",
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256: "ECDHE-ECDSA-CHACHA20-POLY1305",
		tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA:            "ECDHE-RSA-AES256-SHA",
		tls.TLS_RSA_WITH_AES_128_CBC_SHA256:               "AES128-SHA256",
		tls.TLS_RSA_WITH_AES_256_GCM_SHA384:               "AES256-GCM-SHA384",
		tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA:                 "DES-CBC3-SHA",
		tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA:           "ECDHE-RSA-DES-CBC3-SHA",
		tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA:              "ECDHE-ECDSA-RC4-SHA",
		0xfefe:                                            "0xFEFE",
	} {
		if got := tlsCipher(id); got != want {
			t.Errorf("tlsCipher(%#x) = %q, want %q", id, got, want)
		}
	}
	for version, want := range map[uint16]string{
		tls.VersionTLS10: "TLSv1", tls.VersionTLS11: "TLSv1.1", tls.VersionTLS12: "TLSv1.2",
		tls.VersionTLS13: "TLSv1.3", 0x0999: "0x0999",
	} {
		if got := tlsProtocol(version); got != want {
			t.Errorf("tlsProtocol(%#x) = %q, want %q", version, got, want)
		}
	}
}

// browserRequest is what a browser sends to a site it has been to.
func browserRequest(target string) *http.Request {
	r := httptest.NewRequest("GET", target, nil)
	for _, line := range []string{
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 Safari/537.36",
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
		"Accept-Encoding: gzip, deflate, br, zstd", "Accept-Language: en-GB,en;q=0.9,de;q=0.8",
		"Cache-Control: max-age=0", "Connection: keep-alive", "Referer: https://example.com/orders",
		"Cookie: csrftoken=3vuTyk0RDSnpU0BKjKc7y4y9; sessionid=9zbafw1i5ro7h2eyqxqk", "Priority: u=0, i",
		`Sec-Ch-Ua: "Chromium";v="137", "Not/A)Brand";v="24"`, "Sec-Ch-Ua-Mobile: ?0", `Sec-Ch-Ua-Platform: "Linux"`,
		"Sec-Fetch-Dest: document", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: same-origin",
		"Sec-Fetch-User: ?1", "Upgrade-Insecure-Requests: 1",
	} {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	return r
}

func TestBuildAllocs(t *testing.T) {
	var e pool.Environ
	r := browserRequest("/orders/caf%C3%A9?page=2")
	r.Header.Set("X-Not-Listed", "1")
	allocs := testing.AllocsPerRun(100, func() {
		e.Reset()
		new(environConfig).build(&e, r)
	})
	if allocs > 0 {
		t.Errorf("%v allocations for a browser's request, want none", allocs)
	}
}

func BenchmarkBuild(b *testing.B) {
	bench := func(name string, c *environConfig, r *http.Request) {
		b.Run(name, func(b *testing.B) {
			var e pool.Environ
			b.ReportAllocs()
			for b.Loop() {
				e.Reset()
				if err := c.build(&e, r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	bench("browser", &environConfig{}, browserRequest("/orders/7?page=2"))
	bench("escaped", &environConfig{}, browserRequest("/caf%C3%A9/7?page=2"))
	bench("WithScriptName", &environConfig{scriptName: "/orders", hasScriptName: true}, browserRequest("/orders/7"))
	bench("StripPrefix", &environConfig{}, func() *http.Request {
		r := browserRequest("/orders/7?page=2")
		r.URL.Path = "/7"
		return r
	}())
	bench("TLS", &environConfig{}, func() *http.Request {
		r := browserRequest("/orders/7?page=2")
		r.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256}
		return r
	}())
	bench("unlisted headers", &environConfig{}, func() *http.Request {
		r := browserRequest("/orders/7?page=2")
		for _, name := range []string{"X-Tenant", "X-Datadog-Trace-Id", "X-A-Header-Whose-Name-Is-Rather-Long"} {
			r.Header.Set(name, "1")
		}
		return r
	}())
	bench("WithEnviron", &environConfig{extra: func(_ *http.Request, set func(key, value string)) {
		set("REMOTE_USER", "jane")
	}}, browserRequest("/orders/7?page=2"))
}
