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

	broken atomic.Bool // the response is, and its length doesn't tell
}

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
	return c.r.Read(p)
}

// start reads the packet. After an error there is nothing to answer.
func (c *conn) start() error {
	vars, err := readPacket(c.r, c.server.maxVars())
	if err == nil {
		c.head, err = newHead(vars)
	}
	var netError net.Error
	switch {
	case err == nil:
		c.pending = appendHead(nil, c.head.method, c.head.length)
		return nil
	case errors.Is(err, io.EOF): // a check that the port is open
		return err
	case errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &netError):
		c.logRefusal(err)
		return io.EOF
	case errors.Is(err, errVarsSize):
		c.refused = http.StatusRequestHeaderFieldsTooLarge
	case errors.Is(err, errLengthRequired):
		c.refused = http.StatusLengthRequired
	default:
		c.refused = http.StatusBadRequest
	}
	c.logRefusal(err)
	// A body without end makes http.Server leave the client time to read the
	// answer, instead of resetting the connection over what is unread.
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

// CloseWrite ends the response while the rest of the request is on its way.
func (c *conn) CloseWrite() error {
	if c.broken.Load() {
		return nil // its end must not look like one
	}
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return errors.ErrUnsupported
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
	}
	return c.Conn.Close()
}
