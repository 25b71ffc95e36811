// Package pool runs a WSGI application in Python interpreters inside the
// process and hands requests to their worker threads.
//
// Package wsgi is what most programs use: it makes an http.Handler of a pool.
// A program that imports this package does so for its types, such as Stats.
package pool

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-a2d07992/wsgi/internal/cpython"
)

var (
	// ErrQueueFull is returned for a request that finds the queue full.
	ErrQueueFull = errors.New("wsgi: the queue is full")

	// ErrClosed is returned for requests after Shutdown or Close.
	ErrClosed = errors.New("wsgi: the application is shut down")
)

// A Pool is an application in its interpreters.
type Pool struct {
	config      Config
	isolation   Isolation // the mode in force
	threads     int
	completions *cpython.Completions
	refusals    *refusals
	warnings    sync.WaitGroup // of goroutines that log what the collector found
	collected   chan struct{}  // closed when the collector has returned
	members     []*member

	calls atomic.Pointer[[]*Call] // by slot; only grows, under mu

	guard      guard
	canPoll    bool
	polite     atomic.Int32 // how many more calls don't poll; see poll
	politeness atomic.Int32 // how many those were at first

	mu       sync.Mutex
	free     []*Call
	spare    []uint64 // slots without a call
	queue    callList
	queued   int
	inFlight atomic.Int64 // calls not released; changed under mu
	closed   bool
	idle     chan struct{} // closed once closed is set and nothing is in flight
	closing  chan struct{} // closed by Close: clients are given up

	rejected uint64
	stop     sync.Once
	stopped  chan struct{}
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
	if err := config.complete(inst); err != nil {
		return nil, err
	}
	settings, err := config.settings(inst)
	if err != nil {
		return nil, err
	}
	rt, err := cpython.Start(inst)
	if err != nil {
		return nil, err
	}
	completions, err := cpython.NewCompletions()
	if err != nil {
		return nil, err
	}
	refusals, err := newRefusals(completions)
	if err != nil {
		completions.Close()
		completions.Free()
		return nil, err
	}
	p := &Pool{
		config:      config,
		refusals:    refusals,
		completions: completions,
		collected:   make(chan struct{}),
		idle:        make(chan struct{}),
		closing:     make(chan struct{}),
		stopped:     make(chan struct{}),
		canPoll:     canPoll(),
	}
	p.guard.pool = p
	p.calls.Store(new([]*Call))
	if err := p.start(rt, settings); err != nil {
		completions.Close()
		refusals.free()
		completions.Free()
		return nil, err
	}
	go p.collect()
	return p, nil
}

func (p *Pool) stopInterpreter(it *cpython.Interpreter, mode Isolation) {
	if mode != Main {
		endedInterpreters.Add(1)
	}
	if err := it.Stop(); err != nil {
		p.config.Logger.Warn("wsgi: an interpreter could not be ended and stays in memory", "reason", err.Error())
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
	if p.closed && p.inFlight.Load() == 0 {
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
		group.Go(func() { p.stopInterpreter(m.interpreter, p.isolation) })
	}
	group.Wait()
	p.completions.Close()
	<-p.collected
	p.guard.stop()
	p.warnOfLate(p.refusals.take())
	p.warnings.Wait()
	for _, m := range p.members {
		m.interpreter.Free()
	}
	p.refusals.free()
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
	for {
		if p.coalesces() {
			time.Sleep(coalesceTime)
		} else if err := p.completions.Wait(); err != nil {
			return
		}
		p.completions.Drain(p.deliver)
	}
}

// coalesces reports whether every interpreter has more work at hand than it can
// do while the collector sleeps. Then nobody waits for the collector, and it may
// come by once in a while for what has piled up: a wake-up for each response
// costs the machine much, as each takes the processor from a worker that has
// its caches warm.
func (p *Pool) coalesces() bool {
	for _, m := range p.members {
		g := m.interpreter.Gauges()
		if time.Duration(g.Queued)*g.Service < 2*coalesceTime {
			return false
		}
	}
	return true
}

// deliver passes on that the call in a slot has something new.
func (p *Pool) deliver(slot uint64, finished bool) {
	if slot == noticesSlot {
		// On a goroutine of its own: every request waits for this one, and the
		// handler of a log may take its time.
		if names := p.refusals.take(); len(names) > 0 {
			p.warnings.Go(func() { p.warnOfLate(names) })
		}
		return
	}
	call := (*p.calls.Load())[slot]
	if finished {
		p.finished(call)
	}
	call.notify(finished)
}
