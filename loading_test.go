package wsgi_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-a2d07992/wsgi"
)

// load starts an application and asks it for "/".
func load(t testing.TB, module, callable string, opts ...wsgi.Option) (string, error) {
	t.Helper()
	opts = append(append([]wsgi.Option{wsgi.WithLogger(slog.New(slog.DiscardHandler))}, oneWorker...), opts...)
	app, err := wsgi.New(module, callable, opts...)
	if err != nil {
		return "", err
	}
	defer app.Close()
	_, body := record(t, app, "GET", "/", nil)
	return body, nil
}

// uniqueNames puts a number into names that begin with prefix: the main
// interpreter keeps modules, so no two tests may have one of the same name.
func uniqueNames(prefix string) func(string) string {
	numbered := fmt.Sprint(prefix, appNumber.Add(1), "_")
	return func(s string) string { return strings.ReplaceAll(s, prefix, numbered) }
}

func TestNamesOfApplications(t *testing.T) {
	dir := t.TempDir()
	unique := uniqueNames("load_")
	answer := func(text string) string { return strings.ReplaceAll(hello, "hello", text) }
	writeFile(t, dir+unique("/load_pkg/__init__.py"), "")
	writeFile(t, dir+unique("/load_pkg/wsgi.py"), answer("package"))
	writeFile(t, dir+unique("/load_pkg/sibling.py"), "from . import wsgi\napplication = wsgi.application\n")
	writeFile(t, dir+unique("/load_module.py"), answer("module")+`
class Site:
    application = staticmethod(application)
    class inner:
        def __init__(self, environ, start_response):
            self.start = start_response
        def __iter__(self):
            self.start("200 OK", [])
            yield b"a class"
site = Site()

class Callable:
    def __call__(self, environ, start_response):
        start_response("200 OK", [])
        return [b"an object"]
thing = Callable()

def create_app():
    def application(environ, start_response):
        start_response("200 OK", [])
        return [b"a factory's"]
    return application
`)
	writeFile(t, dir+"/load-script.wsgi", unique("import load_helper\n")+answer("script"))
	writeFile(t, dir+unique("/load_helper.py"), "")
	writeFile(t, dir+"/no extension/run", "import os\n"+answer("file")+"assert __file__.endswith('run') and os.path.isabs(__file__)\n")
	writeFile(t, dir+"/json.py", answer("its own"))
	t.Chdir(dir)
	for _, test := range []struct {
		module, callable, want string
		opts                   []wsgi.Option
	}{
		{"load_module", "application", "module", nil}, // from the working directory
		{"load_module", "application", "module", []wsgi.Option{wsgi.WithPath(dir)}},
		{"load_pkg.wsgi", "application", "package", nil},
		{"load_pkg.sibling", "application", "package", nil},
		{"load_module", "site.application", "module", nil},
		{"load_module", "Site.inner", "a class", nil},
		{"load_module", "thing", "an object", nil},
		{"load_module", "create_app()", "a factory's", nil},
		{"load_module", "Callable()", "an object", nil},
		{"load_module.py", "application", "module", nil},
		{"./load_module.py", "application", "module", nil},
		{"./load-script.wsgi", "application", "script", nil},
		{dir + "/load-script.wsgi", "application", "script", nil},
		{"no extension/run", "application", "file", nil},
		{"./json.py", "application", "its own", []wsgi.Option{wsgi.WithIsolation(wsgi.SharedGIL)}},
	} {
		got, err := load(t, unique(test.module), test.callable, test.opts...)
		if err != nil || got != test.want {
			t.Errorf("%s, %s: got %q, want %q, %v", test.module, test.callable, got, test.want, err)
		}
	}
}

func TestLoadErrorsSayWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	unique := uniqueNames("bad_")
	for name, source := range map[string]string{
		"bad_import":  "def f():\n    import no_such_module_at_all\nf()\n",
		"bad_syntax":  "x = 1\ndef application(environ:\n",
		"bad_value":   "application = {'not': 'callable'}\n",
		"bad_none":    "application = None\n",
		"bad_name":    "def app(environ, start_response): pass\n",
		"bad_exit":    "import sys\nsys.exit('leaving early')\n",
		"bad_keyb":    "raise KeyboardInterrupt\n",
		"bad_async":   "async def application(scope, receive, send): pass\n",
		"bad_asyncc":  "class A:\n    async def __call__(self, scope, receive, send): pass\napplication = A()\n",
		"bad_factory": "def create_app():\n    raise RuntimeError('the factory failed')\ndef none(): pass\ndef one(x): pass\n",
		"bad_unicode": "raise ValueError('caf\\u00e9 \\udc80 end')\n",
		"bad_recurse": "def f(): f()\nf()\n",
	} {
		writeFile(t, filepath.Join(dir, unique(name)+".py"), source)
	}
	isolations(t, func(t *testing.T, mode wsgi.Isolation) {
		for _, test := range []struct {
			module, callable string
			want             []string
		}{
			{"bad_import", "application", []string{"Traceback (most recent call last)", "bad_import.py", "line 3", "line 2, in f", "ModuleNotFoundError", "no_such_module_at_all"}},
			{"bad_syntax", "application", []string{"SyntaxError", "bad_syntax.py", "line 2"}},
			{"bad_value", "application", []string{"bad_value.application", "not callable", "dict"}},
			{"bad_none", "application", []string{"bad_none.application", "None"}},
			{"bad_name", "application", []string{"bad_name has no attribute 'application'", "app"}},
			{"bad_name", "app.missing", []string{"bad_name.app has no attribute 'missing'"}},
			{"bad_exit", "application", []string{"SystemExit", "leaving early"}},
			{"bad_keyb", "application", []string{"KeyboardInterrupt"}},
			{"bad_async", "application", []string{"bad_async.application", "async"}},
			{"bad_asyncc", "application", []string{"bad_asyncc.application", "async"}},
			{"bad_factory", "create_app()", []string{"RuntimeError: the factory failed", "in create_app"}},
			{"bad_factory", "none()", []string{"none()", "None"}},
			{"bad_factory", "one()", []string{"TypeError", "one()"}},
			{"bad_unicode", "application", []string{"caf\u00e9", "end"}},
			{"bad_recurse", "application", []string{"RecursionError"}},
			{"no_module_of_this_name", "application", []string{"ModuleNotFoundError", "no_module_of_this_name"}},
			{"no.module.of.this", "application", []string{"ModuleNotFoundError"}},
			{"./no_file.py", "application", []string{"no_file.py", "no such file"}},
		} {
			_, err := load(t, unique(test.module), test.callable, wsgi.WithPath(dir), wsgi.WithIsolation(mode))
			if err == nil {
				t.Errorf("%s, %s was loaded", test.module, test.callable)
				continue
			}
			for _, want := range test.want {
				if want = unique(want); !strings.Contains(err.Error(), want) {
					t.Errorf("%s, %s: the error doesn't say %q: %v", test.module, test.callable, want, err)
				}
			}
			if strings.Contains(err.Error(), "<wsgi>") {
				t.Errorf("%s: the traceback has frames of the library's own: %v", test.module, err)
			}
			var load *wsgi.LoadError
			if !errors.As(err, &load) && !strings.HasPrefix(test.module, "./") {
				t.Errorf("%s: no LoadError but a %T", test.module, err)
			}
		}
		// After all that Python still works.
		_, file := writeApp(t, hello)
		if got, err := load(t, file, "application", wsgi.WithIsolation(mode)); got != "hello" {
			t.Errorf("%q, %v", got, err)
		}
	})
}

func TestBadNamesAndOptionsAreErrors(t *testing.T) {
	_, file := writeApp(t, hello)
	for _, names := range [][2]string{
		{"", "application"}, {"m", ""}, {"m:application", "application"}, {"m", "f("}, {"m", "f(1)"},
		{"m", "a..b"}, {"m", ".a"}, {"m", "a."}, {"m", "a b"}, {"m", "a;b"}, {"m\x00", "a"}, {"m", "a\x00"}, {"m", "()"},
	} {
		if _, err := load(t, names[0], names[1]); err == nil {
			t.Errorf("%q was accepted", names)
		}
	}
	for name, opts := range map[string][]wsgi.Option{
		"WithPython":          {wsgi.WithPython("")},
		"WithPath":            {wsgi.WithPath(t.TempDir(), "")},
		"WithPath(":           {wsgi.WithPath("/no/such/directory")},
		"WithPath(\"":         {wsgi.WithPath(file)},
		"WithEnv":             {wsgi.WithEnv(map[string]string{"": "x"})},
		"WithEnv:":            {wsgi.WithEnv(map[string]string{"A=B": "x"})},
		"WithEnv: ":           {wsgi.WithEnv(map[string]string{"A": "x\x00y"})},
		"WithIsolation":       {wsgi.WithIsolation(99)},
		"WithIsolation:":      {wsgi.WithIsolation(-1)},
		"WithInterpreters":    {wsgi.WithInterpreters(0)},
		"WithInterpreters(":   {wsgi.WithInterpreters(-1)},
		"WithInterpreters(2":  {wsgi.WithInterpreters(257)},
		"WithInterpreters(3":  {wsgi.WithInterpreters(3), wsgi.WithIsolation(wsgi.Main)},
		"WithThreads":         {wsgi.WithThreads(0)},
		"WithThreads(":        {wsgi.WithThreads(1025)},
		"WithQueue":           {wsgi.WithQueue(0)},
		"WithQueue(":          {wsgi.WithQueue(-5)},
		"WithBodyBuffer":      {wsgi.WithBodyBuffer(-1)},
		"WithBodyBuffer(":     {wsgi.WithBodyBuffer(64<<20 + 1)},
		"WithResponseBuffer":  {wsgi.WithResponseBuffer(4<<10 - 1)},
		"WithResponseBuffer(": {wsgi.WithResponseBuffer(0)},
		"WithScriptName":      {wsgi.WithScriptName("/")},
		"WithScriptName(":     {wsgi.WithScriptName("shop/")},
		"WithLogger":          {wsgi.WithLogger(nil)},
		"WithEnviron":         {wsgi.WithEnviron(nil)},
		"option is nil":       {nil},
	} {
		if _, err := load(t, file, "application", opts...); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !atLeast(t, 13) {
		if _, err := load(t, file, "application", wsgi.WithIsolation(wsgi.OwnGIL)); err == nil || !strings.Contains(err.Error(), "3.13") {
			t.Errorf("OwnGIL on an old Python: %v", err)
		}
	}
	for _, opts := range [][]wsgi.Option{
		{wsgi.WithPython("/no/such/python")}, {wsgi.WithPython("no-such-python-on-path")}, {wsgi.WithPython(t.TempDir())}, {wsgi.WithPython(file)},
	} {
		var named *wsgi.InterpreterError
		if _, err := load(t, file, "application", opts...); !errors.As(err, &named) || !strings.Contains(err.Error(), "WithPython(") {
			t.Errorf("got %v", err)
		}
	}
}

// TestInterpreterLooksLikeItsOwn: what applications and libraries ask of sys.
func TestInterpreterLooksLikeItsOwn(t *testing.T) {
	isolations(t, func(t *testing.T, mode wsgi.Isolation) {
		dir := t.TempDir()
		_, file := writeApp(t, validated(`
import os, sys, subprocess

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    facts = [
        len(sys.argv) == 1 and sys.argv[0],
        os.path.samefile(sys.executable, subprocess.check_output([sys.executable, "-c", "import sys; print(sys.executable)"], text=True).strip()),
        sys.prefix == subprocess.check_output([sys.executable, "-c", "import sys; print(sys.prefix)"], text=True).strip(),
        sys.path[0], sys.path[1], "" in sys.path, len(sys.path) == len(set(sys.path)),
        "caf\u00e9".encode(sys.getfilesystemencoding()) == b"caf\xc3\xa9", open(os.devnull).encoding.lower(),
        __name__ in sys.modules, os.path.abspath(__file__) == __file__,
    ]
    return [repr(facts).encode()]
`))
		got, err := load(t, file, "application", wsgi.WithPath(dir), wsgi.WithIsolation(mode))
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("['%s', True, True, '%s', '%s', False, True, True, 'utf-8', True, True]", file, dir, filepath.Dir(file))
		if mode == wsgi.Main {
			// Whoever came last is first on the path; argv is the first one's.
			got, want = got[strings.Index(got, "True"):], want[strings.Index(want, "True"):]
		}
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

// TestEnvironmentsAreApart: what one application has or sets in os.environ no
// other sees, nor does the process; its children do.
func TestEnvironmentsAreApart(t *testing.T) {
	const source = `
import os, subprocess, sys

def application(environ, start_response):
    name, value = environ["QUERY_STRING"].split("=")
    before = os.environ.get(name)
    if value == "unset":
        os.environ.pop(name, None)
    elif value:
        os.environ[name] = value
    # The first of these has posix_spawn start it, the second fork_exec.
    child = subprocess.check_output([sys.executable, "-c", "import os, sys; print(os.environ.get(sys.argv[1]))", name],
                                    text=True, close_fds=False).strip()
    shell = subprocess.check_output("echo ${%s-None}" % name, shell=True, text=True).strip()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{before} {child} {shell}".encode()]
`
	t.Setenv("WSGI_TEST_GIVEN", "given")
	subinterpreters(t, func(t *testing.T, mode wsgi.Isolation) {
		opts := append([]wsgi.Option{wsgi.WithIsolation(mode)}, oneWorker...)
		first, _, _ := newApp(t, validated(source), append(opts, wsgi.WithEnv(map[string]string{"WSGI_TEST_MINE": "first \u00e9"}))...)
		second, _, _ := newApp(t, validated(source), append(opts, wsgi.WithEnv(map[string]string{"WSGI_TEST_OTHER": "second"}))...)
		for _, step := range []struct {
			app         http.Handler
			query, want string
		}{
			{first, "WSGI_TEST_GIVEN=", "given given given"},
			{first, "WSGI_TEST_MINE=", "first \u00e9 first \u00e9 first \u00e9"},
			{second, "WSGI_TEST_MINE=", "None None None"},
			{first, "WSGI_TEST_SET=1", "None 1 1"},
			{second, "WSGI_TEST_SET=", "None None None"},
			{second, "WSGI_TEST_GIVEN=changed", "given changed changed"},
			{first, "WSGI_TEST_GIVEN=", "given given given"},
			{second, "WSGI_TEST_GIVEN=unset", "changed None None"},
			{first, "WSGI_TEST_GIVEN=", "given given given"},
		} {
			if _, got := record(t, step.app, "GET", "/?"+step.query, nil); got != step.want {
				t.Errorf("%s: got %q, want %q", step.query, got, step.want)
			}
		}
		for _, name := range []string{"WSGI_TEST_MINE", "WSGI_TEST_OTHER", "WSGI_TEST_SET"} {
			if v, ok := os.LookupEnv(name); ok {
				t.Errorf("the process has %s=%s", name, v)
			}
		}
		if v := os.Getenv("WSGI_TEST_GIVEN"); v != "given" {
			t.Errorf("the process's own is %q now", v)
		}
	})
}

// TestSignalHandlersAreIgnored: libraries install them at import.
func TestSignalHandlersAreIgnored(t *testing.T) {
	isolations(t, func(t *testing.T, mode wsgi.Isolation) {
		_, file := writeApp(t, `
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import signal
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
try:
    signal.signal(1234, signal.SIG_DFL)
    refused = False
except ValueError:
    refused = True

def application(environ, start_response):
    start_response("200 OK", [])
    return [f"{len(caught)} {refused} {str(caught[0].message)[:24]}".encode()]
`)
		got, err := load(t, file, "application", wsgi.WithIsolation(mode))
		if err != nil || got != "2 True signal.signal(15, ...) i" {
			t.Errorf("%q, %v", got, err)
		}
	})
}
