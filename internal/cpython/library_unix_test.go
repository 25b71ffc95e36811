//go:build unix

package cpython

import (
	"errors"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestCheckLibraryOfAProgram: one of today is position-independent, and so has
// the type of a library.
func TestCheckLibraryOfAProgram(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	if err := checkLibrary(sh, runtime.GOOS, runtime.GOARCH); !errors.As(err, new(*BadLibraryError)) {
		t.Errorf("checkLibrary(%s) = %v", sh, err)
	}
}

func TestLibraryCandidates(t *testing.T) {
	version := func(minor int) Version { return Version{Major: 3, Minor: minor} }
	for _, test := range []struct {
		name string
		inst Installation
		r    probeReport
		goos string
		want []string
	}{
		{
			name: "a shared build",
			inst: Installation{Version: version(13), BasePrefix: "/none/py"},
			r: probeReport{
				Loaded: "/none/py/bin/../lib/libpython3.13.so.1.0", InstSoname: "libpython3.13.so.1.0",
				LDLibrary: "libpython3.13.so", LibDir: "/none/py/lib", LibPL: "/none/py/lib/python3.13/config",
			},
			want: []string{
				"/none/py/lib/libpython3.13.so.1.0", "/none/py/lib/libpython3.13.so",
				"/none/py/lib/python3.13/config/libpython3.13.so.1.0", "/none/py/lib/python3.13/config/libpython3.13.so",
			},
		},
		{
			name: "a static build with what it ran on elsewhere",
			inst: Installation{Version: version(12), BasePrefix: "/none/py"},
			r: probeReport{
				Loaded: "/none/conda/libpython3.12.so.1.0", InstSoname: "libpython3.12.a",
				LDLibrary: "libpython3.12.a", LibDir: "/none/lib",
			},
			want: []string{
				"/none/conda/libpython3.12.so.1.0",
				"/none/py/lib/libpython3.12.so.1.0", "/none/py/lib/libpython3.12.so",
				"/none/lib/libpython3.12.so.1.0", "/none/lib/libpython3.12.so",
			},
		},
		{
			name: "unpacked anywhere, built in /install",
			inst: Installation{Version: version(14), BasePrefix: "/none/py"},
			r:    probeReport{InstSoname: "libpython3.14.so.1.0", LDLibrary: "libpython3.14.so", LibDir: "/install/lib"},
			want: []string{
				"/none/py/lib/libpython3.14.so.1.0", "/none/py/lib/libpython3.14.so",
				"/install/lib/libpython3.14.so.1.0", "/install/lib/libpython3.14.so",
			},
		},
		{
			name: "an old Debian's debug build, which says little",
			inst: Installation{Version: version(9), BasePrefix: "/usr", Debug: true},
			r:    probeReport{Multiarch: "none-linux-gnu"},
			want: []string{
				"/usr/lib/libpython3.9d.so.1.0", "/usr/lib/libpython3.9d.so",
				"/usr/lib/none-linux-gnu/libpython3.9d.so.1.0", "/usr/lib/none-linux-gnu/libpython3.9d.so",
			},
		},
		{
			name: "not Debian's own, on Debian",
			inst: Installation{Version: version(11), BasePrefix: "/usr/local"},
			r:    probeReport{Multiarch: "none-linux-gnu"},
			want: []string{"/usr/local/lib/libpython3.11.so.1.0", "/usr/local/lib/libpython3.11.so"},
		},
		{
			name: "free-threaded and debug",
			inst: Installation{Version: version(14), BasePrefix: "/none/py", FreeThreaded: true, Debug: true},
			want: []string{"/none/py/lib/libpython3.14td.so.1.0", "/none/py/lib/libpython3.14td.so"},
		},
		{
			name: "a framework",
			goos: "darwin",
			inst: Installation{Version: version(13), BasePrefix: "/none/opt/Frameworks/Python.framework/Versions/3.13"},
			r: probeReport{
				Framework: "Python", FrameworkPrefix: "/none/Frameworks",
				LDLibrary: "Python.framework/Versions/3.13/Python", LibDir: "/none/lib",
			},
			want: []string{
				"/none/Frameworks/Python.framework/Versions/3.13/Python",
				"/none/opt/Frameworks/Python.framework/Versions/3.13/Python",
			},
		},
		{
			name: "macOS without a framework",
			goos: "darwin",
			inst: Installation{Version: version(13), BasePrefix: "/none/py"},
			r:    probeReport{LDLibrary: "libpython3.13.a"},
			want: []string{"/none/py/lib/libpython3.13.dylib"},
		},
		{
			name: "paths that are none",
			inst: Installation{Version: version(13), BasePrefix: "/none/py"},
			r:    probeReport{Loaded: "python3", LibDir: "lib"},
			want: []string{"/none/py/lib/libpython3.13.so.1.0", "/none/py/lib/libpython3.13.so"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.goos == "" {
				test.goos = "linux"
			}
			got := libraryCandidates(&test.inst, &test.r, test.goos)
			if !slices.Equal(got, test.want) {
				t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(test.want, "\n\t"))
			}
		})
	}
}

// TestLibraryBesideExecutable has the library in the lib folder beside the real
// interpreter, and a symbolic link to that interpreter's folder, where cleaning
// a path with .. in it leads astray.
func TestLibraryBesideExecutable(t *testing.T) {
	real, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	library := filepath.Join(real, "lib", "libpython3.12.so.1.0")
	writeLibrary(t, library, "linux", "amd64")
	writeFile(t, filepath.Join(real, "bin", "python3"), nil)
	venv := t.TempDir()
	symlink(t, filepath.Join(real, "bin", "python3"), filepath.Join(venv, "bin", "python3"))
	symlink(t, filepath.Join(real, "bin"), filepath.Join(venv, "linked"))

	inst := &Installation{
		Version: Version{Major: 3, Minor: 12}, BasePrefix: "/none",
		Executable: filepath.Join(venv, "bin", "python3"), BaseExecutable: filepath.Join(venv, "bin", "python3"),
	}
	if got, err := findLibrary(inst, new(probeReport), "linux", "amd64"); got != library {
		t.Errorf("findLibrary = %q, %v; want %q", got, err, library)
	}
	loaded := venv + "/linked/../lib/libpython3.12.so.1.0"
	if got, err := findLibrary(inst, &probeReport{Loaded: fileName(loaded)}, "linux", "amd64"); got != loaded {
		t.Errorf("findLibrary = %q, %v; want %q", got, err, loaded)
	}
}
