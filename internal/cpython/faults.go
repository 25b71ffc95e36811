//go:build cgo && !windows && faults

package cpython

/*
#cgo CFLAGS: -DWSGI_FAULTS
#include "faults.h"
*/
import "C"

// FailAt starts to count the steps of the C side that can fail, which are its
// allocations and other calls of the system, and its calls into CPython, and
// lets the first from the n-th on fail: once. FailAt(0) lets none fail. It
// exists under the build tag faults only, for tests.
func FailAt(n uint64) { C.wsgi_faults_arm(C.uint64_t(n)) }

// Fault returns the function that failed since FailAt, and its number, or "".
func Fault() (function string, number uint64) {
	var at C.uint64_t
	name := C.wsgi_faults_fired(&at)
	if name == nil {
		return "", 0
	}
	return C.GoString(name), uint64(at)
}

// Allocations returns how many of the C side's allocations are not freed.
func Allocations() int64 { return int64(C.wsgi_faults_live()) }
