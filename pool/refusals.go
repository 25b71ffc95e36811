package pool

import (
	"math"
	"strings"
	"sync"

	"github.com/seed-a2d07992/wsgi/internal/cpython"
)

// noticesSlot is the slot of what is said outside of requests.
const noticesSlot = math.MaxUint64

// refusals are the extension modules that refused a sub-interpreter of a pool.
// An application may well go on without one, at its start or later, and then
// nobody would know.
type refusals struct {
	mu      sync.Mutex
	notices *cpython.Request
	known   map[string]bool
}

func newRefusals(completions *cpython.Completions) (*refusals, error) {
	notices, err := completions.NewRequest(noticesSlot)
	if err != nil {
		return nil, err
	}
	return &refusals{notices: notices, known: map[string]bool{}}, nil
}

// take returns the names of modules that have refused for the first time, in
// whichever of the pool's interpreters.
func (r *refusals) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for record, ok := r.notices.Next(); ok; record, ok = r.notices.Next() {
		if name := string(record.Data); !r.known[name] {
			r.known[name] = true
			names = append(names, name)
		}
		r.notices.Take(record)
	}
	return names
}

// free is for when no interpreter has anything to say any more.
func (r *refusals) free() { r.notices.Free() }

const (
	costOfRefusal = "the application does without it, or with a slower substitute, where it caught the ImportError: "
	cureOfRefusal = "WithIsolation(wsgi.Main) runs every extension module, on one GIL; an alternative in pure Python would keep this mode"
)

// warnOfSkipped is about modules that refused while the application was loaded,
// which it was.
func (p *Pool) warnOfSkipped(names []string) {
	if len(names) > 0 {
		p.warnOfRefusal("wsgi: the application was loaded although an extension module refused: "+costOfRefusal+cureOfRefusal, names)
	}
}

// warnOfLate is about modules that are first imported when requests are served.
func (p *Pool) warnOfLate(names []string) {
	for _, name := range names {
		p.warnOfRefusal("wsgi: an extension module that is imported after the start refuses: the request fails, or "+costOfRefusal+cureOfRefusal, []string{name})
	}
}

func (p *Pool) warnOfRefusal(message string, names []string) {
	p.config.Logger.Warn(message, "extension", strings.Join(names, ", "), "isolation", p.isolation.String(), "application", p.config.Module)
}
