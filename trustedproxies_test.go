package wsgi_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/seed-a2d07992/wsgi"
	"github.com/seed-a2d07992/wsgi/forwarded"
)

// showEnviron answers with the strings of its environ, and with the URL that PEP
// 3333's recipe makes of them.
const showEnviron = `
import json
from wsgiref.util import request_uri

def application(environ, start_response):
    shown = {k: v for k, v in environ.items() if type(v) is str}
    shown["url"] = request_uri(environ)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(shown).encode()]
`

// absent, as an expected value, means that the variable is not set.
const absent = "\x00absent"

// expectEnviron parses what showEnviron answered. want is of keys and values.
func expectEnviron(t testing.TB, resp *http.Response, body string, want ...string) {
	t.Helper()
	var shown map[string]string
	if err := json.Unmarshal([]byte(body), &shown); err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s %q: %v", resp.Status, body, err)
	}
	for i := 0; i < len(want); i += 2 {
		got, ok := shown[want[i]]
		if !ok {
			got = absent
		}
		if got != want[i+1] {
			t.Errorf("%s = %q, want %q", want[i], got, want[i+1])
		}
	}
}

// A forwardedRequest is one that a proxy sent on.
func forwardedRequest(t testing.TB, s *server, path string, headers map[string]string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "inner.test"
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	return s.send(t, r)
}

var allForwarded = map[string]string{
	"X-Forwarded-For":    "198.51.100.7, 192.0.2.1",
	"X-Forwarded-Proto":  "https",
	"X-Forwarded-Host":   "shop.example",
	"X-Forwarded-Port":   "8443",
	"X-Forwarded-Prefix": "/shop",
}

func TestTrustedProxyIsBelieved(t *testing.T) {
	s := serve(t, showEnviron, wsgi.WithTrustedProxies("127.0.0.1", "::1"))
	resp, body := forwardedRequest(t, s, "/a%20b?q=1", allForwarded)
	expectEnviron(t, resp, body,
		"REMOTE_ADDR", "192.0.2.1", "REMOTE_PORT", "", "wsgi.url_scheme", "https", "HTTPS", "on",
		"HTTP_HOST", "shop.example:8443", "SERVER_NAME", "shop.example", "SERVER_PORT", "8443",
		"SCRIPT_NAME", "/shop", "PATH_INFO", "/a b", "url", "https://shop.example:8443/shop/a%20b?q=1",
		"REQUEST_URI", "/a%20b?q=1", "SSL_PROTOCOL", absent, "SSL_CLIENT_VERIFY", absent,
		"HTTP_X_FORWARDED_FOR", "198.51.100.7, 192.0.2.1")
	resp, body = forwardedRequest(t, s, "/", map[string]string{"Forwarded": `for="[2001:db8::1]:99";proto=https;host=shop.example`})
	expectEnviron(t, resp, body, "REMOTE_ADDR", "2001:db8::1", "REMOTE_PORT", "99", "url", "https://shop.example/")
	resp, body = forwardedRequest(t, s, "/", nil)
	expectEnviron(t, resp, body, "REMOTE_ADDR", "127.0.0.1", "HTTPS", absent, "url", "http://inner.test/")
}

func TestOthersAreNotBelieved(t *testing.T) {
	for name, opts := range map[string][]wsgi.Option{
		"no option":    nil,
		"no proxies":   {wsgi.WithTrustedProxies()},
		"another":      {wsgi.WithTrustedProxies("10.0.0.0/8", "2001:db8::1")},
		"Unix sockets": {wsgi.WithTrustedProxies("unix")},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, showEnviron, opts...)
			resp, body := forwardedRequest(t, s, "/x", allForwarded)
			expectEnviron(t, resp, body, "REMOTE_ADDR", "127.0.0.1", "wsgi.url_scheme", "http", "HTTPS", absent,
				"HTTP_HOST", "inner.test", "SCRIPT_NAME", "", "PATH_INFO", "/x", "url", "http://inner.test/x")
		})
	}
}

func TestForwardedPrefixStandsBeforeTheMount(t *testing.T) {
	strip := func(_ *server, app http.Handler) http.Handler { return http.StripPrefix("/v1", app) }
	s := serveWith(t, strip, showEnviron, wsgi.WithTrustedProxies("127.0.0.1"))
	resp, body := forwardedRequest(t, s, "/v1/x", allForwarded)
	expectEnviron(t, resp, body, "SCRIPT_NAME", "/shop/v1", "PATH_INFO", "/x")

	s = serveWith(t, strip, showEnviron, wsgi.WithTrustedProxies("127.0.0.1"), wsgi.WithScriptName("/mine"))
	resp, body = forwardedRequest(t, s, "/v1/x", allForwarded)
	expectEnviron(t, resp, body, "SCRIPT_NAME", "/mine", "PATH_INFO", "/x")
}

// TestTrustedProxiesForTheWholeService: the middleware stands before Go routes too.
func TestTrustedProxiesForTheWholeService(t *testing.T) {
	s := serveWith(t, func(_ *server, app http.Handler) http.Handler {
		proxies, err := forwarded.Trust("127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		return proxies.Handler(app)
	}, showEnviron, wsgi.WithTrustedProxies("127.0.0.1")) // the client of the client isn't asked
	resp, body := forwardedRequest(t, s, "/x", allForwarded)
	expectEnviron(t, resp, body, "REMOTE_ADDR", "192.0.2.1", "url", "https://shop.example:8443/shop/x")
}

func TestTrustedProxiesOption(t *testing.T) {
	_, err := wsgi.New("shop.wsgi", "application", wsgi.WithTrustedProxies("127.0.0.1", "proxy.internal"))
	if err == nil || !strings.Contains(err.Error(), `WithTrustedProxies`) || !strings.Contains(err.Error(), `"proxy.internal"`) {
		t.Errorf("New: %v, want an error with the option and the value", err)
	}
	s := serve(t, showEnviron, wsgi.WithTrustedProxies("10.0.0.0/8"), wsgi.WithTrustedProxies("127.0.0.1"))
	resp, body := forwardedRequest(t, s, "/", map[string]string{"X-Forwarded-For": "192.0.2.1, 10.0.0.1"})
	expectEnviron(t, resp, body, "REMOTE_ADDR", "192.0.2.1")
}
