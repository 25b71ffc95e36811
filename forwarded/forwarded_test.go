package forwarded

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/textproto"
	"path/filepath"
	"strings"
	"testing"
)

// seen is what a handler sees of a request.
type seen struct {
	remote, scheme, host, prefix string
}

func see(r *http.Request) seen {
	s := seen{r.RemoteAddr, "http", r.Host, Prefix(r)}
	if r.TLS != nil {
		s.scheme = "https"
	}
	return s
}

// newRequest makes a request from 10.0.0.1:1234 for example.com; headers are
// lines such as "X-Forwarded-For: 192.0.2.1".
func newRequest(headers ...string) *http.Request {
	r := httptest.NewRequest("GET", "/x", nil)
	r.RemoteAddr = "10.0.0.1:1234"
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		name = textproto.CanonicalMIMEHeaderKey(name)
		r.Header[name] = append(r.Header[name], value)
	}
	return r
}

func trust(t testing.TB, proxies ...string) *Proxies {
	t.Helper()
	p, err := Trust(proxies...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRequest(t *testing.T) {
	unchanged := seen{"10.0.0.1:1234", "http", "example.com", ""}
	remote := func(addr string) seen { return seen{addr, "http", "example.com", ""} }
	tests := []struct {
		rule    string
		headers []string
		want    seen
	}{
		{"nothing told", nil, unchanged},
		{"an address", []string{"X-Forwarded-For: 192.0.2.1"}, remote("192.0.2.1:0")},
		{"an address with a port", []string{"X-Forwarded-For: 192.0.2.1:77"}, remote("192.0.2.1:77")},
		{"IPv6", []string{"X-Forwarded-For: 2001:db8::1"}, remote("[2001:db8::1]:0")},
		{"IPv6 in brackets", []string{"X-Forwarded-For: [2001:db8::1]"}, remote("[2001:db8::1]:0")},
		{"IPv6 with a port", []string{"X-Forwarded-For: [2001:db8::1]:77"}, remote("[2001:db8::1]:77")},
		{"IPv6 with a zone", []string{"X-Forwarded-For: fe80::1%eth0"}, remote("[fe80::1]:0")},
		{"IPv4 mapped into IPv6", []string{"X-Forwarded-For: ::ffff:192.0.2.1"}, remote("192.0.2.1:0")},
		{"IPv4 in brackets is none", []string{"X-Forwarded-For: [192.0.2.1]"}, unchanged},
		{"the rightmost untrusted one", []string{"X-Forwarded-For: 198.51.100.9, 192.0.2.1"}, remote("192.0.2.1:0")},
		{"trusted ones are passed over", []string{"X-Forwarded-For: 198.51.100.9, 192.0.2.1, 10.9.9.9,10.0.0.2"}, remote("192.0.2.1:0")},
		{"all trusted: the leftmost", []string{"X-Forwarded-For: 10.7.7.7, 10.0.0.2"}, remote("10.7.7.7:0")},
		{"in several headers", []string{"X-Forwarded-For: 198.51.100.9", "X-Forwarded-For: 192.0.2.1, 10.0.0.2"}, remote("192.0.2.1:0")},
		{"empty entries are none", []string{"X-Forwarded-For: 192.0.2.1, ,,\t10.0.0.2,"}, remote("192.0.2.1:0")},
		{"no address ends the search", []string{"X-Forwarded-For: 192.0.2.1, unknown, 10.0.0.2"}, remote("10.0.0.2:0")},
		{"no address at all", []string{"X-Forwarded-For: unknown"}, unchanged},
		{"a port out of range is no address", []string{"X-Forwarded-For: 192.0.2.1:99999"}, unchanged},

		{"https", []string{"X-Forwarded-Proto: https"}, seen{"10.0.0.1:1234", "https", "example.com", ""}},
		{"https in capitals", []string{"X-Forwarded-Proto: HTTPS"}, seen{"10.0.0.1:1234", "https", "example.com", ""}},
		{"http", []string{"X-Forwarded-Proto: http"}, unchanged},
		{"an unknown scheme", []string{"X-Forwarded-Proto: javascript"}, unchanged},
		{"the proxy's scheme, not the client's", []string{"X-Forwarded-Proto: https, http"}, unchanged},
		{"the scheme of the proxy nearest to the client",
			[]string{"X-Forwarded-For: 192.0.2.1, 10.0.0.2", "X-Forwarded-Proto: https, http"}, seen{"192.0.2.1:0", "https", "example.com", ""}},
		{"a scheme for all proxies",
			[]string{"X-Forwarded-For: 192.0.2.1, 10.0.0.2", "X-Forwarded-Proto: https"}, seen{"192.0.2.1:0", "https", "example.com", ""}},
		{"a scheme of the client's, before two of proxies'",
			[]string{"X-Forwarded-For: 192.0.2.1, 10.0.0.2", "X-Forwarded-Proto: https, http, http"}, remote("192.0.2.1:0")},

		{"a host", []string{"X-Forwarded-Host: shop.example"}, seen{"10.0.0.1:1234", "http", "shop.example", ""}},
		{"a host with a port", []string{"X-Forwarded-Host: shop.example:8443"}, seen{"10.0.0.1:1234", "http", "shop.example:8443", ""}},
		{"an IPv6 host", []string{"X-Forwarded-Host: [::1]:81"}, seen{"10.0.0.1:1234", "http", "[::1]:81", ""}},
		{"a host with a user", []string{"X-Forwarded-Host: a@b"}, unchanged},
		{"a host with a path", []string{"X-Forwarded-Host: a/b"}, unchanged},
		{"a host with a space", []string{"X-Forwarded-Host: a b"}, unchanged},
		{"a host with a bad port", []string{"X-Forwarded-Host: a:b"}, unchanged},
		{"a port alone is no host", []string{"X-Forwarded-Host: :80"}, unchanged},
		{"an open bracket is no host", []string{"X-Forwarded-Host: [::1"}, unchanged},

		{"a port", []string{"X-Forwarded-Port: 8080"}, seen{"10.0.0.1:1234", "http", "example.com:8080", ""}},
		{"the scheme's own port", []string{"X-Forwarded-Port: 80"}, unchanged},
		{"the own port of https", []string{"X-Forwarded-Port: 443", "X-Forwarded-Proto: https"}, seen{"10.0.0.1:1234", "https", "example.com", ""}},
		{"a port does not replace the host's", []string{"X-Forwarded-Host: a:81", "X-Forwarded-Port: 8080"}, seen{"10.0.0.1:1234", "http", "a:81", ""}},
		{"a port after an IPv6 host", []string{"X-Forwarded-Host: [::1]", "X-Forwarded-Port: 8080"}, seen{"10.0.0.1:1234", "http", "[::1]:8080", ""}},
		{"a port that is none", []string{"X-Forwarded-Port: 0"}, unchanged},
		{"a port out of range", []string{"X-Forwarded-Port: 65536"}, unchanged},

		{"a prefix", []string{"X-Forwarded-Prefix: /shop"}, seen{"10.0.0.1:1234", "http", "example.com", "/shop"}},
		{"a prefix with a slash", []string{"X-Forwarded-Prefix: /a/b/"}, seen{"10.0.0.1:1234", "http", "example.com", "/a/b"}},
		{"the prefix /", []string{"X-Forwarded-Prefix: /"}, unchanged},
		{"the prefix //", []string{"X-Forwarded-Prefix: //"}, unchanged},
		{"a prefix without slash", []string{"X-Forwarded-Prefix: shop"}, unchanged},
		{"a prefix to another host", []string{"X-Forwarded-Prefix: //evil.example"}, unchanged},
		{"a prefix to another host, for browsers", []string{`X-Forwarded-Prefix: /\evil.example`}, unchanged},
		{"a prefix with dots", []string{"X-Forwarded-Prefix: /a/../b"}, unchanged},

		{"Forwarded", []string{`Forwarded: for=192.0.2.1;proto=https;host=shop.example`}, seen{"192.0.2.1:0", "https", "shop.example", ""}},
		{"Forwarded, all quoted", []string{`Forwarded: For="[2001:db8::1]:77" ; Proto="https"; Host="shop.example:81"; by=_me`},
			seen{"[2001:db8::1]:77", "https", "shop.example:81", ""}},
		{"Forwarded with quoted pairs", []string{`Forwarded: host="a\.\b"`}, seen{"10.0.0.1:1234", "http", "a.b", ""}},
		{"Forwarded, a port unquoted", []string{`Forwarded: for=192.0.2.1:77`}, remote("192.0.2.1:77")},
		{"Forwarded by several", []string{"Forwarded: for=198.51.100.9;proto=http, for=192.0.2.1;proto=https", "Forwarded: for=10.0.0.2;proto=http"},
			seen{"192.0.2.1:0", "https", "example.com", ""}},
		{"Forwarded for an obfuscated client", []string{"Forwarded: for=198.51.100.9;proto=http, for=_hidden;proto=https, for=10.0.0.2;proto=http"},
			seen{"10.0.0.2:0", "https", "example.com", ""}},
		{"Forwarded with a comma in quotes", []string{`Forwarded: for="a,b", for=192.0.2.1`}, remote("192.0.2.1:0")},
		{"Forwarded with empty elements", []string{`Forwarded: , ;, for=192.0.2.1;,`}, remote("192.0.2.1:0")},
		{"Forwarded: an open quotation voids all", []string{`Forwarded: for="x`, `Forwarded: for=192.0.2.1`}, unchanged},
		{"Forwarded: a name twice voids all", []string{`Forwarded: for=192.0.2.1;for=192.0.2.2`}, unchanged},
		{"Forwarded: a name without value voids all", []string{`Forwarded: for=192.0.2.1, proto`}, unchanged},
		{"Forwarded: something after a value voids all", []string{`Forwarded: for=192.0.2.1 x`}, unchanged},
		{"Forwarded, empty", []string{"Forwarded: "}, unchanged},
		{"Forwarded beside X-Forwarded is the client's", []string{"Forwarded: for=198.51.100.9;host=evil.example", "X-Forwarded-For: 192.0.2.1"}, remote("192.0.2.1:0")},
	}
	p := trust(t, "10.0.0.0/8")
	for _, test := range tests {
		t.Run(test.rule, func(t *testing.T) {
			if got := see(p.Request(newRequest(test.headers...))); got != test.want {
				t.Errorf("%q: got %+v, want %+v", test.headers, got, test.want)
			}
			r := newRequest(test.headers...)
			r.RemoteAddr = "192.0.2.200:1"
			if got := p.Request(r); got != r {
				t.Errorf("%q from somebody else: %+v", test.headers, see(got))
			}
		})
	}
}

// TestRequestIsACopy: an http.Handler may not change its request.
func TestRequestIsACopy(t *testing.T) {
	r := newRequest("X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: a", "X-Forwarded-Prefix: /b")
	before := see(r)
	if got := trust(t, "10.0.0.1").Request(r); got == r {
		t.Error("the request itself")
	}
	if after := see(r); after != before {
		t.Errorf("the request has become %+v", after)
	}
}

// TestPlainHTTPInFront: the connection from the proxy has TLS, the client's had none.
func TestPlainHTTPInFront(t *testing.T) {
	r := newRequest("X-Forwarded-Proto: http")
	r.TLS = &tls.ConnectionState{Version: tls.VersionTLS13}
	if got := trust(t, "10.0.0.1").Request(r); got.TLS != nil {
		t.Error("TLS")
	}
	r.Header.Set("X-Forwarded-Proto", "https")
	if got := trust(t, "10.0.0.1").Request(r); got.TLS == nil || got.TLS.Version != 0 {
		t.Errorf("TLS = %+v, want a state that shows nothing of the proxy's own connection", got.TLS)
	}
}

func TestTrust(t *testing.T) {
	tests := []struct {
		proxies []string
		peer    string
		trusted bool
	}{
		{nil, "127.0.0.1:1", false},
		{[]string{"127.0.0.1"}, "127.0.0.1:1", true},
		{[]string{"127.0.0.1"}, "127.0.0.2:1", false},
		{[]string{"127.0.0.1"}, "[::ffff:127.0.0.1]:1", true},
		{[]string{"::ffff:127.0.0.1"}, "127.0.0.1:1", true},
		{[]string{"::ffff:127.0.0.0/104"}, "127.9.9.9:1", true},
		{[]string{"127.0.0.9/8"}, "127.1.2.3:1", true},
		{[]string{"::1", "fd00::/8"}, "[fd12::1]:1", true},
		{[]string{"::1"}, "[::1]:1", true},
		{[]string{"fe80::/10"}, "[fe80::1%lo]:1", true},
		{[]string{"0.0.0.0/0"}, "[2001:db8::1]:1", false},
		{[]string{"0.0.0.0/0", "::/0"}, "@", false},
		{[]string{"unix"}, "127.0.0.1:1", false},
		{[]string{"unix"}, "@", false}, // no server says that it is a Unix socket
		{[]string{"unix"}, "unix:", true},
	}
	for _, test := range tests {
		r := newRequest("X-Forwarded-For: 192.0.2.1")
		r.RemoteAddr = test.peer
		if got := trust(t, test.proxies...).Request(r) != r; got != test.trusted {
			t.Errorf("Trust(%q), peer %s: trusted %t", test.proxies, test.peer, got)
		}
	}
	for _, bad := range []string{"", "localhost", "10.0.0.0/33", "10.0.0.1:80", "10.0.0", "fe80::1%lo", "*", "Unix", "::ffff:0:0/80"} {
		if p, err := Trust("127.0.0.1", bad); err == nil || p != nil || !strings.Contains(err.Error(), `"`+bad+`"`) {
			t.Errorf("Trust(%q) = %v, %v, want an error that quotes it", bad, p, err)
		}
	}
	var nobody *Proxies
	if r := newRequest("X-Forwarded-For: 192.0.2.1"); nobody.Request(r) != r {
		t.Error("a nil *Proxies trusts somebody")
	}
}

// TestHandler has a real server tell who its clients are.
func TestHandler(t *testing.T) {
	tests := []struct {
		network, address, trusted string
		believed                  bool
	}{
		{"tcp", "127.0.0.1:0", "127.0.0.1", true},
		{"tcp", "127.0.0.1:0", "unix", false},
		{"unix", filepath.Join(t.TempDir(), "s"), "unix", true},
		{"unix", filepath.Join(t.TempDir(), "s"), "127.0.0.0/8", false},
	}
	for _, test := range tests {
		t.Run(test.network+" "+test.trusted, func(t *testing.T) {
			l, err := net.Listen(test.network, test.address)
			if err != nil {
				t.Fatal(err)
			}
			s := httptest.NewUnstartedServer(trust(t, test.trusted).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, see(r).remote)
			})))
			s.Listener.Close()
			s.Listener = l
			s.Start()
			defer s.Close()
			client := &http.Client{Transport: &http.Transport{
				DisableKeepAlives: true,
				DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, test.network, l.Addr().String())
				},
			}}
			r, _ := http.NewRequest("GET", "http://example.com/", nil)
			r.Header.Set("X-Forwarded-For", "192.0.2.1")
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || (string(body) == "192.0.2.1:0") != test.believed {
				t.Errorf("the client is %q, %v", body, err)
			}
		})
	}
}

// FuzzRequest looks for a panic, and for a request that is made worse.
func FuzzRequest(f *testing.F) {
	f.Add("192.0.2.1, 10.0.0.2", "https", "a:1", "81", "/x", "for=1")
	f.Add("", "", "", "", "", `for="[::1]:1";proto=https;host="a\"b", for=_x`)
	f.Add("[::1]:1", "http,https", "[::1]", "0", "//x", `,;,`)
	p, err := Trust("10.0.0.0/8")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, xff, proto, host, port, prefix, fwd string) {
		r := newRequest()
		for name, value := range map[string]string{"X-Forwarded-For": xff, "X-Forwarded-Proto": proto, "X-Forwarded-Host": host,
			"X-Forwarded-Port": port, "X-Forwarded-Prefix": prefix, "Forwarded": fwd} {
			if value != "" {
				r.Header[name] = []string{value}
			}
		}
		r = p.Request(r)
		if _, err := netip.ParseAddrPort(r.RemoteAddr); err != nil {
			t.Errorf("RemoteAddr: %v", err)
		}
		if r.Host == "" || strings.ContainsAny(r.Host, "/\\@?#\"<> \t\r\n\x00,") {
			t.Errorf("Host = %q", r.Host)
		}
		if prefix := Prefix(r); prefix != "" && (prefix[0] != '/' || prefix[len(prefix)-1] == '/' || strings.Contains(prefix, "//")) {
			t.Errorf("Prefix = %q", prefix)
		}
	})
}
