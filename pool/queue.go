package pool

import (
	"time"

	"github.com/seed-a2d07992/wsgi/internal/cpython"
)

const (
	// wakeTime is what it is taken to cost to wake an interpreter whose workers
	// all sleep: the wake-up itself, some 25 microseconds on a virtual machine,
	// and what two threads that share a machine with the Go side's cost each
	// other. Short requests are better served by one interpreter that is awake.
	wakeTime = 100 * time.Microsecond

	// handTime is how much work an interpreter may have at hand, and maxAtHand
	// how many requests, where those are short: enough for its workers not to run
	// dry while Go's threads wait for a processor.
	handTime  = 20 * time.Millisecond
	maxAtHand = 64

	// coalesceTime is how long the collector sleeps where there is more work at
	// hand than can be done meanwhile.
	coalesceTime = 250 * time.Microsecond
)

// A callList is a list of calls in the order in which they came.
type callList struct {
	first, last *Call
}

func (l *callList) push(c *Call) {
	c.prev, c.next = l.last, nil
	if l.last != nil {
		l.last.next = c
	} else {
		l.first = c
	}
	l.last = c
	c.waiting = true
}

func (l *callList) remove(c *Call) {
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		l.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	} else {
		l.last = c.prev
	}
	c.prev, c.next = nil, nil
	c.waiting = false
}

func (l *callList) pop() *Call {
	c := l.first
	if c != nil {
		l.remove(c)
	}
	return c
}

// Start hands the call to an interpreter, or queues it while all are busy. It
// returns ErrQueueFull, or an error of the interpreter's; then the call is only
// to be released.
func (c *Call) Start() error {
	p := c.pool
	p.mu.Lock()
	m := p.choose()
	if m == nil {
		defer p.mu.Unlock()
		if p.queued >= p.config.Queue {
			p.rejected++
			return ErrQueueFull
		}
		p.queue.push(c)
		p.queued++
		return nil
	}
	p.assign(c, m)
	p.mu.Unlock()
	c.short = m.interpreter.Gauges().Service <= pollTime
	return p.submit(c, m)
}

// choose returns the interpreter that is likely to start a request first, or nil
// where each has all that it may have at hand. Called with mu held.
func (p *Pool) choose() *member {
	var best *member
	var least time.Duration
	for _, m := range p.members {
		g := m.interpreter.Gauges()
		if m.inFlight >= m.limit(g.Service) {
			continue
		}
		wait := wakeTime
		if g.Idle < p.threads {
			wait = time.Duration(p.threads-g.Idle-g.Spinning+g.Queued) * g.Service
		}
		if best == nil || wait < least || wait == least && m.inFlight < best.inFlight {
			best, least = m, wait
		}
	}
	return best
}

// limit is how many requests an interpreter may have in flight: as many as it
// has threads, as many again that wait at hand, so that a worker that is done
// need not wait for Go, and of short ones what it does in a few wake-ups' time.
func (m *member) limit(service time.Duration) int {
	if service <= 0 {
		return m.capacity
	}
	return max(m.capacity, min(int(handTime/service), maxAtHand))
}

func (p *Pool) assign(c *Call, m *member) {
	c.member = m
	m.inFlight++
	m.requests++
}

// submit hands an assigned call to its interpreter.
func (p *Pool) submit(c *Call, m *member) error {
	left, err := m.interpreter.Submit(c.request, c.Environ.buf)
	if err != nil {
		p.unassign(m)
		return err
	}
	if left {
		p.guard.watch()
	}
	return nil
}

// unassign takes note that a call that was assigned will never run.
func (p *Pool) unassign(m *member) {
	p.mu.Lock()
	m.inFlight--
	m.requests--
	p.mu.Unlock()
}

// finished takes note that a worker is done with a call and starts the next
// one in the queue, without waiting for anybody's goroutine.
func (p *Pool) finished(c *Call) {
	p.mu.Lock()
	m := c.member
	m.inFlight--
	if c.request.Outcome() != cpython.Complete {
		m.errors++
	}
	p.mu.Unlock()
	p.refill()
}

// refill hands queued calls to interpreters with room.
func (p *Pool) refill() {
	for {
		p.mu.Lock()
		if p.queue.first == nil {
			p.mu.Unlock()
			return
		}
		m := p.choose()
		if m == nil {
			p.mu.Unlock()
			return
		}
		c := p.queue.pop()
		p.queued--
		p.assign(c, m)
		p.mu.Unlock()
		if err := p.submit(c, m); err != nil {
			c.fail(err)
		}
	}
}
