//go:build (linux || darwin) && (amd64 || arm64)

package embedded

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"github.com/kluctl/go-embed-python/python"
)

const (
	distributionModule = "github.com/kluctl/go-embed-python"

	// distributionVersion is go.mod's version of that module, for builds that
	// carry no module information.
	distributionVersion = "v0.0.0-3.14.6-20260610-1"

	// layout is to be raised when what this package makes of a distribution
	// changes, so that older binaries don't take each other's folders apart.
	layout = 1
)

// pythonIn is [PythonIn] with a context.
func pythonIn(ctx context.Context, dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("embedded: %w", err)
	}
	t := tree{dir: filepath.Join(dir, treeName(buildVersion())), fill: unpackPython}
	if err := t.ensure(ctx); err != nil {
		return "", fmt.Errorf("embedded: %w", err)
	}
	return filepath.Join(t.dir, "bin", "python3"), nil
}

// buildVersion returns what identifies the distribution in this binary: the
// module's version, which stands for its contents. (They can't be reached from
// outside the module, so they can't be hashed here.) Where another module or a
// folder replaces it, that is returned too; a folder's contents may change
// without a trace, so who works on a distribution has to remove what was
// unpacked.
func buildVersion() (version, replacement string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return distributionVersion, ""
	}
	for _, dep := range info.Deps {
		if dep.Path != distributionModule {
			continue
		}
		if r := dep.Replace; r != nil {
			replacement = r.Path + " " + r.Version
		}
		return dep.Version, replacement
	}
	return distributionVersion, ""
}

var versionRE = regexp.MustCompile(`^v[0-9.]+-([0-9]+\.[0-9]+\.[0-9a-z]+)-`)

// treeName names the folder for a distribution. Platforms may share a home.
func treeName(version, replacement string) string {
	name := "unknown"
	if m := versionRE.FindStringSubmatch(version); m != nil {
		name = m[1]
	}
	id := sha256.Sum256(fmt.Appendf(nil, "%d %s/%s %s %s", layout, runtime.GOOS, runtime.GOARCH, version, replacement))
	return fmt.Sprintf("python-%s-%x", name, id[:6])
}

// unpackPython is the fill of the distribution's [tree].
func unpackPython(ctx context.Context, dir, final string, lock *os.File) error {
	if _, err := python.NewEmbeddedPythonWithTmpDir(dir, false); err != nil {
		return err
	}
	for _, sub := range []string{"bin", "lib"} {
		if err := linkDuplicates(filepath.Join(dir, sub)); err != nil {
			return err
		}
	}
	exe := filepath.Join(dir, "bin", "python3")
	if err := tryRun(ctx, exe); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return fmt.Errorf("the unpacked Python doesn't run (does the file system allow it, and is the C library the one it was built for?): %w", err)
	}
	compileStdlib(ctx, exe, dir, final, lock)
	return ctx.Err()
}

// linkDuplicates makes symbolic links of the large files in dir that are copies
// of another one there, which keeps the longest name: the distribution has
// python, python3 and python3.14 as links, but they come out as copies of
// 29 MB each. Where there are no symbolic links, copies do.
func linkDuplicates(dir string) error {
	const large = 1 << 20
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	bySize := make(map[int64][]string)
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			return err
		}
		if info.Mode().IsRegular() && info.Size() > large {
			bySize[info.Size()] = append(bySize[info.Size()], f.Name())
		}
	}
	for _, names := range bySize {
		if len(names) < 2 {
			continue
		}
		keep := names[0]
		for _, name := range names {
			if len(name) > len(keep) {
				keep = name
			}
		}
		kept, err := os.ReadFile(filepath.Join(dir, keep))
		if err != nil {
			return err
		}
		for _, name := range names {
			if name == keep {
				continue
			}
			path := filepath.Join(dir, name)
			if data, err := os.ReadFile(path); err != nil {
				return err
			} else if !bytes.Equal(data, kept) {
				continue
			}
			link := path + ".link"
			if err := os.Symlink(keep, link); err != nil {
				return nil
			}
			if err := os.Rename(link, path); err != nil {
				return err
			}
		}
	}
	return nil
}

// tryRun starts the interpreter and ends it. A process forked elsewhere in this
// program while the executable was being written holds it open for writing until
// its own exec, and until then running it fails with ETXTBSY.
func tryRun(ctx context.Context, exe string) error {
	for wait := time.Millisecond; ; wait *= 2 {
		err := run(ctx, nil, exe, "-I", "-B", "-c", "import zlib")
		if !errors.Is(err, syscall.ETXTBSY) || wait > time.Second {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// compileStdlib writes bytecode for the standard library: about two seconds,
// for imports that take a quarter of the time from then on. The bytecode is
// marked as valid without a look at its source, which can't have changed while
// the folder passes its check: so Python has no reason to rewrite it. Failure is
// no error, since Python runs without.
func compileStdlib(ctx context.Context, exe, dir, final string, lock *os.File) {
	libs, _ := fs.Glob(os.DirFS(dir), "lib/python3*")
	if len(libs) != 1 {
		return
	}
	// Several processes need semaphores and sockets, which a sandbox may lack.
	for _, jobs := range []int{min(runtime.NumCPU(), 4), 1} {
		// -B and -f: what this Python imports for itself would be written the
		// ordinary way, and then count as done.
		err := run(ctx, lock, exe, "-I", "-B", "-m", "compileall", "-q", "-f",
			"-j", strconv.Itoa(jobs),
			"--invalidation-mode", "unchecked-hash",
			"-s", dir, "-p", final,
			filepath.Join(dir, libs[0]))
		if err == nil || ctx.Err() != nil {
			return
		}
	}
}
