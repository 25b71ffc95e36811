//go:build cgo && !windows

package cpython

/*
#cgo CFLAGS: -std=gnu11
#cgo linux LDFLAGS: -ldl -lpthread
#include <stdlib.h>
#include "gateway.h"
*/
import "C"

import (
	"fmt"
	"sync"
	"unsafe"
)

// Supported says whether this build can run Python.
const Supported = true

// A Runtime is the process's Python. There is one at most.
type Runtime struct {
	Library string
	Version Version
	Joined  bool // the host had initialised it
}

var (
	runtimeMu sync.Mutex
	current   *Runtime
	failed    error // a start that can't be tried again
)

// Start loads the installation's library and initialises Python, once in a
// process: later calls return the same Runtime, or an error where they name
// another library.
func Start(inst *Installation) (*Runtime, error) {
	runtimeMu.Lock()
	defer runtimeMu.Unlock()
	if current != nil {
		if !sameFile(current.Library, inst.Library) {
			return nil, &LibraryConflictError{Loaded: current.Library, Wanted: inst.Library}
		}
		return current, nil
	}
	if failed != nil {
		return nil, failed
	}
	if loaded := takeString(C.wsgi_python_loaded()); loaded != "" && !sameFile(loaded, inst.Library) {
		return nil, &LibraryConflictError{Loaded: loaded, Wanted: inst.Library}
	}
	rt, again, err := start(inst)
	if err != nil {
		err = fmt.Errorf("starting %s: %w", inst.Library, err)
		if !again {
			failed = err
		}
		return nil, err
	}
	current = rt
	return rt, nil
}

// start says with an error whether another call may have more success.
func start(inst *Installation) (rt *Runtime, again bool, err error) {
	library := C.CString(inst.Library)
	defer C.free(unsafe.Pointer(library))
	if err := takeError(C.wsgi_python_load(library, C.int(inst.ObjectSize))); err != nil {
		return nil, false, err
	}
	version, err := ParseVersion(C.GoString(C.wsgi_python_version()))
	if err != nil {
		return nil, false, fmt.Errorf("the library says of itself: %w", err)
	}
	if version != inst.Version {
		return nil, false, fmt.Errorf("the library is of Python %v, but %s is Python %v: an installation is mixed up", version, inst.Executable, inst.Version)
	}
	name := C.CString(inst.Executable)
	defer C.free(unsafe.Pointer(name))
	var joined, retry C.int
	if err := takeError(C.wsgi_python_start(name, C.int(version.Minor), &joined, &retry)); err != nil {
		return nil, retry != 0, err
	}
	return &Runtime{Library: inst.Library, Version: version, Joined: joined != 0}, false, nil
}

// takeString copies a string of the C side's and frees it.
func takeString(s *C.char) string {
	if s == nil {
		return ""
	}
	defer C.wsgi_text_free(s)
	return C.GoString(s)
}

// takeError makes an error of a message of the C side's, which it frees.
func takeError(s *C.char) error {
	if s == nil {
		return nil
	}
	return &MessageError{Message: takeString(s)}
}
