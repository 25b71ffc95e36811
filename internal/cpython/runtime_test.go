//go:build cgo && !windows

package cpython

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A start that fails is final for its process, so each of these tests runs its
// part in a process of its own: this test binary, told by a variable what to do.
const childVariable = "WSGI_RUNTIME_TEST_LIBRARIES"

func TestMain(m *testing.M) {
	if libraries := os.Getenv(childVariable); libraries != "" {
		os.Exit(startLibraries(filepath.SplitList(libraries)))
	}
	os.Exit(m.Run())
}

// startLibraries starts Python from each library in turn and prints what
// comes of it.
func startLibraries(libraries []string) int {
	for _, library := range libraries {
		inst, err := Find("")
		if err != nil {
			os.Stdout.WriteString("find: " + err.Error() + "\n")
			return 1
		}
		if library != "own" {
			inst.Library = library
		}
		rt, err := Start(inst)
		var conflict *LibraryConflictError
		switch {
		case errors.As(err, &conflict):
			os.Stdout.WriteString("conflict: " + err.Error() + "\n")
		case err != nil:
			os.Stdout.WriteString("error: " + err.Error() + "\n")
		default:
			os.Stdout.WriteString("started: " + rt.Version.String() + "\n")
		}
	}
	return 0
}

func startInChild(t *testing.T, libraries ...string) []string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+strings.Join(libraries, string(filepath.ListSeparator)))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("the child failed: %v\n%s", err, out)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// buildLibrary makes a shared library of C source.
func buildLibrary(t *testing.T, source string) string {
	t.Helper()
	dir := t.TempDir()
	c, so := filepath.Join(dir, "fake.c"), filepath.Join(dir, "libpython3.so")
	if err := os.WriteFile(c, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	compiler := os.Getenv("CC")
	if compiler == "" {
		compiler = "cc"
	}
	if out, err := exec.Command(compiler, "-shared", "-fPIC", "-o", so, c).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return so
}

func TestStartTwiceGivesTheSameRuntime(t *testing.T) {
	lines := startInChild(t, "own", "own")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "started: 3.") || lines[1] != lines[0] {
		t.Errorf("got %q", lines)
	}
}

func TestMissingSymbolIsNamed(t *testing.T) {
	so := buildLibrary(t, `const char *Py_GetVersion(void) { return "3.11.2"; }`)
	lines := startInChild(t, so)
	if !strings.HasPrefix(lines[0], "error: ") || !strings.Contains(lines[0], so) ||
		!strings.Contains(lines[0], "has no symbol Py_") {
		t.Errorf("got %q", lines)
	}
}

func TestFailedStartIsFinal(t *testing.T) {
	so := buildLibrary(t, `int nothing;`)
	lines := startInChild(t, so, so)
	if len(lines) != 2 || !strings.HasPrefix(lines[1], "error: ") {
		t.Errorf("got %q", lines)
	}
}

func TestSecondLibraryIsAConflict(t *testing.T) {
	so := buildLibrary(t, `int nothing;`)
	lines := startInChild(t, "own", so, "own")
	if len(lines) != 3 || !strings.HasPrefix(lines[1], "conflict: ") || !strings.Contains(lines[1], so) {
		t.Errorf("got %q", lines)
	}
	if lines[2] != lines[0] {
		t.Errorf("the first library does not work any more: %q", lines)
	}
}

func TestUnloadableLibraryIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "libpython3.so")
	if err := os.WriteFile(path, []byte("not a library"), 0o644); err != nil {
		t.Fatal(err)
	}
	lines := startInChild(t, path)
	if !strings.HasPrefix(lines[0], "error: ") || !strings.Contains(lines[0], path) {
		t.Errorf("got %q", lines)
	}
}
