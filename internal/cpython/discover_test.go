package cpython

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// machinePythons finds the Pythons of this machine that can be used, and says
// of the others why not.
var machinePythons = sync.OnceValues(func() (list []*Installation, leftOut []error) {
	names := []string{os.Getenv("WSGI_PYTHON"), "python3"}
	command := regexp.MustCompile(`^python3\.\d+(t|d|-dbg)?$`) // not python3.13-config
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/bin") {
		entries, _ := os.ReadDir(dir)
		for _, entry := range entries {
			if command.MatchString(entry.Name()) {
				names = append(names, filepath.Join(dir, entry.Name()))
			}
		}
	}
	seen := make(map[string]bool)
	for _, name := range names {
		if name == "" {
			continue
		}
		inst, err := Find(name)
		if err != nil {
			leftOut = append(leftOut, err)
			continue
		}
		if real, err := filepath.EvalSymlinks(inst.Executable); err == nil && !seen[real] {
			seen[real] = true
			list = append(list, inst)
		}
	}
	return list, leftOut
})

// discoveredPythons returns the Pythons of this machine, at least one.
func discoveredPythons(t *testing.T) []*Installation {
	t.Helper()
	list, leftOut := machinePythons()
	for _, err := range leftOut {
		t.Logf("left out: %v", err)
	}
	if len(list) == 0 {
		t.Skip("this machine has no Python with a shared library")
	}
	return list
}

// onlyFakes hides the machine's own Pythons. It returns a folder that is all
// of PATH.
func onlyFakes(t *testing.T) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the fake interpreters are shell scripts")
	}
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	t.Setenv("WSGI_PYTHON", "")
	t.Setenv("VIRTUAL_ENV", "")
	return bin
}

// A fakePython is an installation with an interpreter that is a script.
type fakePython struct {
	prefix string
	exe    string         // prefix/bin/python3
	report map[string]any // what it says of itself
	before string         // shell commands that it runs first
	after  string         // and last
}

// newFakePython makes a fake CPython 3.11.2 with a library in a new folder.
func newFakePython(t *testing.T) *fakePython {
	t.Helper()
	prefix := t.TempDir()
	f := &fakePython{prefix: prefix, exe: filepath.Join(prefix, "bin", "python3")}
	f.report = map[string]any{
		"version":          "3.11.2 (main, Mar 13 2023, 12:18:29) [GCC 12.2.0]",
		"implementation":   "cpython",
		"executable":       f.exe,
		"base_executable":  f.exe,
		"prefix":           prefix,
		"exec_prefix":      prefix,
		"base_prefix":      prefix,
		"base_exec_prefix": prefix,
		"object_size":      16,
		"path":             []string{prefix + "/lib/python3.11", prefix + "/lib/python3.11/site-packages"},
		"stdlib_path":      []string{prefix + "/lib/python3.11"},
		"site_dirs":        []string{prefix + "/lib/python3.11/site-packages"},
	}
	writeLibrary(t, f.library(), runtime.GOOS, runtime.GOARCH)
	f.write(t)
	return f
}

func (f *fakePython) library() string {
	name := "libpython3.11.so.1.0"
	if runtime.GOOS == "darwin" {
		name = "libpython3.11.dylib"
	}
	return filepath.Join(f.prefix, "lib", name)
}

// write writes the script, which uses nothing that isn't built into a shell.
func (f *fakePython) write(t *testing.T) {
	t.Helper()
	report, err := json.Marshal(f.report)
	if err != nil {
		t.Fatal(err)
	}
	quoted := "'" + strings.ReplaceAll(string(report), "'", `'\''`) + "'"
	writeScript(t, f.exe, f.before+"\nfor marker; do :; done\nprintf '\\n%s\\n%s\\n' \"$marker\" "+quoted+"\n"+f.after)
}

func writeScript(t *testing.T, path, body string) {
	t.Helper()
	writeFile(t, path, []byte("#!/bin/sh\n"+body+"\n"))
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, target, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

func mustFind(t *testing.T, python string) *Installation {
	t.Helper()
	inst, err := Find(python)
	if err != nil {
		t.Fatalf("Find(%q): %v", python, err)
	}
	return inst
}

// makeVenv makes a virtual environment from the Python and returns its folder.
func makeVenv(t *testing.T, base *Installation) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "venv")
	out, err := exec.Command(base.Executable, "-I", "-m", "venv", "--without-pip", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("making a virtual environment with %s: %v\n%s", base.Executable, err, out)
	}
	return dir
}

func TestParseVersion(t *testing.T) {
	for _, test := range []struct {
		text string
		want Version
		str  string
	}{
		{"3.14.6 (main, Jun 11 2026, 20:01:02) [Clang 20.1.4 ]", Version{3, 14, 6, ""}, "3.14.6"},
		{"3.15.0a2+ (heads/main:1234567, ...) [GCC]", Version{3, 15, 0, "a2+"}, "3.15.0a2+"},
		{"3.13.2+", Version{3, 13, 2, "+"}, "3.13.2+"},
		{"2.7.18 (default, ...)\n[GCC 12.2.0]", Version{2, 7, 18, ""}, "2.7.18"},
		{"3.8.5 | packaged by conda-forge | (default)", Version{3, 8, 5, ""}, "3.8.5"},
	} {
		got, err := ParseVersion(test.text)
		if err != nil || got != test.want || got.String() != test.str {
			t.Errorf("ParseVersion(%q) = %#v %q, %v; want %#v %q", test.text, got, got, err, test.want, test.str)
		}
	}
	for _, text := range []string{"", "3", "3.11", "3.11.", "three", "3.x.1", "-3.1.1", "99999999999999999999.1.1"} {
		if got, err := ParseVersion(text); err == nil {
			t.Errorf("ParseVersion(%q) = %v, no error", text, got)
		}
	}
	v := Version{Major: 3, Minor: 12}
	if !v.AtLeast(3, 12) || !v.AtLeast(3, 9) || !v.AtLeast(2, 13) || v.AtLeast(3, 13) || v.AtLeast(4, 0) {
		t.Error("AtLeast is wrong about 3.12")
	}
}

// TestFindReal compares what Find says with what the interpreter says when it
// starts as usual, with its site directories from the beginning.
func TestFindReal(t *testing.T) {
	type answer struct {
		VersionText, Executable                        string
		Prefix, ExecPrefix, BasePrefix, BaseExecPrefix string
		ObjectSize                                     int
		Debug                                          bool
		Path                                           []string
	}
	const script = `if True:
		import json, sys
		print(json.dumps(dict(
			VersionText=sys.version, Executable=sys.executable,
			Prefix=sys.prefix, ExecPrefix=sys.exec_prefix,
			BasePrefix=sys.base_prefix, BaseExecPrefix=sys.base_exec_prefix,
			ObjectSize=object.__basicsize__, Path=sys.path,
			Debug=hasattr(sys, "gettotalrefcount"))))`
	check := func(t *testing.T, inst *Installation) {
		out, err := exec.Command(inst.Executable, "-I", "-c", script).Output()
		if err != nil {
			t.Fatal(err)
		}
		var want answer
		if err := json.Unmarshal(out, &want); err != nil {
			t.Fatal(err)
		}
		got := answer{
			inst.VersionText, inst.Executable,
			inst.Prefix, inst.ExecPrefix, inst.BasePrefix, inst.BaseExecPrefix,
			inst.ObjectSize, inst.Debug, inst.Path,
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		if !strings.HasPrefix(inst.VersionText, inst.Version.String()+" ") {
			t.Errorf("Version is %v of %q", inst.Version, inst.VersionText)
		}
		if len(inst.StdlibPath) == 0 {
			t.Error("no StdlibPath")
		}
		for _, dir := range inst.StdlibPath {
			if !slices.Contains(inst.Path, dir) {
				t.Errorf("%s of StdlibPath is not on Path", dir)
			}
			if slices.Contains(inst.SiteDirs, dir) {
				t.Errorf("%s is on StdlibPath and in SiteDirs", dir)
			}
		}
		if !filepath.IsAbs(inst.Library) {
			t.Errorf("Library is %q", inst.Library)
		}
		// The interpreter loads it too, which a library for another processor
		// or a text file doesn't stand.
		out, err = exec.Command(inst.Executable, "-I", "-c", `if True:
			import ctypes, sys
			version = ctypes.CDLL(sys.argv[1]).Py_GetVersion
			version.restype = ctypes.c_char_p
			print(version().decode())`, inst.Library).CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), inst.Version.String()+" ") {
			t.Errorf("loading %s into %s: %v\n%s", inst.Library, inst.Executable, err, out)
		}
	}
	for _, inst := range discoveredPythons(t) {
		name := inst.Version.String()
		if inst.Debug {
			name += " debug"
		}
		t.Run(name, func(t *testing.T) { check(t, inst) })
		t.Run(name+" venv", func(t *testing.T) {
			dir := makeVenv(t, inst)
			venv := mustFind(t, dir)
			check(t, venv)
			if filepath.Dir(filepath.Dir(venv.Executable)) != dir {
				t.Errorf("Executable is %s, not the one in %s", venv.Executable, dir)
			}
			if venv.Prefix == inst.Prefix || venv.BasePrefix != inst.BasePrefix {
				t.Errorf("prefixes %s and %s of an environment made from one in %s", venv.Prefix, venv.BasePrefix, inst.Prefix)
			}
			if !slices.Equal(venv.StdlibPath, inst.StdlibPath) {
				t.Errorf("StdlibPath is %q, not the base's %q", venv.StdlibPath, inst.StdlibPath)
			}
			if len(venv.SiteDirs) != 1 || !strings.HasPrefix(venv.SiteDirs[0], dir) {
				t.Errorf("SiteDirs is %q", venv.SiteDirs)
			}
			if !sameFile(venv.Library, inst.Library) {
				t.Errorf("Library is %s, the base's %s", venv.Library, inst.Library)
			}

			t.Setenv("WSGI_PYTHON", "")
			t.Setenv("VIRTUAL_ENV", dir)
			if got := mustFind(t, ""); got.Prefix != venv.Prefix || got.How != "$VIRTUAL_ENV" {
				t.Errorf("by $VIRTUAL_ENV found %s through %s", got.Prefix, got.How)
			}
		})
	}
}

// TestFindSiteHook has the site hooks of a virtual environment do their worst
// to the output, and then looks for the path that one of them added.
func TestFindSiteHook(t *testing.T) {
	dir := makeVenv(t, discoveredPythons(t)[0])
	before := mustFind(t, dir)
	extra := t.TempDir()
	hook := strings.Join([]string{
		`import sys, os, atexit`,
		`print("hook", end="")`,
		`print("x" * 100000, file=sys.stderr)`,
		`os.write(1, b'\xff\n{"version": "1.2.3"}')`,
		`atexit.register(print, "bye")`,
		`sys.stdout = open(os.devnull, "w")`,
	}, "; ")
	writeFile(t, filepath.Join(before.SiteDirs[0], "hook.pth"), []byte(hook+"\n"+extra+"\n"))

	got := mustFind(t, dir)
	if want := append(slices.Clone(before.Path), extra); !slices.Equal(got.Path, want) {
		t.Errorf("Path is %q, want %q", got.Path, want)
	}

	writeFile(t, filepath.Join(before.SiteDirs[0], "last.pth"), []byte("import sys; sys.exit('the hook gives up')\n"))
	_, err := Find(dir)
	if !errors.As(err, new(*RunError)) || !strings.Contains(err.Error(), "the hook gives up") {
		t.Errorf("where a hook ends the interpreter: %v (%T)", err, err)
	}
}

// TestFindFileNames has an interpreter in a folder whose name isn't text.
func TestFindFileNames(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("file names are text here")
	}
	base := discoveredPythons(t)[0]
	link := filepath.Join(t.TempDir(), "caf\xe9 \u20ac", "python3")
	symlink(t, base.Executable, link)
	if got := mustFind(t, link); got.Executable != link || got.BasePrefix != base.BasePrefix {
		t.Errorf("found %q with the prefix %q, want %q with %q", got.Executable, got.BasePrefix, link, base.BasePrefix)
	}
}

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

func TestFindCache(t *testing.T) {
	onlyFakes(t)
	python := newFakePython(t)
	log := filepath.Join(t.TempDir(), "log")
	python.before = "echo >>" + log
	python.write(t)
	var runs int
	check := func(want int, after string) {
		t.Helper()
		mustFind(t, python.exe)
		data, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(data) - runs; got != want {
			t.Errorf("%s: ran %d times, want %d", after, got, want)
		}
		runs = len(data)
	}

	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			inst, err := Find(python.exe)
			if err != nil {
				t.Error(err)
				return
			}
			// Everyone's copy is theirs to change.
			inst.Path[0], inst.How = "changed", "changed"
		})
	}
	wg.Wait()
	check(1, "at first")
	inst := mustFind(t, python.exe)
	if inst.Path[0] == "changed" || inst.How == "changed" {
		t.Error("a caller's change reached another")
	}
	check(0, "again")

	// The same interpreter, named in another way.
	t.Setenv("WSGI_PYTHON", python.prefix)
	check(1, "with another environment")
	if inst := mustFind(t, ""); inst.How != "$WSGI_PYTHON" {
		t.Errorf("found by %s", inst.How)
	}
	check(0, "by the variable")
	t.Chdir(t.TempDir())
	// Chdir sets PWD too.
	check(1, "in another directory")

	later := time.Now().Add(time.Hour)
	for name, change := range map[string]func() error{
		"pyvenv.cfg made": func() error { return os.WriteFile(filepath.Join(python.prefix, "pyvenv.cfg"), nil, 0o644) },
		"a site directory made": func() error {
			return os.MkdirAll(filepath.Join(python.prefix, "lib/python3.11/site-packages"), 0o755)
		},
		"interpreter newer": func() error { return os.Chtimes(python.exe, later, later) },
		"library newer":     func() error { return os.Chtimes(python.library(), later, later) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		check(1, name)
		check(0, name+", again")
	}
}

func TestFindCacheBounded(t *testing.T) {
	onlyFakes(t)
	python := newFakePython(t)
	var c installationCache
	for i := range 2*maxFound + 1 {
		t.Setenv("TEST_FIND_CACHE", fmt.Sprint(i))
		if _, err := c.get(python.exe, "a test"); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.entries) > maxFound {
		t.Errorf("%d entries", len(c.entries))
	}
}
