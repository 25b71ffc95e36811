//go:build (linux || darwin) && (amd64 || arm64)

package embedded

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// wheel writes a package with one module, which has VERSION, and returns the
// file's path.
func wheel(t *testing.T, name, version string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), fmt.Sprintf("%s-%s-py3-none-any.whl", name, version))
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z := zip.NewWriter(f)
	info := fmt.Sprintf("%s-%s.dist-info/", name, version)
	for _, file := range [][2]string{
		{name + ".py", fmt.Sprintf("VERSION = %q\n", version)},
		{info + "METADATA", fmt.Sprintf("Metadata-Version: 2.1\nName: %s\nVersion: %s\n", name, version)},
		{info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
		{info + "RECORD", fmt.Sprintf("%s.py,,\n%[2]sMETADATA,,\n%[2]sWHEEL,,\n%[2]sRECORD,,\n", name, info)},
	} {
		w, err := z.Create(file[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(file[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// venv calls VenvIn on the shared Python, for a folder dir.
func venv(t *testing.T, dir string, requirements ...string) string {
	t.Helper()
	_, cache := unpacked(t)
	path, err := VenvIn(t.Context(), cache, dir, requirements...)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "bin", "python"); path != want {
		t.Fatalf("the path is %s, not %s", path, want)
	}
	return path
}

// evaluate returns what a Python prints for an expression that uses module.
func evaluate(t *testing.T, python, module, expr string) string {
	t.Helper()
	cmd := exec.Command(python, "-c", fmt.Sprintf("import sys, %s\nprint(%s)", module, expr))
	cmd.Env = []string{"PYTHONDONTWRITEBYTECODE=1"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "error: " + string(out)
	}
	return strings.TrimSpace(string(out))
}

// TestVenvFromIndex installs a package with an extension module from the
// configured index.
func TestVenvFromIndex(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "venv")
	python := venv(t, dir, "markupsafe==3.0.3")
	if got, want := evaluate(t, python, "markupsafe._speedups", "markupsafe.escape('<')"), "&lt;"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := evaluate(t, python, "markupsafe", "sys.prefix"); got != dir {
		t.Errorf("sys.prefix is %s", got)
	}
	before := snapshot(t, dir)
	venv(t, dir, "markupsafe==3.0.3")
	sameSnapshot(t, before, snapshot(t, dir))
}

func TestVenv(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a folder", "venv")
	one, two := wheel(t, "shop", "1.0"), wheel(t, "shop", "2.0")
	site := filepath.Join(dir, "lib", "python3.14", "site-packages")

	python := venv(t, dir, one)
	if got := evaluate(t, python, "shop, pip", "shop.VERSION"); got != "1.0" {
		t.Fatalf("shop is %s", got)
	}
	kept := func(t *testing.T, requirements ...string) {
		t.Helper()
		before := snapshot(t, dir)
		venv(t, dir, requirements...)
		sameSnapshot(t, before, snapshot(t, dir))
	}
	kept(t, one)

	base, _ := unpacked(t)
	want := recipe{Python: base, Requirements: []string{one}}
	noticed := func(t *testing.T, what string) {
		t.Helper()
		if checkVenv(dir, want) == nil {
			t.Errorf("%s isn't noticed", what)
		}
	}
	for _, path := range []string{
		filepath.Join(site, "shop.py"),
		filepath.Join(dir, "bin", "python"),
		filepath.Join(dir, "bin"),
		filepath.Join(dir, "pyvenv.cfg"),
		filepath.Join(dir, venvRecord),
	} {
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
		noticed(t, "missing "+path)
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
	}
	record := filepath.Join(dir, venvRecord)
	data, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(record, 20); err != nil {
		t.Fatal(err)
	}
	noticed(t, "a truncated record")
	if err := os.WriteFile(record, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := checkVenv(dir, want); err != nil {
		t.Errorf("what is whole again passes for damaged: %v", err)
	}

	t.Run("damaged", func(t *testing.T) {
		if err := os.Truncate(filepath.Join(site, "shop.py"), 1); err != nil {
			t.Fatal(err)
		}
		python := venv(t, dir, one)
		if got := evaluate(t, python, "shop", "shop.VERSION"); got != "1.0" {
			t.Errorf("shop is %s", got)
		}
		kept(t, one)
	})

	t.Run("interrupted while replaced", func(t *testing.T) {
		old := filepath.Join(dir, venvOld)
		err := errors.Join(os.Mkdir(old, 0o755), moveVenv(dir, old, venvOwn), os.Mkdir(filepath.Join(dir, "lib"), 0o755))
		if err != nil {
			t.Fatal(err)
		}
		mine := filepath.Join(dir, "notes.txt")
		if err := os.WriteFile(mine, []byte("keep"), 0o644); err != nil {
			t.Fatal(err)
		}
		python := venv(t, dir)
		if got := evaluate(t, python, "shop", "shop.VERSION"); !strings.Contains(got, "No module named 'shop'") {
			t.Errorf("shop is still there: %s", got)
		}
		if err := os.Remove(mine); err != nil {
			t.Error(err)
		}
		onlyIn(t, dir, ".gitignore", venvRecord, venvLock, "bin", "include", "lib", "lib64", "pyvenv.cfg")
		kept(t)
	})

	t.Run("other requirements", func(t *testing.T) {
		python := venv(t, dir, two)
		if got := evaluate(t, python, "shop", "shop.VERSION"); got != "2.0" {
			t.Errorf("shop is %s", got)
		}
	})

	t.Run("pip fails", func(t *testing.T) {
		_, cache := unpacked(t)
		before := snapshot(t, filepath.Join(dir, "lib", "python3.14"))
		_, err := VenvIn(t.Context(), cache, dir, "--no-index", "nosuchpackage")
		if err == nil || !strings.Contains(err.Error(), "No matching distribution found for nosuchpackage") {
			t.Errorf("%v", err)
		}
		sameSnapshot(t, before, snapshot(t, filepath.Join(dir, "lib", "python3.14")))
		if got := evaluate(t, python, "shop", "shop.VERSION"); got != "2.0" {
			t.Errorf("shop is %s", got)
		}
		kept(t, two)

		fresh := filepath.Join(t.TempDir(), "venv")
		if _, err := VenvIn(t.Context(), cache, fresh, "--no-index", "nosuchpackage"); err == nil {
			t.Error("no error")
		}
		onlyIn(t, fresh, venvLock)
	})
}

func TestVenvRequirementsFile(t *testing.T) {
	t.Parallel()
	one, two := wheel(t, "shop", "1.0"), wheel(t, "shop", "2.0")
	files := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(files, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	top := write("requirements.txt", "# -r nowhere.txt\n-r more.txt\n")
	dir := filepath.Join(t.TempDir(), "venv")
	for i, path := range []string{one, two} {
		write("more.txt", path+"\n")
		python := venv(t, dir, "-r", top)
		if got, want := evaluate(t, python, "shop", "shop.VERSION"), fmt.Sprintf("%d.0", i+1); got != want {
			t.Errorf("shop is %s, want %s", got, want)
		}
	}
	before := snapshot(t, dir)
	venv(t, dir, "-r", top)
	sameSnapshot(t, before, snapshot(t, dir))
}

func TestVenvForeignFolder(t *testing.T) {
	_, cache := unpacked(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "bin")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := VenvIn(t.Context(), cache, dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("%v", err)
	}
	onlyIn(t, dir, "bin")
	if _, err := VenvIn(t.Context(), cache, file); err == nil {
		t.Error("no error for a file")
	}
	if _, err := VenvIn(t.Context(), cache, ""); err == nil {
		t.Error("no error for no name")
	}
}

// TestVenvAtOnce also checks that pip isn't unpacked where others may write, and
// that variables that mislead pip and Python don't.
func TestVenvAtOnce(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	t.Setenv("PYTHONHOME", "/nowhere")
	t.Setenv("PIP_TARGET", tmp)
	_, cache := unpacked(t)
	dir := filepath.Join(t.TempDir(), "venv")
	pkg := wheel(t, "shop", "1.0")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			python, err := VenvIn(t.Context(), cache, dir, pkg)
			if err != nil {
				t.Error(err)
			} else if got := evaluate(t, python, "shop", "shop.VERSION"); got != "1.0" {
				t.Errorf("shop is %s", got)
			}
		})
	}
	wg.Wait()
	onlyIn(t, tmp)
	onlyIn(t, dir, ".gitignore", venvRecord, venvLock, "bin", "include", "lib", "lib64", "pyvenv.cfg")
}

// TestVenvCancelled cancels while pip waits for an index.
func TestVenvCancelled(t *testing.T) {
	t.Parallel()
	_, cache := unpacked(t)
	ctx, cancel := context.WithCancel(t.Context())
	index := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	defer index.Close()
	dir := filepath.Join(t.TempDir(), "venv")
	_, err := VenvIn(ctx, cache, dir, "--proxy", "", "--index-url", index.URL, "shop")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	onlyIn(t, dir, venvLock)
	if _, err := VenvIn(ctx, cache, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
	venv(t, dir)
}

func TestRequirementFiles(t *testing.T) {
	got := requirementFiles([]string{
		"flask", "-r", "a", "--requirement", "b", "--requirement=c", "-rd",
		"-c", "e", "--constraint=f", "-e", "./g", "--config-settings=x=y", "-r",
	})
	if want := []string{"a", "b", "c", "d", "e", "f"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTail(t *testing.T) {
	var out tail
	for i := range 10_000 {
		fmt.Fprintf(&out, "line %d\n", i)
	}
	s := out.String()
	if len(s) > outputTail+4 || !strings.HasPrefix(s, "...\nline ") || !strings.HasSuffix(s, "line 9999\n") {
		t.Errorf("%d bytes, %q to %q", len(s), s[:20], s[len(s)-20:])
	}
}
