package pool

import (
	"sync/atomic"

	"github.com/seed-a2d07992/wsgi/internal/cpython"
)

// keptCalls bounds how many idle calls a pool keeps for later requests.
const keptCalls = 256

// A Call is one request on its way through a pool. It is used by one
// goroutine, except where a method says otherwise:
//
//	call, err := p.Get()
//	... fill call.Environ and the body ...
//	err = call.Start()
//	for {
//		over := call.Over()
//		for record, ok := call.Next(); ok; record, ok = call.Next() {
//			... call.Take(record)
//		}
//		if over { break }
//		if err := call.Wait(ctx); err != nil {
//			call.Abandon(err) // and from now on WaitAbandoned
//		}
//	}
//	call.Release()
type Call struct {
	Environ Environ

	pool    *Pool
	request *cpython.Request
	slot    uint64
	wake    chan struct{} // something may be new
	room    chan struct{} // likewise, for the goroutine that reads the body
	reader  atomic.Bool   // there is such a goroutine
	over    atomic.Bool   // finished, or never to start
	short   bool          // likely to be over soon
	err     error         // why it never started; set before over

	// Guarded by pool.mu.
	member     *member // where it was submitted
	waiting    bool    // in the pool's queue
	prev, next *Call
}

// Get returns a call, ready to be filled.
func (p *Pool) Get() (*Call, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	// From here on the pool waits for its release.
	if n := len(p.free); n > 0 {
		call := p.free[n-1]
		p.free = p.free[:n-1]
		p.inFlight.Add(1)
		return call, nil
	}
	call := &Call{
		pool: p,
		wake: make(chan struct{}, 1),
		room: make(chan struct{}, 1),
	}
	slots := *p.calls.Load()
	if n := len(p.spare); n > 0 {
		call.slot = p.spare[n-1]
		p.spare = p.spare[:n-1]
	} else {
		call.slot = uint64(len(slots))
		slots = append(slots[:len(slots):len(slots)], nil)
	}
	request, err := p.completions.NewRequest(call.slot)
	if err != nil {
		return nil, err
	}
	call.request = request
	// The collector reads the slots without a lock, so they are replaced whole.
	grown := make([]*Call, len(slots), max(16, 2*len(slots)))
	copy(grown, slots)
	grown[call.slot] = call
	p.calls.Store(&grown)
	p.inFlight.Add(1)
	return call, nil
}

// Release gives the call back, which must be over or never started.
func (c *Call) Release() {
	p := c.pool
	c.Environ.Reset()
	c.request.Reset()
	c.over.Store(false)
	c.err = nil
	c.short = false
	c.reader.Store(false)
	drain(c.wake)
	drain(c.room)
	p.mu.Lock()
	defer p.mu.Unlock()
	c.member = nil
	p.inFlight.Add(-1)
	if len(p.free) < keptCalls {
		p.free = append(p.free, c)
	} else {
		slots := append([]*Call(nil), *p.calls.Load()...)
		slots[c.slot] = nil
		p.calls.Store(&slots)
		p.spare = append(p.spare, c.slot)
		c.request.Free()
	}
	p.checkIdle()
}

// Configure sets what the C side is to know of the request beside its environ:
// the length of its body, or -1; whether the response goes without one (HEAD);
// whether a 103 may come before it.
func (c *Call) Configure(contentLength int64, bodiless, earlyHints bool) {
	c.request.Configure(contentLength, c.pool.config.ResponseBuffer, bodiless, earlyHints)
}

// Stream makes the body one that is read while the application runs, through a
// ring of the given size. With onDemand the call's own goroutine reads it, and
// is woken each time that the application waits; without, another one does,
// which Room wakes.
func (c *Call) Stream(size int, onDemand bool) error {
	c.reader.Store(!onDemand)
	return c.request.Stream(size, onDemand)
}

// Request is the C side's part of the call: its body and its output.
func (c *Call) Request() *cpython.Request { return c.request }

// Next returns the next piece of output, if there is one yet.
func (c *Call) Next() (cpython.Record, bool) { return c.request.Next() }

// Take says that a piece of output has been dealt with.
func (c *Call) Take(record cpython.Record) { c.request.Take(record) }

// Over reports whether no more output will come. What came before is still to
// be taken, so ask before looking for the last time.
func (c *Call) Over() bool { return c.over.Load() }

// Err says why a call that is over was never started: ErrClosed, or the
// context's error. Otherwise it is nil and Outcome tells how it ended.
func (c *Call) Err() error { return c.err }

// Outcome says how a call that is over and has started ended.
func (c *Call) Outcome() cpython.Outcome { return c.request.Outcome() }

// Closing reports whether the pool is closed, which Wait would tell: for a
// caller that finds new output each time and so never waits.
func (c *Call) Closing() bool {
	select {
	case <-c.pool.closing:
		return true
	default:
		return false
	}
}

// WaitAbandoned is Wait for a call that was abandoned.
func (c *Call) WaitAbandoned() { <-c.wake }

// Abandon gives up on the call: one that has not started won't, and is over
// with the error err; one that has is told that its client is gone, and is
// over when the application has returned.
func (c *Call) Abandon(err error) {
	p := c.pool
	p.mu.Lock()
	if c.waiting {
		p.queue.remove(c)
		p.queued--
		p.mu.Unlock()
		c.fail(err)
		return
	}
	m := c.member
	p.mu.Unlock()
	if c.request.Withdraw() {
		p.unassign(m)
		p.refill()
		c.fail(err)
		return
	}
	c.request.Abandon()
}

// Room delivers a token whenever there may be room in the ring of a streamed
// body, or the application asks for it. It is for the goroutine that reads the
// body.
func (c *Call) Room() <-chan struct{} { return c.room }

// notify wakes the goroutines of a call.
func (c *Call) notify(finished bool) {
	// Looked at first: a call that is over may be in use again at once.
	reader := c.reader.Load()
	if finished {
		c.over.Store(true)
	}
	if reader {
		signal(c.room)
	}
	signal(c.wake)
}

// fail ends a call that no worker has started.
func (c *Call) fail(err error) {
	c.err = err
	c.over.Store(true)
	signal(c.wake)
}

func drain(ch chan struct{}) {
	select {
	case <-ch:
	default:
	}
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
