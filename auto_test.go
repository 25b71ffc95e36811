package wsgi_test

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/seed-a2d07992/wsgi"
)

func init() {
	programs["auto"] = func() {
		records := &logs{}
		app, err := wsgi.New(os.Getenv("APP"), "application", wsgi.WithLogger(slog.New(records)))
		if err != nil {
			fmt.Println("New:", err)
			return
		}
		fmt.Println(app.Stats().Isolation)
		for _, r := range records.With("refuses an interpreter with its own GIL") {
			fmt.Println(r.Attrs["extension"])
		}
	}
}

// TestAutoTakesMainWhereAModuleRefuses, although the application hides the
// refusal behind an error of its own, and although the module can be initialised
// once in a process, as psycopg2.
func TestAutoTakesMainWhereAModuleRefuses(t *testing.T) {
	needOwnGIL(t)
	dir, file := writeApp(t, `
try:
    from once import WHOLE
except ImportError as error:
    raise RuntimeError("a driver is missing") from error

def application(environ, start_response):
    pass
`)
	args := []string{"-shared", "-fPIC", "-o", filepath.Join(dir, "once.so"), "testdata/singlephase/once.c"}
	if runtime.GOOS == "darwin" {
		args = append(args, "-undefined", "dynamic_lookup")
	}
	if out, err := exec.Command("cc", args...).CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, out)
	}
	stdout, stderr, err := runProgram(t, "auto", "APP="+file)
	want := "Main\nonce\n"
	if err != nil || stdout != want {
		t.Errorf("got %q, want %q, %v\n%s", stdout, want, err, stderr)
	}
}
