package embedded

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// A manifest lists the files of a folder as they should be. Folders aren't
// listed, their files imply them.
type manifest struct {
	Files []entry `json:"files"`
}

// An entry is one file or symbolic link.
type entry struct {
	Name string      `json:"name"` // relative to the folder
	Size int64       `json:"size,omitempty"`
	Mode fs.FileMode `json:"mode,omitempty"` // permissions
	CRC  uint32      `json:"crc,omitempty"`  // CRC-32C of the contents, set by seal
	Link string      `json:"link,omitempty"` // the target, if it is a link
}

// stamp is the time of modification of every sealed file. Since it is long past,
// whatever is written later has another, even by a coarse clock; since it is in
// whole and even seconds, archives, image layers and simple file systems keep it.
var stamp = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// castagnoli is the CRC that processors have an instruction for. It is to find
// accidents: who can change a file here can change the manifest as well.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// listFiles returns a manifest of what is in dir now, without checksums, but
// for what skip names. A skipped folder is skipped with all that is in it.
func listFiles(dir string, skip func(name string) bool) (manifest, error) {
	var m manifest
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if name != "." && skip(name) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		e := entry{Name: name}
		switch {
		case info.Mode().IsRegular():
			e.Size, e.Mode = info.Size(), info.Mode().Perm()
		case info.Mode().Type() == fs.ModeSymlink:
			if e.Link, err = os.Readlink(path); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%s is neither a file nor a link", path)
		}
		m.Files = append(m.Files, e)
		return nil
	})
	return m, err
}

// seal makes m fit for a deep check: it adds checksums, gives every file the
// time stamp and forces it to disk.
func (m *manifest) seal(dir string) error {
	var g errgroup.Group
	g.SetLimit(16) // waiting for the disk more than working
	for i := range m.Files {
		e := &m.Files[i]
		if e.Link != "" {
			continue
		}
		g.Go(func() error {
			path := filepath.Join(dir, e.Name)
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			if e.CRC, err = checksum(f); err != nil {
				return err
			}
			if err := os.Chtimes(path, stamp, stamp); err != nil {
				return err
			}
			return f.Sync()
		})
	}
	return g.Wait()
}

// check compares dir with m and returns the first difference found as an error.
// Files that m doesn't list are ignored. A deep check needs a sealed manifest
// and looks at contents too, as far as [PythonIn] promises.
func (m *manifest) check(dir string, deep bool) error {
	var g errgroup.Group
	g.SetLimit(max(2, runtime.GOMAXPROCS(0)))
	var rest []entry
	for _, e := range m.Files {
		// The large ones keep one processor busy while another looks at the rest.
		if deep && e.Link == "" && critical(e.Name) {
			g.Go(func() error { return e.check(dir, true) })
		} else {
			rest = append(rest, e)
		}
	}
	const chunk = 256
	for len(rest) > 0 {
		n := min(chunk, len(rest))
		some := rest[:n]
		rest = rest[n:]
		g.Go(func() error {
			for _, e := range some {
				if err := e.check(dir, deep); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// critical reports whether a file's contents are always part of a deep check:
// the executable and the library, which would crash the process rather than
// raise an error.
func critical(name string) bool {
	return strings.HasPrefix(name, filepath.Join("bin", "python")) ||
		strings.HasPrefix(name, filepath.Join("lib", "libpython"))
}

// check compares one file with its entry.
func (e *entry) check(dir string, deep bool) error {
	path := filepath.Join(dir, e.Name)
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if e.Link != "" {
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		if target != e.Link {
			return fmt.Errorf("%s is a link to %s, not %s", path, target, e.Link)
		}
		return nil
	}
	const needed = 0o500 // the owner's right to read and execute
	switch {
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", path)
	case info.Size() != e.Size:
		return fmt.Errorf("%s has %d bytes, not %d", path, info.Size(), e.Size)
	case e.Mode&needed&^info.Mode() != 0:
		return fmt.Errorf("%s has permissions %v, not %v", path, info.Mode().Perm(), e.Mode)
	}
	stamped := info.ModTime().Equal(stamp)
	if !deep || stamped && !critical(e.Name) {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	sum, err := checksum(f)
	if err != nil {
		return err
	}
	if sum != e.CRC {
		return fmt.Errorf("%s has other contents than were unpacked", path)
	}
	if !stamped {
		// Copied here by something that doesn't keep times. Where this fails,
		// later checks just take longer.
		_ = os.Chtimes(path, stamp, stamp)
	}
	return nil
}

func checksum(f *os.File) (uint32, error) {
	h := crc32.New(castagnoli)
	_, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{f}, make([]byte, 256<<10))
	return h.Sum32(), err
}

// writeJSON writes v to a file, so that it is there as a whole or not at all.
func writeJSON(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	tmp := path + ".tmp"
	f, err := os.Create(tmp)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
	}
	return err
}

// readJSON reads what writeJSON wrote.
func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
