package wsgi_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-a2d07992/wsgi"
)

func init() {
	programs["exec"] = func() {
		opts := append(oneWorker, wsgi.WithIsolation(wsgi.Main), wsgi.WithEnv(map[string]string{"WSGI_TEST_EXEC": "given"}))
		app, err := wsgi.New(os.Getenv("APP"), "application", opts...)
		if err != nil {
			fmt.Println("New:", err)
			return
		}
		w := httptest.NewRecorder()
		app.ServeHTTP(w, httptest.NewRequest("GET", os.Getenv("TARGET"), nil))
		fmt.Println("still here:", w.Body)
	}
}

// TestChildrenGetTheEnvironment, by each way that os has to start them without
// one.
func TestChildrenGetTheEnvironment(t *testing.T) {
	const source = `
import os, tempfile

def system():
    with tempfile.TemporaryDirectory() as folder:
        status = os.system("echo $WSGI_TEST_CHILD >'%s/out'; exit 3" % folder)
        with open(folder + "/out") as out:
            return out.read().strip(), os.WIFEXITED(status), os.WEXITSTATUS(status)

def killed():
    status = os.system("kill -TERM $$")
    return os.WIFSIGNALED(status), os.WTERMSIG(status)

def popen():
    with os.popen("echo $WSGI_TEST_CHILD; exit 3") as pipe:
        text = pipe.read().strip()
        status = os.waitstatus_to_exitcode(pipe.close())
    return text, status

def spawned():
    with tempfile.TemporaryDirectory() as folder:
        pid = os.posix_spawnp("sh", ["sh", "-c", "echo $WSGI_TEST_CHILD >'%s/out'" % folder], None)
        _, status = os.waitpid(pid, 0)
        with open(folder + "/out") as out:
            return out.read().strip(), status

def application(environ, start_response):
    os.environ["WSGI_TEST_CHILD"] = "assigned"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr(globals()[environ["PATH_INFO"][1:]]()).encode()]
`
	isolations(t, func(t *testing.T, mode wsgi.Isolation) {
		s := serve(t, source, append(oneWorker, wsgi.WithIsolation(mode))...)
		s.expectBody(t, "/system", "('assigned', True, 3)")
		s.expectBody(t, "/killed", "(True, 15)")
		s.expectBody(t, "/popen", "('assigned', 3)")
		s.expectBody(t, "/spawned", "('assigned', 0)")
	})
}

// TestExecGetsTheEnvironment, of the program that takes this one's place.
func TestExecGetsTheEnvironment(t *testing.T) {
	_, file := writeApp(t, `
import os

def application(environ, start_response):
    os.environ["WSGI_TEST_ASSIGNED"] = "assigned"
    command = ["sh", "-c", "echo $WSGI_TEST_EXEC $WSGI_TEST_ASSIGNED"]
    {
        "/execv": lambda: os.execv("/bin/sh", command),
        "/execl": lambda: os.execl("/bin/sh", *command),
        "/execvp": lambda: os.execvp("sh", command),
        "/execlp": lambda: os.execlp("sh", *command),
    }[environ["PATH_INFO"]]()
`)
	for _, call := range []string{"execv", "execl", "execvp", "execlp"} {
		stdout, stderr, err := runProgram(t, "exec", "APP="+file, "TARGET=/"+call)
		if err != nil || stdout != "given assigned\n" {
			t.Errorf("os.%s: %q, %v\n%s", call, stdout, err, stderr)
		}
	}
}

// TestConfigurationIsApart: applications whose modules have the same names
// configure logging, warnings, the environment and sys.path each for itself.
func TestConfigurationIsApart(t *testing.T) {
	project := func(name, level, filter string) string {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "config", "__init__.py"), "")
		writeFile(t, filepath.Join(dir, "config", "settings.py"), fmt.Sprintf("NAME, LEVEL, FILTER = %q, %q, %q\n", name, level, filter))
		writeFile(t, filepath.Join(dir, "lib_"+name, "extra_module.py"), fmt.Sprintf("NAME = %q\n", name))
		writeFile(t, filepath.Join(dir, "config", "wsgi.py"), `
import logging, logging.config, os, sys, warnings
from config import settings

os.environ.setdefault("WSGI_TEST_SETTINGS", settings.NAME)
sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib_" + settings.NAME))
import extra_module
logging.config.dictConfig({"version": 1, "root": {"level": settings.LEVEL}})
warnings.simplefilter(settings.FILTER, RuntimeWarning)

def application(environ, start_response):
    try:
        warnings.warn("careful", RuntimeWarning)
        warned = "ignored"
    except RuntimeWarning:
        warned = "raised"
    others = [path for path in sys.path if "lib_" in path and not path.endswith("lib_" + settings.NAME)]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{settings.NAME} {os.environ['WSGI_TEST_SETTINGS']} {extra_module.NAME} "
            f"{logging.getLevelName(logging.getLogger().level)} {warned} {others}".encode()]
`)
		return dir
	}
	one, two := project("one", "DEBUG", "error"), project("two", "ERROR", "ignore")
	subinterpreters(t, func(t *testing.T, mode wsgi.Isolation) {
		mux := http.NewServeMux()
		for prefix, dir := range map[string]string{"/one/": one, "/two/": two} {
			app, err := wsgi.New("config.wsgi", "application", append(oneWorker, wsgi.WithPath(dir), wsgi.WithIsolation(mode))...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { app.Close() })
			mux.Handle(prefix, app)
		}
		s := &server{Server: httptest.NewServer(mux)}
		defer s.Close()
		for range 2 {
			s.expectBody(t, "/one/", "one one one DEBUG raised []")
			s.expectBody(t, "/two/", "two two two ERROR ignored []")
		}
	})
}
