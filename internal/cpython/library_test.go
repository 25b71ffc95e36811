package cpython

import (
	"bytes"
	"debug/elf"
	"debug/macho"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

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
		t.Fatalf("elfTargets lacks %s", goarch)
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
