package wsgi_test

import (
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

// testVenvs is where "make test" has virtual environments of the Python under
// test; scripts/venvs makes them.
func testVenvs(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("WSGI_TEST_VENVS")
	if dir == "" {
		testenv.Missing(t, "WSGI_TEST_VENVS names no folder with virtual environments; make test does")
	}
	return dir
}

// TestTwoVenvsInOneProcess made by different tools, with different versions of
// Flask; and what they start has the same Python and packages.
func TestTwoVenvsInOneProcess(t *testing.T) {
	dir := testVenvs(t)
	const source = `
import json, multiprocessing, subprocess, sys
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from flask import Flask

application = Flask(__name__)

def facts():
    return [version("flask"), version("werkzeug"), sys.prefix, sys.executable, sys.prefix != sys.base_prefix]

def put_facts(queue):
    queue.put(facts())

@application.get("/self")
def itself():
    return facts()

@application.get("/subprocess")
def child():
    code = "import json, sys; sys.path.insert(0, sys.argv[1]); import %s as app; print(json.dumps(app.facts()))" % __name__
    import os
    return json.loads(subprocess.check_output([sys.executable, "-c", code, os.path.dirname(os.path.abspath(__file__))]))

@application.get("/process")
def process():
    spawn = multiprocessing.get_context("spawn")
    queue = spawn.Queue()
    started = spawn.Process(target=put_facts, args=(queue,))
    started.start()
    result = queue.get()
    started.join()
    return result

@application.get("/pool")
def pool():
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        return executor.submit(facts).result()
`
	subinterpreters(t, func(t *testing.T, mode wsgi.Isolation) {
		for _, venv := range []struct{ name, flask, werkzeug string }{
			{"virtualenv", "2.3.3", "2.3.8"},
			{"uv", "3.1.3", "3.1.9"},
		} {
			prefix := filepath.Join(dir, venv.name)
			s := servePlain(t, source, append(oneWorker, wsgi.WithIsolation(mode), wsgi.WithPython(prefix))...)
			want := fmt.Sprintf("[%q,%q,%q,%q,true]\n", venv.flask, venv.werkzeug, prefix, filepath.Join(prefix, "bin", "python3"))
			// Both are there until the end of the test.
			for _, path := range []string{"/self", "/subprocess", "/process", "/pool"} {
				_, body := s.get(t, path)
				if body = strings.Join(strings.Fields(body), "") + "\n"; body != want {
					t.Errorf("%s, %s: got %s, want %s", venv.name, path, body, want)
				}
			}
			s.Logs.expectQuiet(t)
		}
	})
}

// TestEditableInstallations of both kinds that pip has: a path in a .pth file,
// and a finder that one installs.
func TestEditableInstallations(t *testing.T) {
	dir := testVenvs(t)
	subinterpreters(t, func(t *testing.T, mode wsgi.Isolation) {
		s := serve(t, `
import os, sys
import editable_hook, editable_pth

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    files = [os.path.relpath(module.__file__, environ["QUERY_STRING"]) for module in (editable_pth, editable_hook)]
    finders = [f for f in sys.meta_path if "editable" in getattr(f, "__module__", "").lower()]
    return [f"{editable_pth.KIND} {editable_hook.KIND} {files} {len(finders)}".encode()]
`, append(oneWorker, wsgi.WithIsolation(mode), wsgi.WithPython(filepath.Join(dir, "virtualenv")))...)
		s.expectBody(t, "/?"+filepath.Join(dir, "editable"), "pth hook ['pth/src/editable_pth/__init__.py', 'hook/sources/__init__.py'] 1")
	})
}

// plainVenv makes a virtual environment without packages, and returns it with
// the folder that they go to.
func plainVenv(t *testing.T) (venv, site string) {
	t.Helper()
	venv = filepath.Join(t.TempDir(), "venv")
	if out, err := exec.Command(pythonPath(), "-m", "venv", "--without-pip", venv).CombinedOutput(); err != nil {
		t.Fatalf("making a venv: %v\n%s", err, out)
	}
	found, err := filepath.Glob(filepath.Join(venv, "lib", "python*", "site-packages"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	return venv, found[0]
}

// siteApp says what the start of Python has made of the paths.
const siteApp = `
import os, sys

def application(environ, start_response):
    import customized, in_first, in_second, on_python_path, shared_namespace.one, shared_namespace.two, zipped
    start_response("200 OK", [("Content-Type", "text/plain")])
    first = [os.path.basename(path) for path in sys.path[:3]]
    facts = [customized.TIMES, getattr(sys, "by_pth_line", None), len(shared_namespace.__path__), first,
             "python-path" in [os.path.basename(path) for path in sys.path], len(sys.path) == len(set(sys.path))]
    return [repr(facts).encode()]
`

// TestSiteOfAVenv: .pth files with paths and with code, sitecustomize, and
// PYTHONPATH work, and WithPath with folders, a zip file and a namespace package
// that is split over two, in the process's own venv and in another.
func TestSiteOfAVenv(t *testing.T) {
	venv, site := plainVenv(t)
	dir := t.TempDir()
	writeFile(t, filepath.Join(site, "customized.py"), "TIMES = 0\n")
	writeFile(t, filepath.Join(site, "sitecustomize.py"), "import customized\ncustomized.TIMES += 1\n")
	writeFile(t, filepath.Join(site, "a.pth"), "# a comment\n"+filepath.Join(dir, "by-pth")+"\n/no/such/folder\nimport sys; sys.by_pth_line = 'run'\n")
	writeFile(t, filepath.Join(dir, "by-pth", "shared_namespace", "two.py"), "")
	writeFile(t, filepath.Join(dir, "first", "shared_namespace", "one.py"), "")
	writeFile(t, filepath.Join(dir, "first", "in_first.py"), "")
	writeFile(t, filepath.Join(dir, "second", "in_second.py"), "")
	writeFile(t, filepath.Join(dir, "second", "in_first.py"), "raise ImportError('the first folder comes first')\n")
	writeFile(t, filepath.Join(dir, "python-path", "on_python_path.py"), "")
	writeFile(t, filepath.Join(dir, "zipped.py"), "")
	zip := exec.Command(pythonPath(), "-m", "zipfile", "-c", "modules.zip", "zipped.py")
	zip.Dir = dir
	if out, err := zip.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Remove(filepath.Join(dir, "zipped.py")); err != nil {
		t.Fatal(err)
	}
	// Debian's sitecustomize, in the standard library, goes before a venv's.
	times, err := exec.Command(filepath.Join(venv, "bin", "python3"), "-I", "-c", "import customized; print(customized.TIMES)").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, times)
	}
	want := fmt.Sprintf("[%s, 'run', 2, ['first', 'second', 'modules.zip'], True, True]\n", strings.TrimSpace(string(times)))
	_, file := writeApp(t, siteApp)
	paths := strings.Join([]string{filepath.Join(dir, "first"), filepath.Join(dir, "second"), filepath.Join(dir, "modules.zip")}, ":")
	for _, mode := range []string{"Main", "SharedGIL", "OwnGIL"} {
		if mode == "OwnGIL" && !atLeast(t, 13) {
			continue
		}
		for _, first := range []string{"", "other"} {
			stdout, stderr, err := runProgram(t, "site", "APP="+file, "MODE="+mode, "FIRST="+first, "VENV="+venv,
				"PATHS="+paths, "PYTHONPATH="+filepath.Join(dir, "python-path"))
			if err != nil || stdout != want {
				t.Errorf("%s after %q: got %q, want %q, %v\n%s", mode, first, stdout, want, err, stderr)
			}
		}
	}
}

func init() {
	programs["site"] = func() {
		modes := map[string]wsgi.Isolation{"Main": wsgi.Main, "SharedGIL": wsgi.SharedGIL, "OwnGIL": wsgi.OwnGIL}
		mode := wsgi.WithIsolation(modes[os.Getenv("MODE")])
		if os.Getenv("FIRST") != "" {
			// Python starts without the virtual environment.
			first, err := wsgi.New(os.Getenv("APP"), "application", append(oneWorker, wsgi.WithIsolation(wsgi.SharedGIL))...)
			if err != nil {
				fmt.Println("New:", err)
				return
			}
			defer first.Close()
		}
		answer(mode, wsgi.WithPath(strings.Split(os.Getenv("PATHS"), ":")...))
	}
	programs["conda"] = func() { answer(wsgi.WithIsolation(wsgi.Main)) }
}

// answer prints what an application in a virtual environment answers.
func answer(opts ...wsgi.Option) {
	app, err := wsgi.New(os.Getenv("APP"), "application", append(append(opts, oneWorker...), wsgi.WithPython(os.Getenv("VENV")))...)
	if err != nil {
		fmt.Println("New:", err)
		return
	}
	defer app.Close()
	w := httptest.NewRecorder()
	app.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	fmt.Println(w.Body)
}

// TestCondaLayout has an installation as conda makes it: whole in a folder,
// with its own interpreter, library and packages, and no pyvenv.cfg.
func TestCondaLayout(t *testing.T) {
	prefix := filepath.Join(t.TempDir(), "env")
	// The library that this interpreter brings along is the one that is used,
	// unless it is bound to the one of its build.
	out, err := exec.Command(pythonPath(), "-I", "-c", `
import os, re, shutil, sys, sysconfig
prefix, version = sys.argv[1], "python%d.%d" % sys.version_info[:2]
os.makedirs(prefix + "/bin")
os.makedirs(prefix + "/conda-meta")
open(prefix + "/conda-meta/history", "w").close()
shutil.copy(os.path.realpath(sys.executable), prefix + "/bin/" + version)
os.symlink(version, prefix + "/bin/python3")
library = "lib%s%s.so.1.0" % (version, sys.abiflags)
for folder in (sys.base_prefix + "/lib", sysconfig.get_config_var("LIBDIR"), "/usr/lib/" + (sysconfig.get_config_var("MULTIARCH") or "")):
    if os.path.isfile(os.path.join(folder, library)):
        os.makedirs(prefix + "/lib/" + version + "/site-packages")
        shutil.copy(os.path.join(folder, library), prefix + "/lib")
        break
stdlib = sysconfig.get_path("stdlib")
for name in os.listdir(stdlib):
    if name not in ("site-packages", "dist-packages"):
        os.symlink(os.path.join(stdlib, name), os.path.join(prefix, "lib", version, name))
`, prefix).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ask := func(code string) string {
		t.Helper()
		out, err := exec.Command(filepath.Join(prefix, "bin", "python3"), "-I", "-c", code).Output()
		if err != nil {
			t.Fatalf("the copy doesn't run: %v", err)
		}
		return strings.TrimSpace(string(out))
	}
	site := ask("import site; print(site.getsitepackages()[0])")
	if !strings.HasPrefix(site, prefix) {
		t.Fatalf("the copy has its packages in %s", site)
	}
	writeFile(t, filepath.Join(site, "in_the_environment.py"), "")
	const libraries = "{line.split()[-1] for line in open('/proc/self/maps') if 'libpython' in line}"
	library := ask("print(*" + libraries + ")")
	if library == "" {
		found, err := filepath.Glob(filepath.Join(prefix, "lib", "libpython*.so.1.0"))
		if err != nil || len(found) != 1 {
			t.Fatal(found, err)
		}
		library = found[0]
	}
	_, file := writeApp(t, `
import subprocess, sys, in_the_environment

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    child = subprocess.check_output([sys.executable, "-c", "import sys, in_the_environment; print(sys.prefix)"], text=True).strip()
    return [f"{sys.prefix} {sys.base_prefix} {sys.executable} {child} {' '.join(`+libraries+`)}".encode()]
`)
	for _, python := range []string{prefix, filepath.Join(prefix, "bin", "python3")} {
		stdout, stderr, err := runProgram(t, "conda", "APP="+file, "VENV="+python)
		want := fmt.Sprintf("%s %s %s/bin/python3 %s %s\n", prefix, prefix, prefix, prefix, library)
		if err != nil || stdout != want {
			t.Errorf("%s: got %q, want %q, %v\n%s", python, stdout, want, err, stderr)
		}
	}
}
