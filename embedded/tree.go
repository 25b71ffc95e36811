//go:build (linux || darwin) && (amd64 || arm64)

package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// manifestName is a tree's manifest, inside its folder.
const manifestName = "go-wsgi.manifest.json"

// A tree is a folder of files that is made once and then only read.
type tree struct {
	dir string // absolute

	// fill makes the folder dir and puts the files into it. They will be moved
	// to final. Children that write there should inherit lock.
	fill func(ctx context.Context, dir, final string, lock *os.File) error
}

// ensure makes the tree unless it is there and intact.
//
// It is made in a folder beside it, under a lock, and then moved to its place by
// one rename, so it is there as a whole or not at all; and so is a replacement.
// Readers need no lock.
func (t tree) ensure(ctx context.Context) error {
	if t.check() == nil {
		return nil
	}
	parent := filepath.Dir(t.dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return t.wrap(err)
	}
	lock, err := lockFile(ctx, t.dir+".lock")
	if err != nil {
		return t.wrap(err)
	}
	defer lock.Close()
	if t.check() == nil { // who held the lock made it
		return nil
	}

	// Whatever an earlier attempt left behind is nobody's under the lock.
	prefix := "." + filepath.Base(t.dir) + "-"
	names, err := os.ReadDir(parent)
	if err != nil {
		return t.wrap(err)
	}
	for _, name := range names {
		if strings.HasPrefix(name.Name(), prefix) {
			_ = os.RemoveAll(filepath.Join(parent, name.Name()))
		}
	}
	staging, err := os.MkdirTemp(parent, prefix)
	if err != nil {
		return t.wrap(err)
	}
	defer os.RemoveAll(staging)
	fresh := filepath.Join(staging, "new")
	if err := t.fill(ctx, fresh, t.dir, lock); err != nil {
		return t.wrap(err)
	}
	m, err := listFiles(fresh, func(string) bool { return false })
	if err == nil {
		err = m.seal(fresh)
	}
	if err == nil {
		err = writeJSON(filepath.Join(fresh, manifestName), m)
	}
	if err == nil {
		err = replace(fresh, t.dir, filepath.Join(staging, "old"), exchange)
	}
	if err != nil {
		return t.wrap(err)
	}
	syncDir(parent)
	return nil
}

// check returns what is wrong with the tree.
func (t tree) check() error {
	var m manifest
	if err := readJSON(filepath.Join(t.dir, manifestName), &m); err != nil {
		return err
	}
	if len(m.Files) == 0 {
		return errors.New("the manifest is empty")
	}
	return m.check(t.dir, true)
}

// wrap says what err prevented.
func (t tree) wrap(err error) error {
	if _, serr := os.Lstat(t.dir); errors.Is(serr, fs.ErrNotExist) {
		return fmt.Errorf("can't unpack Python into %s: %w", t.dir, err)
	}
	return fmt.Errorf("%s is damaged (%v) and can't be replaced: %w", t.dir, t.check(), err)
}

// replace moves the folder fresh to dir. What is there is not touched itself, a
// process may be running from it, but ends up as fresh or aside. exchange swaps
// two names in one step, or fails.
func replace(fresh, dir, aside string, exchange func(a, b string) error) error {
	err := os.Rename(fresh, dir)
	if err == nil { // there was nothing, or an empty folder
		return nil
	}
	if _, serr := os.Lstat(dir); serr != nil {
		return err
	}
	if exchange(fresh, dir) == nil {
		return nil
	}
	// Not every file system can. Between these two there is no dir.
	if err := os.Rename(dir, aside); err != nil {
		return err
	}
	if err := os.Rename(fresh, dir); err != nil {
		_ = os.Rename(aside, dir)
		return err
	}
	return nil
}

// syncDir forces a folder's list of names to disk, if it can: what is lost is
// made again.
func syncDir(dir string) {
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync()
		d.Close()
	}
}
