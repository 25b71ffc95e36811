//go:build cgo && !windows

package hosttest

/*
#include <stdlib.h>

// What the host needs of Python.h, so that no headers need be there.
typedef struct PyThreadState PyThreadState;
void Py_InitializeEx(int);
int Py_FinalizeEx(void);
PyThreadState *PyEval_SaveThread(void);
void PyEval_RestoreThread(PyThreadState *);
int PyGILState_Ensure(void);
void PyGILState_Release(int);
int PyRun_SimpleString(const char *);

static int run_ensured(const char *code)
{
	int state = PyGILState_Ensure();
	int result = PyRun_SimpleString(code);
	PyGILState_Release(state);
	return result;
}

static int run(const char *code) { return PyRun_SimpleString(code); }
*/
import "C"

import (
	"fmt"
	"unsafe"
)

// A Python is the host's own. All calls but Ensure are for the thread that has
// initialised it.
type Python struct {
	released *C.PyThreadState
}

// Initialize starts Python; its GIL is held after that.
func Initialize() *Python {
	C.Py_InitializeEx(0)
	return &Python{}
}

// Release lets go of the GIL.
func (p *Python) Release() { p.released = C.PyEval_SaveThread() }

// Hold takes the GIL again.
func (p *Python) Hold() { C.PyEval_RestoreThread(p.released) }

// Run runs code with the GIL held.
func (p *Python) Run(code string) error {
	text := C.CString(code)
	defer C.free(unsafe.Pointer(text))
	return result(code, C.run(text))
}

// Ensure runs code on any thread.
func (p *Python) Ensure(code string) error {
	text := C.CString(code)
	defer C.free(unsafe.Pointer(text))
	return result(code, C.run_ensured(text))
}

// Finalize ends Python, with the GIL held.
func (p *Python) Finalize() error {
	return result("Py_FinalizeEx", C.Py_FinalizeEx())
}

func result(what string, status C.int) error {
	if status != 0 {
		return fmt.Errorf("%s: Python returns %d", what, int(status))
	}
	return nil
}
