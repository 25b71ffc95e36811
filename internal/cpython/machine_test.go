//go:build unix

package cpython

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// machinePythons finds the Pythons of this machine that can be used, and says
// of the others why not.
var machinePythons = sync.OnceValues(func() (list []*Installation, leftOut []error) {
	names := []string{os.Getenv("WSGI_PYTHON"), "python3"}
	command := regexp.MustCompile(`^python3\.\d+(t|d|-dbg)?$`) // not python3.13-config
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/bin") {
		entries, _ := os.ReadDir(dir)
		for _, entry := range entries {
			if command.MatchString(entry.Name()) {
				names = append(names, filepath.Join(dir, entry.Name()))
			}
		}
	}
	seen := make(map[string]bool)
	for _, name := range names {
		if name == "" {
			continue
		}
		inst, err := Find(name)
		if err != nil {
			leftOut = append(leftOut, err)
			continue
		}
		if real, err := filepath.EvalSymlinks(inst.Executable); err == nil && !seen[real] {
			seen[real] = true
			list = append(list, inst)
		}
	}
	return list, leftOut
})

// discoveredPythons returns the Pythons of this machine, at least one.
func discoveredPythons(t *testing.T) []*Installation {
	t.Helper()
	list, leftOut := machinePythons()
	for _, err := range leftOut {
		t.Logf("left out: %v", err)
	}
	if len(list) == 0 {
		t.Fatal("this machine has no Python with a shared library; make test gets one")
	}
	return list
}

// makeVenv makes a virtual environment from the Python and returns its folder.
func makeVenv(t *testing.T, base *Installation) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "venv")
	out, err := exec.Command(base.Executable, "-I", "-m", "venv", "--without-pip", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("making a virtual environment with %s: %v\n%s", base.Executable, err, out)
	}
	return dir
}

// TestFindReal compares what Find says with what the interpreter says when it
// starts as usual, with its site directories from the beginning.
func TestFindReal(t *testing.T) {
	type answer struct {
		VersionText, Executable                        string
		Prefix, ExecPrefix, BasePrefix, BaseExecPrefix string
		ObjectSize                                     int
		Debug                                          bool
		Path                                           []string
	}
	const script = `if True:
		import json, sys
		print(json.dumps(dict(
			VersionText=sys.version, Executable=sys.executable,
			Prefix=sys.prefix, ExecPrefix=sys.exec_prefix,
			BasePrefix=sys.base_prefix, BaseExecPrefix=sys.base_exec_prefix,
			ObjectSize=object.__basicsize__, Path=sys.path,
			Debug=hasattr(sys, "gettotalrefcount"))))`
	check := func(t *testing.T, inst *Installation) {
		out, err := exec.Command(inst.Executable, "-I", "-c", script).Output()
		if err != nil {
			t.Fatal(err)
		}
		var want answer
		if err := json.Unmarshal(out, &want); err != nil {
			t.Fatal(err)
		}
		got := answer{
			inst.VersionText, inst.Executable,
			inst.Prefix, inst.ExecPrefix, inst.BasePrefix, inst.BaseExecPrefix,
			inst.ObjectSize, inst.Debug, inst.Path,
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		if !strings.HasPrefix(inst.VersionText, inst.Version.String()+" ") {
			t.Errorf("Version is %v of %q", inst.Version, inst.VersionText)
		}
		if len(inst.StdlibPath) == 0 {
			t.Error("no StdlibPath")
		}
		for _, dir := range inst.StdlibPath {
			if !slices.Contains(inst.Path, dir) {
				t.Errorf("%s of StdlibPath is not on Path", dir)
			}
			if slices.Contains(inst.SiteDirs, dir) {
				t.Errorf("%s is on StdlibPath and in SiteDirs", dir)
			}
		}
		if !filepath.IsAbs(inst.Library) {
			t.Errorf("Library is %q", inst.Library)
		}
		// The interpreter loads it too, which a library for another processor
		// or a text file doesn't stand.
		out, err = exec.Command(inst.Executable, "-I", "-c", `if True:
			import ctypes, sys
			version = ctypes.CDLL(sys.argv[1]).Py_GetVersion
			version.restype = ctypes.c_char_p
			print(version().decode())`, inst.Library).CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), inst.Version.String()+" ") {
			t.Errorf("loading %s into %s: %v\n%s", inst.Library, inst.Executable, err, out)
		}
	}
	for _, inst := range discoveredPythons(t) {
		name := inst.Version.String()
		if inst.Debug {
			name += " debug"
		}
		t.Run(name, func(t *testing.T) { check(t, inst) })
		t.Run(name+" venv", func(t *testing.T) {
			dir := makeVenv(t, inst)
			venv := mustFind(t, dir)
			check(t, venv)
			if filepath.Dir(filepath.Dir(venv.Executable)) != dir {
				t.Errorf("Executable is %s, not the one in %s", venv.Executable, dir)
			}
			if venv.Prefix == inst.Prefix || venv.BasePrefix != inst.BasePrefix {
				t.Errorf("prefixes %s and %s of an environment made from one in %s", venv.Prefix, venv.BasePrefix, inst.Prefix)
			}
			if !slices.Equal(venv.StdlibPath, inst.StdlibPath) {
				t.Errorf("StdlibPath is %q, not the base's %q", venv.StdlibPath, inst.StdlibPath)
			}
			if len(venv.SiteDirs) != 1 || !strings.HasPrefix(venv.SiteDirs[0], dir) {
				t.Errorf("SiteDirs is %q", venv.SiteDirs)
			}
			if !sameFile(venv.Library, inst.Library) {
				t.Errorf("Library is %s, the base's %s", venv.Library, inst.Library)
			}

			t.Setenv("WSGI_PYTHON", "")
			t.Setenv("VIRTUAL_ENV", dir)
			if got := mustFind(t, ""); got.Prefix != venv.Prefix || got.How != "$VIRTUAL_ENV" {
				t.Errorf("by $VIRTUAL_ENV found %s through %s", got.Prefix, got.How)
			}
		})
	}
}

// TestFindSiteHook has the site hooks of a virtual environment do their worst
// to the output, and then looks for the path that one of them added.
func TestFindSiteHook(t *testing.T) {
	dir := makeVenv(t, discoveredPythons(t)[0])
	before := mustFind(t, dir)
	extra := t.TempDir()
	hook := strings.Join([]string{
		`import sys, os, atexit`,
		`print("hook", end="")`,
		`print("x" * 100000, file=sys.stderr)`,
		`os.write(1, b'\xff\n{"version": "1.2.3"}')`,
		`atexit.register(print, "bye")`,
		`sys.stdout = open(os.devnull, "w")`,
	}, "; ")
	writeFile(t, filepath.Join(before.SiteDirs[0], "hook.pth"), []byte(hook+"\n"+extra+"\n"))

	got := mustFind(t, dir)
	if want := append(slices.Clone(before.Path), extra); !slices.Equal(got.Path, want) {
		t.Errorf("Path is %q, want %q", got.Path, want)
	}

	writeFile(t, filepath.Join(before.SiteDirs[0], "last.pth"), []byte("import sys; sys.exit('the hook gives up')\n"))
	_, err := Find(dir)
	if !errors.As(err, new(*RunError)) || !strings.Contains(err.Error(), "the hook gives up") {
		t.Errorf("where a hook ends the interpreter: %v (%T)", err, err)
	}
}
