package pool

import (
	"sync"
	"sync/atomic"
	"time"
)

// guardTime is how long a request may wait for a busy worker before a sleeping
// one is woken for it. The C side relies on it not to be shorter (GUARDED).
const guardTime = time.Millisecond

// A guard sees to it that no request is stuck behind another. One that was left
// to a worker that is awake, because waking a second one would take longer than
// the short requests before it, gets that second one after all if those turn
// out to be long. And what a worker has finished without waking the collector,
// because it was about to finish more, is delivered. It costs nothing while there
// are no such requests.
type guard struct {
	pool  *Pool
	armed atomic.Bool
	fresh atomic.Bool // there were requests since the last look

	mu    sync.Mutex // guards timer: taken alone, or with looking held
	timer *time.Timer

	looking sync.Mutex // held during a look, and guards the rest
	busy    bool       // there were requests at the last look, or in the queue
	stopped bool
}

// watch looks after the requests now queued.
func (g *guard) watch() {
	if !g.fresh.Load() {
		g.fresh.Store(true)
	}
	if g.armed.Load() || g.armed.Swap(true) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.timer == nil {
		g.timer = time.AfterFunc(guardTime, g.look)
	} else {
		g.timer.Reset(guardTime)
	}
}

func (g *guard) look() {
	g.looking.Lock()
	defer g.looking.Unlock()
	if g.stopped {
		return // the interpreters may be gone
	}
	// Before the look: what comes after it is watched anew.
	g.armed.Store(false)
	if g.pool.completions.Pending() {
		g.pool.completions.Drain(g.pool.deliver) // which may watch anew
	}
	busy := g.fresh.Swap(false)
	for _, m := range g.pool.members {
		busy = m.interpreter.Nudge() || busy
	}
	// Once more after the last request was seen: a worker relies on a look at the
	// end of the guard's time, counted from when it took one.
	again := busy || g.busy
	g.busy = busy
	if again && !g.armed.Swap(true) {
		g.mu.Lock()
		g.timer.Reset(guardTime)
		g.mu.Unlock()
	}
}

// stop ends the guard, when there are no more requests.
func (g *guard) stop() {
	g.looking.Lock()
	g.stopped = true
	g.looking.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.timer != nil {
		g.timer.Stop()
	}
}
