// Package testenv is what the tests of all modules here know of where they run.
package testenv

import (
	"os"
	"testing"
)

// Missing ends a test that lacks what the machine is to have, such as a program
// or a virtual environment. On a machine of your own that skips it; under CI,
// which sets $CI and has everything, the test fails.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}
