// Package cpython runs CPython inside the process: it finds a Python on the
// machine, loads its shared library, and drives interpreters and their worker
// threads through a small C layer.
//
// Calls go from Go to C only. The C side says what it has to say through
// memory that both sides read with atomics, and a descriptor that Go's poller
// watches.
package cpython

import (
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"time"
)

// ErrUnsupported is the error of everything here where the package was built
// without cgo or for Windows.
var ErrUnsupported = errors.New("running Python needs cgo (CGO_ENABLED=1 and a C compiler) and isn't supported on Windows")

// ErrNoMemory is returned where the C side can't allocate.
var ErrNoMemory = errors.New("out of memory")

// ErrStopping is returned for a request that comes after Stop.
var ErrStopping = errors.New("the interpreter is stopping")

// An Isolation says which interpreter an application runs in.
type Isolation int

const (
	OwnGIL    Isolation = iota + 1 // a sub-interpreter with a GIL of its own
	Main                           // the main interpreter
	SharedGIL                      // a sub-interpreter that shares the main one's GIL
)

// InterpreterConfig describes an interpreter to make.
type InterpreterConfig struct {
	Isolation Isolation
	Number    int      // for the threads' names
	Threads   int      // workers, at least 1
	Settings  []string // for bootstrap.py: keys and values in turn
	Keys      []string // the well-known environ keys, by their number

	// Notices takes, as log records, the names of extension modules that refuse
	// the interpreter. It is never submitted, and is to outlive the interpreter.
	Notices *Request

	// For how long, at most, a worker looks for its next request before it
	// sleeps.
	Spin time.Duration
}

// Gauges say what an interpreter is at, each of them at a moment of its own.
type Gauges struct {
	Queued   int           // requests that no worker has taken yet
	Idle     int           // workers that sleep
	Spinning int           // workers that look for a request
	Service  time.Duration // what a request takes, of late
}

// A RecordKind says what a Record holds.
type RecordKind int

const (
	RecordHead  RecordKind = iota + 1 // Number: status; Data: packed headers; Length: a Content-Length to set, or -1
	RecordBody                        // Data
	RecordFile                        // Number: a descriptor, the reader's to close; Offset, Length
	RecordLog                         // Number: a LogLevel; Data: text
	RecordHints                       // Data: packed headers
)

// A LogLevel says what a log record is about.
type LogLevel int

const (
	LogApplication LogLevel = iota // wsgi.errors
	LogInfo                        // a client that left
	LogWarning                     // a mistake that was repaired
	LogError                       // an exception or a broken promise
)

// An Outcome says how a request ended.
type Outcome int

const (
	Complete  Outcome = iota
	Failed            // before the head went out
	Truncated         // after it
	Gone              // the client left
)

// An InputEnd says how a streamed request body ended.
type InputEnd int

const (
	InputEOF     InputEnd = iota + 1
	InputCut              // the client left
	InputTooBig           // a limit around the handler
	InputTimeout          // a read deadline
)

//go:embed bootstrap.py
var bootstrap string

// A MessageError is what the C side says went wrong: text alone, which may be
// a Python traceback of many lines.
type MessageError struct {
	Message string
}

func (e *MessageError) Error() string { return e.Message }

// LibraryConflictError says that the process has one libpython already and
// can't have another: their symbols would mix.
type LibraryConflictError struct {
	Loaded, Wanted string
}

func (e *LibraryConflictError) Error() string {
	return fmt.Sprintf("the process runs on %s and can't load %s as well: all applications of a process share one libpython, though each may have a virtual environment of its own", e.Loaded, e.Wanted)
}

// PackedHeaders yields the names and values that a head or hints record holds.
func PackedHeaders(data []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		for len(data) >= 8 {
			name := int(binary.NativeEndian.Uint32(data))
			value := int(binary.NativeEndian.Uint32(data[4:]))
			data = data[8:]
			if !yield(data[:name], data[name:name+value]) {
				return
			}
			data = data[name+value:]
		}
	}
}
