//go:build unix

package cpython

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

func TestFindOrder(t *testing.T) {
	bin := onlyFakes(t)
	check := func(python, how string, want *fakePython) {
		t.Helper()
		inst := mustFind(t, python)
		if inst.How != how || inst.Executable != want.exe {
			t.Errorf("Find(%q) found %s by %s, want %s by %s", python, inst.Executable, inst.How, want.exe, how)
		}
		if inst.Library != want.library() {
			t.Errorf("Find(%q) found the library %s, want %s", python, inst.Library, want.library())
		}
	}
	python, python3 := newFakePython(t), newFakePython(t)
	venv, env, arg := newFakePython(t), newFakePython(t), newFakePython(t)

	symlink(t, python.exe, filepath.Join(bin, "python"))
	check("", "python on PATH", python)
	symlink(t, python3.exe, filepath.Join(bin, "python3"))
	check("", "python3 on PATH", python3)
	t.Setenv("VIRTUAL_ENV", venv.prefix)
	check("", "$VIRTUAL_ENV", venv)
	t.Setenv("WSGI_PYTHON", env.prefix)
	check("", "$WSGI_PYTHON", env)
	t.Setenv("WSGI_PYTHON", env.exe)
	check("", "$WSGI_PYTHON", env)
	t.Setenv("WSGI_PYTHON", "python3")
	check("", "$WSGI_PYTHON", python3)
	check(arg.exe, fmt.Sprintf("WithPython(%q)", arg.exe), arg)
}

func TestFindNames(t *testing.T) {
	bin := onlyFakes(t)
	python := newFakePython(t)
	command := newFakePython(t)
	symlink(t, command.exe, filepath.Join(bin, "env"))
	symlink(t, command.exe, filepath.Join(bin, "empty"))
	symlink(t, command.exe, filepath.Join(bin, "python3.11"))

	wd := t.TempDir()
	t.Chdir(wd)
	symlink(t, python.prefix, filepath.Join(wd, "env"))
	symlink(t, python.exe, filepath.Join(wd, "old", "bin", "python"))
	symlink(t, python.exe, filepath.Join(wd, "snake"))
	if err := os.Mkdir(filepath.Join(wd, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]*fakePython{
		python.exe:                python,
		python.prefix:             python,
		python.prefix + "/":       python,
		filepath.Join(wd, "env"):  python,
		"env":                     python,  // the folder, for it has an interpreter
		"empty":                   command, // the command, for the folder has none
		"./env":                   python,
		"env/bin/python3":         python,
		"old":                     python, // bin/python alone
		"./snake":                 python,
		"python3.11":              command,
		filepath.Join(bin, "env"): command,
	} {
		inst, err := Find(name)
		if err != nil {
			t.Errorf("Find(%q): %v", name, err)
		} else if inst.Executable != want.exe {
			t.Errorf("Find(%q) found %s, want %s", name, inst.Executable, want.exe)
		}
	}
}

// TestFindExecutable is about the path that the interpreter goes by when it
// isn't the one that was run.
func TestFindExecutable(t *testing.T) {
	bin := onlyFakes(t)
	python := newFakePython(t)
	shim := filepath.Join(bin, "python3")
	writeScript(t, shim, `exec "`+python.exe+`" "$@"`)
	if inst := mustFind(t, ""); inst.Executable != python.exe {
		t.Errorf("behind a shim found %s, want %s", inst.Executable, python.exe)
	}
	for _, says := range []string{"", "python3", "/nonexistent/python3", python.prefix} {
		python.report["executable"] = says
		python.write(t)
		if inst := mustFind(t, python.exe); inst.Executable != python.exe {
			t.Errorf("one that calls itself %q was found as %s, want %s", says, inst.Executable, python.exe)
		}
	}
}

func TestFindErrors(t *testing.T) {
	bin := onlyFakes(t)
	t.Chdir(t.TempDir())
	writeFile(t, "plain", []byte("hello"))
	writeFile(t, "venv/bin/python", []byte("hello"))
	symlink(t, "/nonexistent/python3.9", "dangling/bin/python3")
	writeFile(t, "nothing/readme", nil)
	writeScript(t, "fails", "echo a line >&2; echo the last line >&2; exit 3")
	writeScript(t, "silent", "exit 0")
	writeScript(t, "libpython3.11.so.1.0", "exit 0")
	writeScript(t, "garbage", `for m; do :; done; printf '\n%s\n%s' "$m" '{"version": '`)
	writeFile(t, "loader", []byte("#!/nonexistent/loader\n"))
	os.Chmod("loader", 0o755)
	writeFile(t, "format", []byte{0x7f, 'E', 'L', 'F', 0, 0})
	os.Chmod("format", 0o755)

	isInterpreter := func(cause error) func(error) bool {
		return func(err error) bool {
			_, ok := errors.AsType[*InterpreterError](err)
			return ok && errors.Is(err, cause)
		}
	}
	isRun := func(err error) bool {
		_, ok := errors.AsType[*RunError](err)
		return ok
	}
	for _, test := range []struct {
		name, arg, wsgiPython, virtualEnv string
		is                                func(error) bool
		says                              []string
	}{
		{name: "none", is: func(err error) bool { _, ok := errors.AsType[*NoPythonError](err); return ok },
			says: []string{"WithPython", "$WSGI_PYTHON", "$VIRTUAL_ENV", "python3 on PATH", "wsgi/embedded"}},
		{name: "missing", arg: "./gone", is: isInterpreter(fs.ErrNotExist), says: []string{`WithPython("./gone")`, "gone doesn't exist"}},
		{name: "tilde", arg: "~/venv", is: isInterpreter(fs.ErrNotExist), says: []string{"~ is not expanded"}},
		{name: "not a command", arg: "python3.99", is: isInterpreter(fs.ErrNotExist), says: []string{`no "python3.99" on PATH`}},
		{name: "file without a slash", arg: "plain", is: isInterpreter(fs.ErrNotExist), says: []string{"./plain"}},
		{name: "not executable", arg: "./plain", is: isInterpreter(fs.ErrPermission), says: []string{"plain isn't executable"}},
		{name: "library", arg: "./libpython3.11.so.1.0", is: isInterpreter(fs.ErrInvalid), says: []string{"is a library"}},
		{name: "below a file", arg: "plain/bin/python3", is: isInterpreter(syscall.ENOTDIR), says: []string{"plain"}},
		{name: "empty folder", arg: "./nothing", is: isInterpreter(fs.ErrNotExist), says: []string{"no interpreter in", "nothing", "bin/python3"}},
		{name: "empty folder by name", arg: "nothing", is: isInterpreter(fs.ErrNotExist), says: []string{"no interpreter in"}},
		{name: "venv not executable", arg: "venv", is: isInterpreter(fs.ErrPermission), says: []string{"bin/python isn't executable"}},
		{name: "dangling", arg: "./dangling", is: isInterpreter(fs.ErrNotExist), says: []string{"/nonexistent/python3.9", "made anew"}},
		{name: "variable", wsgiPython: "./gone", is: isInterpreter(fs.ErrNotExist), says: []string{"$WSGI_PYTHON: ", "unset the variable"}},
		{name: "virtual env", virtualEnv: "nothing", is: isInterpreter(fs.ErrNotExist), says: []string{"$VIRTUAL_ENV: no interpreter in", "unset the variable"}},
		{name: "virtual env gone", virtualEnv: "/nonexistent/venv", is: isInterpreter(fs.ErrNotExist), says: []string{"$VIRTUAL_ENV: /nonexistent/venv doesn't exist"}},
		{name: "fails", arg: "./fails", is: func(err error) bool {
			e, ok := errors.AsType[*exec.ExitError](err)
			return ok && e.ExitCode() == 3 && isRun(err)
		}, says: []string{"exit status 3", "a line\nthe last line"}},
		{name: "silent", arg: "./silent", is: isRun, says: []string{"is it Python?"}},
		{name: "garbage", arg: "./garbage", is: isRun, says: []string{"unreadable"}},
		{name: "loader", arg: "./loader", is: isRun, says: []string{"the file is there"}},
		{name: "format", arg: "./format", is: isRun, says: []string{"format"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("WSGI_PYTHON", test.wsgiPython)
			t.Setenv("VIRTUAL_ENV", test.virtualEnv)
			inst, err := Find(test.arg)
			if err == nil {
				t.Fatalf("found %s", inst.Executable)
			}
			if !test.is(err) {
				t.Errorf("%T (%v) is not the kind of error wanted", err, err)
			}
			for _, s := range test.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q doesn't say %q", err, s)
				}
			}
		})
	}

	t.Run("relative PATH", func(t *testing.T) {
		t.Setenv("PATH", "venv/bin"+string(filepath.ListSeparator)+bin)
		os.Chmod("venv/bin/python", 0o755)
		_, err := Find("")
		if _, ok := errors.AsType[*NoPythonError](err); !ok || !strings.Contains(err.Error(), "relative") {
			t.Errorf("Find: %v", err)
		}
		_, err = Find("python")
		if _, ok := errors.AsType[*InterpreterError](err); !ok || !strings.Contains(err.Error(), "relative") {
			t.Errorf("Find: %v", err)
		}
	})
}

func TestFindUnsupported(t *testing.T) {
	onlyFakes(t)
	python := newFakePython(t)
	find := func(implementation, version string) error {
		t.Helper()
		python.report["implementation"] = implementation
		python.report["version"] = version
		python.write(t)
		_, err := Find(python.exe)
		return err
	}

	err := find("cpython", "3.8.18 (default)")
	if e, ok := errors.AsType[*VersionError](err); !ok || e.Version != (Version{3, 8, 18, ""}) || !strings.Contains(err.Error(), "3.9 or newer") {
		t.Errorf("3.8: %v", err)
	}
	err = find("pypy", "3.10.14 (75b3de9d9035, Apr 21 2024) [PyPy 7.3.16]")
	if e, ok := errors.AsType[*ImplementationError](err); !ok || e.Name != "pypy" || !strings.Contains(err.Error(), "only CPython") {
		t.Errorf("PyPy: %v", err)
	}
	if err := find("graalpy", "2.7.0"); !errors.As(err, new(*ImplementationError)) {
		t.Errorf("GraalPy: %v", err)
	}
	if err := find("cpython", "later"); !errors.As(err, new(*RunError)) {
		t.Errorf("a version that is none: %v", err)
	}

	// What it can't say doesn't matter where it can't be used anyway.
	python.report["error"] = "Traceback: it broke"
	if err := find("pypy", "3.10.14"); !errors.As(err, new(*ImplementationError)) {
		t.Errorf("PyPy that breaks: %v", err)
	}
	if err := find("cpython", "3.11.2"); !errors.As(err, new(*RunError)) || !strings.Contains(err.Error(), "it broke") {
		t.Errorf("CPython that breaks: %v", err)
	}
	delete(python.report, "error")

	// A version that nobody has seen yet is tried.
	writeLibrary(t, strings.Replace(python.library(), "3.11", "3.99", 1), runtime.GOOS, runtime.GOARCH)
	if err := find("cpython", "3.99.0a1 (main)"); err != nil {
		t.Errorf("3.99: %v", err)
	}

	// Python 2 doesn't know -I.
	python.before = `if [ "$1" = -I ]; then echo "Unknown option: -I" >&2; exit 2; fi`
	if err := find("cpython", "2.7.18 (default)"); !errors.As(err, new(*VersionError)) {
		t.Errorf("2.7: %v", err)
	}
}

func TestFindNoLibrary(t *testing.T) {
	onlyFakes(t)
	python := newFakePython(t)
	if err := os.Remove(python.library()); err != nil {
		t.Fatal(err)
	}
	_, err := Find(python.exe)
	e, ok := errors.AsType[*NoLibraryError](err)
	if !ok || e.Installation.Executable != python.exe || len(e.Searched) == 0 || len(e.Rejected) != 0 {
		t.Fatalf("Find: %v", err)
	}
	for _, s := range []string{"CPython 3.11.2", python.exe, filepath.Base(python.library()), filepath.Dir(python.library()), "--enable-shared"} {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%q doesn't say %q", err, s)
		}
	}
	// The library came: an error isn't remembered.
	writeLibrary(t, python.library(), runtime.GOOS, runtime.GOARCH)
	mustFind(t, python.exe)
}
