package uwsgi

import (
	"context"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// ErrServerClosed is what Serve returns after Shutdown or Close.
var ErrServerClosed = http.ErrServerClosed

// Serve accepts connections on the listener l, reads a request from each and
// calls handler to answer it. If handler is nil, [http.DefaultServeMux] is
// used. Serve always returns an error, the one for which it stopped accepting.
//
// There are no limits in time: see [Server] for those and for a way to end.
//
//	l, err := net.Listen("unix", "/run/shop/uwsgi.sock")
//	...
//	log.Fatal(uwsgi.Serve(l, mux))
//
// where nginx has, as for uWSGI,
//
//	location / {
//		include uwsgi_params;
//		uwsgi_pass unix:/run/shop/uwsgi.sock;
//	}
func Serve(l net.Listener, handler http.Handler) error {
	s := &Server{Handler: handler}
	return s.Serve(l)
}

// A Server answers uwsgi requests with an [http.Handler]. Its zero value is
// ready to use. Fields must not be changed once it serves.
//
// A handler finds in [http.Request] what it would under net/http's own server,
// and in [ProcessEnv] all that the web server sent. The request's context ends
// when the handler returns and when the client goes, which is noticed once the
// body has been read: nginx then closes the connection unless it has
// uwsgi_ignore_client_abort. Its [http.ServerContextKey] is a [http.Server]
// that the Server uses for HTTP's rules.
//
// The [http.ResponseWriter] does what net/http's does. It is an
// [http.Flusher], an [io.ReaderFrom] that uses sendfile where it can, and
// works with [http.ResponseController], except that a connection can't be
// hijacked. Informational answers (1xx) are dropped, because nginx takes the
// first header it gets for the response's.
//
// # Broken responses
//
// A handler that panics, be it with [http.ErrAbortHandler], ends its response
// and nothing else. Where it had a Content-Length, nginx sees that the body is
// too short. Where it hadn't, the end of the connection is the end of the
// body, and a broken response looks like a whole one: on TCP the connection is
// therefore reset, upon which nginx breaks its own response off. A Unix
// socket knows no reset, so a handler whose broken responses must be seen there
// has to set Content-Length. The same goes for responses that WriteTimeout or
// Close cuts off.
//
// # Bad requests
//
// A packet that isn't uwsgi's, has another modifier, variables which run over
// its end, without a name or with a NUL, or values which make no request, is
// answered with 400; more variables than MaxVarsBytes with 431; a request
// with Transfer-Encoding and no CONTENT_LENGTH, as nginx never sends one, with
// 411. One that ends early or comes too late is dropped without an answer.
// All are logged, none reaches the handler.
type Server struct {
	Handler http.Handler // nil means http.DefaultServeMux

	// ReadTimeout is the time for reading a request with its body, from the
	// connection's start. ReadHeaderTimeout is that for the variables
	// alone; if it is zero, ReadTimeout counts. WriteTimeout is the time
	// from there to the response's end. Zero means no limit.
	//
	// nginx sends the variables at once and with uwsgi_request_buffering,
	// its default, the body too. A handler can set other limits for its
	// request by http.ResponseController.
	ReadTimeout       time.Duration
	ReadHeaderTimeout time.Duration
	WriteTimeout      time.Duration

	// MaxVarsBytes limits the variables of a request. Zero means MaxVars,
	// which is also the most there can be. uWSGI's default is 4,096 (its
	// option buffer-size).
	MaxVarsBytes int

	// ErrorLog gets a line for each bad request, each panic and each error
	// in accepting. If nil, it is the log package's standard logger.
	// slog.NewLogLogger makes one for an slog.Handler.
	ErrorLog *log.Logger

	// BaseContext and ConnContext give the contexts from which those of
	// requests derive, as with http.Server. Neither may return nil.
	BaseContext func(net.Listener) context.Context
	ConnContext func(ctx context.Context, c net.Conn) context.Context

	once   sync.Once
	inner  *http.Server
	closed atomic.Bool
}

// Serve accepts connections on l until Shutdown or Close is called, when it
// returns ErrServerClosed, or until accepting fails for good. It closes l. A
// Server can serve several listeners at a time.
func (s *Server) Serve(l net.Listener) error {
	return s.http().Serve(&listener{l, s})
}

// Shutdown closes the listeners, waits until every request is answered, and
// returns nil; or until ctx ends, and returns its error. Connections that
// have sent no request for five seconds are not waited for. As with
// http.Server, a program must wait for Shutdown, not for Serve, which returns
// at once.
func (s *Server) Shutdown(ctx context.Context) error {
	return s.http().Shutdown(ctx)
}

// Close closes the listeners and all connections. It doesn't wait for
// handlers, whose contexts end. On TCP, nginx sees that responses in progress
// are broken.
func (s *Server) Close() error {
	s.closed.Store(true)
	return s.http().Close()
}

// http returns the server that does the work. A uwsgi connection is, but for
// its first packet, one of HTTP/1.0: so a conn translates that, and leaves the
// rest of it, such as the body's end, timeouts, watching for the client's
// departure and closing without losing the response, to where it has been
// right for years.
func (s *Server) http() *http.Server {
	s.once.Do(func() {
		s.inner = &http.Server{
			Handler:           http.HandlerFunc(s.serve),
			ReadTimeout:       s.ReadTimeout,
			ReadHeaderTimeout: s.ReadHeaderTimeout,
			WriteTimeout:      s.WriteTimeout,
			ErrorLog:          s.ErrorLog,
			BaseContext:       s.BaseContext,
			ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
				c := nc.(*conn)
				if s.ConnContext != nil {
					ctx = s.ConnContext(ctx, c.Conn)
				}
				return context.WithValue(ctx, connKey{}, c)
			},
			Protocols: new(http.Protocols),
		}
		s.inner.Protocols.SetHTTP1(true)
	})
	return s.inner
}

type connKey struct{}

// serve is the handler of the inner server.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	c := r.Context().Value(connKey{}).(*conn)
	if c.refused != 0 {
		http.Error(w, http.StatusText(c.refused), c.refused)
		c.linger.Store(true)
		return
	}
	rw := &response{w: w, rc: http.NewResponseController(w)}
	whole := false
	defer func() { // without recover, so that the log shows where it panicked
		if !whole && w.Header().Get("Content-Length") == "" {
			c.broken.Store(true)
		}
	}()
	handler := s.Handler
	if handler == nil {
		handler = http.DefaultServeMux
	}
	handler.ServeHTTP(rw, c.head.request(r))
	whole = true
	c.linger.Store(c.unread.Load() > 0)
}

func (s *Server) logf(format string, args ...any) {
	if s.ErrorLog != nil {
		s.ErrorLog.Printf(format, args...)
	} else {
		log.Printf(format, args...)
	}
}

func (s *Server) maxVars() int {
	if s.MaxVarsBytes <= 0 || s.MaxVarsBytes > MaxVars {
		return MaxVars
	}
	return s.MaxVarsBytes
}

// A listener makes a conn of every connection.
type listener struct {
	net.Listener
	server *Server
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newConn(c, l.server), nil
}
