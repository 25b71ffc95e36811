package pool

import (
	"encoding/binary"
	"errors"
	"iter"
	"math"
)

// Environ is a request's CGI variables in packed form: what the C side turns
// into the environ dict. It is built once per request, in one buffer, so that
// the whole environ crosses to C in a single call.
//
// An entry is four bytes of key (the number of a well-known key, or 0 and the
// length of a key that follows), four bytes of value length, and the bytes
// themselves; numbers are in the machine's byte order. The zero value is an
// empty environ, ready to use.
type Environ struct {
	buf []byte
	err error
}

// ErrTooLong is the error of a variable that can't be packed.
var ErrTooLong = errors.New("an environ variable is too long")

// keptEnviron is how much memory an environ keeps for the next request: one with
// huge headers is not to cost that for ever.
const keptEnviron = 64 << 10

// Reset empties the environ and keeps its memory, if that is not large.
func (e *Environ) Reset() {
	e.buf, e.err = e.buf[:0], nil
	if cap(e.buf) > keptEnviron {
		e.buf = nil
	}
}

// Err returns ErrTooLong where a name had 16 MiB or more or a value 4 GiB or
// more, which was left out. A server that limits its headers never gets here.
func (e *Environ) Err() error { return e.err }

// Len reports the size of the packed environ in bytes.
func (e *Environ) Len() int { return len(e.buf) }

// Set adds one variable. The application sees the bytes of value as a native
// string in which each byte is one character (latin-1), as PEP 3333 asks under
// "Unicode Issues"; key is treated alike. Where a key is set twice, the last
// value counts.
func (e *Environ) Set(key, value string) {
	if len(key) >= 1<<keyIDShift || uint64(len(value)) > math.MaxUint32 {
		e.err = ErrTooLong
		return
	}
	var head [8]byte
	id, known := keyIDs[key]
	if known {
		binary.NativeEndian.PutUint32(head[:], uint32(id)<<keyIDShift)
	} else {
		binary.NativeEndian.PutUint32(head[:], uint32(len(key)))
	}
	binary.NativeEndian.PutUint32(head[4:], uint32(len(value)))
	e.buf = append(e.buf, head[:]...)
	if !known {
		e.buf = append(e.buf, key...)
	}
	e.buf = append(e.buf, value...)
}

// All yields the variables in the order in which they were set.
func (e *Environ) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for b := e.buf; len(b) >= 8; {
			k, n := binary.NativeEndian.Uint32(b), int(binary.NativeEndian.Uint32(b[4:]))
			b = b[8:]
			var key string
			if id := k >> keyIDShift; id != 0 {
				key = wellKnownKeys[id]
			} else {
				key, b = string(b[:k]), b[k:]
			}
			if !yield(key, string(b[:n])) {
				return
			}
			b = b[n:]
		}
	}
}

// keyIDShift leaves the lower bits of the first word for a literal key's
// length.
const keyIDShift = 24

// wellKnownKeys are sent by their number. Every interpreter holds them as
// interned strings, so such a key costs neither an allocation nor a hash.
// Number 0 stands for a literal key.
var wellKnownKeys = []string{
	"",
	"REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING",
	"CONTENT_TYPE", "CONTENT_LENGTH", "SERVER_NAME", "SERVER_PORT",
	"SERVER_PROTOCOL", "SERVER_SOFTWARE", "GATEWAY_INTERFACE",
	"REMOTE_ADDR", "REMOTE_PORT", "REMOTE_USER", "REQUEST_URI", "RAW_URI",
	"AUTH_TYPE", "HTTPS", "SSL_PROTOCOL", "SSL_CIPHER", "SSL_CLIENT_VERIFY",
	"SSL_TLS_SNI", "wsgi.url_scheme",
	"HTTP_HOST", "HTTP_USER_AGENT", "HTTP_ACCEPT", "HTTP_ACCEPT_ENCODING",
	"HTTP_ACCEPT_LANGUAGE", "HTTP_AUTHORIZATION", "HTTP_CACHE_CONTROL",
	"HTTP_CONNECTION", "HTTP_COOKIE", "HTTP_DNT", "HTTP_FORWARDED",
	"HTTP_IF_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_NONE_MATCH",
	"HTTP_IF_RANGE", "HTTP_ORIGIN", "HTTP_PRAGMA", "HTTP_PRIORITY",
	"HTTP_RANGE", "HTTP_REFERER", "HTTP_SEC_CH_UA", "HTTP_SEC_CH_UA_MOBILE",
	"HTTP_SEC_CH_UA_PLATFORM", "HTTP_SEC_FETCH_DEST", "HTTP_SEC_FETCH_MODE",
	"HTTP_SEC_FETCH_SITE", "HTTP_SEC_FETCH_USER", "HTTP_TE",
	"HTTP_TRACEPARENT", "HTTP_UPGRADE_INSECURE_REQUESTS", "HTTP_VIA",
	"HTTP_ACCEPT_CHARSET", "HTTP_ACCESS_CONTROL_REQUEST_HEADERS",
	"HTTP_ACCESS_CONTROL_REQUEST_METHOD", "HTTP_EXPECT", "HTTP_KEEP_ALIVE",
	"HTTP_SEC_GPC", "HTTP_TRACESTATE", "HTTP_X_CSRF_TOKEN",
	"HTTP_X_CSRFTOKEN", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_PORT",
	"HTTP_X_FORWARDED_PROTO", "HTTP_X_REAL_IP", "HTTP_X_REQUEST_ID",
	"HTTP_X_REQUESTED_WITH",
}

var keyIDs = func() map[string]int {
	m := make(map[string]int, len(wellKnownKeys))
	for id, key := range wellKnownKeys[1:] {
		m[key] = id + 1
	}
	return m
}()
