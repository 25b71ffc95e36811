package pool

import (
	"errors"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seed-a2d07992/wsgi/internal/cpython"
)

// start climbs down the ladder of isolation modes: Auto tries OwnGIL with one
// interpreter first, since an import has side effects, and takes Main where an
// extension module refuses that.
func (p *Pool) start(rt *cpython.Runtime, settings []string) error {
	if p.config.Isolation != Auto {
		return p.startMode(rt, settings, p.config.Isolation, false)
	}
	err := p.startMode(rt, settings, OwnGIL, true)
	var load *LoadError
	if !errors.As(err, &load) || len(load.Refused) == 0 {
		return err
	}
	refused := load.Refused
	p.config.Logger.Warn("wsgi: an extension module refuses an interpreter with its own GIL, so the application runs in the main interpreter, "+
		"on one GIL: its Python code does not run in parallel. An alternative to that module in pure Python would help; "+
		"WithIsolation(wsgi.Main) says the same without the attempt and this warning",
		"extension", strings.Join(refused, ", "), "application", p.config.Module)
	err = p.startMode(rt, settings, Main, false)
	if errors.As(err, &load) {
		load.Refused = refused
	}
	return err
}

// startMode starts the interpreters of one mode: in parallel, or one first and
// then the others. The first error stops those that did start.
func (p *Pool) startMode(rt *cpython.Runtime, settings []string, mode Isolation, probe bool) error {
	count, threads := p.config.size(mode)
	p.warnOfRemains(rt.Version, mode)
	settings = append(settings[:len(settings):len(settings)],
		"multithread", flag(threads > 1),
		"multiprocess", flag(count > 1),
		"isolation", mode.String(),
		"host", flag(rt.Joined && mode == Main))
	interpreters, err := p.makeInterpreters(rt, settings, mode, count, threads)
	if err != nil {
		return err
	}
	first := 0
	if probe {
		err = interpreters[0].Start()
		first = 1
	}
	started := make([]bool, count)
	started[0] = probe && err == nil
	if err == nil {
		var group errgroup.Group
		for i := first; i < count; i++ {
			group.Go(func() error {
				err := interpreters[i].Start()
				started[i] = err == nil
				return err
			})
		}
		err = group.Wait()
	}
	if err != nil {
		for i, it := range interpreters {
			if started[i] {
				p.stopInterpreter(it, mode)
			}
		}
		free(interpreters)
		return &LoadError{
			Module:    p.config.Module,
			Callable:  p.config.Callable,
			Reason:    err.Error(),
			Refused:   p.refusals.take(),
			Isolation: mode,
		}
	}
	p.isolation, p.threads = mode, threads
	p.warnOfSkipped(p.refusals.take())
	for _, it := range interpreters {
		// As many requests as it has threads, and as many again that wait at
		// hand, so that a worker that is done need not wait for Go.
		p.members = append(p.members, &member{interpreter: it, capacity: 2 * threads})
	}
	return nil
}

// makeInterpreters prepares interpreters that help one another.
func (p *Pool) makeInterpreters(rt *cpython.Runtime, settings []string, mode Isolation, count, threads int) ([]*cpython.Interpreter, error) {
	kind := map[Isolation]cpython.Isolation{
		OwnGIL:    cpython.OwnGIL,
		Main:      cpython.Main,
		SharedGIL: cpython.SharedGIL,
	}[mode]
	var spin time.Duration
	if canPoll() {
		spin = spinTime
	}
	var interpreters []*cpython.Interpreter
	for i := range count {
		it, err := rt.NewInterpreter(p.completions, cpython.InterpreterConfig{
			Isolation: kind,
			Number:    i,
			Threads:   threads,
			Settings:  settings,
			Keys:      wellKnownKeys,
			Notices:   p.refusals.notices,
			Spin:      spin,
		})
		if err != nil {
			free(interpreters)
			return nil, err
		}
		interpreters = append(interpreters, it)
	}
	for _, it := range interpreters {
		if err := it.SetPeers(interpreters); err != nil {
			free(interpreters)
			return nil, err
		}
	}
	return interpreters, nil
}

func free(interpreters []*cpython.Interpreter) {
	for _, it := range interpreters {
		it.Free()
	}
}
