package wsgi_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-a2d07992/wsgi"
	"github.com/seed-a2d07992/wsgi/internal/testenv"
)

// What needs a process of its own: its standard streams, its signals, its end.

func init() {
	programs["print"] = func() {
		opts := []wsgi.Option{wsgi.WithInterpreters(1)}
		if os.Getenv("MODE") == "SharedGIL" {
			opts = append(opts, wsgi.WithIsolation(wsgi.SharedGIL))
		}
		app, err := wsgi.New(os.Getenv("APP"), "application", opts...)
		if err != nil {
			fmt.Println("New:", err)
			return
		}
		for range 2 {
			w := httptest.NewRecorder()
			app.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
			fmt.Fprintln(os.Stderr, "go: answer", w.Body)
		}
		if err := app.Shutdown(context.Background()); err != nil {
			fmt.Println("Shutdown:", err)
		}
		os.Exit(0) // nothing is left to be flushed after Shutdown
	}
	programs["second library"] = func() {
		opts := []wsgi.Option{wsgi.WithInterpreters(1)}
		app, err := wsgi.New(os.Getenv("APP"), "application", opts...)
		if err != nil {
			fmt.Println("New:", err)
			return
		}
		_, err = wsgi.New(os.Getenv("APP"), "application", append(opts, wsgi.WithPython(os.Getenv("OTHER")))...)
		fmt.Println("second:", err)
		w := httptest.NewRecorder()
		app.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		fmt.Println("first still answers", w.Body)
	}
	programs["venv"] = func() {
		app, err := wsgi.New(os.Getenv("APP"), "application", wsgi.WithInterpreters(1), wsgi.WithPython(os.Getenv("VENV")))
		if err != nil {
			fmt.Println("New:", err)
			return
		}
		w := httptest.NewRecorder()
		app.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		fmt.Println(w.Body)
		app.Close()
	}
}

const printing = `
import atexit, logging, sys, threading

logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(threadName)s %(message)s")

def application(environ, start_response):
    print("printed with an end")
    print("printed without", end="")
    print()
    print("to stderr", file=sys.stderr)
    logging.info("logged")
    thread = threading.Thread(target=lambda: (print("printed in a thread"), logging.info("logged in a thread")), name="T")
    thread.start()
    thread.join()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]

atexit.register(print, "printed at exit")
atexit.register(lambda: sys.stdout.write("the last word, which no newline ends"))
`

func TestPrintedTextGoesOut(t *testing.T) {
	_, file := writeApp(t, validated(printing))
	for _, mode := range []string{"", "SharedGIL"} {
		stdout, stderr, err := runProgram(t, "print", "APP="+file, "MODE="+mode, "PYTHONUNBUFFERED=")
		if err != nil {
			t.Fatalf("%v\n%s\n%s", err, stdout, stderr)
		}
		once := "printed with an end\nprinted without\nprinted in a thread\n"
		if want := once + once + "the last word, which no newline endsprinted at exit\n"; stdout != want {
			t.Errorf("%q: stdout is %q, want %q", mode, stdout, want)
		}
		for _, want := range []string{"to stderr\n", "logged\n", "T logged in a thread\n", "go: answer hello\n"} {
			if strings.Count(stderr, want) < 2 {
				t.Errorf("%q: stderr lacks %q: %s", mode, want, stderr)
			}
		}
	}
}

// secondPython finds a Python whose library is not that of the one under test.
// "make test" names one.
func secondPython(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("WSGI_TEST_SECOND_PYTHON"); path != "" {
		return path
	}
	const build = "import sysconfig; print(sysconfig.get_config_var('LDVERSION'))"
	mine, err := exec.Command(pythonPath(), "-c", build).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, minor := range []string{"3.14", "3.13", "3.12", "3.11", "3.10", "3.9"} {
		if path, err := exec.LookPath("python" + minor); err == nil {
			if out, err := exec.Command(path, "-c", build).Output(); err == nil && string(out) != string(mine) {
				return path
			}
		}
	}
	testenv.Missing(t, "there is one Python only, and WSGI_TEST_SECOND_PYTHON names none")
	return ""
}

func TestSecondLibraryIsAnError(t *testing.T) {
	other := secondPython(t)
	_, file := writeApp(t, hello)
	stdout, stderr, err := runProgram(t, "second library", "APP="+file, "OTHER="+other)
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, stdout, stderr)
	}
	if !strings.Contains(stdout, "second: wsgi: ") || strings.Contains(stdout, "second: <nil>") ||
		!strings.HasSuffix(stdout, "first still answers hello\n") {
		t.Errorf("%s\n%s", stdout, stderr)
	}
	// It is refused because there is one, or because it has no library at all.
	if !strings.Contains(stdout, "libpython") {
		t.Errorf("the error doesn't say why: %s", stdout)
	}
}

// TestVirtualEnvironmentAsPython has a package in a venv, named in each way,
// in a process that has started with it and in one that has started without.
func TestVirtualEnvironmentAsPython(t *testing.T) {
	venv := filepath.Join(t.TempDir(), "a venv")
	if out, err := exec.Command(pythonPath(), "-m", "venv", "--without-pip", venv).CombinedOutput(); err != nil {
		t.Fatalf("making a venv: %v\n%s", err, out)
	}
	site, err := filepath.Glob(filepath.Join(venv, "lib", "python*", "site-packages"))
	if err != nil || len(site) != 1 {
		t.Fatal(site, err)
	}
	writeFile(t, filepath.Join(site[0], "only_in_the_venv.py"), "value = 'venv'\n")
	writeFile(t, filepath.Join(site[0], "more.pth"), filepath.Join(site[0], "by_pth")+"\n")
	writeFile(t, filepath.Join(site[0], "by_pth", "found_by_pth.py"), "")
	source := validated(`
import sys, sysconfig
import only_in_the_venv, found_by_pth

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{only_in_the_venv.value} {sys.prefix} {sys.executable} {sys.prefix != sys.base_prefix}".encode()]
`)
	_, file := writeApp(t, source)
	for _, python := range []string{venv, filepath.Join(venv, "bin", "python"), filepath.Join(venv, "bin", "python3")} {
		stdout, stderr, err := runProgram(t, "venv", "APP="+file, "VENV="+python)
		if err != nil {
			t.Fatalf("%v\n%s\n%s", err, stdout, stderr)
		}
		executable := python
		if python == venv {
			executable = filepath.Join(venv, "bin", "python3")
		}
		if want := fmt.Sprintf("venv %s %s True\n", venv, executable); stdout != want {
			t.Errorf("%s: got %q, want %q\n%s", python, stdout, want, stderr)
		}
	}
	t.Run("in a process with another", func(t *testing.T) {
		without, _, _ := newApp(t, hello, append(oneWorker, wsgi.WithIsolation(wsgi.SharedGIL))...)
		for _, mode := range []wsgi.Isolation{wsgi.SharedGIL, wsgi.OwnGIL} {
			if mode == wsgi.OwnGIL && !atLeast(t, 13) {
				continue
			}
			app, err := wsgi.New(file, "application", append(oneWorker, wsgi.WithPython(venv), wsgi.WithIsolation(mode))...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { app.Close() })
			want := fmt.Sprintf("venv %s %s/bin/python3 True", venv, venv)
			if _, got := record(t, app, "GET", "/", nil); got != want {
				t.Errorf("%v: got %q, want %q", mode, got, want)
			}
		}
		if _, body := record(t, without, "GET", "/", nil); body != "hello" {
			t.Error(body)
		}
		_, broken := writeApp(t, "import only_in_the_venv\n"+hello)
		if app, err := wsgi.New(broken, "application", append(oneWorker, wsgi.WithIsolation(wsgi.SharedGIL))...); err == nil {
			app.Close()
			t.Error("an application without the venv finds what is in it")
		}
	})
}
