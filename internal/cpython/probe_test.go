//go:build unix

package cpython

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestProbeTimeout(t *testing.T) {
	onlyFakes(t)
	python := newFakePython(t)
	python.before = "echo still at it >&2; while :; do :; done"
	python.write(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := probe(ctx, python.exe, "a test")
	if !errors.As(err, new(*RunError)) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("probe: %v", err)
	}
	for _, s := range []string{"in time", "still at it", python.exe} {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%q doesn't say %q", err, s)
		}
	}
}

// TestProbeOutput has the interpreter print too much and leave a child behind
// that holds the pipe.
func TestProbeOutput(t *testing.T) {
	path := os.Getenv("PATH")
	onlyFakes(t)
	t.Setenv("PATH", path)
	python := newFakePython(t)
	python.before = "x=xxxxxxxxxxxxxxxx; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17; do x=$x$x; done; echo $x; echo $x"
	pidFile := filepath.Join(python.prefix, "pid")
	python.after = "echo and more; sleep 60 & echo $! >" + pidFile
	python.write(t)
	mustFind(t, python.exe)
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	child, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Kill(); err != nil {
		t.Errorf("Find waited for the child to end: %v", err)
	}
}

func TestTailBuffer(t *testing.T) {
	b := tailBuffer{max: 4}
	for _, s := range []string{"ab", "cdef", "ghijklmnop", "q", ""} {
		if n, err := b.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatalf("Write(%q) = %d, %v", s, n, err)
		}
	}
	if got := b.text(); got != "nopq" {
		t.Errorf("kept %q", got)
	}
	if len(b.buf) > 2*b.max {
		t.Errorf("holds %d bytes", len(b.buf))
	}
}
