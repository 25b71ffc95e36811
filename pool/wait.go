package pool

import (
	"context"
	"runtime"
	"time"
)

const (
	// spinTime is how long a worker looks for its next request before it sleeps. On
	// a virtual machine with two processors a lone client's median was lower by some
	// 100 microseconds than with half of it, and no lower with twice as much.
	spinTime = 200 * time.Microsecond

	// pollTime is how long a request's goroutine looks for its response before
	// it sleeps, and the longest that requests may take of late for it to do so.
	pollTime = 200 * time.Microsecond

	// mostPolite is how many requests at most do without after some have looked
	// in vain.
	mostPolite = 64
)

// canPoll reports whether there is a processor to look for something on while
// another does what is looked for.
func canPoll() bool { return runtime.GOMAXPROCS(0) > 1 && runtime.NumCPU() > 1 }

// Wait blocks until something may be new, or until ctx is done or the pool is
// closed: then it returns the reason, and the caller may want to Abandon.
func (c *Call) Wait(ctx context.Context) error {
	if c.poll() {
		<-c.wake
		return nil
	}
	select {
	case <-c.wake:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.pool.closing:
		return ErrClosed
	}
}

// poll looks for something new for a while, without sleeping, where the call is
// the only one and its response is likely to come sooner than two wake-ups would
// take: that of the collector and that of this goroutine, which to a lone client
// are most of what the handler adds. Meanwhile it does the collector's work.
func (c *Call) poll() bool {
	p := c.pool
	if !p.canPoll || !c.short || p.inFlight.Load() != 1 {
		return false
	}
	if n := p.polite.Load(); n > 0 {
		p.polite.Store(n - 1)
		return false
	}
	if !p.completions.Claim() {
		return false // the collector is awake
	}
	found := false
	for end := time.Now().Add(pollTime); !found && p.inFlight.Load() == 1; {
		if p.completions.Pending() {
			p.completions.Drain(p.deliver)
		}
		// Whose end is near is written in one go with it.
		found = len(c.wake) > 0 && (c.over.Load() || !c.request.NearEnd())
		if !found && time.Now().After(end) {
			break
		}
	}
	found = len(c.wake) > 0
	if found {
		p.politeness.Store(0)
	} else {
		// In vain once is chance; several times, a machine that has other work.
		n := min(2*p.politeness.Load()+1, mostPolite)
		p.politeness.Store(n)
		p.polite.Store(n)
	}
	p.completions.Disclaim()
	if p.completions.Pending() {
		p.completions.Drain(p.deliver)
	}
	return found
}
