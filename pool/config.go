package pool

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/seed-a2d07992/wsgi/internal/cpython"
)

// A LoadError says that an application could not be loaded into its
// interpreter.
type LoadError struct {
	Module, Callable string
	Reason           string // one line, or a Python traceback of many

	// Refused names the extension modules that refused to be loaded into an
	// interpreter of the kind of Isolation meanwhile, which is most likely the
	// reason. Under Main they are those that refused OwnGIL, which Auto tried
	// before; a few modules can't be loaded a second time in a process.
	Refused   []string
	Isolation Isolation
}

func (e *LoadError) Error() string {
	text := fmt.Sprintf("loading %s from %s: %s", e.Callable, e.Module, e.Reason)
	if len(e.Refused) == 0 {
		return text
	}
	if e.Isolation == Main {
		return fmt.Sprintf("%s\nBefore that, isolation mode OwnGIL was refused by %s. If it fails for that, WithIsolation(wsgi.Main) does without the attempt",
			text, strings.Join(e.Refused, ", "))
	}
	serves := "WithIsolation(wsgi.Main) runs every extension module"
	if e.Isolation == OwnGIL {
		serves += ", SharedGIL most of them"
	}
	return fmt.Sprintf("%s\nRefused under isolation mode %v: %s. %s", text, e.Isolation, strings.Join(e.Refused, ", "), serves)
}

// An Isolation says which kind of interpreter an application runs in.
type Isolation int

const (
	// Auto takes OwnGIL on CPython 3.13 and later, unless an extension module
	// refuses to be loaded there; then, on older versions, and on builds without
	// a GIL (untested), Main.
	Auto Isolation = iota

	// OwnGIL gives the application sub-interpreters, each with a GIL of its
	// own: they run in parallel and share nothing with other applications. It
	// takes CPython 3.13 or later, and extension modules that allow it.
	OwnGIL

	// Main runs the application on several threads of the main interpreter.
	// Every extension module works. All applications in this mode share one
	// interpreter, its modules and its GIL.
	Main

	// SharedGIL gives the application one sub-interpreter with several
	// threads. Modules are its own, but the GIL is shared with the main
	// interpreter: isolation without parallelism, on every version.
	SharedGIL
)

// String returns the name of the constant.
func (i Isolation) String() string {
	switch i {
	case Auto:
		return "Auto"
	case OwnGIL:
		return "OwnGIL"
	case Main:
		return "Main"
	case SharedGIL:
		return "SharedGIL"
	}
	return fmt.Sprintf("Isolation(%d)", int(i))
}

// Config describes a pool. Zero values stand for the defaults that the options
// of package wsgi document.
type Config struct {
	Module, Callable string
	Python           string
	Path             []string
	Env              map[string]string
	Isolation        Isolation
	Interpreters     int
	Threads          int
	Queue            int
	ResponseBuffer   int
	Logger           *slog.Logger
}

// The defaults and limits of a Config.
const (
	DefaultQueue          = 1024
	DefaultResponseBuffer = 1 << 20
	maxInterpreters       = 256
	maxThreads            = 1024
)

// complete checks the config and fills in defaults.
func (c *Config) complete(inst *cpython.Installation) error {
	version := inst.Version
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	switch {
	case c.Isolation < Auto || c.Isolation > SharedGIL:
		return fmt.Errorf("WithIsolation: there is no mode %d", int(c.Isolation))
	case c.Isolation == OwnGIL && !version.AtLeast(3, 13):
		return fmt.Errorf("WithIsolation(OwnGIL) takes Python 3.13 or later, and this is %v: use Main, or SharedGIL", version)
	case (c.Isolation == Main || c.Isolation == SharedGIL) && c.Interpreters > 1:
		return fmt.Errorf("WithInterpreters(%d): isolation mode %v has one interpreter; use WithThreads", c.Interpreters, c.Isolation)
	case c.Interpreters > maxInterpreters:
		return fmt.Errorf("WithInterpreters(%d): at most %d", c.Interpreters, maxInterpreters)
	case c.Threads > maxThreads:
		return fmt.Errorf("WithThreads(%d): at most %d", c.Threads, maxThreads)
	}
	reason := ""
	switch {
	case !version.AtLeast(3, 13):
		reason = "one with its own GIL takes Python 3.13 or later"
	case inst.FreeThreaded:
		// Untested, as all of this library is on such builds.
		reason = "this Python has no GIL, so its threads run in parallel there"
	}
	if c.Isolation == Auto && reason != "" {
		c.Isolation = Main
		c.Logger.Info("wsgi: the application runs in the main interpreter: "+reason, "python", version.String())
		if c.Interpreters > 1 {
			c.Logger.Warn("wsgi: the main interpreter is one, so WithInterpreters has no effect", "interpreters", c.Interpreters)
		}
	}
	if c.Queue == 0 {
		c.Queue = DefaultQueue
	}
	if c.ResponseBuffer == 0 {
		c.ResponseBuffer = DefaultResponseBuffer
	}
	return nil
}

// size is how many interpreters and threads in each a mode has.
func (c *Config) size(mode Isolation) (interpreters, threads int) {
	interpreters, threads = 1, c.Threads
	if mode == OwnGIL {
		interpreters = c.Interpreters
		if interpreters == 0 {
			interpreters = runtime.GOMAXPROCS(0)
		}
		if threads == 0 {
			threads = 8
		}
	}
	if threads == 0 {
		threads = max(8, 4*runtime.GOMAXPROCS(0))
	}
	return interpreters, threads
}

// settings is what bootstrap.py is told.
func (c *Config) settings(inst *cpython.Installation) ([]string, error) {
	s := []string{
		"module", c.Module,
		"callable", c.Callable,
		"argv", c.Module,
		"executable", inst.Executable,
		"base_executable", inst.BaseExecutable,
		"prefix", inst.Prefix,
		"exec_prefix", inst.ExecPrefix,
	}
	add := func(key string, values ...string) {
		for _, v := range values {
			s = append(s, key, v)
		}
	}
	add("stdlib_path", inst.StdlibPath...)
	add("site_dir", inst.SiteDirs...)
	if v := os.Getenv("PYTHONPATH"); v != "" {
		add("python_path", filepath.SplitList(v)...)
	}
	for _, dir := range c.Path {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, fmt.Errorf("WithPath(%q): %w", dir, err)
		}
		info, err := os.Stat(abs)
		if err != nil {
			return nil, fmt.Errorf("WithPath(%q): %w", dir, err)
		}
		if !info.IsDir() && filepath.Ext(abs) != ".zip" {
			return nil, fmt.Errorf("WithPath(%q): it is neither a directory nor a .zip", dir)
		}
		add("path", abs)
	}
	if isFile(c.Module) {
		file, err := filepath.Abs(c.Module)
		if err != nil {
			return nil, err
		}
		if _, err := os.Stat(file); err != nil {
			return nil, fmt.Errorf("the application's file: %w", err)
		}
		add("module_file", file)
		add("path", filepath.Dir(file))
	} else if len(c.Path) == 0 {
		dir, err := os.Getwd()
		if err != nil {
			return nil, err
		}
		add("path", dir)
	}
	add("environ", os.Environ()...)
	for key, value := range c.Env {
		if key == "" || strings.ContainsAny(key, "=\x00") || strings.Contains(value, "\x00") {
			return nil, fmt.Errorf("WithEnv: %q=%q can't be an environment variable", key, value)
		}
		add("with_env", key+"="+value)
	}
	return s, nil
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return ""
}

// isFile reports whether a module is named by its path.
func isFile(module string) bool {
	return strings.ContainsAny(module, `/`+string(filepath.Separator)) || strings.HasSuffix(module, ".py")
}
