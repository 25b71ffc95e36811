//go:build unix

package wsgi_test

import (
	"os"
	"syscall"
	"testing"
)

// makePipe makes a named pipe, at which an application waits until the test
// lets it go on, or the other way round.
func makePipe(t testing.TB, path string) {
	t.Helper()
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
}

// openPipe opens a pipe for writing. It waits for somebody who reads.
func openPipe(t testing.TB, path string) *os.File {
	t.Helper()
	var f *os.File
	var err error
	within(t, "opening "+path, func() { f, err = os.OpenFile(path, os.O_WRONLY, 0) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
