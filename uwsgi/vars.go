package uwsgi

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-a2d07992/wsgi/internal/rfc9110"
)

// packet makes the packet of a request whose body has the given length.
func (t *Transport) packet(r *http.Request, length int64) ([]byte, error) {
	vars, err := requestVars(r, length)
	if err != nil {
		return nil, err
	}
	if t.Vars != nil {
		if err := setVars(vars, t.Vars(r)); err != nil {
			return nil, err
		}
	}
	list := make([]variable, 0, len(vars))
	for _, key := range slices.Sorted(maps.Keys(vars)) {
		list = append(list, variable{key, vars[key]})
	}
	return appendPacket(make([]byte, 0, 1024), list)
}

// requestVars returns the meta-variables of a request (RFC 3875, section 4.1).
func requestVars(r *http.Request, length int64) (map[string]string, error) {
	vars := make(map[string]string, 24)
	vars["REQUEST_METHOD"] = r.Method
	if r.Method == "" {
		vars["REQUEST_METHOD"] = http.MethodGet
	} else if !rfc9110.IsToken(r.Method) {
		return nil, fmt.Errorf("bad method %.40q", r.Method)
	}
	vars["REQUEST_URI"] = r.URL.RequestURI()
	if strings.ContainsAny(vars["REQUEST_URI"], " \t\r\n\x00") {
		return nil, fmt.Errorf("bad URL %.80q", vars["REQUEST_URI"])
	}
	vars["PATH_INFO"] = r.URL.Path
	if r.URL.Path == "" {
		vars["PATH_INFO"] = "/"
	}
	if strings.IndexByte(r.URL.Path, 0) >= 0 {
		return nil, errors.New("NUL in the path")
	}
	vars["QUERY_STRING"] = r.URL.RawQuery
	vars["SERVER_PROTOCOL"] = "HTTP/1.1"
	if _, _, ok := http.ParseHTTPVersion(r.Proto); ok {
		vars["SERVER_PROTOCOL"] = r.Proto
	}
	if err := setServerVars(vars, r); err != nil {
		return nil, err
	}
	setRemoteVars(vars, r.RemoteAddr)
	if length > 0 || r.Body != nil || len(r.Header["Content-Length"]) > 0 {
		vars["CONTENT_LENGTH"] = strconv.FormatInt(length, 10)
	}
	return vars, setHeaderVars(vars, r.Header)
}

// setServerVars sets what the request says of the server that it is for.
func setServerVars(vars map[string]string, r *http.Request) error {
	scheme, port := "http", "80"
	if r.TLS != nil || r.URL.Scheme == "https" {
		scheme, port = "https", "443"
		vars["HTTPS"] = "on"
	}
	vars["REQUEST_SCHEME"] = scheme
	host := r.Host
	if host == "" {
		host = r.URL.Host
	}
	if !isFieldValue(host) {
		return fmt.Errorf("bad host %.80q", host)
	}
	if host != "" {
		vars["HTTP_HOST"] = host
	}
	// A colon before the bracket is part of an IPv6 address.
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		if host[i+1:] != "" {
			port = host[i+1:]
		}
		host = host[:i]
	}
	if host == "" {
		host = "localhost" // RFC 3875 allows no empty one
		if local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr); local != nil {
			if addr, err := netip.ParseAddrPort(local.String()); err == nil {
				host, port = addr.Addr().Unmap().WithZone("").String(), strconv.Itoa(int(addr.Port()))
			}
		}
	}
	vars["SERVER_NAME"], vars["SERVER_PORT"] = host, port
	return nil
}

func setRemoteVars(vars map[string]string, addr string) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		host, port = addr, ""
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return // there was no server, or it has a Unix socket
	}
	vars["REMOTE_ADDR"] = host
	if port != "" {
		vars["REMOTE_PORT"] = port
	}
}

// setHeaderVars sets the HTTP_ variables (RFC 3875, section 4.1.18) and
// CONTENT_TYPE.
func setHeaderVars(vars map[string]string, header http.Header) error {
	for name, values := range header {
		if len(values) == 0 || !rfc9110.IsToken(name) || strings.Contains(name, "_") {
			continue
		}
		key := strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		separator := ", "
		switch key {
		case "PROXY", "HOST", "CONTENT_LENGTH", "TRANSFER_ENCODING":
			continue
		case "CONTENT_TYPE":
			values = values[:1]
		case "COOKIE":
			separator = "; "
		}
		if key != "CONTENT_TYPE" {
			key = "HTTP_" + key
		}
		value := strings.Join(values, separator)
		if !isFieldValue(value) {
			return fmt.Errorf("control character in the header %q", name)
		}
		vars[key] = value
	}
	return nil
}

// setVars sets the variables of Transport.Vars.
func setVars(vars, extra map[string]string) error {
	for key, value := range extra {
		if key == "" || strings.IndexByte(key, 0) >= 0 || strings.IndexByte(value, 0) >= 0 {
			return fmt.Errorf("the variable %.40q has no name or contains NUL", key)
		}
		if strings.HasPrefix(key, "HTTP_") && !isFieldValue(value) {
			return fmt.Errorf("control character in the variable %.40q", key)
		}
		if key == "CONTENT_LENGTH" && value != vars[key] {
			return errors.New("the variable CONTENT_LENGTH is not the body's length")
		}
		vars[key] = value
	}
	mount := extra["SCRIPT_NAME"]
	if _, given := extra["PATH_INFO"]; mount == "" || given {
		return nil
	}
	if rest, ok := strings.CutPrefix(vars["PATH_INFO"], mount); ok && (rest == "" || rest[0] == '/') {
		vars["PATH_INFO"] = rest
	}
	return nil
}
