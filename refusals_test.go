package wsgi_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-a2d07992/wsgi"
)

// faulthandler is what these tests have refuse an interpreter with a GIL of its
// own: every Python that has such interpreters has this module, and it refuses.
const skipsModule = `
try:
    import faulthandler
except ImportError:
    faulthandler = None

def application(environ, start_response):
    try:
        import faulthandler as again
    except ImportError:
        pass
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"without" if faulthandler is None else b"with"]
`

// expectRefusal fails the test unless there is exactly one warning, which names
// the module, and says everything wanted.
func expectRefusal(t *testing.T, l *logs, extension string, says ...string) {
	t.Helper()
	var found []logRecord
	for _, r := range l.All() {
		if r.Level == slog.LevelWarn && !strings.Contains(r.Message, remains) {
			found = append(found, r)
		}
	}
	if len(found) != 1 || found[0].Attrs["extension"] != extension || found[0].Attrs["application"] == "" {
		t.Errorf("logged %v, want one warning of %s", found, extension)
		return
	}
	for _, want := range says {
		if !strings.Contains(found[0].Message, want) {
			t.Errorf("logged %q, which doesn't say %q", found[0].Message, want)
		}
	}
}

// TestSwallowedRefusalIsLoggedOnce: the application catches the ImportError, in
// each of its interpreters, at its start and again in each request.
func TestSwallowedRefusalIsLoggedOnce(t *testing.T) {
	needOwnGIL(t)
	for _, mode := range []wsgi.Isolation{wsgi.Auto, wsgi.OwnGIL} {
		t.Run(mode.String(), func(t *testing.T) {
			s := serve(t, skipsModule, wsgi.WithIsolation(mode), wsgi.WithInterpreters(3))
			for range 10 {
				s.expectBody(t, "/", "without")
			}
			shutdown(t, s.App)
			expectRefusal(t, s.Logs, "faulthandler", "was loaded although", "does without it", "WithIsolation(wsgi.Main)")
		})
	}
	t.Run("Main", func(t *testing.T) { // has what the warning promises
		s := serve(t, skipsModule, wsgi.WithIsolation(wsgi.Main))
		s.expectBody(t, "/", "with")
		s.Logs.expectQuiet(t)
	})
}

// TestLateRefusalIsLoggedOnce: the module is imported by requests, at once and
// one after another, whether they catch the ImportError or fail.
func TestLateRefusalIsLoggedOnce(t *testing.T) {
	needOwnGIL(t)
	for name, source := range map[string]string{
		"caught": "try:\n        import faulthandler\n    except ImportError:\n        pass",
		"raised": "import faulthandler",
		"by a thread": "import threading\n    thread = threading.Thread(target=load)\n" +
			"    thread.start()\n    thread.join()",
		"by importlib": "load()",
		"by hand":      "load_by_hand()",
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, `
import importlib, importlib.machinery, importlib.util

def load():
    try:
        importlib.import_module("faulthandler")
    except ImportError:
        pass

def load_by_hand():
    spec = importlib.machinery.BuiltinImporter.find_spec("faulthandler")
    try:
        importlib.util.module_from_spec(spec)
    except ImportError:
        pass

def application(environ, start_response):
    `+source+`
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]
`, wsgi.WithInterpreters(2), wsgi.WithThreads(2))
			s.Logs.expectQuiet(t)
			want := 200
			if name == "raised" {
				want = 500
			}
			var group sync.WaitGroup
			for range 8 {
				group.Go(func() {
					if resp, _ := s.get(t, "/"); resp.StatusCode != want {
						t.Errorf("got %s, want %d", resp.Status, want)
					}
				})
			}
			group.Wait()
			s.Logs.Wait(t, "imported after the start")
			shutdown(t, s.App)
			expectRefusal(t, s.Logs, "faulthandler", "imported after the start", "WithIsolation(wsgi.Main)")
		})
	}
}

// TestRefusalOnSlowLogHoldsUpNoRequest: a log that takes its time over the warning
// is nothing that other requests wait for.
func TestRefusalOnSlowLogHoldsUpNoRequest(t *testing.T) {
	needOwnGIL(t)
	log := stuckLog{reached: make(chan struct{}), release: make(chan struct{})}
	s := serve(t, `
def application(environ, start_response):
    if environ["PATH_INFO"] == "/refused":
        try:
            import faulthandler
        except ImportError:
            pass
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]
`, wsgi.WithInterpreters(1), wsgi.WithLogger(slog.New(log)))
	release := sync.OnceFunc(func() { close(log.release) })
	defer release()
	s.expectBody(t, "/refused", "done")
	select {
	case <-log.reached:
	case <-time.After(patience):
		t.Fatal("the refusal is not logged")
	}
	for range 3 {
		s.expectBody(t, "/", "done")
	}
	release()
	shutdown(t, s.App)
}

// A stuckLog blocks in the warning of a late refusal.
type stuckLog struct{ reached, release chan struct{} }

func (l stuckLog) Enabled(context.Context, slog.Level) bool { return true }
func (l stuckLog) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l stuckLog) WithGroup(string) slog.Handler            { return l }

func (l stuckLog) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "imported after the start") {
		close(l.reached)
		<-l.release
	}
	return nil
}

// TestAutoSaysWhyItTookMain: which module, what that costs and what would help;
// also where the application has made an error of its own of
// the ImportError.
func TestAutoSaysWhyItTookMain(t *testing.T) {
	needOwnGIL(t)
	for name, source := range map[string]string{
		"ImportError": "import faulthandler\n",
		"its own":     "try:\n    import faulthandler\nexcept ImportError:\n    raise ValueError('no such driver') from None\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, source+hello, wsgi.WithIsolation(wsgi.Auto))
			s.expectBody(t, "/", "hello")
			if mode := s.App.Stats().Isolation; mode != wsgi.Main {
				t.Errorf("it runs under %v", mode)
			}
			expectRefusal(t, s.Logs, "faulthandler", "on one GIL", "not run in parallel", "pure Python", "WithIsolation(wsgi.Main)")
		})
	}
}

// TestForcedModeThatCannotServeIsAnError, which names the module and the modes
// that would.
func TestForcedModeThatCannotServeIsAnError(t *testing.T) {
	needOwnGIL(t)
	_, file := writeApp(t, "import faulthandler\n"+hello)
	_, err := load(t, file, "application", wsgi.WithIsolation(wsgi.OwnGIL))
	var failed *wsgi.LoadError
	if !errors.As(err, &failed) || !slices.Equal(failed.Refused, []string{"faulthandler"}) || failed.Isolation != wsgi.OwnGIL {
		t.Fatalf("got %#v, %v", failed, err)
	}
	for _, want := range []string{"Traceback", "under isolation mode OwnGIL: faulthandler", "WithIsolation(wsgi.Main)", "SharedGIL"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error doesn't say %q: %v", want, err)
		}
	}
	for _, mode := range []wsgi.Isolation{wsgi.Main, wsgi.SharedGIL} {
		if body, err := load(t, file, "application", wsgi.WithIsolation(mode)); body != "hello" {
			t.Errorf("%v: %q, %v", mode, body, err)
		}
	}
}

// TestAutoSaysWhatItTriedWhereMainFailsToo, in the error.
func TestAutoSaysWhatItTriedWhereMainFailsToo(t *testing.T) {
	needOwnGIL(t)
	_, file := writeApp(t, "import faulthandler\nraise ValueError('anyway')\n")
	_, err := load(t, file, "application")
	var failed *wsgi.LoadError
	if !errors.As(err, &failed) || !slices.Equal(failed.Refused, []string{"faulthandler"}) || failed.Isolation != wsgi.Main {
		t.Fatalf("got %#v, %v", failed, err)
	}
	for _, want := range []string{"ValueError: anyway", "OwnGIL was refused by faulthandler", "WithIsolation(wsgi.Main)"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error doesn't say %q: %v", want, err)
		}
	}
}

// TestOtherFailuresAreNoRefusals: Auto goes on only where going on may help.
func TestOtherFailuresAreNoRefusals(t *testing.T) {
	for _, source := range []string{
		"import no_such_module_at_all\n",
		"raise ImportError('subinterpreters, more than once per process')\n",
	} {
		records := &logs{}
		_, file := writeApp(t, source+hello)
		_, err := load(t, file, "application", wsgi.WithIsolation(wsgi.Auto), wsgi.WithLogger(slog.New(records)))
		var failed *wsgi.LoadError
		if !errors.As(err, &failed) || failed.Refused != nil || strings.Contains(err.Error(), "Refused") {
			t.Errorf("got %v", err)
		}
		records.expectQuiet(t)
	}
}

// TestImportsLookAsUsual: what watches them is not seen by what looks at the
// import system, or at a traceback.
func TestImportsLookAsUsual(t *testing.T) {
	const facts = `
def facts():
    import _imp, importlib, inspect, math, pickle, sys, traceback
    lines = []
    for name in ("create_builtin", "create_dynamic", "exec_dynamic"):
        function = getattr(_imp, name)
        lines.append([function.__name__, function.__qualname__, function.__module__, function.__doc__,
                      pickle.loads(pickle.dumps(function)) is function])
    spec = importlib.util.find_spec("math") if hasattr(importlib, "util") else math.__spec__
    lines.append([str(spec.loader) == str(math.__loader__), pickle.loads(pickle.dumps(math.sin)) is math.sin,
                  inspect.getmodule(math.sin) is math])
    try:
        inspect.signature(_imp.create_builtin)
    except ValueError:
        lines.append("no signature")
    else:
        lines.append(str(inspect.signature(_imp.create_builtin)))
    try:
        loader = importlib.machinery.ExtensionFileLoader("absent", "/no/such/absent.so")
        importlib.util.module_from_spec(importlib.util.spec_from_loader("absent", loader))
    except ImportError:
        lines.append([frame.name for frame in traceback.extract_tb(sys.exc_info()[2])][1:])
    for path in ("/no/such/absent.so", "/not\0a path.so"):
        loader = importlib.machinery.ExtensionFileLoader("absent", path)
        finder = type("Finder", (), {"find_spec": staticmethod(
            lambda name, path=None, target=None: importlib.util.spec_from_loader(name, loader) if name == "absent" else None)})
        sys.meta_path.insert(0, finder)
        try:
            import absent
        except (ImportError, ValueError) as error:
            lines.append([type(error), getattr(error, "name", None), getattr(error, "path", None)])
            lines.append([frame.filename.startswith("<") for frame in traceback.extract_tb(error.__traceback__)])
        finally:
            sys.meta_path.remove(finder)
    return repr(lines)
`
	_, usual := writeApp(t, "import importlib.machinery, importlib.util\n"+facts+"print(facts())\n")
	out, err := exec.Command(pythonPath(), usual).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := strings.TrimSpace(string(out))
	isolations(t, func(t *testing.T, mode wsgi.Isolation) {
		s := serve(t, "import importlib.machinery, importlib.util\n"+facts+`
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [facts().encode()]
`, append(oneWorker, wsgi.WithIsolation(mode))...)
		_, got := s.get(t, "/")
		// By hand nothing is taken out: what watches is one or two of the frames.
		const frame = ", '_call_with_frames_removed'"
		for strings.Contains(got, frame+frame) {
			got = strings.Replace(got, frame+frame, frame, 1)
		}
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		s.Logs.expectQuiet(t)
	})
}

// TestOneNameIsOneModuleInMain: two applications that mean different modules by
// one name can't share an interpreter, which is said, with what would help.
func TestOneNameIsOneModuleInMain(t *testing.T) {
	name := fmt.Sprint("conflict_", appNumber.Add(1))
	dirs := []string{t.TempDir(), t.TempDir()}
	for i, dir := range dirs {
		writeFile(t, filepath.Join(dir, name+".py"), strings.ReplaceAll(hello, "hello", fmt.Sprint("the ", i)))
	}
	for i, mode := range []wsgi.Isolation{wsgi.Main, wsgi.SharedGIL} {
		if body, err := load(t, name, "application", wsgi.WithPath(dirs[i]), wsgi.WithIsolation(mode)); body != fmt.Sprint("the ", i) {
			t.Errorf("%v: %q, %v", mode, body, err)
		}
	}
	_, err := load(t, name, "application", wsgi.WithPath(dirs[1]), wsgi.WithIsolation(wsgi.Main))
	if err == nil {
		t.Fatal("the second one was loaded too")
	}
	for _, want := range []string{name, dirs[0], dirs[1], "OwnGIL or SharedGIL"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error doesn't say %q: %v", want, err)
		}
	}
	env := func(value string) wsgi.Option { return wsgi.WithEnv(map[string]string{"WSGI_TEST_" + name: value}) }
	_, first := writeApp(t, hello)
	_, second := writeApp(t, hello)
	if _, err := load(t, first, "application", env("one"), wsgi.WithIsolation(wsgi.Main)); err != nil {
		t.Error(err)
	}
	if _, err := load(t, second, "application", env("other"), wsgi.WithIsolation(wsgi.Main)); err == nil ||
		!strings.Contains(err.Error(), "WithEnv") || !strings.Contains(err.Error(), "OwnGIL or SharedGIL") {
		t.Errorf("two values of one variable: %v", err)
	}
}
