package wsgi_test

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-a2d07992/wsgi"
	"github.com/seed-a2d07992/wsgi/internal/testenv"
)

// slicing is an application that tells the time slice of the thread it runs on.
const slicing = `
import time

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/long":
        time.sleep(0.001)
    if environ["PATH_INFO"] != "/slice":
        return [b"done"]
    with open("/proc/thread-self/sched") as sched:
        for line in sched:
            if line.startswith("se.slice"):
                return [line.split()[-1].encode()]
    return [b"unknown"]
`

// needSlices ends a test on kernels before Linux 6.12, whose threads have no slices
// of their own.
func needSlices(t *testing.T) {
	t.Helper()
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		testenv.Missing(t, "the kernel's version is unknown: %v", err)
	}
	major, rest, _ := strings.Cut(string(release), ".")
	minor, _, _ := strings.Cut(rest, ".")
	first, _ := strconv.Atoi(major)
	second, _ := strconv.Atoi(minor)
	if first < 6 || first == 6 && second < 12 {
		testenv.Missing(t, "threads have no time slices of their own on Linux %s", strings.TrimSpace(string(release)))
	}
	if _, err := os.Stat("/proc/self/sched"); err != nil {
		testenv.Missing(t, "the kernel doesn't tell time slices: %v", err)
	}
}

// TestSlices: a worker whose requests are long makes way for Go's threads, by a time
// slice that is longer than theirs, and one whose requests are short yields little.
func TestSlices(t *testing.T) {
	needSlices(t)
	s := servePlain(t, slicing, oneInterpreter(wsgi.Main, 1)...)
	requests := func(path string, n int) {
		for range n {
			if _, body := s.get(t, path); body != "done" {
				t.Fatalf("%s: %q", path, body)
			}
		}
	}
	slice := func() string {
		_, body := s.get(t, "/slice")
		return body
	}
	const short, long = "500000", "3000000"
	requests("/", 1) // one, however long it takes, doesn't count as most
	if got := slice(); got != short {
		t.Errorf("a slice of %s ns at first, want %s", got, short)
	}
	requests("/long", 30)
	if got := slice(); got != long {
		t.Errorf("a slice of %s ns after long requests, want %s", got, long)
	}
	for range 500 {
		requests("/", 20)
		if slice() == short {
			return
		}
	}
	t.Errorf("a slice of %s ns still, after short requests, want %s", slice(), short)
}
