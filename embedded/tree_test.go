//go:build (linux || darwin) && (amd64 || arm64)

package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// toyFiles are the files of a small tree with one of each kind.
var toyFiles = map[string]string{
	"bin/python3.14":         strings.Repeat("executable ", 1000),
	"lib/libpython3.14.so":   strings.Repeat("library ", 1000),
	"lib/python3.14/os.py":   "import sys\n",
	"lib/python3.14/void.py": "",
}

// toyTree returns such a tree at dir; each filling of it adds to filled.
func toyTree(dir string, filled *atomic.Int32) tree {
	return tree{dir: dir, fill: func(_ context.Context, dir, _ string, _ *os.File) error {
		filled.Add(1)
		return toyFill(dir)
	}}
}

func toyFill(dir string) error {
	for name, text := range toyFiles {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		mode := os.FileMode(0o644)
		if strings.HasPrefix(name, "bin/") {
			mode = 0o755
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			return err
		}
	}
	return os.Symlink("python3.14", filepath.Join(dir, "bin", "python3"))
}

// verifyToy checks that the tree at dir is there and nothing but its lock beside
// it.
func verifyToy(t *testing.T, dir string) {
	t.Helper()
	for name, text := range toyFiles {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		} else if string(data) != text {
			t.Errorf("%s has other contents", name)
		}
	}
	if err := (tree{dir: dir}).check(); err != nil {
		t.Errorf("check: %v", err)
	}
	onlyIn(t, filepath.Dir(dir), filepath.Base(dir), filepath.Base(dir)+".lock")
}

func onlyIn(t *testing.T, dir string, want ...string) {
	t.Helper()
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, name := range names {
		got = append(got, name.Name())
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s has %v, want %v", dir, got, want)
	}
}

func TestTreeRepair(t *testing.T) {
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, dir string)
	}{
		{"missing file", func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "lib/python3.14/os.py")))
		}},
		{"missing empty file", func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "lib/python3.14/void.py")))
		}},
		{"missing folder", func(t *testing.T, dir string) {
			must(t, os.RemoveAll(filepath.Join(dir, "lib")))
		}},
		{"truncated file", func(t *testing.T, dir string) {
			must(t, os.Truncate(filepath.Join(dir, "lib/python3.14/os.py"), 5))
		}},
		{"emptied file", func(t *testing.T, dir string) {
			must(t, os.Truncate(filepath.Join(dir, "bin/python3.14"), 0))
		}},
		{"longer file", func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, "lib/python3.14/void.py"), []byte("x"), 0o644))
		}},
		{"same size", func(t *testing.T, dir string) {
			corrupt(t, filepath.Join(dir, "lib/python3.14/os.py"), false)
		}},
		{"same size, library", func(t *testing.T, dir string) {
			corrupt(t, filepath.Join(dir, "lib/libpython3.14.so"), false)
		}},
		{"same size and time, library", func(t *testing.T, dir string) {
			corrupt(t, filepath.Join(dir, "lib/libpython3.14.so"), true)
		}},
		{"same size and time, executable", func(t *testing.T, dir string) {
			corrupt(t, filepath.Join(dir, "bin/python3.14"), true)
		}},
		{"not executable", func(t *testing.T, dir string) {
			must(t, os.Chmod(filepath.Join(dir, "bin/python3.14"), 0o644))
		}},
		{"folder for a file", func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "lib/python3.14/os.py")))
			must(t, os.Mkdir(filepath.Join(dir, "lib/python3.14/os.py"), 0o755))
		}},
		{"missing link", func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "bin/python3")))
		}},
		{"other link", func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "bin/python3")))
			must(t, os.Symlink("/nowhere", filepath.Join(dir, "bin/python3")))
		}},
		{"no manifest", func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, manifestName)))
		}},
		{"truncated manifest", func(t *testing.T, dir string) {
			must(t, os.Truncate(filepath.Join(dir, manifestName), 100))
		}},
		{"void manifest", func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, manifestName), []byte("{}"), 0o644))
		}},
		{"empty folder", func(t *testing.T, dir string) {
			must(t, os.RemoveAll(dir))
			must(t, os.Mkdir(dir, 0o755))
		}},
		{"no folder", func(t *testing.T, dir string) {
			must(t, os.RemoveAll(dir))
		}},
		{"file for the folder", func(t *testing.T, dir string) {
			must(t, os.RemoveAll(dir))
			must(t, os.WriteFile(dir, nil, 0o644))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var filled atomic.Int32
			tr := toyTree(filepath.Join(t.TempDir(), "toy"), &filled)
			if err := tr.ensure(t.Context()); err != nil {
				t.Fatal(err)
			}
			verifyToy(t, tr.dir)
			test.damage(t, tr.dir)
			if tr.check() == nil {
				t.Error("the damage isn't noticed")
			}
			// Who has the damaged file open must not see it change.
			lib, err := os.Open(filepath.Join(tr.dir, "lib/libpython3.14.so"))
			var before []byte
			if err == nil {
				defer lib.Close()
				before, _ = os.ReadFile(lib.Name())
			}
			if err := tr.ensure(t.Context()); err != nil {
				t.Fatal(err)
			}
			verifyToy(t, tr.dir)
			if lib != nil {
				if after, err := io.ReadAll(lib); err != nil || string(after) != string(before) {
					t.Errorf("an open file was written to (%v)", err)
				}
			}
			if n := filled.Load(); n != 2 {
				t.Errorf("filled %d times, want 2", n)
			}
			if err := tr.ensure(t.Context()); err != nil || filled.Load() != 2 {
				t.Errorf("filled %d times, want 2 (%v)", filled.Load(), err)
			}
		})
	}
}

// TestTreeTimes copies a tree as a program does that keeps no times: it is
// accepted, and its times are put right.
func TestTreeTimes(t *testing.T) {
	var filled atomic.Int32
	first := toyTree(filepath.Join(t.TempDir(), "toy"), &filled)
	if err := first.ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	tr := toyTree(filepath.Join(t.TempDir(), "toy"), &filled)
	if err := os.CopyFS(tr.dir, os.DirFS(first.dir)); err != nil {
		t.Fatal(err)
	}
	if err := tr.ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	onlyIn(t, filepath.Dir(tr.dir), "toy") // not even a lock was needed
	for name := range toyFiles {
		info, err := os.Stat(filepath.Join(tr.dir, name))
		if err != nil {
			t.Error(err)
		} else if !info.ModTime().Equal(stamp) {
			t.Errorf("%s has time %v", name, info.ModTime())
		}
	}
	if n := filled.Load(); n != 1 {
		t.Errorf("filled %d times, want 1", n)
	}
}

func TestTreeKept(t *testing.T) {
	var filled atomic.Int32
	tr := toyTree(filepath.Join(t.TempDir(), "toy"), &filled)
	if err := tr.ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	extra := filepath.Join(tr.dir, "lib/python3.14/__pycache__")
	if err := os.Mkdir(extra, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(extra, "os.pyc"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, tr.dir)
	if err := tr.ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	sameSnapshot(t, before, snapshot(t, tr.dir))
}

func TestTreeGoroutines(t *testing.T) {
	var filled atomic.Int32
	tr := toyTree(filepath.Join(t.TempDir(), "deeper", "toy"), &filled)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if err := tr.ensure(t.Context()); err != nil {
				t.Error(err)
			}
			if err := tr.check(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	verifyToy(t, tr.dir)
	if n := filled.Load(); n != 1 {
		t.Errorf("filled %d times, want 1", n)
	}
}

// toyChild makes the toy tree in dir and notes each filling.
func toyChild(dir string) error {
	tr := tree{dir: filepath.Join(dir, "trees", "toy"), fill: func(_ context.Context, fresh, _ string, _ *os.File) error {
		note, err := os.OpenFile(filepath.Join(dir, "filled"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer note.Close()
		if _, err := note.WriteString("x"); err != nil {
			return err
		}
		return toyFill(fresh)
	}}
	if err := tr.ensure(context.Background()); err != nil {
		return err
	}
	return tr.check()
}

func TestTreeProcesses(t *testing.T) {
	dir := t.TempDir()
	tree := filepath.Join(dir, "trees", "toy")
	for _, prepare := range []func() error{
		func() error { return nil },
		func() error { return os.Remove(filepath.Join(tree, "bin/python3.14")) },
	} {
		if err := prepare(); err != nil {
			t.Fatal(err)
		}
		os.Remove(filepath.Join(dir, "filled"))
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if out, err := child("toy", dir).CombinedOutput(); err != nil {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
		wg.Wait()
		verifyToy(t, tree)
		if data, err := os.ReadFile(filepath.Join(dir, "filled")); err != nil || string(data) != "x" {
			t.Errorf("filled %d times, want 1 (%v)", len(data), err)
		}
	}
}

// stallChild fills half of the toy tree, says so, and waits to be killed.
func stallChild(dir string) error {
	tr := tree{dir: filepath.Join(dir, "toy"), fill: func(_ context.Context, fresh, _ string, _ *os.File) error {
		if err := os.MkdirAll(filepath.Join(fresh, "bin"), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(fresh, "bin/python3.14"), []byte("exe"), 0o755); err != nil {
			return err
		}
		fmt.Println("filling")
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	}}
	return tr.ensure(context.Background())
}

func TestTreeKilled(t *testing.T) {
	for _, intact := range []bool{false, true} {
		name := map[bool]string{false: "unpacking", true: "repairing"}[intact]
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var filled atomic.Int32
			tr := toyTree(filepath.Join(dir, "toy"), &filled)
			if intact {
				if err := tr.ensure(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := os.Remove(filepath.Join(tr.dir, "bin/python3")); err != nil {
					t.Fatal(err)
				}
			}
			cmd := child("stall", dir)
			stdin, err := cmd.StdinPipe() // open until the child is dead
			if err != nil {
				t.Fatal(err)
			}
			defer stdin.Close()
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(stdout).ReadString('\n')
			if err != nil || line != "filling\n" {
				t.Errorf("the child said %q, %v", line, err)
			}

			// While it holds the lock, others wait as long as they want to.
			ctx, cancel := context.WithCancel(t.Context())
			waiting := make(chan error)
			go func() { waiting <- tr.ensure(ctx) }()
			cancel()
			if err := <-waiting; !errors.Is(err, context.Canceled) {
				t.Errorf("waiting for the lock: %v", err)
			}

			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
			_ = cmd.Wait()
			before := filled.Load()
			if err := tr.ensure(t.Context()); err != nil {
				t.Fatal(err)
			}
			verifyToy(t, tr.dir)
			if n := filled.Load() - before; n != 1 {
				t.Errorf("filled %d times, want 1", n)
			}
		})
	}
}

func TestTreeErrors(t *testing.T) {
	dir := t.TempDir()
	failure := errors.New("disk full")
	tr := tree{dir: filepath.Join(dir, "toy"), fill: func(_ context.Context, dir, _ string, _ *os.File) error {
		if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o755); err != nil {
			return err
		}
		return failure
	}}
	err := tr.ensure(t.Context())
	if !errors.Is(err, failure) || !strings.Contains(err.Error(), tr.dir) {
		t.Errorf("a failing unpacking: %v", err)
	}
	onlyIn(t, dir, "toy.lock")

	var filled atomic.Int32
	toy := toyTree(tr.dir, &filled)
	if err := toy.ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(tr.dir, "bin/python3.14")); err != nil {
		t.Fatal(err)
	}
	err = tr.ensure(t.Context())
	if !errors.Is(err, failure) || !strings.Contains(err.Error(), "python3.14") {
		t.Errorf("a failing repair: %v", err)
	}
	onlyIn(t, dir, "toy", "toy.lock")

	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := PythonIn(filepath.Join(file, "cache")); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("a folder in a file: %v", err)
	}
}

// TestReplaceInTwoSteps is for file systems that can't exchange names.
func TestReplaceInTwoSteps(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"fresh", "there"} {
		if err := os.Mkdir(path(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path(name), name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cannot := func(string, string) error { return errors.ErrUnsupported }
	if err := replace(path("fresh"), path("there"), path("nowhere/aside"), cannot); err == nil {
		t.Error("moved aside to nowhere")
	}
	onlyIn(t, path("there"), "there")
	if err := replace(path("fresh"), path("there"), path("aside"), cannot); err != nil {
		t.Fatal(err)
	}
	onlyIn(t, dir, "aside", "there")
	onlyIn(t, path("there"), "fresh")
	onlyIn(t, path("aside"), "there")
}

func TestLinkDuplicates(t *testing.T) {
	dir := t.TempDir()
	big := make([]byte, 1<<20+1)
	other := make([]byte, 1<<20+1)
	other[0] = 1
	for name, data := range map[string][]byte{
		"python": big, "python3.14": big, "python3": big, "other": other, "small": nil, "little": nil,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := linkDuplicates(dir); err != nil {
		t.Fatal(err)
	}
	onlyIn(t, dir, "little", "other", "python", "python3", "python3.14", "small")
	for name, want := range map[string]string{
		"python": "python3.14", "python3": "python3.14", "python3.14": "", "other": "", "small": "", "little": "",
	} {
		if got, _ := os.Readlink(filepath.Join(dir, name)); got != want {
			t.Errorf("%s is a link to %q, want %q", name, got, want)
		}
	}
}
