// Package forwarded gives a request back what a reverse proxy in front has hidden:
// the client's address, the scheme, the host and the path prefix of the URL that
// the client used.
//
// Proxies tell of these in the headers X-Forwarded-For, X-Forwarded-Proto,
// X-Forwarded-Host, X-Forwarded-Port and X-Forwarded-Prefix, or in Forwarded (RFC
// 7239). Any client can send them too, so they count only where the connection
// comes from a proxy that is named:
//
//	proxies, err := forwarded.Trust("10.0.0.0/8", "unix")
//	...
//	http.Serve(l, proxies.Handler(mux))
//
// Package wsgi has the same for a Python application alone, as an option.
//
// # What is believed
//
// Each proxy appends to X-Forwarded-For the address that it was called from. So
// from the right, the addresses of trusted proxies are passed over, and the first
// other one is the client's; what stands to the left of it may be anybody's
// invention. Where all are trusted, the leftmost counts. An entry that is no
// address ends the search, and the one before it counts.
//
// Of the other headers, which may be lists too where there are several proxies,
// the value counts that the proxy nearest to the client has given: the one that
// stands as far from the right as the client's address does in X-Forwarded-For, or
// the leftmost of a shorter list. So a value that came from the client itself is
// not taken where a trusted proxy appended its own. Some proxies pass on what
// they don't set: have each proxy at the edge set all of these headers or remove
// them, as in nginx
//
//	proxy_set_header X-Forwarded-For   $proxy_add_x_forwarded_for;
//	proxy_set_header X-Forwarded-Proto $scheme;
//	proxy_set_header X-Forwarded-Host  "";
//
// Forwarded is looked at where there is none of the X-Forwarded headers above,
// because the proxies that send those mostly pass on a client's Forwarded as it
// is. A Forwarded with an error in its syntax is ignored, whole.
//
// A value that makes no sense changes nothing: an unknown scheme, a host with
// characters that no host has, a port out of range, a prefix that is no clean
// path. The headers themselves stay in the request.
package forwarded

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Unix is how Trust is told to believe whoever connects to a Unix socket.
const Unix = "unix"

// Proxies is a set of trusted reverse proxies. It is safe for concurrent use; a
// nil *Proxies trusts nobody.
type Proxies struct {
	prefixes []netip.Prefix
	unix     bool
}

// Trust returns the set of the proxies named: IP addresses ("127.0.0.1", "::1"),
// networks ("10.0.0.0/8", "fd00::/8"), and Unix ("unix") for all clients of Unix
// sockets. An IPv4 address is also meant where it comes mapped into IPv6
// (::ffff:10.0.0.1). Without any, nobody is trusted. A string that is none of
// these is an error that quotes it.
func Trust(proxies ...string) (*Proxies, error) {
	p := &Proxies{}
	for _, s := range proxies {
		if s == Unix {
			p.unix = true
			continue
		}
		prefix, err := parsePrefix(s)
		if err != nil {
			return nil, err
		}
		p.prefixes = append(p.prefixes, prefix)
	}
	return p, nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf(`forwarded: %q is neither an IP address, nor a network such as "10.0.0.0/8", nor %q`, s, Unix)
	}
	if addr := prefix.Addr(); addr.Is4In6() {
		if prefix.Bits() < 96 {
			return netip.Prefix{}, fmt.Errorf("forwarded: network %q holds more than the mapped IPv4 addresses; write it as IPv4", s)
		}
		prefix = netip.PrefixFrom(addr.Unmap(), prefix.Bits()-96)
	}
	return prefix.Masked(), nil
}

// Handler returns a handler that calls next with what Request makes of each
// request.
func (p *Proxies) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, p.Request(r))
	})
}

// Request returns r as the client sent it to the first proxy. Where r does not
// come from a trusted proxy, or that tells nothing, it is r itself; else it is a
// copy, in which
//
//   - RemoteAddr is the client's address, with the port 0 where the proxy does
//     not give one;
//   - TLS is nil after http, and after https a state without any details;
//   - Host is the host of the client's URL, with its port if that is not the
//     scheme's own. X-Forwarded-Port counts where the host comes without port;
//   - Prefix finds the path prefix that the proxy has taken off.
//
// URL and RequestURI stay as they came.
func (p *Proxies) Request(r *http.Request) *http.Request {
	if p == nil || !p.trustsPeer(r) {
		return r
	}
	told, ok := p.fromHeaders(r.Header)
	if !ok {
		return r
	}
	ctx := r.Context()
	if told.prefix != "" {
		ctx = context.WithValue(ctx, prefixKey{}, told.prefix)
	}
	r = r.WithContext(ctx)
	told.apply(r)
	return r
}

type prefixKey struct{}

// Prefix returns the path that a trusted proxy has taken off the URL that the
// client used, such as "/shop": Request has found it in X-Forwarded-Prefix. It is
// "" where there is none, and else begins with a slash and does not end in one.
func Prefix(r *http.Request) string {
	prefix, _ := r.Context().Value(prefixKey{}).(string)
	return prefix
}

// trustsPeer reports whether the other end of r's connection is trusted.
//
// The address is RemoteAddr, which a server such as uwsgi.Server takes from the web
// server in front of it. That has no address of its clients either where they use
// a Unix socket of its own, and calls them "unix:".
func (p *Proxies) trustsPeer(r *http.Request) bool {
	if addr, ok := parseNode(r.RemoteAddr); ok {
		return p.trusts(addr.Addr())
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return p.unix && (r.RemoteAddr == "unix:" || local != nil && local.Network() == "unix")
}

func (p *Proxies) trusts(addr netip.Addr) bool {
	return slices.ContainsFunc(p.prefixes, func(prefix netip.Prefix) bool { return prefix.Contains(addr) })
}

// A report is what proxies tell of a request. What they don't, or not in a form
// that makes sense, is zero.
type report struct {
	client netip.AddrPort
	scheme string // "http" or "https"
	host   string
	port   string
	prefix string
}

// apply changes r, which is the caller's own, to what is told.
func (told *report) apply(r *http.Request) {
	if told.client.IsValid() {
		r.RemoteAddr = told.client.String()
	}
	switch told.scheme {
	case "http":
		r.TLS = nil
	case "https":
		// Also where the proxy itself came by TLS: its certificate is not the
		// client's.
		r.TLS = &tls.ConnectionState{HandshakeComplete: true}
	}
	if told.host != "" {
		r.Host = told.host
	}
	standard := "80"
	if r.TLS != nil {
		standard = "443"
	}
	if told.port != "" && told.port != standard && r.Host != "" && !hasPort(r.Host) {
		r.Host += ":" + told.port
	}
}

// fromHeaders reads the headers. It reports false where they tell nothing.
func (p *Proxies) fromHeaders(h http.Header) (report, bool) {
	fors, protos, hosts := list(h["X-Forwarded-For"]), list(h["X-Forwarded-Proto"]), list(h["X-Forwarded-Host"])
	ports, prefixes := list(h["X-Forwarded-Port"]), list(h["X-Forwarded-Prefix"])
	var told report
	if len(fors)+len(protos)+len(hosts)+len(ports)+len(prefixes) == 0 {
		elements, ok := parseForwarded(h["Forwarded"])
		if !ok || len(elements) == 0 {
			return told, false
		}
		fors, protos, hosts = elements.column("for"), elements.column("proto"), elements.column("host")
	}
	client, hops := p.findClient(fors)
	told.client = client
	told.scheme = checkScheme(atHop(protos, hops))
	told.host = checkHost(atHop(hosts, hops))
	told.port = checkPort(atHop(ports, hops))
	told.prefix = checkPrefix(atHop(prefixes, hops))
	return told, told != report{}
}

// findClient looks for the client among the addresses that proxies have noted.
// hops is how far from the right the search ended. The address is the zero one
// where not even the rightmost entry is any.
func (p *Proxies) findClient(nodes []string) (client netip.AddrPort, hops int) {
	for i, node := range slices.Backward(nodes) {
		hops = len(nodes) - 1 - i
		addr, ok := parseNode(node)
		if !ok {
			break
		}
		client = addr
		if !p.trusts(addr.Addr()) {
			break
		}
	}
	return client, hops
}

// atHop returns the value of the proxy that is so many hops from the right.
func atHop(values []string, hops int) string {
	if len(values) == 0 {
		return ""
	}
	return values[max(0, len(values)-1-hops)]
}

// list splits the values of a header with lists (RFC 9110, section 5.6.1).
func list(values []string) []string {
	var elements []string
	for _, value := range values {
		for element := range strings.SplitSeq(value, ",") {
			if element = strings.Trim(element, " \t"); element != "" {
				elements = append(elements, element)
			}
		}
	}
	return elements
}

// parseNode reads an address with or without a port; an IPv6 address may be in
// brackets, and is where it has a port. Zones are the proxy's own affair.
func parseNode(s string) (netip.AddrPort, bool) {
	addrPort, err := netip.ParseAddrPort(s)
	if err != nil {
		if ip, ok := strings.CutPrefix(s, "["); ok {
			if s, ok = strings.CutSuffix(ip, "]"); !ok || !strings.Contains(s, ":") {
				return netip.AddrPort{}, false
			}
		}
		addr, err := netip.ParseAddr(s)
		if err != nil {
			return netip.AddrPort{}, false
		}
		addrPort = netip.AddrPortFrom(addr, 0)
	}
	return netip.AddrPortFrom(addrPort.Addr().Unmap().WithZone(""), addrPort.Port()), true
}

func checkScheme(s string) string {
	if s = strings.ToLower(s); s == "http" || s == "https" {
		return s
	}
	return ""
}

// checkHost accepts what a Host header may be (RFC 9110, section 7.2), but for the
// rarer characters of a registered name.
func checkHost(s string) string {
	host := s
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, ']') {
		host = s[:i]
		if checkPort(s[i+1:]) == "" {
			return ""
		}
	}
	if ip, ok := strings.CutPrefix(host, "["); ok {
		ip, ok = strings.CutSuffix(ip, "]")
		if addr, err := netip.ParseAddr(ip); !ok || err != nil || !addr.Is6() {
			return ""
		}
		return s
	}
	for i := range len(host) {
		switch c := host[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '-', c == '_':
		default:
			return ""
		}
	}
	if host == "" {
		return ""
	}
	return s
}

// hasPort reports whether host, a valid one, has a port.
func hasPort(host string) bool {
	return strings.LastIndexByte(host, ':') > strings.LastIndexByte(host, ']')
}

func checkPort(s string) string {
	if n, err := strconv.ParseUint(s, 10, 16); err != nil || n == 0 {
		return ""
	}
	return s
}

// checkPrefix accepts a clean path, and takes the slash off its end. Two slashes
// at the start are refused with the rest that is not clean: what an application
// makes of them would lead to another host.
func checkPrefix(s string) string {
	s = strings.TrimSuffix(s, "/")
	if s == "" || s == "/" || s[0] != '/' || path.Clean(s) != s {
		return ""
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"<>\?#`, c) >= 0 {
			return ""
		}
	}
	return s
}
