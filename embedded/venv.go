//go:build (linux || darwin) && (amd64 || arm64)

package embedded

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kluctl/go-embed-python/pip"
)

const (
	// venvLock is the first file in a venv's folder, and so the sign that the
	// folder is ours.
	venvLock = ".go-wsgi.lock"

	// venvRecord is the last one, and so the sign that the venv is complete.
	venvRecord = ".go-wsgi.json"

	// venvOld holds an earlier venv while a new one is made.
	venvOld = ".go-wsgi.old"

	// venvPip is where pip is unpacked.
	venvPip = ".go-wsgi.pip"
)

// venvOwn are the names that a venv consists of. What else is in its folder is
// somebody else's. The record leads: without it the others count for nothing.
var venvOwn = []string{venvRecord, ".gitignore", "pyvenv.cfg", "bin", "include", "lib", "lib64"}

// A recipe is what a venv is made from.
type recipe struct {
	Python       string            `json:"python"`
	Requirements []string          `json:"requirements"`
	Files        map[string]string `json:"files"` // requirements files: path to SHA-256
}

// A record is what a venv was made from and what it came to.
type record struct {
	Recipe   recipe   `json:"recipe"`
	Manifest manifest `json:"manifest"`
}

// equal compares recipes.
func (r recipe) equal(o recipe) bool {
	return r.Python == o.Python && slices.Equal(r.Requirements, o.Requirements) && maps.Equal(r.Files, o.Files)
}

// venvIn is [VenvIn].
func venvIn(ctx context.Context, cache, dir string, requirements []string) (string, error) {
	if dir == "" {
		return "", errors.New("embedded: no folder named for the virtual environment")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("embedded: %w", err)
	}
	python, err := pythonIn(ctx, cache)
	if err != nil {
		return "", err
	}
	if err := ensureVenv(ctx, dir, python, requirements); err != nil {
		return "", fmt.Errorf("embedded: virtual environment %s: %w", dir, err)
	}
	return filepath.Join(dir, "bin", "python"), nil
}

// ensureVenv makes the venv unless it is there and intact.
func ensureVenv(ctx context.Context, dir, python string, requirements []string) error {
	want := recipe{Python: python, Requirements: requirements, Files: make(map[string]string)}
	for _, path := range requirementFiles(requirements) {
		want.addFile(path)
	}
	if checkVenv(dir, want) == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	ours := func(e os.DirEntry) bool { return e.Name() == venvLock }
	if len(names) > 0 && !slices.ContainsFunc(names, ours) {
		return errors.New("the folder is there and wasn't made by this package: remove it, or name another")
	}
	lock, err := lockFile(ctx, filepath.Join(dir, venvLock))
	if err != nil {
		return err
	}
	defer lock.Close()
	if checkVenv(dir, want) == nil { // who held the lock made it
		return nil
	}
	return makeVenv(ctx, dir, want, lock)
}

// checkVenv returns what keeps the venv from being the one that is wanted.
func checkVenv(dir string, want recipe) error {
	var have record
	if err := readJSON(filepath.Join(dir, venvRecord), &have); err != nil {
		return err
	}
	if !have.Recipe.equal(want) {
		return errors.New("made from something else")
	}
	return have.Manifest.check(dir, false)
}

// makeVenv makes the venv. An earlier one is kept until that has succeeded: a
// venv works only at the path where it was made, so the new one can't be made
// elsewhere and moved here.
func makeVenv(ctx context.Context, dir string, want recipe, lock *os.File) (err error) {
	old := filepath.Join(dir, venvOld)
	if err := os.RemoveAll(old); err != nil {
		return err
	}
	_, none := os.Stat(filepath.Join(dir, venvRecord))
	if none != nil { // nothing, or something unfinished
		err = removeVenv(dir)
	} else if err = os.Mkdir(old, 0o755); err == nil {
		err = moveVenv(dir, old, venvOwn)
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			if rerr := restoreVenv(dir, old); rerr != nil {
				err = fmt.Errorf("%w (and the earlier one is in %s: %v)", err, old, rerr)
				return
			}
		}
		_ = os.RemoveAll(old)
	}()

	if err := run(ctx, lock, want.Python, "-I", "-m", "venv", "--without-pip", dir); err != nil {
		return fmt.Errorf("python -m venv: %w", err)
	}
	if err := addPip(dir); err != nil {
		return fmt.Errorf("adding pip: %w", err)
	}
	if len(want.Requirements) > 0 {
		args := append([]string{"-I", "-m", "pip", "install",
			"--no-input", "--disable-pip-version-check", "--progress-bar", "off"}, want.Requirements...)
		if err := run(ctx, lock, filepath.Join(dir, "bin", "python"), args...); err != nil {
			return fmt.Errorf("pip install: %w", err)
		}
	}
	m, err := listFiles(dir, func(name string) bool {
		top, _, _ := strings.Cut(name, string(filepath.Separator))
		return !slices.Contains(venvOwn, top) || filepath.Base(name) == "__pycache__"
	})
	if err != nil {
		return err
	}
	return writeJSON(filepath.Join(dir, venvRecord), record{want, m})
}

// moveVenv moves what there is of the given names.
func moveVenv(from, to string, names []string) error {
	for _, name := range names {
		err := os.Rename(filepath.Join(from, name), filepath.Join(to, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// restoreVenv puts an earlier venv back.
func restoreVenv(dir, old string) error {
	if err := removeVenv(dir); err != nil {
		return err
	}
	names := slices.Clone(venvOwn)
	slices.Reverse(names) // the record comes last
	return moveVenv(old, dir, names)
}

// removeVenv removes what there is of a venv, but not its folder.
func removeVenv(dir string) error {
	for _, name := range append(slices.Clone(venvOwn), venvPip) {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// addPip puts pip into the venv's site-packages, where ensurepip would, which
// the distribution doesn't have.
func addPip(dir string) error {
	sites, err := fs.Glob(os.DirFS(dir), "lib/python3*/site-packages")
	if err != nil || len(sites) != 1 {
		return fmt.Errorf("%d site-packages folders", len(sites))
	}
	site := filepath.Join(dir, sites[0])
	unpacked := filepath.Join(dir, venvPip)
	defer os.RemoveAll(unpacked)
	lib, err := unpackPip(unpacked)
	if err != nil {
		return err
	}
	names, err := os.ReadDir(lib)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name.Name() == "bin" { // scripts for another interpreter's path
			continue
		}
		if err := os.Rename(filepath.Join(lib, name.Name()), filepath.Join(site, name.Name())); err != nil {
			return err
		}
	}
	return nil
}

// unpackPip unpacks pip into a folder inside dir and returns that folder.
func unpackPip(dir string) (string, error) {
	// NewPipLib takes a name, puts "go-embedded-pip-" before and a hash behind
	// it, and unpacks there in the temporary folder, where others may write. A
	// name that climbs out of it leads to a folder of our own.
	tmp, err := filepath.Abs(os.TempDir())
	if err != nil {
		return "", err
	}
	rel, err := filepath.Rel(tmp, filepath.Join(dir, "pip"))
	if err != nil {
		return "", err
	}
	lib, err := pip.NewPipLib(filepath.FromSlash("x/../") + rel)
	if err != nil {
		return "", err
	}
	got, err := filepath.Abs(lib.GetExtractedPath())
	if err != nil {
		return "", err
	}
	if filepath.Dir(got) != dir {
		return "", fmt.Errorf("pip was unpacked into %s, not into %s", got, dir)
	}
	return got, nil
}

// addFile adds the contents of a requirements file and of those it includes. One
// that can't be read counts as empty: pip will complain, in its own words.
func (r *recipe) addFile(path string) {
	if strings.Contains(path, "://") {
		return // pip's to fetch
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return
	}
	if _, ok := r.Files[path]; ok {
		return
	}
	data, _ := os.ReadFile(path)
	sum := sha256.Sum256(data)
	r.Files[path] = hex.EncodeToString(sum[:])
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0][0] != '-' {
			continue
		}
		for _, included := range requirementFiles(fields) {
			if !filepath.IsAbs(included) && !strings.Contains(included, "://") {
				included = filepath.Join(filepath.Dir(path), included)
			}
			r.addFile(included)
		}
	}
}

// requirementFiles returns the files that pip's arguments name with -r and -c.
func requirementFiles(args []string) []string {
	var files []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "-r", arg == "--requirement", arg == "-c", arg == "--constraint":
			if i++; i < len(args) {
				files = append(files, args[i])
			}
		case strings.HasPrefix(arg, "--requirement="), strings.HasPrefix(arg, "--constraint="):
			_, file, _ := strings.Cut(arg, "=")
			files = append(files, file)
		case strings.HasPrefix(arg, "-r"), strings.HasPrefix(arg, "-c"):
			files = append(files, arg[2:])
		}
	}
	return files
}
