package cpython

import (
	"debug/elf"
	"debug/macho"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// NoLibraryError is returned for a Python whose code can't be loaded: it has no
// shared library, or none that fits this program. It unwraps to an
// *ArchitectureError or a *BadLibraryError for each file that was found and
// passed over, so errors.As tells the cases apart.
type NoLibraryError struct {
	Installation *Installation // without its Library
	Searched     []string      // every path that was tried
	Rejected     []error       // one for each of them that is there
}

func (e *NoLibraryError) Error() string {
	inst := e.Installation
	s := fmt.Sprintf("%s: CPython %s at %s has no shared library ", inst.How, inst.Version, inst.Executable)
	if len(e.Rejected) == 0 {
		return s + "(libpython) to load: " + e.places() + "; " + e.advice()
	}
	var reasons []string
	for _, err := range e.Rejected {
		reasons = append(reasons, err.Error())
	}
	s += "that can be loaded: " + strings.Join(reasons, "; ")
	if arch, ok := errors.AsType[*ArchitectureError](e); ok {
		return s + fmt.Sprintf("; use a Python for %s, or build this program for %s", arch.Need, arch.Have)
	}
	return s + "; " + e.advice()
}

func (e *NoLibraryError) Unwrap() []error { return e.Rejected }

// places lists what was searched for and where, each name and folder once.
func (e *NoLibraryError) places() string {
	var names, dirs []string
	for _, path := range e.Searched {
		dir, name := filepath.Split(path)
		if dir = filepath.Clean(dir); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return fmt.Sprintf("no %s in %s", strings.Join(names, " or "), strings.Join(dirs, ", "))
}

// advice says how to get the library.
func (e *NoLibraryError) advice() string {
	inst := e.Installation
	if inst.BasePrefix == "/usr" && !inst.FreeThreaded {
		// The distribution's own. Debian and its kin build the interpreter
		// without the library, and package that separately.
		pkg := fmt.Sprintf("libpython%d.%d", inst.Version.Major, inst.Version.Minor)
		if inst.Debug {
			pkg += "-dbg"
		}
		return fmt.Sprintf("on Debian and Ubuntu, apt-get install %s; elsewhere, the package that holds %s", pkg, filepath.Base(e.Searched[0]))
	}
	s := "use a Python that was built with --enable-shared"
	if isPyenv(inst.BasePrefix) {
		s += fmt.Sprintf(" (PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install --force %s)", filepath.Base(inst.BasePrefix))
	}
	return s
}

func isPyenv(prefix string) bool {
	root := os.Getenv("PYENV_ROOT")
	return root != "" && strings.HasPrefix(prefix, filepath.Join(root, "versions")) ||
		strings.Contains(filepath.ToSlash(prefix), "/.pyenv/versions/")
}

// ArchitectureError says that a library is built for another processor than
// this program.
type ArchitectureError struct {
	Path string
	Have string // in the terms of GOARCH, where Go has one
	Need string
}

func (e *ArchitectureError) Error() string {
	return fmt.Sprintf("%s is for %s and this program for %s", e.Path, e.Have, e.Need)
}

// BadLibraryError says that a file isn't a shared library, whatever its name.
type BadLibraryError struct {
	Path string
	Err  error
}

func (e *BadLibraryError) Error() string {
	return fmt.Sprintf("%s is not a shared library: %v", e.Path, e.Err)
}

func (e *BadLibraryError) Unwrap() error { return e.Err }

// findLibrary returns the first of the installation's candidates that a
// process of the operating system goos on the processor goarch can load.
//
// A bad one must be passed over here: once loaded it can't be unloaded, and a
// failed load says little.
func findLibrary(inst *Installation, r *probeReport, goos, goarch string) (string, error) {
	e := &NoLibraryError{Installation: inst}
	for _, path := range libraryCandidates(inst, r, goos) {
		err := checkLibrary(path, goos, goarch)
		if err == nil {
			return path, nil
		}
		e.Searched = append(e.Searched, path)
		if !errors.Is(err, fs.ErrNotExist) {
			e.Rejected = append(e.Rejected, err)
		}
	}
	return "", e
}

// libraryCandidates lists where the shared library may be, likeliest first.
func libraryCandidates(inst *Installation, r *probeReport, goos string) []string {
	var list []string
	add := func(elem ...string) {
		if slices.Contains(elem, "") {
			return
		}
		path := filepath.Join(elem...)
		if !filepath.IsAbs(path) {
			return
		}
		// Clean is wrong about a .. behind a symbolic link.
		raw := strings.Join(elem, string(filepath.Separator))
		if _, err := os.Stat(raw); err == nil && !sameFile(raw, path) {
			path = raw
		}
		if !slices.Contains(list, path) {
			list = append(list, path)
		}
	}

	// What the interpreter runs on is right by definition.
	add(string(r.Loaded))

	// A framework of macOS: Python.framework/Versions/3.13/Python.
	if r.Framework != "" {
		add(string(r.FrameworkPrefix), string(r.LDLibrary))
		add(inst.BasePrefix, string(r.Framework))
		return list
	}

	// The installation's own folder comes before the one it was configured
	// for: builds that can be unpacked anywhere name a folder of the machine
	// they were built on, which may hold another Python.
	dirs := []string{filepath.Join(inst.BasePrefix, "lib"), string(r.LibDir), string(r.LibPL)}
	for _, exe := range []string{inst.BaseExecutable, inst.Executable} {
		if real, err := filepath.EvalSymlinks(exe); err == nil {
			dirs = append(dirs, filepath.Join(filepath.Dir(real), "..", "lib"))
		}
	}
	if inst.BasePrefix == "/usr" && r.Multiarch != "" {
		// Debian's folder, which its older versions don't give as LIBDIR. It
		// belongs to the Python in /usr alone: another one, in /usr/local or
		// in a home, would get the library of a stranger.
		dirs = append(dirs, filepath.Join("/usr/lib", string(r.Multiarch)))
	}

	abi := ""
	if inst.FreeThreaded {
		abi += "t"
	}
	if inst.Debug {
		abi += "d"
	}
	base := fmt.Sprintf("libpython%d.%d%s", inst.Version.Major, inst.Version.Minor, abi)
	names := []string{string(r.InstSoname)}
	if goos == "darwin" {
		names = append(names, base+".dylib")
	} else {
		names = append(names, base+".so.1.0")
	}
	names = append(names, string(r.LDLibrary))
	if goos != "darwin" {
		names = append(names, base+".so")
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		return filepath.Ext(name) == ".a" // what a static build has for these
	})

	for _, dir := range dirs {
		for _, name := range names {
			add(dir, name)
		}
	}
	return list
}

// sameFile reports whether two paths name one file. A file that isn't there is
// the same under the same name alone.
func sameFile(a, b string) bool {
	if a == b {
		return true
	}
	ai, aerr := os.Stat(a)
	bi, berr := os.Stat(b)
	return aerr == nil && berr == nil && os.SameFile(ai, bi)
}

// checkLibrary reports whether the file at path can be loaded. The error is an
// *ArchitectureError or a *BadLibraryError.
func checkLibrary(path, goos, goarch string) error {
	bad := func(err error) error { return &BadLibraryError{Path: path, Err: err} }
	info, err := os.Stat(path)
	if err != nil {
		return bad(err)
	}
	if !info.Mode().IsRegular() {
		return bad(errors.New("not a regular file"))
	}
	f, err := os.Open(path)
	if err != nil {
		return bad(err)
	}
	defer f.Close()

	have, fits, err := "", false, error(nil)
	if goos == "darwin" {
		have, fits, err = machoArch(f, goarch)
	} else {
		have, fits, err = elfArch(f, goarch)
	}
	switch {
	case err != nil:
		return bad(err)
	case !fits:
		return &ArchitectureError{Path: path, Have: have, Need: goarch}
	}
	return nil
}

// An elfTarget is what an ELF header says of the processor.
type elfTarget struct {
	machine elf.Machine
	class   elf.Class
	data    elf.Data
}

var elfTargets = map[string]elfTarget{
	"386":      {elf.EM_386, elf.ELFCLASS32, elf.ELFDATA2LSB},
	"amd64":    {elf.EM_X86_64, elf.ELFCLASS64, elf.ELFDATA2LSB},
	"arm":      {elf.EM_ARM, elf.ELFCLASS32, elf.ELFDATA2LSB},
	"arm64":    {elf.EM_AARCH64, elf.ELFCLASS64, elf.ELFDATA2LSB},
	"loong64":  {elf.EM_LOONGARCH, elf.ELFCLASS64, elf.ELFDATA2LSB},
	"mips":     {elf.EM_MIPS, elf.ELFCLASS32, elf.ELFDATA2MSB},
	"mipsle":   {elf.EM_MIPS, elf.ELFCLASS32, elf.ELFDATA2LSB},
	"mips64":   {elf.EM_MIPS, elf.ELFCLASS64, elf.ELFDATA2MSB},
	"mips64le": {elf.EM_MIPS, elf.ELFCLASS64, elf.ELFDATA2LSB},
	"ppc64":    {elf.EM_PPC64, elf.ELFCLASS64, elf.ELFDATA2MSB},
	"ppc64le":  {elf.EM_PPC64, elf.ELFCLASS64, elf.ELFDATA2LSB},
	"riscv64":  {elf.EM_RISCV, elf.ELFCLASS64, elf.ELFDATA2LSB},
	"s390x":    {elf.EM_S390, elf.ELFCLASS64, elf.ELFDATA2MSB},
}

// elfArch returns the processor that an ELF shared library is for, and whether
// that is goarch. A goarch that isn't in the table fits nothing to compare
// with, and is let through.
func elfArch(r io.ReaderAt, goarch string) (have string, fits bool, err error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return "", false, fmt.Errorf("not a whole ELF file: %w", err)
	}
	if f.Type != elf.ET_DYN {
		return "", false, fmt.Errorf("an ELF file of type %v", f.Type)
	}
	// A position-independent executable has the type of a library.
	if flags, err := f.DynValue(elf.DT_FLAGS_1); err == nil && len(flags) > 0 && elf.DynFlag1(flags[0])&elf.DF_1_PIE != 0 {
		return "", false, errors.New("an executable program")
	}
	target := elfTarget{f.Machine, f.Class, f.Data}
	want, known := elfTargets[goarch]
	for name, t := range elfTargets {
		if t == target {
			have = name
		}
	}
	if have == "" {
		have = fmt.Sprintf("%v, %v, %v", target.machine, target.class, target.data)
	}
	return have, !known || target == want, nil
}

var machoTargets = map[string]macho.Cpu{
	"amd64": macho.CpuAmd64,
	"arm64": macho.CpuArm64,
}

// machoArch is elfArch for Mach-O files, which may hold the library for several
// processors.
func machoArch(r io.ReaderAt, goarch string) (have string, fits bool, err error) {
	var files []*macho.File
	if fat, ferr := macho.NewFatFile(r); ferr == nil {
		for _, a := range fat.Arches {
			files = append(files, a.File)
		}
	} else {
		f, err := macho.NewFile(r)
		if err != nil {
			return "", false, fmt.Errorf("not a whole Mach-O file: %w", err)
		}
		files = []*macho.File{f}
	}
	want, known := machoTargets[goarch]
	var names []string
	for _, f := range files {
		if f.Type != macho.TypeDylib && f.Type != macho.TypeBundle {
			return "", false, fmt.Errorf("a Mach-O file of type %v", f.Type)
		}
		name := f.Cpu.String()
		for arch, cpu := range machoTargets {
			if cpu == f.Cpu {
				name = arch
			}
		}
		names = append(names, name)
		fits = fits || f.Cpu == want
	}
	return strings.Join(names, " and "), fits || !known, nil
}
