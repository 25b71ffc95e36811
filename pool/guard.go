package pool

import (
	"sync"
	"sync/atomic"
	"time"
)

// guardTime is how long a request may wait for a busy worker before a sleeping
// one is woken for it.
const guardTime = time.Millisecond

// A guard sees to it that no request is stuck behind another: one that was left
// to a worker that is awake, because waking a second one would take longer than
// the short requests before it, gets that second one after all if those turn
// out to be long. It costs nothing while there are no such requests.
type guard struct {
	pool    *Pool
	armed   atomic.Bool
	mu      sync.Mutex // guards the rest
	timer   *time.Timer
	stopped bool
}

// watch looks after the requests now queued.
func (g *guard) watch() {
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
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return // the interpreters may be gone
	}
	// Before the look: what comes after it is watched anew.
	g.armed.Store(false)
	again := false
	for _, m := range g.pool.members {
		again = m.interpreter.Nudge() || again
	}
	if again && !g.armed.Swap(true) {
		g.timer.Reset(guardTime)
	}
}

// stop ends the guard, when there are no more requests.
func (g *guard) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stopped = true
	if g.timer != nil {
		g.timer.Stop()
	}
}
