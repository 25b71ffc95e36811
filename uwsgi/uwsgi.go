// Package uwsgi speaks the uwsgi protocol, by which nginx's uwsgi_pass and
// others hand HTTP requests to an application server.
//
// [Serve] and [Server] take uWSGI's place behind an unchanged nginx: what
// uwsgi_pass sends over TCP or a Unix socket reaches any [http.Handler].
// [Transport] takes nginx's place: it is an [http.RoundTripper], and so lets
// [net/http/httputil.ReverseProxy] stand in front of a uWSGI server.
//
// # The protocol
//
// A connection carries one request. It begins with a packet of four bytes of
// header (modifier1, which is 0 for WSGI, the size of what follows as 16 bits in
// little-endian order, and modifier2, which is 0) and up to 65,535 bytes of
// variables, each a 16-bit length and the name, a 16-bit length and the value.
// They are the meta-variables of CGI (RFC 3875). The body of the request
// follows as it is, as long as the variable CONTENT_LENGTH says.
//
// The answer is that of an HTTP/1.0 server which closes the connection after
// it: a status line, the headers and the body, without chunks.
//
// # Trust
//
// Variables say who the client is (REMOTE_ADDR), how it was authenticated
// (REMOTE_USER) and whether it used TLS (HTTPS), and nothing in the protocol
// proves them. Whoever can connect to a Server can therefore claim anything:
// listen on a Unix socket or on an address that only the web server reaches.
package uwsgi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// MaxVars is the greatest size of a packet's variables, in bytes. A packet's
// header has 16 bits for it.
const MaxVars = 1<<16 - 1

const packetHeaderLen = 4

// modifierWSGI is the modifier1 of requests to Python's plugin, and uWSGI's and
// nginx's default. The others address other languages and uWSGI's own
// services.
const modifierWSGI = 0

var (
	errModifier  = errors.New("uwsgi: packet is not a WSGI request")
	errVarsSize  = errors.New("uwsgi: too many bytes of variables")
	errVarsShape = errors.New("uwsgi: malformed variables")
)

// A variable is one of a packet's variables.
type variable struct{ key, value string }

// readPacket reads a packet. The error is io.EOF if there was nothing to read,
// and io.ErrUnexpectedEOF if there was only a part.
func readPacket(r io.Reader, limit int) ([]variable, error) {
	var header [packetHeaderLen]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	if header[0] != modifierWSGI || header[3] != 0 {
		hint := ""
		if 'A' <= header[0] && header[0] <= 'Z' {
			hint = " (it looks like HTTP; nginx speaks uwsgi under uwsgi_pass, not under proxy_pass)"
		}
		return nil, fmt.Errorf("%w: modifier1 is %d and modifier2 %d%s", errModifier, header[0], header[3], hint)
	}
	size := int(binary.LittleEndian.Uint16(header[1:]))
	if size > limit {
		return nil, fmt.Errorf("%w: %d, where %d are allowed", errVarsSize, size, limit)
	}
	block := make([]byte, size)
	if _, err := io.ReadFull(r, block); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return parseVars(string(block))
}

// parseVars divides a block of variables. The variables are parts of it, and
// in its order.
func parseVars(block string) ([]variable, error) {
	vars := make([]variable, 0, 32)
	for rest := block; rest != ""; {
		var v variable
		var ok bool
		if v.key, rest, ok = cutString(rest); !ok {
			return nil, fmt.Errorf("%w: a name runs over the packet's end", errVarsShape)
		}
		if v.key == "" {
			return nil, fmt.Errorf("%w: an empty name", errVarsShape)
		}
		if v.value, rest, ok = cutString(rest); !ok {
			return nil, fmt.Errorf("%w: the value of %.40q runs over the packet's end", errVarsShape, v.key)
		}
		vars = append(vars, v)
	}
	return vars, nil
}

// cutString takes a string with its length before it off s.
func cutString(s string) (value, rest string, ok bool) {
	if len(s) < 2 {
		return "", "", false
	}
	n := int(s[0]) | int(s[1])<<8
	if s = s[2:]; n > len(s) {
		return "", "", false
	}
	return s[:n], s[n:], true
}

// appendPacket appends the packet of vars to b.
func appendPacket(b []byte, vars []variable) ([]byte, error) {
	start := len(b)
	b = append(b, modifierWSGI, 0, 0, 0)
	for _, v := range vars {
		if len(v.key) > MaxVars || len(v.value) > MaxVars {
			return nil, errVarsSize
		}
		b = binary.LittleEndian.AppendUint16(b, uint16(len(v.key)))
		b = append(b, v.key...)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(v.value)))
		b = append(b, v.value...)
	}
	size := len(b) - start - packetHeaderLen
	if size > MaxVars {
		return nil, fmt.Errorf("%w: %d, where a packet holds %d", errVarsSize, size, MaxVars)
	}
	binary.LittleEndian.PutUint16(b[start+1:], uint16(size))
	return b, nil
}
