package cpython

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// minMinor is the oldest Python 3 that can be used. There is no newest: a
// version nobody has seen yet is tried.
const minMinor = 9

// An Installation describes a Python as it describes itself.
type Installation struct {
	// Executable is the interpreter's absolute path, its symbolic links not
	// followed: a virtual environment is known by the path of its bin/python.
	// It is the program name to start Python under.
	Executable string

	// BaseExecutable is the interpreter that a virtual environment was made
	// from, where Python says so (3.11 and later), and otherwise Executable.
	BaseExecutable string

	// How says what led to the interpreter, for messages: WithPython("venv"),
	// $WSGI_PYTHON, $VIRTUAL_ENV, python3 on PATH.
	How string

	Version     Version
	VersionText string // sys.version whole: build, date and compiler

	// sys.prefix and its relatives. In a virtual environment the first two
	// are the environment's and the Base ones the installation's.
	Prefix, ExecPrefix, BasePrefix, BaseExecPrefix string

	Debug        bool // built with --with-pydebug
	FreeThreaded bool // built with --disable-gil
	ObjectSize   int  // object.__basicsize__

	// Path is the interpreter's sys.path: isolated from the working directory,
	// the user's site directory and the PYTHON* variables, but with the site
	// directories.
	Path []string

	// StdlibPath is the part of Path that is the standard library, which comes
	// from the base installation.
	StdlibPath []string

	// SiteDirs are the site directories that exist. Being on Path isn't all of
	// it: their .pth files may run code, which is how an editable install is
	// found. An interpreter that starts without them wants site.addsitedir.
	SiteDirs []string

	// Library is the shared library to load: an absolute path. Two paths may
	// name one file: compare with os.SameFile.
	Library string
}

// A Version is that of a Python.
type Version struct {
	Major, Minor, Micro int
	Suffix              string // "rc1" of 3.15.0rc1, "+" of 3.13.2+, mostly empty
}

// ParseVersion reads the version from what sys.version and Py_GetVersion say,
// where build, date and compiler follow it.
func ParseVersion(text string) (Version, error) {
	var v Version
	number, _, _ := strings.Cut(strings.TrimSpace(text), " ")
	rest := number
	for i, part := range []*int{&v.Major, &v.Minor, &v.Micro} {
		if i > 0 {
			var dot bool
			if rest, dot = strings.CutPrefix(rest, "."); !dot {
				return Version{}, fmt.Errorf("%q is not a version of Python", number)
			}
		}
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		n, err := strconv.Atoi(rest[:digits])
		if err != nil {
			return Version{}, fmt.Errorf("%q is not a version of Python", number)
		}
		*part, rest = n, rest[digits:]
	}
	v.Suffix = rest
	return v, nil
}

// String returns the version as Python writes it: 3.14.6, 3.15.0a2.
func (v Version) String() string {
	return fmt.Sprintf("%d.%d.%d%s", v.Major, v.Minor, v.Micro, v.Suffix)
}

// AtLeast reports whether v is of the series major.minor or a later one.
func (v Version) AtLeast(major, minor int) bool {
	return v.Major > major || v.Major == major && v.Minor >= minor
}

// Find finds the Python to use and asks it what it is.
//
// The first of these that is set decides, and when it can't be used that is an
// error, not a reason to try the next: python, which is WithPython's argument;
// $WSGI_PYTHON; $VIRTUAL_ENV; python3 and then python on PATH. The first two
// may name an interpreter, a virtual environment or an installation, or be a
// bare name such as python3.13 that is looked up on PATH. No ~ is expanded.
//
// Running an interpreter takes tens of milliseconds, so its answer is kept for
// the life of the process. It is asked anew when the environment variables or
// the working directory change (a script such as pyenv's, standing in for the
// interpreter, chooses by them), or when the interpreter, its pyvenv.cfg, the
// library or a directory of its sys.path does. Errors aren't kept. What a
// pyenv shim reads from files is not watched: a process that has found one
// Python stays with it.
//
// Find is safe for concurrent use, and every call returns a copy of its own.
func Find(python string) (*Installation, error) {
	path, how, err := locateInterpreter(python)
	if err != nil {
		return nil, err
	}
	inst, err := found.get(path, how)
	if err != nil {
		return nil, err
	}
	inst.How = how
	return inst, nil
}

// inspect asks the interpreter at path what it is and finds its library.
func inspect(path, how string) (*Installation, error) {
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	r, err := probe(ctx, path, how)
	if err != nil {
		return nil, err
	}
	inst, err := r.installation(path, how)
	if err != nil {
		return nil, err
	}
	if inst.Library, err = findLibrary(inst, r, runtime.GOOS, runtime.GOARCH); err != nil {
		return nil, err
	}
	return inst, nil
}

// Where the interpreter is.

// NoPythonError is returned where nothing names a Python and PATH holds none.
type NoPythonError struct {
	Looked []string // where, in order
}

func (e *NoPythonError) Error() string {
	return "no Python found: looked at " + strings.Join(e.Looked, ", ") +
		"; name one with WithPython or $WSGI_PYTHON, or build one into the program with github.com/seed-a2d07992/wsgi/embedded"
}

// InterpreterError is returned where something names an interpreter that isn't
// there or can't be executed. It unwraps to fs.ErrNotExist or fs.ErrPermission
// where one of them is the cause.
type InterpreterError struct {
	How    string // what named it
	Path   string // what it named, made absolute, or the bare name
	Reason string // what is wrong with it
	Err    error
}

func (e *InterpreterError) Error() string { return e.How + ": " + e.Reason }
func (e *InterpreterError) Unwrap() error { return e.Err }

// locateInterpreter returns the absolute path of the interpreter to run and
// what led to it.
func locateInterpreter(python string) (path, how string, err error) {
	if python != "" {
		how = fmt.Sprintf("WithPython(%q)", python)
		path, err = namedInterpreter(python, how)
		return path, how, err
	}
	if v := os.Getenv("WSGI_PYTHON"); v != "" {
		how = "$WSGI_PYTHON"
		path, err = namedInterpreter(v, how)
		return path, how, orUnset(err)
	}
	if v := os.Getenv("VIRTUAL_ENV"); v != "" {
		how = "$VIRTUAL_ENV"
		path, err = pathInterpreter(v, how)
		return path, how, orUnset(err)
	}
	looked := []string{"$WSGI_PYTHON (not set)", "$VIRTUAL_ENV (not set)"}
	for _, name := range []string{"python3", "python"} {
		how = name + " on PATH"
		path, err := exec.LookPath(name)
		switch {
		case err == nil:
			path, err = filepath.Abs(path)
			return path, how, err
		case errors.Is(err, exec.ErrDot):
			how += " (" + path + " not used: PATH has a relative entry)"
		}
		looked = append(looked, how)
	}
	return "", "", &NoPythonError{Looked: looked}
}

// orUnset adds the other way out to the error about an environment variable.
func orUnset(err error) error {
	if e, ok := errors.AsType[*InterpreterError](err); ok {
		e.Reason += "; correct or unset the variable"
	}
	return err
}

// namedInterpreter finds the interpreter that an option or $WSGI_PYTHON names.
func namedInterpreter(name, how string) (string, error) {
	if strings.ContainsRune(name, '/') || strings.ContainsRune(name, filepath.Separator) {
		return pathInterpreter(name, how)
	}
	// A bare name is a command's, as in a shell, with one exception: a virtual
	// environment in the working directory is often called venv or env, and
	// env is a command too.
	info, err := os.Stat(name)
	isDir := err == nil && info.IsDir()
	if isDir {
		if path, err := pathInterpreter(name, how); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath(name)
	if err == nil {
		return filepath.Abs(path)
	}
	if isDir {
		return pathInterpreter(name, how)
	}
	e := &InterpreterError{How: how, Path: name, Err: fs.ErrNotExist}
	switch {
	case errors.Is(err, exec.ErrDot):
		e.Reason, e.Err = fmt.Sprintf("%q is found through a relative entry of PATH only; write ./%s if that is the one", name, name), err
	case info != nil:
		e.Reason = fmt.Sprintf("no %q on PATH; write ./%s for the file in the working directory", name, name)
	default:
		e.Reason = fmt.Sprintf("no %q on PATH", name)
	}
	return "", e
}

// pathInterpreter finds the interpreter that a path names: itself, or the one
// in the virtual environment or installation that it is the folder of.
func pathInterpreter(name, how string) (string, error) {
	path, err := filepath.Abs(name)
	if err != nil {
		return "", &InterpreterError{How: how, Path: name, Reason: err.Error(), Err: err}
	}
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		return folderInterpreter(path, how)
	}
	if reason, err := unusable(path, info, err); err != nil {
		if strings.HasPrefix(name, "~") {
			reason += " (~ is not expanded)"
		}
		return "", &InterpreterError{How: how, Path: path, Reason: reason, Err: err}
	}
	return path, nil
}

// folderInterpreter finds the interpreter of a virtual environment or an
// installation.
func folderInterpreter(dir, how string) (string, error) {
	names := []string{"bin/python3", "bin/python"}
	if runtime.GOOS == "windows" {
		names = []string{"Scripts/python.exe", "python.exe"}
	}
	var first *InterpreterError
	for _, name := range names {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		info, err := os.Stat(path)
		reason, err := unusable(path, info, err)
		if err == nil {
			return path, nil
		}
		if first == nil {
			first = &InterpreterError{How: how, Path: path, Reason: reason, Err: err}
		}
	}
	if first != nil {
		return "", first
	}
	return "", &InterpreterError{
		How: how, Path: dir, Err: fs.ErrNotExist,
		Reason: fmt.Sprintf("no interpreter in %s: neither %s nor %s is there, so it is neither a virtual environment nor an installation of Python", dir, names[0], names[1]),
	}
}

// unusable says why the file at path, of which os.Stat said info and err,
// can't be run, or returns a nil error.
func unusable(path string, info fs.FileInfo, err error) (string, error) {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if target, e := os.Readlink(path); e == nil {
			// The usual case: a virtual environment that was copied into an
			// image without its Python, or outlived it.
			return fmt.Sprintf("%s is a symbolic link to %s, which doesn't exist; a virtual environment has to be made anew where its Python is gone", path, target), fs.ErrNotExist
		}
		return path + " doesn't exist", fs.ErrNotExist
	case err != nil:
		return err.Error(), err
	case info.IsDir():
		return path + " is a directory, not an interpreter", fs.ErrPermission
	case runtime.GOOS != "windows" && info.Mode()&0o111 == 0:
		return path + " isn't executable", fs.ErrPermission
	case strings.HasPrefix(filepath.Base(path), "libpython"):
		// Many are executable files, and crash when they are run.
		return path + " is a library; name the interpreter that it belongs to", fs.ErrInvalid
	}
	return "", nil
}
