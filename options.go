package wsgi

import (
	"fmt"
	"log/slog"
	"maps"
	"net/http"

	"github.com/seed-a2d07992/wsgi/forwarded"
	"github.com/seed-a2d07992/wsgi/pool"
)

// An Option changes how an App is made. The defaults serve: most applications
// need none, or WithPython and WithPath.
type Option func(*config) error

type config struct {
	pool       pool.Config
	environ    environConfig
	bodyBuffer int

	trusted []string // WithTrustedProxies
	proxies *forwarded.Proxies
}

// DefaultBodyBuffer is the size up to which a request's body is read before a
// worker is taken, where WithBodyBuffer says nothing.
const DefaultBodyBuffer = 64 << 10

// Isolation says which kind of interpreter an application runs in.
type Isolation = pool.Isolation

// The modes that WithIsolation takes; package pool describes them.
const (
	Auto      = pool.Auto
	OwnGIL    = pool.OwnGIL
	Main      = pool.Main
	SharedGIL = pool.SharedGIL
)

// WithPython chooses the Python to run: an interpreter (/usr/bin/python3.11,
// or a bare name that is looked up on PATH), a virtual environment, or an
// installation's prefix. Without it the first of these that is set decides:
// $WSGI_PYTHON, $VIRTUAL_ENV, python3 on PATH.
//
// The interpreter is asked where its shared library is, which is then loaded.
// All applications of a process share that library, but each may have a
// virtual environment of its own on it.
func WithPython(path string) Option {
	return func(c *config) error {
		if path == "" {
			return fmt.Errorf("WithPython: the path is empty")
		}
		c.pool.Python = path
		return nil
	}
}

// WithPath puts directories (or .zip files) first on sys.path, in this order.
// They must exist. Without it, the process's working directory comes first for
// an application that is named by its module. The directory of one that is
// named by its file follows the directories given here.
func WithPath(dirs ...string) Option {
	return func(c *config) error {
		for _, dir := range dirs {
			if dir == "" {
				return fmt.Errorf("WithPath: a directory is empty; the working directory is \".\"")
			}
		}
		c.pool.Path = append(c.pool.Path, dirs...)
		return nil
	}
}

// WithEnv adds variables to the application's os.environ, which starts as the
// process's environment. What an application assigns there stays in its own
// interpreter, and reaches the children that it starts with subprocess,
// multiprocessing, or os (system, popen, posix_spawn, and spawn and exec of all
// kinds); C code that calls getenv doesn't see it.
func WithEnv(env map[string]string) Option {
	return func(c *config) error {
		if c.pool.Env == nil {
			c.pool.Env = map[string]string{}
		}
		maps.Copy(c.pool.Env, env)
		return nil
	}
}

// WithIsolation chooses the kind of interpreter. The default is Auto.
func WithIsolation(mode Isolation) Option {
	return func(c *config) error {
		c.pool.Isolation = mode
		return nil
	}
}

// WithInterpreters sets how many interpreters run the application, from 1 to
// 256. The default is GOMAXPROCS under OwnGIL; the other modes have one.
// Each loads the application anew and takes memory for it.
func WithInterpreters(n int) Option {
	return func(c *config) error {
		if n < 1 {
			return fmt.Errorf("WithInterpreters(%d): at least 1", n)
		}
		c.pool.Interpreters = n
		return nil
	}
}

// WithThreads sets how many worker threads each interpreter has, from 1 to
// 1024: how many requests of one interpreter may wait for a database at the
// same time. With 1, wsgi.multithread is False and the application need not be
// thread-safe. The default is 8 under OwnGIL, and otherwise 4 for each of
// GOMAXPROCS, but 8 at least.
func WithThreads(n int) Option {
	return func(c *config) error {
		if n < 1 {
			return fmt.Errorf("WithThreads(%d): at least 1", n)
		}
		c.pool.Threads = n
		return nil
	}
}

// WithQueue sets how many requests may wait while all workers are busy. One
// that finds the queue full is answered 503 with Retry-After. The default is
// 1024. Up to twice as many requests as there are threads, and up to 64 for each
// interpreter where requests take microseconds, are not in this queue: they run,
// or wait at hand for a worker.
func WithQueue(n int) Option {
	return func(c *config) error {
		if n < 1 {
			return fmt.Errorf("WithQueue(%d): at least 1", n)
		}
		c.pool.Queue = n
		return nil
	}
}

// WithBodyBuffer sets up to which size, in bytes, a request's body is read
// before a worker is taken, so that a slow client occupies none. Larger
// bodies, those of unknown length, and those that the client holds back until
// it is told to go on (Expect: 100-continue) are streamed to the application
// while it reads, up to 1 MiB ahead of it. The default is DefaultBodyBuffer;
// 0 streams all bodies; the limit is 64 MiB.
func WithBodyBuffer(bytes int) Option {
	return func(c *config) error {
		if bytes < 0 || bytes > 64<<20 {
			return fmt.Errorf("WithBodyBuffer(%d): from 0 to 64 MiB", bytes)
		}
		c.bodyBuffer = bytes
		return nil
	}
}

// WithResponseBuffer sets how far, in bytes, the chunks of one response may run
// ahead of its client before the application waits. A list or tuple is taken
// whole, whatever its size, and files are not read ahead at all. The default
// is 1 MiB, the least 4 KiB.
func WithResponseBuffer(bytes int) Option {
	return func(c *config) error {
		if bytes < 4<<10 || bytes > 1<<30 {
			return fmt.Errorf("WithResponseBuffer(%d): from 4 KiB to 1 GiB", bytes)
		}
		c.pool.ResponseBuffer = bytes
		return nil
	}
}

// WithScriptName sets SCRIPT_NAME, the path that the application is mounted
// at: "/shop", or "" for the root. Where a request's path begins with it, that
// part is taken off PATH_INFO. Without this option, SCRIPT_NAME is the one that a
// web server in front of uwsgi.Serve gives, or what http.StripPrefix took off,
// behind the X-Forwarded-Prefix of a trusted proxy, or empty.
func WithScriptName(prefix string) Option {
	return func(c *config) error {
		if err := checkScriptName(prefix); err != nil {
			return fmt.Errorf("WithScriptName(%q): %w", prefix, err)
		}
		c.environ.scriptName, c.environ.hasScriptName = prefix, true
		return nil
	}
}

// WithTrustedProxies names the reverse proxies whose word is taken for what they
// hide: the client's address, scheme, host and path prefix. They are IP addresses
// ("127.0.0.1"), networks ("10.0.0.0/8"), and "unix" for whoever connects to a
// Unix socket. From these, the headers X-Forwarded-For, -Proto, -Host, -Port and
// -Prefix, or Forwarded (RFC 7239), become REMOTE_ADDR, wsgi.url_scheme and HTTPS,
// HTTP_HOST, SERVER_NAME and SERVER_PORT, and SCRIPT_NAME; from anybody else they
// change nothing. By default, and without arguments, nobody is trusted. Given
// twice, both sets are.
//
// Package forwarded says what of these headers is believed, and what the proxy
// should be told to set. Its middleware does the same for Go routes; where that
// stands before the whole service, this option isn't needed.
func WithTrustedProxies(proxies ...string) Option {
	return func(c *config) error {
		c.trusted = append(c.trusted, proxies...)
		trust, err := forwarded.Trust(c.trusted...)
		if err != nil {
			return fmt.Errorf("WithTrustedProxies: %w", err)
		}
		c.proxies = trust
		return nil
	}
}

// WithLogger sets where wsgi.errors, tracebacks and warnings go, each with the
// method, the URI and the remote address of its request. The default is
// slog.Default. wsgi.errors and exceptions are logged at the Error level, what
// was put right at Warn, clients that left at Debug.
func WithLogger(logger *slog.Logger) Option {
	return func(c *config) error {
		if logger == nil {
			return fmt.Errorf("WithLogger: the logger is nil; to discard logs use slog.New(slog.DiscardHandler)")
		}
		c.pool.Logger = logger
		return nil
	}
}

// WithEnviron lets Go code add to each request's environ, or replace what is
// there: REMOTE_USER from an authenticating middleware, keys of its own. The
// values are UTF-8 bytes, or any others, that Python sees as latin-1
// characters, as it does with all of the environ (PEP 3333, "Unicode Issues").
// The keys of wsgi.input and the like can't be replaced: that is logged, and
// the request answered 500.
//
// The function is called once for each request, on its goroutine. It must not
// read the body, nor keep set for later.
func WithEnviron(extra func(r *http.Request, set func(key, value string))) Option {
	return func(c *config) error {
		if extra == nil {
			return fmt.Errorf("WithEnviron: the function is nil")
		}
		c.environ.extra = extra
		return nil
	}
}
