package cpython

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

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
