package cpython

import (
	"hash/maphash"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// found is what Find has found in this process.
var found installationCache

// maxFound bounds the cache. A process uses one Python, seldom two; a test may
// run through many environments.
const maxFound = 64

type installationCache struct {
	mu      sync.Mutex
	entries map[installationKey]*cachedInstallation
}

// An installationKey is what an interpreter's answer depends on, its files
// aside.
type installationKey struct {
	path, dir string
	env       uint64
}

var envSeed = maphash.MakeSeed()

type cachedInstallation struct {
	mu    sync.Mutex // held while the interpreter runs: others wait for its answer
	inst  *Installation
	files []fileStamp
}

// get returns the installation of the interpreter at path from the cache, or
// asks it.
func (c *installationCache) get(path, how string) (*Installation, error) {
	key := installationKey{path: path, env: maphash.String(envSeed, strings.Join(os.Environ(), "\x00"))}
	key.dir, _ = os.Getwd()

	c.mu.Lock()
	e := c.entries[key]
	if e == nil {
		if c.entries == nil || len(c.entries) >= maxFound {
			c.entries = make(map[installationKey]*cachedInstallation)
		}
		e = new(cachedInstallation)
		c.entries[key] = e
	}
	c.mu.Unlock()

	e.mu.Lock()
	defer e.mu.Unlock()
	if e.inst == nil || slices.ContainsFunc(e.files, fileStamp.changed) {
		e.inst = nil
		// Stamped before it runs: a file replaced meanwhile counts as changed.
		ran := stamp(path)
		inst, err := inspect(path, how)
		if err != nil {
			return nil, err
		}
		e.inst, e.files = inst, []fileStamp{ran}
		for _, name := range append([]string{
			inst.Executable, inst.Library, filepath.Join(inst.Prefix, "pyvenv.cfg"),
		}, inst.Path...) {
			e.files = append(e.files, stamp(name))
		}
	}
	inst := *e.inst
	inst.Path = slices.Clone(inst.Path)
	inst.StdlibPath = slices.Clone(inst.StdlibPath)
	inst.SiteDirs = slices.Clone(inst.SiteDirs)
	return &inst, nil
}

// A fileStamp tells whether a file, or a directory's list of files, is still
// what it was. The file needn't exist: appearing is a change.
type fileStamp struct {
	name string
	info fs.FileInfo // nil where there was none
}

func stamp(name string) fileStamp {
	info, _ := os.Stat(name)
	return fileStamp{name, info}
}

func (s fileStamp) changed() bool {
	now, _ := os.Stat(s.name)
	if s.info == nil || now == nil {
		return s.info != now
	}
	return !os.SameFile(s.info, now) || s.info.Size() != now.Size() || !s.info.ModTime().Equal(now.ModTime())
}
