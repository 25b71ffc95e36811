package cpython

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
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

// What the interpreter says.

//go:embed probe.py
var probeScript string

const (
	probeMarker  = "--- wsgi: this Python ---"
	probeTimeout = 30 * time.Second

	// A site hook can print without end. The report comes last and is small.
	probeOutput = 1 << 20
	probeStderr = 2 << 10
)

// RunError is returned where the interpreter could not be run or did not
// answer. It unwraps to what os/exec said, or to context.DeadlineExceeded.
type RunError struct {
	How    string // what led to the interpreter
	Path   string
	Reason string
	Stderr string // the end of what it printed
	Err    error
}

func (e *RunError) Error() string {
	s := fmt.Sprintf("%s: running %s: %s", e.How, e.Path, e.Reason)
	if e.Stderr != "" {
		s += "; it printed:\n" + e.Stderr
	}
	return s
}

func (e *RunError) Unwrap() error { return e.Err }

// VersionError is returned for a Python older than 3.9.
type VersionError struct {
	How        string
	Executable string
	Version    Version
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("%s: %s is Python %s, which is too old: 3.%d or newer is needed; choose one with WithPython or $WSGI_PYTHON", e.How, e.Executable, e.Version, minMinor)
}

// ImplementationError is returned for PyPy, GraalPy and whatever else isn't
// CPython.
type ImplementationError struct {
	How        string
	Executable string
	Name       string // sys.implementation.name
	Version    Version
}

func (e *ImplementationError) Error() string {
	return fmt.Sprintf("%s: %s is %s (Python %s): only CPython can be used; choose one with WithPython or $WSGI_PYTHON", e.How, e.Executable, e.Name, e.Version)
}

// A probeReport is what probe.py prints.
type probeReport struct {
	Version        string     `json:"version"`
	Implementation string     `json:"implementation"`
	Error          string     `json:"error"` // a traceback, with the above alone
	Executable     fileName   `json:"executable"`
	BaseExecutable fileName   `json:"base_executable"`
	Prefix         fileName   `json:"prefix"`
	ExecPrefix     fileName   `json:"exec_prefix"`
	BasePrefix     fileName   `json:"base_prefix"`
	BaseExecPrefix fileName   `json:"base_exec_prefix"`
	Debug          bool       `json:"debug"`
	FreeThreaded   bool       `json:"free_threaded"`
	ObjectSize     int        `json:"object_size"`
	Path           []fileName `json:"path"`
	StdlibPath     []fileName `json:"stdlib_path"`
	SiteDirs       []fileName `json:"site_dirs"`

	// Where the library may be. All but the first are how it was built.
	Loaded          fileName `json:"loaded"`
	InstSoname      fileName `json:"instsoname"`
	LDLibrary       fileName `json:"ldlibrary"`
	LibDir          fileName `json:"libdir"`
	LibPL           fileName `json:"libpl"`
	Multiarch       fileName `json:"multiarch"`
	Framework       fileName `json:"framework"`
	FrameworkPrefix fileName `json:"framework_prefix"`
}

// A fileName crosses JSON with a character for each byte, since file names
// needn't be UTF-8.
type fileName string

func (f *fileName) UnmarshalJSON(data []byte) error {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	raw := make([]byte, 0, len(s))
	for _, r := range s {
		if r > 0xff {
			return fmt.Errorf("%q in a file name is not a byte", r)
		}
		raw = append(raw, byte(r))
	}
	*f = fileName(raw)
	return nil
}

func fileNames(names []fileName) []string {
	s := make([]string, len(names))
	for i, n := range names {
		s[i] = string(n)
	}
	return s
}

// probe runs the interpreter at path and returns what it says of itself.
//
// It runs without its site directories at first, and the script then has them
// added, so that one run gives sys.path with and without them.
func probe(ctx context.Context, path, how string) (*probeReport, error) {
	r, err := runProbe(ctx, path, "-I", "-S")
	if err != nil && strings.Contains(err.Stderr, "-I") && ctx.Err() == nil {
		// Python 2 doesn't know the option. It isn't wanted, but its version
		// makes a better message than its usage.
		if old, olderr := runProbe(ctx, path, "-E", "-S"); olderr == nil {
			r, err = old, nil
		}
	}
	if err != nil {
		err.How = how
		return nil, err
	}
	return r, nil
}

func runProbe(ctx context.Context, path string, flags ...string) (*probeReport, *RunError) {
	stdout, stderr := tailBuffer{max: probeOutput}, tailBuffer{max: probeStderr}
	cmd := exec.CommandContext(ctx, path, append(flags, "-c", probeScript, probeMarker)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// Something that a site hook started may hold the pipes open.
	cmd.WaitDelay = time.Second
	// macOS hands the path of a virtual environment's interpreter down in this
	// variable, and a Python started by another would take that one's.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "__PYVENV_LAUNCHER__=")
	})

	err := cmd.Run()
	fail := func(reason string, err error) *RunError {
		return &RunError{Path: path, Reason: reason, Stderr: stderr.text(), Err: err}
	}
	switch {
	case ctx.Err() != nil:
		return nil, fail("no answer in time", ctx.Err())
	case cmd.ProcessState == nil:
		reason := err.Error()
		if errors.Is(err, fs.ErrNotExist) {
			reason += " (the file is there: the loader or interpreter that it names is not)"
		}
		return nil, fail(reason, err)
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		return nil, fail(err.Error(), err)
	}
	_, text, ok := bytes.Cut(stdout.bytes(), []byte("\n"+probeMarker+"\n"))
	if !ok {
		return nil, fail("it ended without a word about itself: is it Python?", errNoReport)
	}
	r := new(probeReport)
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(r); err != nil {
		return nil, fail("unreadable report: "+err.Error(), err)
	}
	return r, nil
}

var errNoReport = errors.New("no report")

// installation checks that the reported Python can be used at all, and
// describes it. The interpreter at path is what was run.
func (r *probeReport) installation(path, how string) (*Installation, error) {
	// A script in front of the interpreter, such as pyenv's shims, leads to
	// another path than the one that was run. An interpreter that can't tell
	// its path says nothing, or something that isn't there.
	exe := filepath.Clean(string(r.Executable))
	info, err := os.Stat(exe)
	if _, err := unusable(exe, info, err); err != nil || !filepath.IsAbs(exe) {
		exe = path
	}
	version, err := ParseVersion(r.Version)
	if err != nil {
		return nil, &RunError{How: how, Path: path, Reason: err.Error(), Err: err}
	}
	if r.Implementation != "cpython" {
		return nil, &ImplementationError{How: how, Executable: exe, Name: r.Implementation, Version: version}
	}
	if !version.AtLeast(3, minMinor) {
		return nil, &VersionError{How: how, Executable: exe, Version: version}
	}
	if r.Error != "" {
		return nil, &RunError{How: how, Path: path, Reason: "it can't describe itself", Stderr: strings.TrimSpace(r.Error), Err: errNoReport}
	}
	inst := &Installation{
		Executable:     exe,
		BaseExecutable: string(r.BaseExecutable),
		How:            how,
		Version:        version,
		VersionText:    r.Version,
		Prefix:         string(r.Prefix),
		ExecPrefix:     string(r.ExecPrefix),
		BasePrefix:     string(r.BasePrefix),
		BaseExecPrefix: string(r.BaseExecPrefix),
		Debug:          r.Debug,
		FreeThreaded:   r.FreeThreaded,
		ObjectSize:     r.ObjectSize,
		Path:           fileNames(r.Path),
		StdlibPath:     fileNames(r.StdlibPath),
		SiteDirs:       fileNames(r.SiteDirs),
	}
	if inst.BaseExecutable == "" {
		inst.BaseExecutable = exe
	}
	return inst, nil
}

// A tailBuffer keeps about the last max bytes written to it.
type tailBuffer struct {
	max int
	buf []byte
}

func (b *tailBuffer) Write(p []byte) (int, error) {
	b.buf = append(b.buf, p...)
	if len(b.buf) > 2*b.max {
		b.buf = append(b.buf[:0], b.bytes()...)
	}
	return len(p), nil
}

func (b *tailBuffer) bytes() []byte { return b.buf[max(0, len(b.buf)-b.max):] }
func (b *tailBuffer) text() string  { return string(bytes.TrimSpace(b.bytes())) }

// What is known already.

// found is what Find has found in this process.
var found installationCache

// maxFound bounds the cache. A process uses one Python, seldom two; a test may
// run through many environments.
const maxFound = 64

type installationCache struct {
	mu      sync.Mutex
	entries map[installationKey]*cachedInstallation
}

// An installationKey is what an interpreter's answer depends on, its files
// aside.
type installationKey struct {
	path, dir string
	env       uint64
}

var envSeed = maphash.MakeSeed()

type cachedInstallation struct {
	mu    sync.Mutex // held while the interpreter runs: others wait for its answer
	inst  *Installation
	files []fileStamp
}

// get returns the installation of the interpreter at path from the cache, or
// asks it.
func (c *installationCache) get(path, how string) (*Installation, error) {
	key := installationKey{path: path, env: maphash.String(envSeed, strings.Join(os.Environ(), "\x00"))}
	key.dir, _ = os.Getwd()

	c.mu.Lock()
	e := c.entries[key]
	if e == nil {
		if c.entries == nil || len(c.entries) >= maxFound {
			c.entries = make(map[installationKey]*cachedInstallation)
		}
		e = new(cachedInstallation)
		c.entries[key] = e
	}
	c.mu.Unlock()

	e.mu.Lock()
	defer e.mu.Unlock()
	if e.inst == nil || slices.ContainsFunc(e.files, fileStamp.changed) {
		e.inst = nil
		// Stamped before it runs: a file replaced meanwhile counts as changed.
		ran := stamp(path)
		inst, err := inspect(path, how)
		if err != nil {
			return nil, err
		}
		e.inst, e.files = inst, []fileStamp{ran}
		for _, name := range append([]string{
			inst.Executable, inst.Library, filepath.Join(inst.Prefix, "pyvenv.cfg"),
		}, inst.Path...) {
			e.files = append(e.files, stamp(name))
		}
	}
	inst := *e.inst
	inst.Path = slices.Clone(inst.Path)
	inst.StdlibPath = slices.Clone(inst.StdlibPath)
	inst.SiteDirs = slices.Clone(inst.SiteDirs)
	return &inst, nil
}

// A fileStamp tells whether a file, or a directory's list of files, is still
// what it was. The file needn't exist: appearing is a change.
type fileStamp struct {
	name string
	info fs.FileInfo // nil where there was none
}

func stamp(name string) fileStamp {
	info, _ := os.Stat(name)
	return fileStamp{name, info}
}

func (s fileStamp) changed() bool {
	now, _ := os.Stat(s.name)
	if s.info == nil || now == nil {
		return s.info != now
	}
	return !os.SameFile(s.info, now) || s.info.Size() != now.Size() || !s.info.ModTime().Equal(now.ModTime())
}
