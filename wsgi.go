// Package wsgi serves Python WSGI applications from a Go program: Handler
// makes an http.Handler of a Django, Flask or any other PEP 3333 application,
// which runs in the same process, in a pool of Python interpreters.
//
//	mux := http.NewServeMux()
//	mux.HandleFunc("GET /api/v2/orders", orders)              // Go
//	mux.Handle("/", wsgi.Handler("shop.wsgi", "application")) // Python
//	log.Fatal(http.ListenAndServe(":8080", mux))
//
// The program is built without Python: the shared library of a CPython from
// 3.9 on is loaded when the first application starts. See WithPython for how
// it is found.
//
// An application sees each request as PEP 3333 describes it, whatever the
// server in front of the handler: HTTP/1, HTTP/2, TLS. Nothing that it does
// ends the program, except a crash in an extension module: exceptions become
// 500 answers and log records, and never reach a client as text.
package wsgi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/seed-a2d07992/wsgi/forwarded"
	"github.com/seed-a2d07992/wsgi/pool"
)

// An App is a WSGI application in its interpreters. It is an http.Handler, and
// safe for concurrent use.
type App struct {
	pool       *pool.Pool
	log        *slog.Logger
	proxies    *forwarded.Proxies
	environ    environConfig
	bodyBuffer int
}

// Handler is New for a line that mounts an application. Where it can't be
// started, the reason is logged and every request answered 500, while the
// other routes go on. The application ends with the process; a program that
// wants Python's exit handlers to run, or that wants to know about the error,
// uses New.
func Handler(module, callable string, opts ...Option) http.Handler {
	c, err := configure(module, callable, opts)
	if err == nil {
		var app *App
		if app, err = c.start(); err == nil {
			return app
		}
	}
	c.pool.Logger.Error("wsgi: the application could not be started, and every request will be answered 500", "error", err)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
	})
}

// New starts an application.
//
// module is a dotted module name ("shop.wsgi"), looked up on sys.path, or the
// path of a file, which it is taken for if it contains a separator or ends in
// .py ("app.py", "./shop.wsgi"). callable names the application in it: a name,
// a dotted name ("site.application"), or a factory to call without arguments
// ("create_app()").
//
// New returns when the application is loaded in every interpreter. Where that
// fails the error holds the Python traceback. Options that are out of range or
// contradict each other are errors that name the option.
func New(module, callable string, opts ...Option) (*App, error) {
	c, err := configure(module, callable, opts)
	if err != nil {
		return nil, err
	}
	return c.start()
}

// configure applies the options. Where one is at fault the config is still good
// for its logger.
func configure(module, callable string, opts []Option) (*config, error) {
	c := &config{bodyBuffer: DefaultBodyBuffer}
	c.pool.Module, c.pool.Callable = module, callable
	c.pool.Logger = slog.Default()
	errs := []error{checkNames(module, callable)}
	for _, opt := range opts {
		if opt == nil {
			errs = append(errs, errors.New("an option is nil"))
		} else {
			errs = append(errs, opt(c))
		}
	}
	for _, err := range errs {
		if err != nil {
			return c, fmt.Errorf("wsgi: %w", err)
		}
	}
	return c, nil
}

func (c *config) start() (*App, error) {
	p, err := pool.New(c.pool)
	if err != nil {
		return nil, fmt.Errorf("wsgi: %w", err)
	}
	return &App{
		pool:       p,
		log:        c.pool.Logger,
		proxies:    c.proxies,
		environ:    c.environ,
		bodyBuffer: c.bodyBuffer,
	}, nil
}

// checkNames finds the mistakes that would only show as odd import errors.
func checkNames(module, callable string) error {
	switch {
	case module == "":
		return errors.New("the module is empty: name a module such as \"shop.wsgi\" or a file such as \"./shop.wsgi\"")
	case strings.Contains(module, ":"):
		return fmt.Errorf("the module %q has a colon: module and callable are two arguments here", module)
	case strings.ContainsRune(module, 0) || strings.ContainsRune(callable, 0):
		return errors.New("a name contains a NUL byte")
	case callable == "":
		return errors.New("the callable is empty: name the application in the module, such as \"application\"")
	}
	for part := range strings.SplitSeq(strings.TrimSuffix(callable, "()"), ".") {
		if part == "" || strings.ContainsAny(part, "()[]{} ,;'\"") {
			return fmt.Errorf("the callable %q is neither a (dotted) name nor a factory call such as \"create_app()\"", callable)
		}
	}
	return nil
}

// Shutdown ends the application without interrupting it, like
// http.Server.Shutdown, which comes before it: new requests are answered 503,
// those in flight and in the queue are waited for; then the functions that
// Python code registered with atexit run, output is flushed, and interpreters
// and threads end. If ctx ends first, its error is returned, and the rest is
// done when the last request is over.
func (a *App) Shutdown(ctx context.Context) error { return a.pool.Shutdown(ctx) }

// Close ends the application like Shutdown, but without patience: requests in
// the queue are answered 503, and those in flight have lost their client, so
// that a stream ends at its next chunk. It still waits for the application to
// return from each of them, since Python code can't be interrupted safely, and
// for a write to a client that does not read, which http.Server.Close or its
// WriteTimeout ends: close the server first.
func (a *App) Close() error { return a.pool.Close() }

// Stats returns counters and gauges of the application's interpreters and
// queue.
func (a *App) Stats() pool.Stats { return a.pool.Stats() }

// ServeHTTP answers a request with the application. It returns when the
// application is done with it, close() included.
func (a *App) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call, err := a.pool.Get()
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	defer call.Release()
	r = a.proxies.Request(r)
	e := exchange{app: a, w: w, r: r, call: call, control: http.NewResponseController(w)}
	if err := a.environ.build(&call.Environ, r); err != nil {
		e.logRecord(slog.LevelError, err.Error())
		e.answer(http.StatusInternalServerError)
		return
	}
	if call.Environ.Err() != nil {
		e.answer(http.StatusRequestHeaderFieldsTooLarge)
		return
	}
	if !e.openBody() {
		return
	}
	defer e.closeBody()
	_, underServer := r.Context().Value(http.ServerContextKey).(*http.Server)
	call.Configure(e.bodyLength(), r.Method == http.MethodHead, underServer && r.ProtoAtLeast(1, 1) && passesHints(w))
	if err := call.Start(); err != nil {
		a.refuse(w, r, err)
		return
	}
	e.run()
}

// refuse answers a request that no interpreter will see.
func (a *App) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status := http.StatusServiceUnavailable
	switch {
	case errors.Is(err, pool.ErrQueueFull):
		w.Header().Set("Retry-After", "1")
	case !errors.Is(err, pool.ErrClosed):
		status = http.StatusInternalServerError
		a.log.ErrorContext(r.Context(), "wsgi: a request can't be started", "error", err, "method", r.Method, "uri", r.RequestURI)
	}
	http.Error(w, http.StatusText(status), status)
}
