//go:build !unix

package wsgi_test

import "testing"

// makePipe is for tests that run an application, which none does here.
func makePipe(t testing.TB, path string) {
	t.Helper()
	t.Fatal("there are no named pipes on this system")
}
