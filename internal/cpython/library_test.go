package cpython

import (
	"bytes"
	"debug/elf"
	"debug/macho"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// writeLibrary writes a file that is a shared library as far as its header
// goes.
func writeLibrary(t *testing.T, path, goos, goarch string) {
	t.Helper()
	if goos == "darwin" {
		writeFile(t, path, machoHeader(t, goarch, macho.TypeDylib))
	} else {
		writeFile(t, path, elfHeader(t, goarch, elf.ET_DYN))
	}
}

func elfHeader(t *testing.T, goarch string, typ elf.Type) []byte {
	t.Helper()
	target, ok := elfTargets[goarch]
	if !ok {
		t.Skipf("no ELF target for %s", goarch)
	}
	ident := [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(target.class), byte(target.data), byte(elf.EV_CURRENT)}
	var header any
	if target.class == elf.ELFCLASS64 {
		header = elf.Header64{
			Ident: ident, Type: uint16(typ), Machine: uint16(target.machine), Version: uint32(elf.EV_CURRENT),
			Ehsize: 64, Phentsize: 56, Shentsize: 64,
		}
	} else {
		header = elf.Header32{
			Ident: ident, Type: uint16(typ), Machine: uint16(target.machine), Version: uint32(elf.EV_CURRENT),
			Ehsize: 52, Phentsize: 32, Shentsize: 40,
		}
	}
	var order binary.ByteOrder = binary.LittleEndian
	if target.data == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	var b bytes.Buffer
	if err := binary.Write(&b, order, header); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func machoHeader(t *testing.T, goarch string, typ macho.Type) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, v := range []any{macho.FileHeader{Magic: macho.Magic64, Cpu: machoTargets[goarch], Type: typ}, uint32(0)} {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// machoFat joins libraries for several processors into one file.
func machoFat(t *testing.T, goarches ...string) []byte {
	t.Helper()
	var head, body bytes.Buffer
	binary.Write(&head, binary.BigEndian, []uint32{macho.MagicFat, uint32(len(goarches))})
	const start = 1 << 12
	for _, goarch := range goarches {
		thin := machoHeader(t, goarch, macho.TypeDylib)
		binary.Write(&head, binary.BigEndian, macho.FatArchHeader{
			Cpu: machoTargets[goarch], Offset: uint32(start + body.Len()), Size: uint32(len(thin)), Align: 5,
		})
		body.Write(thin)
	}
	head.Write(make([]byte, start-head.Len()))
	return append(head.Bytes(), body.Bytes()...)
}

func TestCheckLibrary(t *testing.T) {
	dir := t.TempDir()
	amd64 := elfHeader(t, "amd64", elf.ET_DYN)
	truncated := slices.Clone(amd64)
	binary.LittleEndian.PutUint64(truncated[0x28:], 1<<20) // e_shoff
	binary.LittleEndian.PutUint16(truncated[0x3c:], 3)     // e_shnum
	fat := machoFat(t, "amd64", "arm64")

	for _, test := range []struct {
		name   string
		data   []byte
		goos   string
		goarch string
		arch   string // of the ArchitectureError
		bad    bool   // a BadLibraryError
	}{
		{name: "fits", data: amd64, goos: "linux", goarch: "amd64"},
		{name: "arm64", data: elfHeader(t, "arm64", elf.ET_DYN), goos: "linux", goarch: "amd64", arch: "arm64"},
		{name: "386", data: elfHeader(t, "386", elf.ET_DYN), goos: "linux", goarch: "amd64", arch: "386"},
		{name: "for 386", data: amd64, goos: "linux", goarch: "386", arch: "amd64"},
		{name: "endian", data: elfHeader(t, "ppc64", elf.ET_DYN), goos: "linux", goarch: "ppc64le", arch: "ppc64"},
		{name: "s390x", data: elfHeader(t, "s390x", elf.ET_DYN), goos: "linux", goarch: "s390x"},
		{name: "unknown goarch", data: amd64, goos: "linux", goarch: "sparc64"},
		{name: "program", data: elfHeader(t, "amd64", elf.ET_EXEC), goos: "linux", goarch: "amd64", bad: true},
		{name: "header cut", data: amd64[:40], goos: "linux", goarch: "amd64", bad: true},
		{name: "sections cut", data: truncated, goos: "linux", goarch: "amd64", bad: true},
		{name: "linker script", data: []byte("INPUT(libpython3.11.so.1.0)\n"), goos: "linux", goarch: "amd64", bad: true},
		{name: "empty", data: nil, goos: "linux", goarch: "amd64", bad: true},
		{name: "Mach-O on Linux", data: fat, goos: "linux", goarch: "amd64", bad: true},

		{name: "dylib", data: machoHeader(t, "arm64", macho.TypeDylib), goos: "darwin", goarch: "arm64"},
		{name: "Intel dylib", data: machoHeader(t, "amd64", macho.TypeDylib), goos: "darwin", goarch: "arm64", arch: "amd64"},
		{name: "Mach-O program", data: machoHeader(t, "arm64", macho.TypeExec), goos: "darwin", goarch: "arm64", bad: true},
		{name: "fat", data: fat, goos: "darwin", goarch: "arm64"},
		{name: "fat, first", data: fat, goos: "darwin", goarch: "amd64"},
		{name: "fat, other", data: machoFat(t, "amd64"), goos: "darwin", goarch: "arm64", arch: "amd64"},
		{name: "fat cut", data: fat[:20], goos: "darwin", goarch: "arm64", bad: true},
		{name: "ELF on macOS", data: amd64, goos: "darwin", goarch: "amd64", bad: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(dir, "lib")
			writeFile(t, path, test.data)
			err := checkLibrary(path, test.goos, test.goarch)
			arch, isArch := errors.AsType[*ArchitectureError](err)
			_, isBad := errors.AsType[*BadLibraryError](err)
			switch {
			case test.bad != isBad, (test.arch != "") != isArch, !test.bad && test.arch == "" && err != nil:
				t.Errorf("checkLibrary = %v (%T)", err, err)
			case isArch && (arch.Have != test.arch || arch.Need != test.goarch || arch.Path != path):
				t.Errorf("checkLibrary = %+v", arch)
			}
		})
	}

	for name, want := range map[string]error{
		filepath.Join(dir, "gone"): fs.ErrNotExist,
		dir:                        nil,
	} {
		err := checkLibrary(name, "linux", "amd64")
		if !errors.As(err, new(*BadLibraryError)) || want != nil && !errors.Is(err, want) {
			t.Errorf("checkLibrary(%s) = %v", name, err)
		}
	}

	// A program of today is position-independent, and so has the type of a
	// library.
	if sh, err := exec.LookPath("sh"); err == nil && runtime.GOOS != "windows" {
		if err := checkLibrary(sh, runtime.GOOS, runtime.GOARCH); !errors.As(err, new(*BadLibraryError)) {
			t.Errorf("checkLibrary(%s) = %v", sh, err)
		}
	}
}

func TestLibraryCandidates(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the paths are those of other systems")
	}
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
	if runtime.GOOS == "windows" {
		t.Skip("symbolic links take rights here")
	}
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

func TestFindLibraryPassesOver(t *testing.T) {
	dir := t.TempDir()
	lib := filepath.Join(dir, "lib")
	foreign := filepath.Join(lib, "libpython3.12.so.1.0")
	script := filepath.Join(lib, "libpython3.12.so")
	good := filepath.Join(dir, "elsewhere", "libpython3.12.so.1.0")
	writeLibrary(t, foreign, "linux", "arm64")
	writeFile(t, script, []byte("INPUT(-lpython)"))
	writeLibrary(t, good, "linux", "amd64")

	inst := &Installation{How: "a test", Version: Version{Major: 3, Minor: 12, Micro: 1}, Executable: "/none/python3", BasePrefix: dir}
	r := &probeReport{LibDir: fileName(filepath.Dir(good))}
	if got, err := findLibrary(inst, r, "linux", "amd64"); got != good || err != nil {
		t.Fatalf("findLibrary = %q, %v; want %q", got, err, good)
	}

	if err := os.Remove(good); err != nil {
		t.Fatal(err)
	}
	_, err := findLibrary(inst, r, "linux", "amd64")
	arch, ok := errors.AsType[*ArchitectureError](err)
	if !ok || *arch != (ArchitectureError{Path: foreign, Have: "arm64", Need: "amd64"}) {
		t.Errorf("findLibrary: %v", err)
	}
	if !errors.As(err, new(*NoLibraryError)) || !errors.As(err, new(*BadLibraryError)) {
		t.Errorf("findLibrary: %v", err)
	}
	for _, s := range []string{foreign + " is for arm64", "use a Python for amd64", script + " is not a shared library"} {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%q doesn't say %q", err, s)
		}
	}

	if err := os.Remove(foreign); err != nil {
		t.Fatal(err)
	}
	_, err = findLibrary(inst, r, "linux", "amd64")
	if errors.As(err, new(*ArchitectureError)) || !errors.As(err, new(*BadLibraryError)) || !strings.Contains(err.Error(), "--enable-shared") {
		t.Errorf("findLibrary: %v", err)
	}
}

func TestNoLibraryAdvice(t *testing.T) {
	t.Setenv("PYENV_ROOT", "/opt/pyenv")
	for _, test := range []struct {
		name      string
		inst      Installation
		says, not string
	}{
		{name: "Debian", inst: Installation{BasePrefix: "/usr"}, says: "apt-get install libpython3.11;", not: "--enable-shared"},
		{name: "Debian, debug", inst: Installation{BasePrefix: "/usr", Debug: true}, says: "apt-get install libpython3.11-dbg;"},
		{name: "own build", inst: Installation{BasePrefix: "/usr/local"}, says: "--enable-shared", not: "pyenv"},
		{name: "free-threaded", inst: Installation{BasePrefix: "/usr", FreeThreaded: true}, says: "--enable-shared", not: "apt-get"},
		{name: "pyenv", inst: Installation{BasePrefix: "/home/me/.pyenv/versions/3.11.9"}, says: "PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install --force 3.11.9"},
		{name: "pyenv elsewhere", inst: Installation{BasePrefix: "/opt/pyenv/versions/3.11-dev"}, says: "pyenv install --force 3.11-dev"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.inst.Version = Version{Major: 3, Minor: 11, Micro: 9}
			test.inst.How = "python3 on PATH"
			err := &NoLibraryError{Installation: &test.inst, Searched: []string{"/a/libpython3.11.so.1.0", "/a/libpython3.11.so", "/b/libpython3.11.so.1.0"}}
			s := err.Error()
			if !strings.Contains(s, test.says) || test.not != "" && strings.Contains(s, test.not) {
				t.Error(s)
			}
			if want := "no libpython3.11.so.1.0 or libpython3.11.so in /a, /b;"; !strings.Contains(s, want) {
				t.Errorf("%q doesn't say %q", s, want)
			}
		})
	}
}
