package pool

import (
	"sync/atomic"

	"github.com/seed-a2d07992/wsgi/internal/cpython"
)

// endedInterpreters counts the sub-interpreters that this process has ended.
var endedInterpreters atomic.Int64

// warnOfRemains says, where interpreters come and go, that older Pythons don't
// give all of their memory back. A process that ends its interpreters once, at
// its own end, has no use for the warning.
func (p *Pool) warnOfRemains(version cpython.Version, mode Isolation) {
	ended := endedInterpreters.Load()
	if mode == Main || ended == 0 || version.AtLeast(3, 14) {
		return
	}
	p.config.Logger.Warn("wsgi: this process has ended interpreters before it starts another, and each leaves memory behind on Python before 3.14: "+
		"a process that restarts applications should run 3.14 or later",
		"module", p.config.Module, "python", version.String(), "ended", ended)
}
