package uwsgi

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/seed-a2d07992/wsgi/internal/rfc9110"
)

// The defaults of a Transport.
const (
	DefaultDialTimeout            = 30 * time.Second
	DefaultMaxResponseHeaderBytes = 1 << 20
	DefaultMaxBufferedBody        = 1 << 20
)

// A Transport is an [http.RoundTripper] that has a uWSGI server, or whatever
// else speaks its protocol, answer requests. With
// [net/http/httputil.ReverseProxy] it lets a Go program take nginx's place:
//
//	proxy := &httputil.ReverseProxy{
//		Rewrite: func(r *httputil.ProxyRequest) {
//			r.Out.Host = r.In.Host // for HTTP_HOST
//		},
//		Transport: &uwsgi.Transport{Network: "unix", Address: "/run/shop.sock"},
//	}
//
// Every request has a connection of its own, as the protocol wants it. The
// host of the request's URL doesn't matter. The application sees as the
// client what is in the request's RemoteAddr, TLS and Host, which ReverseProxy
// takes from the request that it got.
//
// # Variables
//
// The variables of a request are REQUEST_METHOD, REQUEST_URI, PATH_INFO
// (percent-decoded), QUERY_STRING, SERVER_PROTOCOL, SERVER_NAME and SERVER_PORT
// (from Host), REQUEST_SCHEME and, under TLS, HTTPS=on; where there are such,
// CONTENT_TYPE, CONTENT_LENGTH, REMOTE_ADDR and REMOTE_PORT; and for every
// header its HTTP_ variable. A repeated header becomes one, joined with a
// comma, Cookie with a semicolon. Headers whose name has an underscore, which
// could pass for others, are not sent, and neither is Proxy (httpoxy). The
// request counts as one under TLS if it has a TLS state or its URL the scheme
// https.
//
// The protocol allows 65,535 bytes of variables (MaxVars), and uWSGI allows
// 4,096 unless its option buffer-size says more: it then drops the connection,
// which is a *ProtocolError.
//
// # Bodies
//
// Bodies stream both ways, and a response may begin while the request's body
// is still being sent. uWSGI has to know a body's length beforehand:
// its way to take chunks reaches only applications that call
// uwsgi.chunked_read. A body of unknown length is therefore read into memory
// first, up to MaxBufferedBody.
//
// # Errors
//
// The body of a request that could not be read gives that error. If the
// request's context ends, the connection is closed and the error is the
// context's cause. Otherwise, to be told apart by [errors.As]: a
// *net.OpError whose Op is "dial" where the server could not be
// reached, which is then not within a *ProtocolError; an *http.MaxBytesError
// for a body of unknown length over the limit; a *ProtocolError for all that
// went wrong after dialling, and for requests that have no form in the protocol.
// Errors in reading a response's body are not wrapped: a body shorter than its
// Content-Length gives io.ErrUnexpectedEOF.
//
// A Transport is safe for concurrent use. Its fields must not be changed while
// it is used.
type Transport struct {
	// Network and Address are those of net.Dial: "tcp" and "host:port", or
	// "unix" and a path. An empty Network means "unix" if Address has a slash,
	// else "tcp".
	Network, Address string

	// DialContext, if not nil, connects in place of net.Dialer. It gets
	// Network and Address.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)

	// DialTimeout is the time for connecting. Zero means
	// DefaultDialTimeout, less than zero no limit.
	DialTimeout time.Duration

	// ResponseHeaderTimeout is the time between the end of the request, with
	// its body, and the end of the response's header. Zero means no limit.
	ResponseHeaderTimeout time.Duration

	// MaxResponseHeaderBytes limits the response's status line and header.
	// Zero means DefaultMaxResponseHeaderBytes.
	MaxResponseHeaderBytes int64

	// MaxBufferedBody limits bodies of unknown length, in bytes. Zero means
	// DefaultMaxBufferedBody, less than zero that there may be none.
	MaxBufferedBody int64

	// Vars, if not nil, gives variables for a request over those made of it:
	// SCRIPT_NAME, REMOTE_USER, UWSGI_SCHEME and others. If it gives
	// SCRIPT_NAME and not PATH_INFO, a path that begins with SCRIPT_NAME
	// loses it in PATH_INFO.
	Vars func(*http.Request) map[string]string
}

// A ProtocolError is trouble with a server that was reached, or with a
// request that can't be put to one.
type ProtocolError struct {
	Op  string // "build request", "write request" or "read response"
	Err error
}

func (e *ProtocolError) Error() string { return "uwsgi: " + e.Op + ": " + e.Err.Error() }

func (e *ProtocolError) Unwrap() error { return e.Err }

// Timeout reports whether the time for something ran out, such as
// ResponseHeaderTimeout.
func (e *ProtocolError) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.As(e.Err, &t) && t.Timeout()
}

// RoundTrip sends a request, and returns the response when its header has been
// read. The response's Body must be closed.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	body := r.Body
	if body == http.NoBody {
		body = nil
	}
	closeBody := sync.OnceFunc(func() {
		if body != nil {
			_ = body.Close()
		}
	})
	if r.URL == nil {
		closeBody()
		return nil, &ProtocolError{"build request", errors.New("no URL")}
	}
	var content io.Reader = body
	length := r.ContentLength
	switch {
	case body == nil:
		length = 0
	case length < 0 || length == 0: // unknown (see http.Request.ContentLength)
		buffered, err := t.buffer(body)
		if err != nil {
			closeBody()
			return nil, err
		}
		content, length = bytes.NewReader(buffered), int64(len(buffered))
	}
	packet, err := t.packet(r, length)
	if err != nil {
		closeBody()
		return nil, &ProtocolError{"build request", err}
	}
	conn, err := t.dial(r.Context())
	if err != nil {
		closeBody()
		if r.Context().Err() != nil {
			return nil, context.Cause(r.Context())
		}
		return nil, fmt.Errorf("uwsgi: no connection to the server: %w", err)
	}
	e := &exchange{conn: conn, ctx: r.Context(), closeBody: closeBody, headerTimeout: t.ResponseHeaderTimeout}
	e.stop = context.AfterFunc(e.ctx, func() { _ = conn.Close() })
	go e.send(packet, content, length)
	response, err := e.receive(r, cmp.Or(t.MaxResponseHeaderBytes, DefaultMaxResponseHeaderBytes))
	if err != nil {
		e.close()
		return nil, err
	}
	return response, nil
}

func (t *Transport) buffer(body io.Reader) ([]byte, error) {
	limit := max(cmp.Or(t.MaxBufferedBody, DefaultMaxBufferedBody), 0)
	var b bytes.Buffer
	n, err := b.ReadFrom(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("uwsgi: the request's body: %w", err)
	}
	if n > limit {
		return nil, fmt.Errorf("uwsgi: a body of unknown length must be held in memory: %w", &http.MaxBytesError{Limit: limit})
	}
	return b.Bytes(), nil
}

func (t *Transport) dial(ctx context.Context) (net.Conn, error) {
	if timeout := cmp.Or(t.DialTimeout, DefaultDialTimeout); timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	network := t.Network
	if network == "" {
		network = "tcp"
		for i := range len(t.Address) {
			if t.Address[i] == '/' {
				network = "unix"
			}
		}
	}
	if t.DialContext != nil {
		return t.DialContext(ctx, network, t.Address)
	}
	var d net.Dialer
	return d.DialContext(ctx, network, t.Address)
}

// An exchange is one request and its response.
type exchange struct {
	conn          net.Conn
	ctx           context.Context
	stop          func() bool // no longer watch ctx
	closeBody     func()      // of the request, once
	headerTimeout time.Duration

	mu       sync.Mutex
	sent     bool  // send has returned
	received bool  // the response's header was, or never will be
	sendErr  error // of writing
	bodyErr  error // of the request's body
}

// send writes the request. It runs beside receive, and ends when the
// connection is closed, or the body gives an error.
func (e *exchange) send(packet []byte, body io.Reader, length int64) {
	defer func() {
		e.mu.Lock()
		e.sent = true
		e.mu.Unlock()
		e.closeBody()
	}()
	_, err := e.conn.Write(packet)
	if err == nil && length > 0 {
		source := &bodySource{r: body}
		var n int64
		n, err = io.CopyN(e.conn, source, length)
		switch {
		case source.err != nil:
			e.failBody(fmt.Errorf("uwsgi: the request's body: %w", source.err))
			return
		case err == io.EOF:
			e.failBody(&ProtocolError{"write request", fmt.Errorf("the body has %d bytes, where ContentLength is %d", n, length)})
			return
		case err == nil:
			// Only now the reader knows that its body is at its end: a
			// server watches for its client's departure from there on.
			if n, _ := io.ReadFull(body, make([]byte, 1)); n > 0 {
				e.failBody(&ProtocolError{"write request", fmt.Errorf("the body is longer than its ContentLength %d", length)})
				return
			}
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	// After an error there may still be a response: a server that refuses a
	// body doesn't read it.
	e.sendErr = err
	if err == nil && !e.received && e.headerTimeout > 0 {
		_ = e.conn.SetReadDeadline(time.Now().Add(e.headerTimeout))
	}
}

// failBody gives up a request whose body is not what it was to be.
func (e *exchange) failBody(err error) {
	e.mu.Lock()
	e.bodyErr = err
	e.mu.Unlock()
	_ = e.conn.Close()
}

// A bodySource remembers that it was reading that failed, not writing.
type bodySource struct {
	r   io.Reader
	err error
}

func (s *bodySource) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

const maxInformational = 5

var (
	errHeaderSize = errors.New("the response's header is too long")
	errUpgrade    = errors.New("the server wants to switch protocols")
	errInfo       = errors.New("too many informational responses")
)

// receive reads the response's header.
func (e *exchange) receive(r *http.Request, maxHeader int64) (*http.Response, error) {
	limited := &io.LimitedReader{R: e.conn, N: maxHeader}
	br := bufio.NewReader(limited)
	for range maxInformational + 1 {
		response, err := http.ReadResponse(br, r)
		if err != nil {
			if limited.N <= 0 {
				err = errHeaderSize
			}
			return nil, e.responseError(err)
		}
		if err := checkHeader(response.Header); err != nil {
			return nil, e.responseError(err)
		}
		switch {
		case response.StatusCode == http.StatusSwitchingProtocols:
			return nil, e.responseError(errUpgrade)
		case response.StatusCode >= 200:
			limited.N = 1<<63 - 1
			e.mu.Lock()
			e.received = true
			_ = e.conn.SetReadDeadline(time.Time{})
			e.mu.Unlock()
			response.Close = true
			if response.Body == http.NoBody {
				e.close()
			} else {
				response.Body = &responseBody{exchange: e, r: response.Body}
			}
			return response, nil
		case response.StatusCode < 100:
			return nil, e.responseError(fmt.Errorf("status %d", response.StatusCode))
		}
	}
	return nil, e.responseError(errInfo)
}

// checkHeader refuses what a header that is sent on must not have.
func checkHeader(h http.Header) error {
	for name, values := range h {
		if !rfc9110.IsToken(name) {
			return fmt.Errorf("bad header name %.40q", name)
		}
		for _, value := range values {
			if !isFieldValue(value) {
				return fmt.Errorf("control character in the header %.40q", name)
			}
		}
	}
	return nil
}

// responseError finds the reason why there is no response.
func (e *exchange) responseError(err error) error {
	if e.ctx.Err() != nil {
		return context.Cause(e.ctx)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.received = true
	switch {
	case e.bodyErr != nil:
		return e.bodyErr
	case e.sendErr != nil:
		return &ProtocolError{"write request", e.sendErr}
	}
	return &ProtocolError{"read response", err}
}

func (e *exchange) close() {
	e.stop()
	_ = e.conn.Close()
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.sent {
		// It may wait for more of the body. Closing that may block, as it does
		// for a body of net/http's server.
		go e.closeBody()
	}
}

// A responseBody closes the connection at its end.
type responseBody struct {
	exchange *exchange
	r        io.Reader

	mu  sync.Mutex // of err
	err error      // what Read returns from now on
}

var errBodyClosed = errors.New("uwsgi: read on closed response body")

func (b *responseBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	err := b.err
	b.mu.Unlock()
	if err != nil {
		return 0, err
	}
	n, err := b.r.Read(p)
	if err == nil {
		return n, nil
	}
	if err != io.EOF {
		b.exchange.mu.Lock()
		bodyErr := b.exchange.bodyErr
		b.exchange.mu.Unlock()
		if b.exchange.ctx.Err() != nil {
			err = context.Cause(b.exchange.ctx)
		} else if bodyErr != nil {
			err = bodyErr
		}
	}
	return n, b.end(err)
}

// Close closes the connection, and with it ends the request.
func (b *responseBody) Close() error {
	b.end(errBodyClosed)
	return nil
}

// end settles what Read returns from now on.
func (b *responseBody) end(err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
		b.exchange.close()
	}
	return b.err
}
