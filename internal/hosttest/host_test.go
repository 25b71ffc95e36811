//go:build cgo && !windows

package hosttest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-a2d07992/wsgi"
)

// Each program is a host, in a process of its own. It prints what comes of it.
var programs = map[string]func() error{"beside": beside, "held": held, "another": another, "additions": additions}

// The host's Python belongs to the main thread.
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	if name := os.Getenv("HOST_PROGRAM"); name != "" {
		if err := programs[name](); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const application = `
import atexit, os, sys

atexit.register(lambda: print("the application's exit handler", flush=True))

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    facts = [os.environ["HOST_TEST"], getattr(sys, "of_the_host", "isolated")]
    return [repr(facts).encode()]
`

func runHost(t *testing.T, program string, env ...string) (stdout, stderr string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "guest.py")
	if err := os.WriteFile(file, []byte(application), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(append(os.Environ(), env...), "HOST_PROGRAM="+program, "APP="+file)
	// Py_Initialize finds its standard library by the python3 on PATH, or by
	// this variable.
	cmd.Env = append(cmd.Env, "PATH="+filepath.Dir(os.Getenv("WSGI_PYTHON"))+string(filepath.ListSeparator)+os.Getenv("PATH"))
	if home := os.Getenv("HOST_PYTHONHOME"); home != "" {
		cmd.Env = append(cmd.Env, "PYTHONHOME="+home)
	}
	// Unbuffered, a line and its end are written apart, and those of interpreters
	// that run in parallel get mixed.
	cmd.Env = append(cmd.Env, "PYTHONUNBUFFERED=")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("the host ended with %v\n%s\n%s", err, &out, &errs)
	}
	return out.String(), errs.String()
}

func start(mode wsgi.Isolation) (*wsgi.App, error) {
	return wsgi.New(os.Getenv("APP"), "application", wsgi.WithIsolation(mode),
		wsgi.WithEnv(map[string]string{"HOST_TEST": "given"}))
}

func mode() wsgi.Isolation {
	for _, mode := range []wsgi.Isolation{wsgi.Main, wsgi.SharedGIL, wsgi.OwnGIL} {
		if mode.String() == os.Getenv("MODE") {
			return mode
		}
	}
	panic("no such mode: " + os.Getenv("MODE"))
}

// get asks a server for its answer.
func get(server *httptest.Server) (string, error) {
	resp, err := server.Client().Get(server.URL)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("the answer is %s", resp.Status)
	}
	return string(body), err
}

// beside has host and application work at the same time, ends the application,
// has the host go on, twice, and ends the host's Python.
func beside() error {
	python := Initialize()
	err := python.Run(`
import atexit, os, sys, threading
sys.of_the_host = "shared"
hits = []
before = (sys.prefix, sys.executable, list(sys.argv), sys.stdout, dict(os.environ))
atexit.register(lambda: print("the host's exit handler", flush=True))
`)
	if err != nil {
		return err
	}
	for round := range 2 {
		python.Release()
		app, err := start(mode())
		if err != nil {
			return err
		}
		server := httptest.NewServer(app)
		var group sync.WaitGroup
		errs := make(chan error, 1000)
		var answer string
		for range 4 {
			group.Go(func() {
				for range 50 {
					errs <- python.Ensure("hits.append(threading.get_ident())")
				}
			})
			group.Go(func() {
				for range 50 {
					_, err := get(server)
					errs <- err
				}
			})
		}
		group.Wait()
		close(errs)
		for err := range errs {
			if err != nil {
				return err
			}
		}
		if answer, err = get(server); err != nil {
			return err
		}
		fmt.Println(round, answer)
		server.Close()
		if err := app.Shutdown(context.Background()); err != nil {
			return err
		}
		fmt.Println("shut down")
		python.Hold()
		err = python.Run(`
import signal
handled = []
signal.signal(signal.SIGUSR1, lambda *_: handled.append(1))
signal.raise_signal(signal.SIGUSR1)
signal.signal(signal.SIGUSR1, signal.SIG_DFL)
assert handled == [1], handled
assert threading.current_thread() is threading.main_thread()
assert len(hits) % 200 == 0 and hits, len(hits)
os.environ.pop("HOST_TEST", None)
assert before == (sys.prefix, sys.executable, list(sys.argv), sys.stdout, dict(os.environ)), before
`)
		if err != nil {
			return err
		}
	}
	fmt.Println("the host's Python ends")
	return python.Finalize()
}

// held never lets go of the GIL until the library has given up, and does then.
func held() error {
	python := Initialize()
	_, err := start(wsgi.Main)
	fmt.Println(err)
	if err := python.Run("alive = True"); err != nil {
		return err
	}
	python.Release()
	app, err := start(wsgi.Main)
	if err != nil {
		return err
	}
	server := httptest.NewServer(app)
	defer server.Close()
	if _, err := get(server); err != nil {
		return err
	}
	if err := app.Close(); err != nil {
		return err
	}
	python.Hold()
	if err := python.Run("assert alive"); err != nil {
		return err
	}
	return python.Finalize()
}

// another asks for a Python that is not the host's.
func another() error {
	python := Initialize()
	python.Release()
	_, err := start(wsgi.Main)
	fmt.Println(err)
	python.Hold()
	return python.Finalize()
}

// additions has the host's interpreter gain a virtual environment's packages and
// a variable, and refuse to change one.
func additions() error {
	python := Initialize()
	if err := python.Run("import os; os.environ['HOST_TEST'] = 'the host has it'"); err != nil {
		return err
	}
	python.Release()
	_, err := start(wsgi.Main)
	fmt.Println(err)
	app, err := wsgi.New(os.Getenv("APP"), "application", wsgi.WithIsolation(wsgi.Main), wsgi.WithPython(os.Getenv("VENV")),
		wsgi.WithEnv(map[string]string{"HOST_ADDED": "added"}))
	if err != nil {
		return err
	}
	if err := app.Close(); err != nil {
		return err
	}
	if err := python.Ensure("import in_the_venv; print(in_the_venv.NAME, os.environ['HOST_ADDED'])"); err != nil {
		return err
	}
	python.Hold()
	return python.Finalize()
}

func TestAdditionsToAHost(t *testing.T) {
	t.Parallel()
	venv := filepath.Join(t.TempDir(), "venv")
	if out, err := exec.Command(os.Getenv("WSGI_PYTHON"), "-m", "venv", "--without-pip", venv).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	site, err := filepath.Glob(filepath.Join(venv, "lib", "python*", "site-packages"))
	if err != nil || len(site) != 1 {
		t.Fatal(site, err)
	}
	if err := os.WriteFile(filepath.Join(site[0], "in_the_venv.py"), []byte("NAME = 'found'\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	stdout, stderr := runHost(t, "additions", "VENV="+venv)
	reason, rest, _ := strings.Cut(stdout, "\n")
	if !strings.Contains(reason, "HOST_TEST=given conflicts with HOST_TEST=the host has it") ||
		!strings.HasPrefix(rest, "found added\n") || stderr != "" {
		t.Errorf("%s\n%s", stdout, stderr)
	}
}

func TestBesideAHost(t *testing.T) {
	modes := []string{"Main", "SharedGIL"}
	if os.Getenv("HOST_OWN_GIL") != "" {
		modes = append(modes, "OwnGIL")
	}
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			stdout, stderr := runHost(t, "beside", "MODE="+mode)
			var want strings.Builder
			for round := range 2 {
				if mode == "Main" {
					fmt.Fprintf(&want, "%d ['given', 'shared']\nshut down\n", round)
				} else {
					ends := "the application's exit handler\n"
					if mode == "OwnGIL" {
						ends = strings.Repeat(ends, runtime.GOMAXPROCS(0))
					}
					fmt.Fprintf(&want, "%d ['given', 'isolated']\n%sshut down\n", round, ends)
				}
			}
			want.WriteString("the host's Python ends\n")
			if mode == "Main" {
				// Loaded once, its handlers are the host's to run.
				want.WriteString("the application's exit handler\n")
			}
			want.WriteString("the host's exit handler\n")
			if stdout != want.String() {
				t.Errorf("got\n%s\nwant\n%s", stdout, &want)
			}
			// What older Pythons leave behind is said once, at the second start.
			lines := slices.DeleteFunc(strings.SplitAfter(stderr, "\n"), func(line string) bool {
				return mode != "Main" && strings.Contains(line, "each leaves memory behind on Python before 3.14")
			})
			if rest := strings.Join(lines, ""); rest != "" {
				t.Errorf("stderr has %s", rest)
			}
		})
	}
}

// TestHostHoldsItsGIL: that is an error which says what to do, and no final one.
func TestHostHoldsItsGIL(t *testing.T) {
	t.Parallel()
	stdout, stderr := runHost(t, "held")
	reason, rest, _ := strings.Cut(stdout, "\n")
	if !strings.Contains(reason, "PyEval_SaveThread") || rest != "the application's exit handler\n" {
		t.Errorf("%s\n%s", stdout, stderr)
	}
	if stderr != "" {
		t.Errorf("stderr has %s", stderr)
	}
}

func TestHostHasAnotherPython(t *testing.T) {
	t.Parallel()
	other := os.Getenv("HOST_OTHER_PYTHON")
	if other == "" {
		t.Fatal("HOST_OTHER_PYTHON names no Python; make test-host does")
	}
	stdout, _ := runHost(t, "another", "WSGI_PYTHON="+other)
	if !strings.Contains(stdout, "one libpython") {
		t.Error(stdout)
	}
}
