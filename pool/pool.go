// Package pool runs a WSGI application in Python interpreters inside the
// process and hands requests to their worker threads.
//
// Package wsgi is what most programs use: it makes an http.Handler of a pool.
// A program that imports this package does so for its types, such as Stats.
package pool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/seed-a2d07992/wsgi/internal/cpython"
)

var (
	// ErrQueueFull is returned for a request that finds the queue full.
	ErrQueueFull = errors.New("wsgi: the queue is full")

	// ErrClosed is returned for requests after Shutdown or Close.
	ErrClosed = errors.New("wsgi: the application is shut down")
)

// A LoadError says that an application could not be loaded into its
// interpreter.
type LoadError struct {
	Module, Callable string
	Reason           string // one line, or a Python traceback of many
}

func (e *LoadError) Error() string {
	return fmt.Sprintf("loading %s from %s: %s", e.Callable, e.Module, e.Reason)
}

// An Isolation says which kind of interpreter an application runs in.
type Isolation int

const (
	// Auto takes OwnGIL on CPython 3.13 and later, and Main on older ones.
	Auto Isolation = iota

	// OwnGIL gives the application sub-interpreters, each with a GIL of its
	// own: they run in parallel and share nothing with other applications. It
	// takes CPython 3.13 or later, and extension modules that allow it.
	OwnGIL

	// Main runs the application on several threads of the main interpreter.
	// Every extension module works. All applications in this mode share one
	// interpreter, its modules and its GIL.
	Main

	// SharedGIL gives the application one sub-interpreter with several
	// threads. Modules are its own, but the GIL is shared with the main
	// interpreter: isolation without parallelism, on every version.
	SharedGIL
)

// String returns the name of the constant.
func (i Isolation) String() string {
	switch i {
	case Auto:
		return "Auto"
	case OwnGIL:
		return "OwnGIL"
	case Main:
		return "Main"
	case SharedGIL:
		return "SharedGIL"
	}
	return fmt.Sprintf("Isolation(%d)", int(i))
}

// Config describes a pool. Zero values stand for the defaults that the options
// of package wsgi document.
type Config struct {
	Module, Callable string
	Python           string
	Path             []string
	Env              map[string]string
	Isolation        Isolation
	Interpreters     int
	Threads          int
	Queue            int
	ResponseBuffer   int
	Logger           *slog.Logger
}

// The defaults and limits of a Config.
const (
	DefaultQueue          = 1024
	DefaultResponseBuffer = 1 << 20
	maxInterpreters       = 256
	maxThreads            = 1024
)

// A Pool is an application in its interpreters.
type Pool struct {
	config      Config
	isolation   Isolation
	log         *slog.Logger
	completions *cpython.Completions
	collected   chan struct{} // closed when the collector has returned
	members     []*member

	calls atomic.Pointer[[]*Call] // by slot; only grows, under mu

	mu       sync.Mutex
	free     []*Call
	spare    []uint64 // slots without a call
	queue    callList
	queued   int
	inFlight int
	closed   bool
	idle     chan struct{} // closed once closed is set and nothing is in flight
	closing  chan struct{} // closed by Close: clients are given up

	rejected uint64
	stop     sync.Once
	stopped  chan struct{}
	stopErr  error
}

// A member is one interpreter of a pool; its counts are guarded by Pool.mu.
type member struct {
	interpreter        *cpython.Interpreter
	inFlight, capacity int
	requests, errors   uint64
}

// New finds and starts Python, if nobody has yet, and starts the interpreters
// with the application loaded in each. The error carries the Python traceback
// where the application can't be imported.
func New(config Config) (*Pool, error) {
	if !cpython.Supported {
		return nil, cpython.ErrUnsupported
	}
	inst, err := cpython.Find(config.Python)
	if err != nil {
		return nil, err
	}
	p := &Pool{
		config:    config,
		log:       config.Logger,
		collected: make(chan struct{}),
		idle:      make(chan struct{}),
		closing:   make(chan struct{}),
		stopped:   make(chan struct{}),
	}
	if err := p.complete(inst.Version); err != nil {
		return nil, err
	}
	settings, err := p.settings(inst)
	if err != nil {
		return nil, err
	}
	rt, err := cpython.Start(inst)
	if err != nil {
		return nil, err
	}
	if rt.Joined {
		settings = append(settings, "joined", "1")
	}
	if p.completions, err = cpython.NewCompletions(); err != nil {
		return nil, err
	}
	p.calls.Store(new([]*Call))
	if err := p.start(rt, settings); err != nil {
		p.completions.Close()
		p.completions.Free()
		return nil, err
	}
	go p.collect()
	return p, nil
}

// complete checks the config and fills in defaults.
func (p *Pool) complete(version cpython.Version) error {
	c := &p.config
	if p.log == nil {
		p.log = slog.Default()
	}
	p.isolation = c.Isolation
	switch {
	case c.Isolation == Auto && version.AtLeast(3, 13):
		p.isolation = OwnGIL
	case c.Isolation == Auto:
		p.isolation = Main
		p.log.Info("wsgi: the application runs in the main interpreter: an interpreter with its own GIL takes Python 3.13 or later", "python", version.String())
	case c.Isolation == OwnGIL && !version.AtLeast(3, 13):
		return fmt.Errorf("WithIsolation(OwnGIL) takes Python 3.13 or later, and this is %v: use Main, or SharedGIL", version)
	case c.Isolation < Auto || c.Isolation > SharedGIL:
		return fmt.Errorf("WithIsolation: there is no mode %d", int(c.Isolation))
	}
	if p.isolation != OwnGIL {
		if c.Interpreters > 1 {
			return fmt.Errorf("WithInterpreters(%d): isolation mode %v has one interpreter; use WithThreads", c.Interpreters, p.isolation)
		}
		c.Interpreters = 1
	}
	if c.Interpreters == 0 {
		c.Interpreters = runtime.GOMAXPROCS(0)
	}
	if c.Threads == 0 {
		c.Threads = 4
		if p.isolation != OwnGIL {
			c.Threads = max(8, 4*runtime.GOMAXPROCS(0))
		}
	}
	if c.Interpreters > maxInterpreters {
		return fmt.Errorf("WithInterpreters(%d): at most %d", c.Interpreters, maxInterpreters)
	}
	if c.Threads > maxThreads {
		return fmt.Errorf("WithThreads(%d): at most %d", c.Threads, maxThreads)
	}
	if c.Queue == 0 {
		c.Queue = DefaultQueue
	}
	if c.ResponseBuffer == 0 {
		c.ResponseBuffer = DefaultResponseBuffer
	}
	return nil
}

// settings is what bootstrap.py is told.
func (p *Pool) settings(inst *cpython.Installation) ([]string, error) {
	c := &p.config
	s := []string{
		"module", c.Module,
		"callable", c.Callable,
		"argv", c.Module,
		"executable", inst.Executable,
		"base_executable", inst.BaseExecutable,
		"prefix", inst.Prefix,
		"exec_prefix", inst.ExecPrefix,
		"multithread", flag(c.Threads > 1),
		"multiprocess", flag(c.Interpreters > 1),
	}
	add := func(key string, values ...string) {
		for _, v := range values {
			s = append(s, key, v)
		}
	}
	add("stdlib_path", inst.StdlibPath...)
	add("site_dir", inst.SiteDirs...)
	if v := os.Getenv("PYTHONPATH"); v != "" {
		add("python_path", filepath.SplitList(v)...)
	}
	for _, dir := range c.Path {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, fmt.Errorf("WithPath(%q): %w", dir, err)
		}
		info, err := os.Stat(abs)
		if err != nil {
			return nil, fmt.Errorf("WithPath(%q): %w", dir, err)
		}
		if !info.IsDir() && filepath.Ext(abs) != ".zip" {
			return nil, fmt.Errorf("WithPath(%q): it is neither a directory nor a .zip", dir)
		}
		add("path", abs)
	}
	if isFile(c.Module) {
		file, err := filepath.Abs(c.Module)
		if err != nil {
			return nil, err
		}
		if _, err := os.Stat(file); err != nil {
			return nil, fmt.Errorf("the application's file: %w", err)
		}
		add("module_file", file)
		add("path", filepath.Dir(file))
	} else if len(c.Path) == 0 {
		dir, err := os.Getwd()
		if err != nil {
			return nil, err
		}
		add("path", dir)
	}
	add("environ", os.Environ()...)
	for key, value := range c.Env {
		if key == "" || strings.ContainsAny(key, "=\x00") || strings.Contains(value, "\x00") {
			return nil, fmt.Errorf("WithEnv: %q=%q can't be an environment variable", key, value)
		}
		add("with_env", key+"="+value)
	}
	return s, nil
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return ""
}

// isFile reports whether a module is named by its path.
func isFile(module string) bool {
	return strings.ContainsAny(module, `/`+string(filepath.Separator)) || strings.HasSuffix(module, ".py")
}

// start makes the interpreters and starts them in parallel. The first error
// stops those that did start.
func (p *Pool) start(rt *cpython.Runtime, settings []string) error {
	c := &p.config
	var interpreters []*cpython.Interpreter
	free := func() {
		for _, it := range interpreters {
			it.Free()
		}
	}
	for i := range c.Interpreters {
		it, err := rt.NewInterpreter(p.completions, cpython.InterpreterConfig{
			Isolation: map[Isolation]cpython.Isolation{
				OwnGIL: cpython.OwnGIL, Main: cpython.Main, SharedGIL: cpython.SharedGIL,
			}[p.isolation],
			Number:   i,
			Threads:  c.Threads,
			Settings: settings,
			Keys:     wellKnownKeys,
		})
		if err != nil {
			free()
			return err
		}
		interpreters = append(interpreters, it)
	}
	for _, it := range interpreters {
		if err := it.SetPeers(interpreters); err != nil {
			free()
			return err
		}
	}
	var group errgroup.Group
	started := make([]bool, len(interpreters))
	for i, it := range interpreters {
		group.Go(func() error {
			if err := it.Start(); err != nil {
				return err
			}
			started[i] = true
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		for i, it := range interpreters {
			if started[i] {
				p.stopInterpreter(it)
			}
		}
		free()
		return &LoadError{Module: c.Module, Callable: c.Callable, Reason: err.Error()}
	}
	for _, it := range interpreters {
		// As many requests as it has threads, and as many again that wait at
		// hand, so that a worker that is done need not wait for Go.
		p.members = append(p.members, &member{interpreter: it, capacity: 2 * c.Threads})
	}
	return nil
}

func (p *Pool) stopInterpreter(it *cpython.Interpreter) {
	if err := it.Stop(); err != nil {
		p.log.Warn("wsgi: an interpreter could not be ended and stays in memory", "reason", err.Error())
	}
}

// Shutdown takes no more requests, waits for those in flight and in the queue,
// runs Python's exit handlers and ends the interpreters. If ctx ends first its
// error is returned, and the rest is done in the background when the last
// request is over. Further calls wait likewise.
func (p *Pool) Shutdown(ctx context.Context) error {
	p.close()
	p.stop.Do(func() { go p.end() })
	select {
	case <-p.stopped:
		return nil
	case <-ctx.Done():
		select {
		case <-p.stopped: // both: what was asked for is done
			return nil
		default:
			return ctx.Err()
		}
	}
}

// Close is Shutdown without patience: requests in the queue are refused, those
// in flight see their client as gone, so that streams end. It still waits for
// the application to return from each, since Python code can't be interrupted.
func (p *Pool) Close() error {
	p.close()
	p.mu.Lock()
	var waiting []*Call
	for call := p.queue.pop(); call != nil; call = p.queue.pop() {
		p.queued--
		waiting = append(waiting, call)
	}
	select {
	case <-p.closing:
	default:
		close(p.closing)
	}
	p.mu.Unlock()
	for _, call := range waiting {
		call.fail(ErrClosed)
	}
	return p.Shutdown(context.Background())
}

func (p *Pool) close() {
	p.mu.Lock()
	p.closed = true
	p.checkIdle()
	p.mu.Unlock()
}

// checkIdle is called with mu held, wherever closed or inFlight may have
// become final.
func (p *Pool) checkIdle() {
	if p.closed && p.inFlight == 0 {
		select {
		case <-p.idle:
		default:
			close(p.idle)
		}
	}
}

// end waits until nothing is in flight and releases everything.
func (p *Pool) end() {
	<-p.idle
	var group sync.WaitGroup
	for _, m := range p.members {
		group.Go(func() { p.stopInterpreter(m.interpreter) })
	}
	group.Wait()
	p.completions.Close()
	<-p.collected
	for _, m := range p.members {
		m.interpreter.Free()
	}
	p.mu.Lock()
	for _, call := range p.free {
		call.request.Free()
	}
	p.free = nil
	p.mu.Unlock()
	p.completions.Free()
	close(p.stopped)
}

// collect tells each request's goroutine that there is something new for it.
func (p *Pool) collect() {
	defer close(p.collected)
	deliver := func(slot uint64, finished bool) {
		call := (*p.calls.Load())[slot]
		if finished {
			p.finished(call)
		}
		call.notify(finished)
	}
	for {
		if err := p.completions.Wait(); err != nil {
			return
		}
		p.completions.Drain(deliver)
	}
}
