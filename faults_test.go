//go:build faults && cgo && !windows

package wsgi_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/seed-a2d07992/wsgi"
	"github.com/seed-a2d07992/wsgi/internal/cpython"
)

// These tests make each step of the C side that can fail do so, one after
// another, and look at what becomes of it. "make test-faults" runs them.

// sweepLimit ends the sweep of a scenario that has no end.
const sweepLimit = 500

// sweep runs scenario with its first step that can fail failing, then with its
// second, and so on, until it has run through without any, and returns how often
// each function has failed.
func sweep(t testing.TB, name string, scenario func(n uint64), check func(what string)) map[string]int {
	t.Helper()
	step := uint64(1)
	if strings.HasPrefix(name, "a start") && testing.Short() {
		step = 11 // these take long
	}
	failures := make(map[string]int)
	for n := uint64(1); ; {
		cpython.FailAt(n)
		scenario(n)
		function, at := cpython.Fault()
		cpython.FailAt(0)
		if function == "" {
			check("no failure")
			return failures
		}
		if n > sweepLimit && strings.HasPrefix(name, "endless") {
			return failures
		}
		failures[function]++
		check(fmt.Sprintf("failure of %s (%d)", function, at))
		n = at + step
	}
}

// TestEveryFailureInARequestIsAnError: whatever fails while a request is
// answered, its client gets the right answer, an error or a connection that is
// cut, and never a wrong answer that looks whole. The next request finds
// everything in order, and nothing stays behind.
func TestEveryFailureInARequestIsAnError(t *testing.T) {
	total := make(map[string]int)
	isolations(t, func(t *testing.T, mode wsgi.Isolation) {
		newApp(t, hello) // starts Python, which keeps a little for ever
		allocations := cpython.Allocations()
		t.Run("requests", func(t *testing.T) {
			records := &logs{} // of its own: there are too many to be shown
			s := servePlain(t, counted, append(one(1), wsgi.WithIsolation(mode), wsgi.WithLogger(slog.New(records)))...)
			idle := func() {
				eventually(t, "the requests to end", func() bool { return s.App.Stats().InFlight == 0 })
			}
			ask(s, requestKind{path: "/list_"})
			for _, kind := range requestKinds() {
				idle()
				want := ask(s, kind)
				var got outcome
				scenario := func(uint64) {
					idle()
					got = ask(s, kind)
					idle()
				}
				failures := sweep(t, kind.name, scenario, func(what string) {
					if strings.HasPrefix(kind.name, "endless") && got.whole && strings.HasPrefix(want.body, got.body) {
						return
					}
					refused := got.status == 500 && got.whole && !strings.Contains(got.body, "Traceback") && !strings.Contains(got.body, "MemoryError")
					cut := !got.whole && strings.HasPrefix(want.body, got.body)
					// Who ends a body early may have left before the answer.
					left := strings.HasSuffix(kind.name, "cut short") && cut
					if got != want && !refused && !cut || what == "no failure" && got != want && !left {
						t.Errorf("%s: after a %s the client got %d %.60q (%d bytes), whole: %v; want %d %.60q (%d bytes)", kind.name, what,
							got.status, got.body, len(got.body), got.whole, want.status, want.body, len(want.body))
					}
					idle()
					if next := ask(s, requestKind{path: "/tuple_"}); next != (outcome{200, "one", true}) {
						t.Errorf("%s: after a %s the next request got %v", kind.name, what, next)
					}
				})
				if len(failures) == 0 && kind.name != "a body cut short" { // which Go refuses
					t.Errorf("%s: nothing failed", kind.name)
				}
				for function, n := range failures {
					total[function] += n
				}
			}
			ask(s, requestKind{path: "/collect"}) // cycles hold requests' objects
			for _, r := range records.All() {
				if strings.Contains(r.Message, "SystemError") {
					t.Errorf("an error without an exception, or the reverse: %v", r)
				}
			}
		})
		if now := cpython.Allocations(); now > allocations {
			t.Errorf("%d allocations are left of an application that has ended", now-allocations)
		}
	})
	n := 0
	for _, count := range total {
		n += count
	}
	t.Logf("%d failures of %d functions: %v", n, len(total), total)
	for _, function := range []string{"malloc", "realloc", "open", "PyDict_Copy", "PyDict_SetItem",
		"PyObject_CallFunctionObjArgs", "PyIter_Next", "PyErr_Format", "PyErr_SetString", "PyType_GenericAlloc",
		"PyCFunction_NewEx", "PyUnicode_DecodeLatin1", "PyUnicode_AsUTF8AndSize", "PyBytes_FromStringAndSize"} {
		if total[function] == 0 {
			t.Errorf("%s never failed; there were %v", function, slices.Sorted(maps.Keys(total)))
		}
	}
}

// TestFailuresInRequestsLeakNothing repeats the failures of each kind of request
// on a debug build of Python, which counts its references.
func TestFailuresInRequestsLeakNothing(t *testing.T) {
	needDebugBuild(t)
	s := servePlain(t, counted, one(1)...)
	idle := func() {
		eventually(t, "the requests to end", func() bool { return s.App.Stats().InFlight == 0 })
	}
	figures := func() (references, descriptors int) {
		idle()
		s.Client().CloseIdleConnections()
		_, body := s.get(t, "/figures")
		if _, err := fmt.Sscan(body, &references, &descriptors); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		return
	}
	for _, kind := range requestKinds() {
		run := func() {
			sweep(t, kind.name, func(uint64) {
				idle()
				ask(s, kind)
				idle()
			}, func(string) {})
		}
		run() // warms up
		figures()
		before, opened := figures()
		const rounds = 6
		for range rounds {
			run()
		}
		after, open := figures()
		// What one failure leaves, every round leaves again.
		if after-before >= rounds {
			t.Errorf("%s: %d references more after %d rounds", kind.name, after-before, rounds)
		}
		// A connection whose client was refused with its body under way is kept
		// open for a moment by net/http.
		eventually(t, fmt.Sprintf("%s: descriptors to be closed (%d more after %d rounds)", kind.name, open-opened, rounds), func() bool {
			_, open := figures()
			return open-opened < rounds
		})
	}
}

// TestEveryFailureAtAStartIsAnError: New returns an error or an application
// that works; and in either case all is released in the end.
func TestEveryFailureAtAStartIsAnError(t *testing.T) {
	isolations(t, func(t *testing.T, mode wsgi.Isolation) {
		failStarts(t, "a start", wsgi.WithInterpreters(1), wsgi.WithIsolation(mode))
	})
	if atLeast(t, 13) {
		// Where the second can't be started, the first is to end again.
		t.Run("two interpreters", func(t *testing.T) {
			failStarts(t, "a start of two", wsgi.WithInterpreters(2), wsgi.WithIsolation(wsgi.OwnGIL))
		})
	}
}

func failStarts(t *testing.T, name string, options ...wsgi.Option) {
	_, file := writeApp(t, hello)
	options = append(options, wsgi.WithThreads(2), wsgi.WithLogger(slog.New(slog.DiscardHandler)))
	var wrong string    // what the application that has started answered, if not hello
	var survived string // the function whose failure did not keep it from starting
	start := func() error {
		wrong, survived = "", ""
		app, err := wsgi.New(file, "application", options...)
		if err != nil {
			return err
		}
		survived, _ = cpython.Fault()
		w := httptest.NewRecorder()
		app.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		if w.Code != 200 || w.Body.String() != "hello" {
			wrong = fmt.Sprintf("%d %q", w.Code, w.Body)
		}
		return app.Shutdown(context.Background())
	}
	if err := start(); err != nil {
		t.Fatal(err)
	}
	before, allocations := measure(t), cpython.Allocations()
	var err error
	failed := 0
	failures := sweep(t, name, func(uint64) { within(t, "a start", func() { err = start() }) }, func(what string) {
		if err != nil {
			failed++
		}
		if what == "no failure" && (err != nil || wrong != "") {
			t.Errorf("with %s: %v, and the answer was %s", what, err, wrong)
		}
		if survived == "pthread_create" || survived == "PyThreadState_New" {
			t.Errorf("after a %s the application has started: with a worker less?", what)
		}
		if wrong != "" && !strings.HasPrefix(wrong, "500 ") {
			t.Errorf("after a %s the application has started and answers %s", what, wrong)
		}
		if now := cpython.Allocations(); now != allocations {
			t.Errorf("after a %s: %d allocations are left", what, now-allocations)
			allocations = now
		}
		if failed%16 == 0 {
			if err := start(); err != nil {
				t.Errorf("after a %s the next start failed: %v", what, err)
			}
		}
	})
	expectReleased(t, before)
	n := 0
	for _, count := range failures {
		n += count
	}
	t.Logf("%d failures made %d starts fail: %v", n, failed, failures)
	if failed < 10 || !testing.Short() && (failures["calloc"] == 0 || failures["PyType_FromSpec"] == 0) {
		t.Errorf("%d starts failed, by %v", failed, failures)
	}
}

func init() {
	programs["failing start"] = func() {
		var n uint64
		fmt.Sscan(os.Getenv("WSGI_TEST_FAIL_AT"), &n)
		cpython.FailAt(n)
		app, err := wsgi.New(os.Getenv("WSGI_TEST_APP"), "application", wsgi.WithThreads(1), wsgi.WithInterpreters(1), wsgi.WithIsolation(wsgi.Main))
		function, at := cpython.Fault()
		cpython.FailAt(0)
		if app != nil {
			w := httptest.NewRecorder()
			app.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
			if w.Body.String() != "hello" {
				err = fmt.Errorf("it answers %d %q", w.Code, w.Body)
			}
		}
		fmt.Printf("%d %q %q\n", at, function, fmt.Sprint(err))
	}
}

// TestEveryFailureOfPythonsStartIsAnError is about what happens once in a
// process, and so takes one for each failure.
func TestEveryFailureOfPythonsStartIsAnError(t *testing.T) {
	_, file := writeApp(t, hello)
	failed := make(map[string]int)
	for n := uint64(1); ; {
		stdout, stderr, err := runProgram(t, "failing start", "WSGI_TEST_APP="+file, fmt.Sprint("WSGI_TEST_FAIL_AT=", n))
		var function, message string
		var at uint64
		if _, scanErr := fmt.Sscanf(stdout, "%d %q %q", &at, &function, &message); err != nil || scanErr != nil {
			t.Fatalf("failure %d: %v, %v\n%s%s", n, err, scanErr, stdout, stderr)
		}
		if function == "" {
			if message != "<nil>" {
				t.Errorf("without a failure: %s", message)
			}
			break
		}
		if message != "<nil>" {
			failed[function]++
		}
		// From here on it is an interpreter's start, which the other test fails
		// in one process.
		if strings.HasPrefix(function, "PyThreadState_New") || function == "PyImport_ImportModule" {
			break
		}
		n = at + 1
	}
	t.Logf("starts failed by the failure of %v", failed)
	if failed["dlopen"] == 0 || failed["pthread_create"] == 0 || failed["PyInitConfig_SetInt"]+failed["Py_PreInitialize"] == 0 {
		t.Errorf("the failures of too few functions made the start fail: %v", failed)
	}
}
