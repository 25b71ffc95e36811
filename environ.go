package wsgi

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/seed-a2d07992/wsgi/pool"
	"github.com/seed-a2d07992/wsgi/uwsgi"
)

// environConfig is what an App knows of every request's environ.
type environConfig struct {
	scriptName    string // WithScriptName
	hasScriptName bool   // it was given, be it ""

	extra func(*http.Request, func(key, value string)) // WithEnviron, or nil
}

const (
	serverSoftware   = "Go-wsgi"
	gatewayInterface = "CGI/1.1"
)

// build adds to e every variable of the request whose value is a string: those
// of PEP 3333, "environ Variables", and of RFC 3875, section 4.1, and the ones
// by which applications of mod_wsgi and gunicorn know more of the request. The
// objects among the wsgi.* variables are the interpreter's to set.
//
// Values are the bytes that the client sent, or their percent-decoded form.
// None is checked for an encoding, since the application sees each byte as a
// character of its own (PEP 3333, "Unicode Issues").
//
// An error comes only from a variable that Go code or a web server set and must
// not; e is then incomplete.
func (c *environConfig) build(e *pool.Environ, r *http.Request) error {
	scheme, defaultPort := "http", "80"
	if r.TLS != nil {
		scheme, defaultPort = "https", "443"
	}
	gateway := uwsgi.ProcessEnv(r)
	scriptName, pathInfo, err := c.splitPath(r, gateway)
	if err != nil {
		return err
	}
	serverName, serverPort := serverAddr(r, defaultPort)
	remoteIP, remotePort := remoteAddr(r.RemoteAddr)
	target := r.RequestURI
	if target == "" {
		target = r.URL.RequestURI() // the request was made by Go code
	}

	e.Set("REQUEST_METHOD", cmp.Or(r.Method, http.MethodGet))
	e.Set("SCRIPT_NAME", scriptName)
	e.Set("PATH_INFO", pathInfo)
	e.Set("QUERY_STRING", r.URL.RawQuery)
	e.Set("REQUEST_URI", target) // mod_wsgi's and uWSGI's name
	e.Set("RAW_URI", target)     // gunicorn's
	e.Set("SERVER_NAME", serverName)
	e.Set("SERVER_PORT", serverPort)
	e.Set("SERVER_PROTOCOL", cmp.Or(r.Proto, "HTTP/1.1"))
	e.Set("SERVER_SOFTWARE", serverSoftware)
	e.Set("GATEWAY_INTERFACE", gatewayInterface)
	e.Set("REMOTE_ADDR", remoteIP)
	e.Set("REMOTE_PORT", remotePort)
	e.Set("wsgi.url_scheme", scheme)

	setContent(e, r)
	if r.Host != "" {
		e.Set("HTTP_HOST", r.Host)
	}
	setRequestHeaders(e, r.Header)
	if r.TLS != nil {
		setTLS(e, r.TLS)
	}
	if gateway != nil {
		if err := setGateway(e, gateway); err != nil {
			return err
		}
	}
	if c.extra != nil {
		return c.setExtra(e, r)
	}
	return nil
}

// setContent sets CONTENT_TYPE and CONTENT_LENGTH where the request has them.
// PEP 3333 lets both be absent. A chunked body has no length, and neither has
// a request that came without a body and didn't say so: gunicorn and mod_wsgi
// leave the variable out too.
//
// The length is the request's, not the header's, as a handler that replaced the
// body (to decompress it, say) will have set only that. Of several types, which
// is an error of the client's (RFC 9110, section 5.3), the first counts, as it
// does in Go.
func setContent(e *pool.Environ, r *http.Request) {
	if types := r.Header["Content-Type"]; len(types) > 0 {
		e.Set("CONTENT_TYPE", types[0])
	}
	if r.ContentLength > 0 || r.ContentLength == 0 && len(r.Header["Content-Length"]) > 0 {
		e.Set("CONTENT_LENGTH", strconv.FormatInt(r.ContentLength, 10))
	}
}

// serverAddr returns SERVER_NAME and SERVER_PORT, which are never empty. They
// are the host and port of the URL that the client used (PEP 3333, "URL
// Reconstruction"; RFC 3875, sections 4.1.14 and 4.1.15), an IPv6 address in
// its brackets.
//
// A Host without a port means the scheme's own (RFC 9110, section 4.2), whatever
// the listener's is: they differ behind a container's port mapping, where a URL
// with the listener's port leads nowhere. Without Host, as in HTTP/1.0, or where
// it isn't host[:port], it is the listener's address that the client must have
// used. A Unix socket has none, nor has a request that no server received.
func serverAddr(r *http.Request, defaultPort string) (name, port string) {
	if host, port, ok := splitHost(r.Host); ok {
		return host, cmp.Or(port, defaultPort)
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if local == nil {
		return "localhost", defaultPort
	}
	addr, err := netip.ParseAddrPort(local.String())
	if err != nil {
		return "localhost", defaultPort
	}
	port = strconv.Itoa(int(addr.Port()))
	switch ip := addr.Addr().Unmap().WithZone(""); {
	case ip.IsUnspecified(): // an HTTP/3 server's, which has no connection's own
		return "localhost", port
	case ip.Is6():
		return "[" + ip.String() + "]", port
	default:
		return ip.String(), port
	}
}

// splitHost divides a Host header (RFC 9110, section 7.2). The port is "" if
// there is none.
func splitHost(s string) (host, port string, ok bool) {
	host = s
	// A colon before the bracket is part of an IPv6 address.
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, ']') {
		host, port = s[:i], s[i+1:]
	}
	if port != "" {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return "", "", false
		}
	}
	if ip, ok := strings.CutPrefix(host, "["); ok {
		ip, ok = strings.CutSuffix(ip, "]")
		addr, err := netip.ParseAddr(ip)
		return host, port, ok && err == nil && addr.Is6()
	}
	return host, port, host != "" && !strings.ContainsAny(host, ":[]/@ ")
}

// remoteAddr returns REMOTE_ADDR, an IP address (RFC 3875, section 4.1.8), and
// REMOTE_PORT. Both are empty for a client on a Unix socket, whose address is
// "@" or a path. Where the address comes from a proxy's header it often has no
// port, or 0 in its place.
func remoteAddr(s string) (ip, port string) {
	ip, port, err := net.SplitHostPort(s)
	if err != nil {
		ip, port = s, ""
	}
	if _, err := netip.ParseAddr(ip); err != nil {
		return "", ""
	}
	if port == "0" {
		port = ""
	}
	return ip, port
}

// setRequestHeaders sets the HTTP_ variables (RFC 3875, section 4.1.18). A repeated
// header becomes one, its values joined as RFC 9110, section 5.3, allows, save
// that cookies are joined by what separates them (RFC 6265, section 4.2.1).
func setRequestHeaders(e *pool.Environ, h http.Header) {
	var buf [64]byte
	for name, values := range h {
		if len(values) == 0 {
			continue
		}
		value := values[0]
		if len(values) > 1 {
			sep := ","
			if strings.EqualFold(name, "Cookie") {
				sep = "; "
			}
			value = strings.Join(values, sep)
		}
		if key, ok := headerKeys[name]; ok {
			e.Set(key, value)
		} else if key, ok := appendHeaderKey(buf[:0], name); ok {
			e.Set(string(key), value)
		}
	}
}

// headerKeys are the variables of the headers that nearly every request has.
// The list is not added to, so that no client can make it grow: converting
// another name into a buffer takes little longer, and allocates nothing either.
var headerKeys = func() map[string]string {
	keys := make(map[string]string)
	for _, name := range []string{
		"Accept", "Accept-Charset", "Accept-Encoding", "Accept-Language",
		"Access-Control-Request-Headers", "Access-Control-Request-Method", "Authorization",
		"Cache-Control", "Cf-Connecting-Ip", "Cf-Ray", "Connection", "Content-Encoding",
		"Cookie", "Dnt", "Expect", "Forwarded", "If-Match",
		"If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since", "Keep-Alive",
		"Origin", "Pragma", "Priority", "Range", "Referer", "Sec-Ch-Ua",
		"Sec-Ch-Ua-Mobile", "Sec-Ch-Ua-Platform", "Sec-Fetch-Dest", "Sec-Fetch-Mode",
		"Sec-Fetch-Site", "Sec-Fetch-User", "Sec-Gpc", "Te", "Traceparent", "Tracestate",
		"Upgrade", "Upgrade-Insecure-Requests", "User-Agent", "Via", "X-Csrftoken",
		"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Proto",
		"X-Real-Ip", "X-Request-Id", "X-Requested-With",
	} {
		key, _ := appendHeaderKey(nil, name)
		keys[name] = string(key)
	}
	return keys
}()

// appendHeaderKey appends to key the variable that shows the named header:
// HTTP_USER_AGENT for User-Agent. It reports false for the headers that are not
// shown:
//
//   - names with an underscore would pass for those with a hyphen, which a
//     proxy in front may vouch for: X_Remote_User;
//   - HTTP_PROXY is a setting of HTTP clients, in which the Proxy header, that
//     no standard knows, would let the client choose the proxy (httpoxy);
//   - Host is the request's, as net/http chose it (RFC 9112, section 3.2.2);
//   - content's type and length have variables of their own (RFC 3875);
//   - Transfer-Encoding is undone where the body is read.
func appendHeaderKey(key []byte, name string) ([]byte, bool) {
	key = append(key, "HTTP_"...)
	for i := range len(name) {
		c := name[i]
		switch {
		case c == '_':
			return nil, false
		case c == '-':
			c = '_'
		case 'a' <= c && c <= 'z':
			c -= 'a' - 'A'
		}
		key = append(key, c)
	}
	switch string(key) {
	case "HTTP_", "HTTP_PROXY", "HTTP_HOST", "HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING":
		return nil, false
	}
	return key, true
}

// setExtra sets what WithEnviron's function gives, over what is there.
func (c *environConfig) setExtra(e *pool.Environ, r *http.Request) (err error) {
	c.extra(r, func(key, value string) {
		if err != nil {
			return
		}
		if err = checkExtra(key, value); err != nil {
			err = fmt.Errorf("wsgi: WithEnviron: %w", err)
			return
		}
		e.Set(key, value)
	})
	return err
}

// checkExtra refuses what would break the contract of PEP 3333, "environ
// Variables", with the application: the names beginning with "wsgi." are the
// specification's, hold objects for the most part, and are all the server's to
// set but one, by which Go code can tell of TLS that a proxy terminated.
func checkExtra(key, value string) error {
	switch key {
	case "":
		return fmt.Errorf("empty key")
	case "REQUEST_METHOD", "SERVER_NAME", "SERVER_PORT":
		if value == "" {
			return fmt.Errorf("%s may not be empty", key)
		}
	case "SCRIPT_NAME":
		return checkScriptName(value)
	case "wsgi.url_scheme":
		if value != "http" && value != "https" {
			return fmt.Errorf("%s is %q, neither http nor https", key, value)
		}
		return nil
	}
	if len(key) > maxExtraKey {
		return fmt.Errorf("key %q... is longer than %d bytes", key[:32], maxExtraKey)
	}
	for i := range len(key) {
		if isControlByte(key[i]) {
			return fmt.Errorf("key %q contains a control character", key)
		}
	}
	if strings.HasPrefix(key, "wsgi.") {
		return fmt.Errorf("key %q is reserved", key)
	}
	return nil
}

const maxExtraKey = 1024 // bytes

// setTLS sets the variables by which mod_ssl describes a connection whose TLS
// ended here, in its formats, so that an application or a framework's
// certificate login written for it keeps working. What crypto/tls doesn't tell
// is missing: the session's id and the server's certificate. Of TLS that ended at
// a proxy or a web server no more than the fact is known, and state is without
// a version.
func setTLS(e *pool.Environ, state *tls.ConnectionState) {
	e.Set("HTTPS", "on")
	if state.Version == 0 {
		return
	}
	e.Set("SSL_PROTOCOL", tlsProtocol(state.Version))
	e.Set("SSL_CIPHER", tlsCipher(state.CipherSuite))
	if state.ServerName != "" {
		e.Set("SSL_TLS_SNI", state.ServerName)
	}
	switch {
	case len(state.PeerCertificates) == 0:
		e.Set("SSL_CLIENT_VERIFY", "NONE")
		return
	case len(state.VerifiedChains) > 0:
		e.Set("SSL_CLIENT_VERIFY", "SUCCESS")
	default:
		// tls.RequestClientCert and tls.RequireAnyClientCert look at no
		// authority, and what a callback of the server's checked isn't known.
		e.Set("SSL_CLIENT_VERIFY", "GENEROUS")
	}
	setClientCert(e, state.PeerCertificates)
}

// setClientCert describes the certificate of a client, chain[0].
func setClientCert(e *pool.Environ, chain []*x509.Certificate) {
	cert := chain[0]
	e.Set("SSL_CLIENT_M_VERSION", strconv.Itoa(cert.Version))
	e.Set("SSL_CLIENT_M_SERIAL", fmt.Sprintf("%X", cert.SerialNumber.Bytes()))
	const layout = "Jan _2 15:04:05 2006 GMT"
	e.Set("SSL_CLIENT_V_START", cert.NotBefore.UTC().Format(layout))
	e.Set("SSL_CLIENT_V_END", cert.NotAfter.UTC().Format(layout))
	setDN(e, "SSL_CLIENT_S_DN", cert.RawSubject)
	setDN(e, "SSL_CLIENT_I_DN", cert.RawIssuer)
	for i, name := range cert.EmailAddresses {
		e.Set("SSL_CLIENT_SAN_Email_"+strconv.Itoa(i), name)
	}
	for i, name := range cert.DNSNames {
		e.Set("SSL_CLIENT_SAN_DNS_"+strconv.Itoa(i), name)
	}
	e.Set("SSL_CLIENT_CERT", pemString(cert))
	for i, cert := range chain[1:] {
		e.Set("SSL_CLIENT_CERT_CHAIN_"+strconv.Itoa(i), pemString(cert))
	}
}

func pemString(cert *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
}

// setDN sets the variable key to a distinguished name in the form of RFC
// 2253, its last part first, and one variable more for each of the parts that
// mod_ssl knows: SSL_CLIENT_S_DN_OU, for a second one SSL_CLIENT_S_DN_OU_1.
func setDN(e *pool.Environ, key string, der []byte) {
	type rdnSET []struct { // package asn1 knows a set by such a name
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	var name []rdnSET
	if _, err := asn1.Unmarshal(der, &name); err != nil {
		return // crypto/x509 has parsed it before
	}
	var parts []string
	seen := make(map[string]int)
	for i, rdn := range name {
		for j, attr := range rdn {
			if j > 0 {
				parts = append(parts, "+")
			} else if i > 0 {
				parts = append(parts, ",")
			}
			oid := attr.Type.String()
			known, ok := dnTypes[oid]
			var value string
			if _, err := asn1.Unmarshal(attr.Value.FullBytes, &value); err != nil || !ok {
				parts = append(parts, fmt.Sprintf("%s=#%X", cmp.Or(known.short, oid), attr.Value.FullBytes))
				continue
			}
			parts = append(parts, known.short+"="+escapeDN(value))
			if n := seen[oid]; known.part != "" && n == 0 {
				e.Set(key+"_"+known.part, value)
			} else if known.part != "" {
				e.Set(key+"_"+known.part+"_"+strconv.Itoa(n), value)
			}
			seen[oid]++
		}
	}
	slices.Reverse(parts)
	e.Set(key, strings.Join(parts, ""))
}

// dnTypes are OpenSSL's names for the parts of a distinguished name, and
// mod_ssl's where it has a variable for them.
var dnTypes = map[string]struct{ short, part string }{
	"2.5.4.3": {"CN", "CN"}, "2.5.4.4": {"SN", "S"}, "2.5.4.5": {"serialNumber", ""},
	"2.5.4.6": {"C", "C"}, "2.5.4.7": {"L", "L"}, "2.5.4.8": {"ST", "ST"},
	"2.5.4.9": {"street", ""}, "2.5.4.10": {"O", "O"}, "2.5.4.11": {"OU", "OU"},
	"2.5.4.12": {"title", "T"}, "2.5.4.13": {"description", "D"}, "2.5.4.17": {"postalCode", ""},
	"2.5.4.42": {"GN", "G"}, "2.5.4.43": {"initials", "I"}, "2.5.4.46": {"dnQualifier", ""},
	"2.5.4.97": {"organizationIdentifier", ""}, "1.2.840.113549.1.9.1": {"emailAddress", "Email"},
	"0.9.2342.19200300.100.1.1": {"UID", "UID"}, "0.9.2342.19200300.100.1.25": {"DC", ""},
}

// escapeDN escapes a part of a distinguished name (RFC 2253, section 2.4).
func escapeDN(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case isControlByte(c):
			fmt.Fprintf(&b, `\%02X`, c)
		case strings.IndexByte(`,+"\<>;`, c) >= 0, c == '#' && i == 0, c == ' ' && (i == 0 || i == len(s)-1):
			b.WriteByte('\\')
			fallthrough
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// tlsProtocol returns OpenSSL's name of a version of TLS.
func tlsProtocol(version uint16) string {
	switch version {
	case tls.VersionTLS13:
		return "TLSv1.3"
	case tls.VersionTLS12:
		return "TLSv1.2"
	case tls.VersionTLS11:
		return "TLSv1.1"
	case tls.VersionTLS10:
		return "TLSv1"
	}
	return tls.VersionName(version)
}

// tlsCipher returns OpenSSL's name of a cipher suite: for those before TLS 1.3
// the standard name, shortened.
func tlsCipher(id uint16) string {
	if name, ok := cipherNames()[id]; ok {
		return name
	}
	return tls.CipherSuiteName(id)
}

var cipherNames = sync.OnceValue(func() map[uint16]string {
	shorten := strings.NewReplacer("TLS_RSA_WITH_", "", "TLS_", "", "_WITH_", "-", "_CBC", "",
		"AES_", "AES", "3DES_EDE_CBC", "DES-CBC3", "RC4_128", "RC4", "POLY1305_SHA256", "POLY1305", "_", "-")
	names := make(map[uint16]string)
	for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		names[suite.ID] = suite.Name
		if suite.SupportedVersions[0] < tls.VersionTLS13 {
			names[suite.ID] = shorten.Replace(suite.Name)
		}
	}
	return names
})
