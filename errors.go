package wsgi

import (
	"github.com/seed-a2d07992/wsgi/internal/cpython"
	"github.com/seed-a2d07992/wsgi/pool"
)

// ErrClosed is the error of requests after Shutdown or Close; ServeHTTP makes a
// 503 of it.
var ErrClosed = pool.ErrClosed

// ErrUnsupported is what New returns, wrapped, where the program was built
// without cgo or for Windows.
var ErrUnsupported = cpython.ErrUnsupported

// The errors of New, for errors.As. All say in their text what was wrong, where,
// and what to do.
type (
	// LoadError: Python runs, but the application can't be loaded. Its Reason
	// holds the Python traceback.
	LoadError = pool.LoadError

	// NoPythonError: nothing says which Python to run, and there is none on
	// PATH.
	NoPythonError = cpython.NoPythonError

	// InterpreterError: the Python that was named is not there, or is no
	// interpreter.
	InterpreterError = cpython.InterpreterError

	// RunError: the interpreter fails when it is asked what it is.
	RunError = cpython.RunError

	// VersionError: the Python is older than 3.9.
	VersionError = cpython.VersionError

	// ImplementationError: the Python is not CPython.
	ImplementationError = cpython.ImplementationError

	// NoLibraryError: the Python has no shared library that can be loaded. It
	// unwraps to the next two, for each file that was looked at and refused.
	NoLibraryError = cpython.NoLibraryError

	// ArchitectureError: a library is for another processor.
	ArchitectureError = cpython.ArchitectureError

	// BadLibraryError: a file is no shared library.
	BadLibraryError = cpython.BadLibraryError

	// LibraryConflictError: the process runs on another libpython already.
	LibraryConflictError = cpython.LibraryConflictError
)
