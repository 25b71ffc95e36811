//go:build (linux || darwin) && (amd64 || arm64)

package embedded

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// childEnv names the part that the test binary plays as a process of its own;
// childDir is the folder it plays it in.
const (
	childEnv = "EMBEDDED_TEST_CHILD"
	childDir = "EMBEDDED_TEST_DIR"
)

// scratch is a folder for all tests, removed at the end.
var scratch string

func TestMain(m *testing.M) {
	if part := os.Getenv(childEnv); part != "" {
		if err := children[part](os.Getenv(childDir)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	var err error
	if scratch, err = os.MkdirTemp("", "embedded-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(scratch)
	os.Exit(code)
}

var children = map[string]func(dir string) error{
	"python": func(dir string) error {
		path, err := PythonIn(dir)
		fmt.Println(path)
		return err
	},
	"toy":   toyChild,
	"stall": stallChild,
}

// child returns a command that plays a part.
func child(part, dir string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+part, childDir+"="+dir)
	return cmd
}

// sharedPython unpacks the distribution once for all tests: by several processes
// at once, in a folder that doesn't exist yet.
var sharedPython = sync.OnceValues(func() (string, error) {
	cache := filepath.Join(scratch, "cache")
	const n = 4
	var cmds [n]*exec.Cmd
	var outs, errs [n]bytes.Buffer
	for i := range cmds {
		cmds[i] = child("python", cache)
		cmds[i].Stdout, cmds[i].Stderr = &outs[i], &errs[i]
		if err := cmds[i].Start(); err != nil {
			return "", err
		}
	}
	var failed error
	for i, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			failed = fmt.Errorf("process %d: %w\n%s", i, err, &errs[i])
		} else if outs[i].String() != outs[0].String() {
			failed = fmt.Errorf("process %d returned %q, process 0 %q", i, &outs[i], &outs[0])
		}
	}
	return strings.TrimSpace(outs[0].String()), failed
})

// unpacked returns the shared Python and the folder for PythonIn.
func unpacked(t *testing.T) (python, cache string) {
	t.Helper()
	python, err := sharedPython()
	if err != nil {
		t.Fatal(err)
	}
	return python, filepath.Join(scratch, "cache")
}

func TestProcessesAtOnce(t *testing.T) {
	python, cache := unpacked(t)
	if !filepath.IsAbs(python) || !strings.HasPrefix(python, cache) {
		t.Errorf("the path is %s, not in %s", python, cache)
	}
	names, err := os.ReadDir(cache)
	if err != nil {
		t.Fatal(err)
	}
	tree := treeName(buildVersion())
	for _, name := range names {
		if name.Name() != tree && name.Name() != tree+".lock" {
			t.Errorf("%s is left in the folder", name.Name())
		}
	}
}

func TestPythonRuns(t *testing.T) {
	python, _ := unpacked(t)
	cmd := exec.Command(python, "-I", "-c", `
import sys, ssl, sqlite3, ctypes, zlib, venv, json
assert sys.version_info[:2] == (3, 14), sys.version
assert sqlite3.connect(":memory:").execute("select 1").fetchone() == (1,)
print(sys.prefix)
print(json.__spec__.cached)
`)
	cmd.Env = []string{} // no PYTHONHOME, no PATH, nothing
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	prefix, bytecode, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	home := filepath.Dir(filepath.Dir(python))
	if prefix != home {
		t.Errorf("sys.prefix is %s, not %s", prefix, home)
	}
	info, err := os.Stat(bytecode)
	if err != nil {
		t.Errorf("the standard library isn't compiled: %v", err)
	} else if !info.ModTime().Equal(stamp) {
		t.Errorf("%s isn't what was unpacked", bytecode)
	}
	libs, _ := filepath.Glob(filepath.Join(home, "lib", "libpython3.14*.*"))
	if len(libs) == 0 {
		t.Error("there is no libpython3.14")
	}
	if target, err := os.Readlink(python); err != nil || target != "python3.14" {
		t.Errorf("%s is a copy, or a link to %q (%v)", python, target, err)
	}
}

// TestPythonKept checks that a start with an intact folder writes nothing.
func TestPythonKept(t *testing.T) {
	python, cache := unpacked(t)
	// Bytecode that appears when Python runs is no damage.
	cmd := exec.Command(python, "-O", "-c", "import csv")
	cmd.Env = []string{}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	before := snapshot(t, cache)
	start := time.Now()
	again, err := PythonIn(cache)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("checked in %v", time.Since(start))
	if again != python {
		t.Errorf("the path is %s, before it was %s", again, python)
	}
	sameSnapshot(t, before, snapshot(t, cache))
}

// TestPythonReplaced corrupts libpython without a change of its size and time
// while a process runs from the folder.
func TestPythonReplaced(t *testing.T) {
	python, cache := unpacked(t)
	running := exec.Command(python, "-I", "-c", `
print("running", flush=True)
input()
import xmlrpc.client, _decimal
print("still running")
`)
	stdin, err := running.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	started := make(chan struct{})
	running.Stdout = writerFunc(func(p []byte) (int, error) {
		if out.Len() == 0 {
			close(started)
		}
		return out.Write(p)
	})
	running.Stderr = os.Stderr
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		stdin.Close()
		if err := running.Wait(); err != nil || !strings.Contains(out.String(), "still running") {
			t.Errorf("the running process: %v\n%s", err, &out)
		}
	}()
	<-started

	libs, _ := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(python)), "lib", "libpython3.14.*"))
	slices.SortFunc(libs, func(a, b string) int { return len(b) - len(a) })
	corrupt(t, libs[0], true)
	before, err := os.Stat(libs[0])
	if err != nil {
		t.Fatal(err)
	}

	again, err := PythonIn(cache)
	if err != nil {
		t.Fatal(err)
	}
	if again != python {
		t.Errorf("the path is %s, before it was %s", again, python)
	}
	after, err := os.Stat(libs[0])
	if err != nil {
		t.Fatal(err)
	}
	if os.SameFile(before, after) {
		t.Error("libpython was kept or overwritten in place")
	}
	tr := tree{dir: filepath.Join(cache, treeName(buildVersion()))}
	if err := tr.check(); err != nil {
		t.Errorf("still damaged: %v", err)
	}
	if _, err := io.WriteString(stdin, "\n"); err != nil {
		t.Error(err)
	}
}

func TestNoCacheFolder(t *testing.T) {
	t.Setenv("HOME", "")
	t.Setenv("XDG_CACHE_HOME", "")
	for name, f := range map[string]func() (string, error){
		"Python": Python,
		"Venv":   func() (string, error) { return Venv(t.Context(), t.TempDir()) },
	} {
		if path, err := f(); err == nil || !strings.Contains(err.Error(), "XDG_CACHE_HOME") {
			t.Errorf("%s: %q, %v", name, path, err)
		}
	}
}

func TestTreeName(t *testing.T) {
	gomod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(gomod), distributionModule+" "+distributionVersion+"\n") {
		t.Errorf("go.mod doesn't ask for %s", distributionVersion)
	}
	if version, replacement := buildVersion(); version != distributionVersion || replacement != "" {
		t.Errorf("the build has %q, replaced by %q", version, replacement)
	}
	seen := make(map[string]bool)
	for _, v := range [][2]string{
		{distributionVersion, ""},
		{"v0.0.0-3.14.6-20260610-2", ""},
		{distributionVersion, "../fork "},
	} {
		name := treeName(v[0], v[1])
		if !strings.HasPrefix(name, "python-3.14.6-") || seen[name] {
			t.Errorf("treeName(%q) = %s", v, name)
		}
		seen[name] = true
	}
	if name := treeName("v1.2.3", ""); !strings.HasPrefix(name, "python-unknown-") {
		t.Errorf("unknown version: %s", name)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// corrupt changes a byte in the middle of a file, and its time of modification
// unless that is to be kept.
func corrupt(t *testing.T, path string, keepTime bool) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// Written by a new file: a process may run from the old one.
	data[len(data)/2] ^= 0xff
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, info.Mode()); err != nil {
		t.Fatal(err)
	}
	if keepTime {
		if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
			t.Fatal(err)
		}
	}
}

// snapshot describes every file below dir.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files[path] = fmt.Sprintf("%v %d %v inode and ctime %v", info.Mode(), info.Size(), info.ModTime(), identity(info))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func sameSnapshot(t *testing.T, before, after map[string]string) {
	t.Helper()
	for path, was := range before {
		if is := after[path]; is != was {
			t.Errorf("%s\nwas %s\nis  %s", path, was, is)
		}
	}
	for path := range after {
		if _, ok := before[path]; !ok {
			t.Errorf("%s is new", path)
		}
	}
}
