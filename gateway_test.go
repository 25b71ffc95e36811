package wsgi_test

import (
	"bufio"
	"encoding/binary"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-a2d07992/wsgi"
	"github.com/seed-a2d07992/wsgi/uwsgi"
)

// serveUWSGI starts an application behind the uwsgi protocol. It returns the
// address and the logs.
func serveUWSGI(t testing.TB, wrap func(http.Handler) http.Handler, opts ...wsgi.Option) (string, *logs) {
	t.Helper()
	app, records, _ := newApp(t, validated(showEnviron), opts...)
	var handler http.Handler = app
	if wrap != nil {
		handler = wrap(handler)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &uwsgi.Server{Handler: handler}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != uwsgi.ErrServerClosed {
			t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr().String(), records
}

// uwsgiGet sends the variables that nginx's uwsgi_params has, with those given over
// them, and returns the answer. One that is absent is not sent.
func uwsgiGet(t testing.TB, address string, vars map[string]string) (*http.Response, string) {
	t.Helper()
	all := map[string]string{
		"QUERY_STRING": "", "REQUEST_METHOD": "GET", "CONTENT_TYPE": "", "CONTENT_LENGTH": "",
		"REQUEST_URI": "/", "PATH_INFO": "/", "DOCUMENT_ROOT": "/srv", "SERVER_PROTOCOL": "HTTP/1.1",
		"REQUEST_SCHEME": "http", "REMOTE_ADDR": "192.0.2.1", "REMOTE_PORT": "5555",
		"SERVER_PORT": "80", "SERVER_NAME": "shop.test", "HTTP_HOST": "shop.example",
	}
	maps.Copy(all, vars)
	maps.DeleteFunc(all, func(_, value string) bool { return value == absent })
	var block []byte
	for _, key := range slices.Sorted(maps.Keys(all)) {
		for _, s := range []string{key, all[key]} {
			block = binary.LittleEndian.AppendUint16(block, uint16(len(s)))
			block = append(block, s...)
		}
	}
	packet := append([]byte{0, byte(len(block)), byte(len(block) >> 8), 0}, block...)

	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write(packet); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestVariablesOfAWebServerReachTheEnviron(t *testing.T) {
	address, _ := serveUWSGI(t, nil)
	resp, body := uwsgiGet(t, address, map[string]string{
		"REQUEST_URI": "/a%20b?q=1", "QUERY_STRING": "q=1", "PATH_INFO": "/a b", "HTTPS": "on", "REQUEST_SCHEME": "https",
		"REMOTE_USER": "zo\xc3\xab", "AUTH_TYPE": "Basic", "SSL_CLIENT_S_DN": "CN=zoë", "shop.tenant": "7", "UWSGI_EMPTY": "",
		"SERVER_SOFTWARE": "nginx/1.22", "HTTP_X_UNDER_SCORE": "1",
	})
	expectEnviron(t, resp, body, "url", "https://shop.example/a%20b?q=1", "PATH_INFO", "/a b", "SCRIPT_NAME", "",
		"REMOTE_USER", "zo\u00c3\u00ab", "AUTH_TYPE", "Basic", "SSL_CLIENT_S_DN", "CN=zo\u00c3\u00ab", "shop.tenant", "7", "UWSGI_EMPTY", "",
		"DOCUMENT_ROOT", "/srv", "REMOTE_ADDR", "192.0.2.1", "REMOTE_PORT", "5555", "HTTPS", "on", "wsgi.url_scheme", "https",
		"SSL_PROTOCOL", absent, "SSL_CLIENT_VERIFY", absent, "SERVER_SOFTWARE", "Go-wsgi", "HTTP_X_UNDER_SCORE", "1")
	resp, body = uwsgiGet(t, address, map[string]string{"REMOTE_ADDR": "unix:", "REMOTE_PORT": ""})
	expectEnviron(t, resp, body, "REMOTE_ADDR", "", "REMOTE_PORT", "", "HTTPS", absent, "REMOTE_USER", absent)
}

func TestScriptNameOfAWebServer(t *testing.T) {
	strip := func(prefix string) func(http.Handler) http.Handler {
		return func(h http.Handler) http.Handler { return http.StripPrefix(prefix, h) }
	}
	rewrite := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.URL.Path = "/rewritten"
			h.ServeHTTP(w, r)
		})
	}
	tests := []struct {
		rule         string
		wrap         func(http.Handler) http.Handler
		uri          string
		script, path string // what the web server says; absent: nothing
		wantScript   string
		wantPath     string
	}{
		{"none", nil, "/x", absent, "/x", "", "/x"},
		{"empty", nil, "/x", "", "/x", "", "/x"},
		{"with the path that is left", nil, "/shop/x", "/shop", "/x", "/shop", "/x"},
		{"with the whole path", nil, "/shop/x", "/shop", "/shop/x", "/shop", "/x"},
		{"without any path", nil, "/shop/x", "/shop", absent, "/shop", "/x"},
		{"with an empty path", nil, "/shop", "/shop", "", "/shop", ""},
		{"with a slash at its end", nil, "/shop/x", "/shop/", "/shop/x", "/shop", "/x"},
		{"a slash alone is the root", nil, "/x", "/", "/x", "", "/x"},
		{"only whole segments come off", nil, "/shopping", "/shop", "/shopping", "/shop", "/shopping"},
		{"a path that the web server rewrote", nil, "/old?a", absent, "/new/y", "", "/new/y"},
		{"a path that Go rewrote", rewrite, "/old", absent, "/new", "", "/rewritten"},
		{"a path without a slash is none", nil, "/x", absent, "x", "", "/x"},
		{"empty variables say nothing", nil, "/x", "", "", "", "/x"},
		{"under StripPrefix", strip("/shop"), "/shop/x", absent, "/shop/x", "/shop", "/x"},
		{"which took the same off", strip("/shop"), "/shop/x", "/shop", "/shop/x", "/shop", "/x"},
		{"which took more off", strip("/shop/v1"), "/shop/v1/x", "/shop", "/shop/v1/x", "/shop/v1", "/x"},
		{"which took less off", strip("/v1"), "/v1/shop/x", "/v1/shop", "/v1/shop/x", "/v1/shop", "/x"},
	}
	for _, test := range tests {
		t.Run(test.rule, func(t *testing.T) {
			address, _ := serveUWSGI(t, test.wrap)
			vars := map[string]string{"REQUEST_URI": test.uri}
			if test.script != absent {
				vars["SCRIPT_NAME"] = test.script
			}
			vars["PATH_INFO"] = test.path
			resp, body := uwsgiGet(t, address, vars)
			expectEnviron(t, resp, body, "SCRIPT_NAME", test.wantScript, "PATH_INFO", test.wantPath, "REQUEST_URI", test.uri)
		})
	}
	t.Run("WithScriptName is stronger", func(t *testing.T) {
		address, _ := serveUWSGI(t, nil, wsgi.WithScriptName("/mine"))
		resp, body := uwsgiGet(t, address, map[string]string{"REQUEST_URI": "/shop/x", "SCRIPT_NAME": "/shop", "PATH_INFO": "/mine/x"})
		expectEnviron(t, resp, body, "SCRIPT_NAME", "/mine", "PATH_INFO", "/x")
	})
}

func TestBadVariablesOfAWebServer(t *testing.T) {
	address, records := serveUWSGI(t, nil)
	for _, test := range []struct{ key, value, want string }{
		{"SCRIPT_NAME", "shop", `script name "shop" does not begin with a slash`},
		{"SCRIPT_NAME", "/a/../b", `empty or dot segments`},
		{"wsgi.input", "x", `key "wsgi.input" is reserved`},
		{"A\nB", "x", "control character"},
		{strings.Repeat("K", 2000), "x", "longer than 1024 bytes"},
	} {
		records.clear()
		resp, body := uwsgiGet(t, address, map[string]string{test.key: test.value})
		if resp.StatusCode != 500 || strings.Contains(body, test.value) && test.value != "x" {
			t.Errorf("%.40q: %s %q", test.key, resp.Status, body)
		}
		if r := records.Wait(t, test.want); !strings.Contains(r.Message, "the web server's variable") {
			t.Errorf("%.40q: logged %v", test.key, r)
		}
	}
}

// TestProxyBeforeTheWebServer: nginx itself is behind another proxy, and says so by
// the client's address that it gives.
func TestProxyBeforeTheWebServer(t *testing.T) {
	address, _ := serveUWSGI(t, nil, wsgi.WithTrustedProxies("10.0.0.0/8"))
	vars := map[string]string{"REMOTE_ADDR": "10.0.0.5", "HTTP_X_FORWARDED_FOR": "198.51.100.3", "HTTP_X_FORWARDED_PROTO": "https"}
	resp, body := uwsgiGet(t, address, vars)
	expectEnviron(t, resp, body, "REMOTE_ADDR", "198.51.100.3", "wsgi.url_scheme", "https")
	vars["REMOTE_ADDR"] = "192.0.2.8"
	resp, body = uwsgiGet(t, address, vars)
	expectEnviron(t, resp, body, "REMOTE_ADDR", "192.0.2.8", "wsgi.url_scheme", "http")
}
