//go:build unix

package wsgi_test

import (
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
