//go:build unix

package cpython

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func TestFindCache(t *testing.T) {
	onlyFakes(t)
	python := newFakePython(t)
	log := filepath.Join(t.TempDir(), "log")
	python.before = "echo >>" + log
	python.write(t)
	var runs int
	check := func(want int, after string) {
		t.Helper()
		mustFind(t, python.exe)
		data, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(data) - runs; got != want {
			t.Errorf("%s: ran %d times, want %d", after, got, want)
		}
		runs = len(data)
	}

	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			inst, err := Find(python.exe)
			if err != nil {
				t.Error(err)
				return
			}
			// Everyone's copy is theirs to change.
			inst.Path[0], inst.How = "changed", "changed"
		})
	}
	wg.Wait()
	check(1, "at first")
	inst := mustFind(t, python.exe)
	if inst.Path[0] == "changed" || inst.How == "changed" {
		t.Error("a caller's change reached another")
	}
	check(0, "again")

	// The same interpreter, named in another way.
	t.Setenv("WSGI_PYTHON", python.prefix)
	check(1, "with another environment")
	if inst := mustFind(t, ""); inst.How != "$WSGI_PYTHON" {
		t.Errorf("found by %s", inst.How)
	}
	check(0, "by the variable")
	t.Chdir(t.TempDir())
	// Chdir sets PWD too.
	check(1, "in another directory")

	later := time.Now().Add(time.Hour)
	for name, change := range map[string]func() error{
		"pyvenv.cfg made": func() error { return os.WriteFile(filepath.Join(python.prefix, "pyvenv.cfg"), nil, 0o644) },
		"a site directory made": func() error {
			return os.MkdirAll(filepath.Join(python.prefix, "lib/python3.11/site-packages"), 0o755)
		},
		"interpreter newer": func() error { return os.Chtimes(python.exe, later, later) },
		"library newer":     func() error { return os.Chtimes(python.library(), later, later) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		check(1, name)
		check(0, name+", again")
	}
}

func TestFindCacheBounded(t *testing.T) {
	onlyFakes(t)
	python := newFakePython(t)
	var c installationCache
	for i := range 2*maxFound + 1 {
		t.Setenv("TEST_FIND_CACHE", fmt.Sprint(i))
		if _, err := c.get(python.exe, "a test"); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.entries) > maxFound {
		t.Errorf("%d entries", len(c.entries))
	}
}
