//go:build unix

package cpython

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// onlyFakes hides the machine's own Pythons. It returns a folder that is all
// of PATH.
func onlyFakes(t *testing.T) string {
	t.Helper()
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
