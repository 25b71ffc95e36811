//go:build cgo && !windows

package cpython

/*
#include <stdlib.h>
#include "gateway.h"

#cgo noescape wsgi_request_submit
#cgo nocallback wsgi_request_submit
#cgo noescape wsgi_interpreter_nudge
#cgo nocallback wsgi_interpreter_nudge
#cgo noescape wsgi_request_withdraw
#cgo nocallback wsgi_request_withdraw
*/
import "C"

import (
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"
)

// An Interpreter runs one application on its own worker threads.
type Interpreter struct {
	c      *C.struct_wsgi_interpreter
	gauges *C.struct_wsgi_gauges
}

// NewInterpreter prepares an interpreter, whose requests complete through
// completions. It starts nothing yet.
func (rt *Runtime) NewInterpreter(completions *Completions, config InterpreterConfig) (*Interpreter, error) {
	source := C.CString(bootstrap)
	defer C.free(unsafe.Pointer(source))
	var pinner runtime.Pinner
	defer pinner.Unpin()
	settings, keys := packStrings(config.Settings, &pinner), packStrings(config.Keys, &pinner)
	c := C.wsgi_interpreter_new(C.int(config.Isolation), C.int(config.Number), C.int(config.Threads),
		C.uint64_t(config.Spin), completions.c, config.Notices.c, source, &settings, &keys)
	if c == nil {
		return nil, ErrNoMemory
	}
	return &Interpreter{c: c, gauges: C.wsgi_interpreter_gauges(c)}, nil
}

func packStrings(list []string, pinner *runtime.Pinner) C.struct_wsgi_strings {
	var data []byte
	sizes := make([]C.uint32_t, len(list))
	for i, s := range list {
		data = append(data, s...)
		sizes[i] = C.uint32_t(len(s))
	}
	packed := C.struct_wsgi_strings{count: C.size_t(len(list))}
	if len(data) > 0 {
		pinner.Pin(&data[0])
		packed.data = (*C.char)(unsafe.Pointer(&data[0]))
	}
	if len(sizes) > 0 {
		pinner.Pin(&sizes[0])
		packed.sizes = &sizes[0]
	}
	return packed
}

// SetPeers names the interpreters whose waiting requests this one's idle
// workers may start. It must come before any request.
func (it *Interpreter) SetPeers(peers []*Interpreter) error {
	list := make([]*C.struct_wsgi_interpreter, 0, len(peers)+1)
	for _, peer := range peers {
		if peer != it {
			list = append(list, peer.c)
		}
	}
	n := len(list)
	return takeError(C.wsgi_interpreter_set_peers(it.c, unsafe.SliceData(append(list, nil)), C.size_t(n)))
}

// Start creates the interpreter, loads its application and starts its workers.
// It returns when they are ready, or an error with the Python traceback; then
// only Free is left to call.
func (it *Interpreter) Start() error {
	return takeError(C.wsgi_interpreter_start(it.c))
}

// Stop lets the workers finish what is queued, runs the exit handlers and ends
// the interpreter and its threads. Its error says why the interpreter, rid of
// its workers, had to be left alive.
func (it *Interpreter) Stop() error {
	return takeError(C.wsgi_interpreter_stop(it.c))
}

// Free releases a stopped interpreter, once its peers have stopped too.
func (it *Interpreter) Free() {
	C.wsgi_interpreter_free(it.c)
	it.c = nil
}

// Submit queues a request whose environ is packed as pool.Environ packs it. Where
// left is true the request depends on a worker that may get stuck in another one, or
// may not say at once that it has finished: then Completions is to be drained, and
// Nudge to be called, after a while.
func (it *Interpreter) Submit(r *Request, environ []byte) (left bool, err error) {
	switch C.wsgi_request_submit(r.c, it.c, unsafe.Pointer(unsafe.SliceData(environ)), C.size_t(len(environ))) {
	case 0:
		return false, nil
	case C.WSGI_SUBMIT_LEFT:
		return true, nil
	case C.WSGI_SUBMIT_NO_MEMORY:
		return false, ErrNoMemory
	default:
		return false, ErrStopping
	}
}

// Nudge wakes a worker if there are requests that nobody takes. It reports
// whether it should be called again. Mostly there are none by then, which costs no
// call into C.
func (it *Interpreter) Nudge() (again bool) {
	return atomic.LoadUint32((*uint32)(&it.gauges.queued)) != 0 && C.wsgi_interpreter_nudge(it.c) != 0
}

// Gauges says what an interpreter is at. It costs no call into C.
func (it *Interpreter) Gauges() Gauges {
	return Gauges{
		Queued:   int(atomic.LoadUint32((*uint32)(&it.gauges.queued))),
		Idle:     int(atomic.LoadUint32((*uint32)(&it.gauges.idle))),
		Spinning: int(atomic.LoadUint32((*uint32)(&it.gauges.spinning))),
		Service:  time.Duration(atomic.LoadUint32((*uint32)(&it.gauges.service))),
	}
}
