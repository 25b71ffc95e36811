package uwsgi

import (
	"bufio"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// A conn shows a uwsgi connection to http.Server as one of HTTP/1.0. In place
// of the packet there is a head that says only how the connection goes on,
// which is what the method and the length of the body decide; everything else
// the handler's request gets from the packet.
type conn struct {
	net.Conn
	server *Server
	r      *bufio.Reader // of Conn

	// By the first Read, which is before the handler is called.
	started bool
	pending []byte // of the head
	head    *head
	refused int // the status by which the packet is refused, else 0

	unread atomic.Int64 // of the body

	broken atomic.Bool // the response is, and its length doesn't tell
	linger atomic.Bool // the response is whole, and the request isn't
}

// lingerTime is how long the rest of a request is taken in after its response.
// A connection that is closed over unread data is reset, and the response with
// it may be lost. nginx stops sending when it has the response.
const lingerTime = time.Second

func newConn(c net.Conn, s *Server) *conn {
	return &conn{Conn: c, server: s, r: bufio.NewReaderSize(c, 4096)}
}

func (c *conn) Read(p []byte) (int, error) {
	if !c.started {
		c.started = true
		if err := c.start(); err != nil {
			return 0, err
		}
	}
	if len(c.pending) > 0 {
		n := copy(p, c.pending)
		c.pending = c.pending[n:]
		return n, nil
	}
	n, err := c.r.Read(p)
	c.unread.Add(-int64(n))
	return n, err
}

// start reads the packet. After an error there is nothing to answer.
func (c *conn) start() error {
	vars, err := readPacket(c.r, c.server.maxVars())
	malformed := errors.Is(err, errModifier) || errors.Is(err, errVarsSize) || errors.Is(err, errVarsShape)
	switch {
	case err == io.EOF: // a check that the port is open
		return err
	case err != nil && !malformed: // of reading
		c.logRefusal(err)
		return io.EOF
	case err == nil:
		c.head, err = newHead(vars)
	}
	if err == nil {
		c.pending = appendHead(nil, c.head.method, c.head.length)
		c.unread.Store(c.head.length)
		return nil
	}
	switch {
	case errors.Is(err, errVarsSize):
		c.refused = http.StatusRequestHeaderFieldsTooLarge
	case errors.Is(err, errLengthRequired):
		c.refused = http.StatusLengthRequired
	default:
		c.refused = http.StatusBadRequest
	}
	c.logRefusal(err)
	// There may be more to come, which is taken in after the answer.
	c.unread.Store(math.MaxInt64)
	c.pending = appendHead(nil, http.MethodGet, math.MaxInt64)
	return nil
}

func (c *conn) logRefusal(err error) {
	c.server.logf("uwsgi: refused a request from %s: %v", c.RemoteAddr(), err)
}

func appendHead(b []byte, method string, length int64) []byte {
	b = append(b, method...)
	b = append(b, " / HTTP/1.0\r\n"...)
	if length > 0 {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, length, 10)
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...)
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		c.broken.Store(true)
	}
	return n, err
}

// ReadFrom lets the connection use sendfile.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(c.Conn, r)
	if err != nil {
		c.broken.Store(true)
	}
	return n, err
}

func (c *conn) Close() error {
	if c.broken.Load() || c.server.closed.Load() {
		inner := c.Conn
		if t, ok := inner.(interface{ NetConn() net.Conn }); ok {
			inner = t.NetConn()
		}
		if tcp, ok := inner.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // so that closing resets it
		}
	} else if c.linger.Swap(false) {
		c.takeRest()
	}
	return c.Conn.Close()
}

// takeRest ends the response and takes in what is left of the request. Another
// Close ends it.
func (c *conn) takeRest() {
	cw, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || cw.CloseWrite() != nil {
		return
	}
	_ = c.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.Copy(io.Discard, c.Conn)
}
