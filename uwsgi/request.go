package uwsgi

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"

	"github.com/seed-a2d07992/wsgi/internal/rfc9110"
)

var errLengthRequired = errors.New("uwsgi: a body without CONTENT_LENGTH")

// ProcessEnv returns the variables with which the web server described the
// request r: all of them, those that are also in r too. Of a variable that was
// sent several times, which nginx does with repeated headers before its version
// 1.23, it has the last, as the applications of uWSGI do; r.Header has all.
//
// So a handler finds what http.Request has no place for, such as REMOTE_USER,
// SCRIPT_NAME, PATH_INFO after nginx's rewrites, DOCUMENT_ROOT, or any other
// name given to nginx's uwsgi_param. HTTP_ variables are there under whatever
// name they came, even those that make no header. Package wsgi's handlers take
// them over into an application's environ.
//
// For a request that came from another server ProcessEnv returns nil. The map
// is the request's own, and must not be changed.
func ProcessEnv(r *http.Request) map[string]string {
	c, _ := r.Context().Value(connKey{}).(*conn)
	if c == nil || c.head == nil {
		return nil
	}
	return c.head.vars
}

// A head is what a packet says of its request.
type head struct {
	vars map[string]string

	method       string
	target       string
	url          *url.URL
	proto        string
	major, minor int
	host         string
	header       http.Header
	length       int64
	remoteAddr   string
	tls          *tls.ConnectionState
}

// request returns r with everything that the packet says of it.
func (h *head) request(r *http.Request) *http.Request {
	r = r.WithContext(r.Context()) // a copy: http.Server keeps its own
	r.Method, r.RequestURI, r.URL = h.method, h.target, h.url
	r.Proto, r.ProtoMajor, r.ProtoMinor = h.proto, h.major, h.minor
	r.Host, r.Header, r.TLS = h.host, h.header, h.tls
	if h.remoteAddr != "" {
		r.RemoteAddr = h.remoteAddr
	}
	return r
}

// newHead makes sense of a packet's variables.
func newHead(list []variable) (*head, error) {
	h := &head{
		vars:   make(map[string]string, len(list)),
		header: make(http.Header, len(list)),
	}
	for _, v := range list {
		if strings.IndexByte(v.key, 0) >= 0 || strings.IndexByte(v.value, 0) >= 0 {
			return nil, fmt.Errorf("%w: NUL in %.40q", errVarsShape, v.key)
		}
		h.vars[v.key] = v.value
		if err := h.addHeader(v); err != nil {
			return nil, err
		}
	}
	for _, set := range []func() error{h.setProto, h.setTarget, h.setHost, h.setContent} {
		if err := set(); err != nil {
			return nil, err
		}
	}
	h.setRemote()
	return h, nil
}

// addHeader adds the header that a variable stands for, if it does.
func (h *head) addHeader(v variable) error {
	name, ok := strings.CutPrefix(v.key, "HTTP_")
	if !ok {
		return nil
	}
	switch name {
	case "HOST": // the request's, not in its Header
		return nil
	case "CONTENT_TYPE", "CONTENT_LENGTH", "TRANSFER_ENCODING":
		// The first two have variables of their own, in which a web server
		// gives what is true of the body that it sends. nginx passes the
		// client's Transfer-Encoding on, having undone it.
		return nil
	}
	name = strings.ReplaceAll(name, "_", "-")
	if !rfc9110.IsToken(name) {
		return nil
	}
	if !isFieldValue(v.value) {
		return fmt.Errorf("uwsgi: control character in %.40s", v.key)
	}
	name = textproto.CanonicalMIMEHeaderKey(name)
	h.header[name] = append(h.header[name], v.value)
	return nil
}

func (h *head) setProto() error {
	h.method = h.vars["REQUEST_METHOD"]
	if !rfc9110.IsToken(h.method) {
		return fmt.Errorf("uwsgi: bad REQUEST_METHOD %.40q", h.method)
	}
	h.proto = cmp.Or(h.vars["SERVER_PROTOCOL"], "HTTP/1.1")
	var ok bool
	if h.major, h.minor, ok = http.ParseHTTPVersion(h.proto); !ok {
		return fmt.Errorf("uwsgi: bad SERVER_PROTOCOL %.40q", h.proto)
	}
	if strings.EqualFold(h.vars["HTTPS"], "on") || h.vars["HTTPS"] == "1" || strings.EqualFold(h.vars["REQUEST_SCHEME"], "https") {
		// All that is known of it: it isn't this connection that has TLS.
		h.tls = &tls.ConnectionState{HandshakeComplete: true}
	}
	return nil
}

// setTarget finds the URL. REQUEST_URI is the target that the client sent; a
// web server that doesn't give it will give the parts.
func (h *head) setTarget() error {
	h.target = h.vars["REQUEST_URI"]
	if h.target == "" {
		u := url.URL{Path: h.vars["SCRIPT_NAME"] + h.vars["PATH_INFO"], RawQuery: h.vars["QUERY_STRING"]}
		if u.Path == "" {
			u.Path = "/"
		}
		if u.Path[0] != '/' {
			return fmt.Errorf("uwsgi: bad path %.80q", u.Path)
		}
		h.target = u.EscapedPath()
		if u.RawQuery != "" {
			h.target += "?" + u.RawQuery
		}
	}
	if strings.ContainsAny(h.target, " \t\r\n") {
		return fmt.Errorf("uwsgi: bad REQUEST_URI %.80q", h.target)
	}
	var err error
	if h.method == http.MethodConnect && h.target[0] != '/' {
		h.url, err = url.ParseRequestURI("http://" + h.target)
		if err == nil {
			h.url.Scheme = ""
		}
	} else {
		h.url, err = url.ParseRequestURI(h.target)
	}
	if err != nil {
		return fmt.Errorf("uwsgi: bad REQUEST_URI: %w", err)
	}
	return nil
}

func (h *head) setHost() error {
	h.host = h.vars["HTTP_HOST"]
	if h.host == "" {
		h.host = h.vars["SERVER_NAME"]
		port, standard := h.vars["SERVER_PORT"], "80"
		if h.tls != nil {
			standard = "443"
		}
		if h.host != "" && port != "" && port != standard {
			if ip, err := netip.ParseAddr(h.host); err == nil && ip.Is6() {
				h.host = "[" + h.host + "]"
			}
			h.host += ":" + port
		}
	}
	for i := range len(h.host) {
		if c := h.host[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"/<>?@\^`+"`{|}#", c) >= 0 {
			return fmt.Errorf("uwsgi: bad host %.80q", h.host)
		}
	}
	return nil
}

// setContent finds the type and the length of the body. The connection stays
// open after it, so without a length there is none.
func (h *head) setContent() error {
	if t := h.vars["CONTENT_TYPE"]; t != "" {
		if !isFieldValue(t) {
			return errors.New("uwsgi: control character in CONTENT_TYPE")
		}
		h.header["Content-Type"] = []string{t}
	}
	length := h.vars["CONTENT_LENGTH"]
	if length == "" {
		if te := h.vars["HTTP_TRANSFER_ENCODING"]; te != "" {
			return fmt.Errorf("%w: Transfer-Encoding is %.40q", errLengthRequired, te)
		}
		return nil
	}
	n, err := strconv.ParseUint(length, 10, 63)
	if err != nil {
		return fmt.Errorf("uwsgi: bad CONTENT_LENGTH %.40q", length)
	}
	h.length = int64(n)
	h.header["Content-Length"] = []string{length}
	return nil
}

// setRemote finds the client's address. If the web server gives none, the
// request's stays that of the connection; nginx gives "unix:" for a client of
// its own Unix sockets.
func (h *head) setRemote() {
	addr := h.vars["REMOTE_ADDR"]
	if _, err := netip.ParseAddr(addr); err != nil {
		h.remoteAddr = addr
		return
	}
	port := h.vars["REMOTE_PORT"]
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		port = "0"
	}
	h.remoteAddr = net.JoinHostPort(addr, port)
}

// isFieldValue reports whether s can be the value of a header: whether it has
// no control character but tabs.
func isFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
