// Package embedded carries a complete CPython inside the Go binary, so that a
// service with a WSGI application in it runs on machines that have no Python:
//
//	python, err := embedded.Python()
//	if err != nil {
//		log.Fatal(err)
//	}
//	app, err := wsgi.New("shop.wsgi", "application", wsgi.WithPython(python))
//
// The distribution is CPython 3.14.6 with its standard library, libpython, ssl
// and sqlite3, as packed by github.com/kluctl/go-embed-python; that module's
// version in the build chooses the Python. It adds about 34 MB to the binary,
// and 5 MB more (pip) where [Venv] is used.
//
// A shared library can't be loaded out of a binary, so the distribution is
// unpacked, once, into a folder: see [Python] and [PythonIn]. An application's
// own packages belong in a virtual environment: see [Venv]. The command
// embedded-python, in cmd, does both from a shell.
//
// Linux and macOS on amd64 and arm64 are supported (the Linux distribution
// needs glibc). On every other platform the package compiles and its functions
// return an error that wraps [errors.ErrUnsupported].
package embedded

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// Python unpacks the distribution into the user's cache folder, if it isn't
// there yet, and returns the absolute path of its bin/python3. It is [PythonIn]
// with the folder go-wsgi inside [os.UserCacheDir]: $XDG_CACHE_HOME or
// ~/.cache on Linux, ~/Library/Caches on macOS.
//
// Where there is no such folder (a service started without HOME, say) that is
// an error. There is no fallback to a temporary folder: others may write there,
// and what is unpacked gets executed. Set XDG_CACHE_HOME, or use PythonIn.
func Python() (string, error) {
	dir, err := cacheDir()
	if err != nil {
		return "", err
	}
	return PythonIn(dir)
}

// PythonIn unpacks the distribution into a folder inside dir, if it isn't there
// yet, and returns the absolute path of its bin/python3, fit for
// wsgi.WithPython, for exec and for making virtual environments. The interpreter
// finds its library by itself: no PYTHONHOME has to be set.
//
// dir is created as needed. The folder inside is named for Python's version and
// a hash of the platform and the distribution's version (as in
// python-3.14.6-0123456789ab), so several versions and several programs share
// one dir; old ones are never removed. It takes about 80 MB, and twice that while
// it is made. Only users who may decide what this program runs should be able to
// write to dir.
//
// The first call takes a few seconds, of which a part goes into compiling the
// standard library to bytecode: imports are several times quicker for it, also
// where bytecode can't be written later (a read-only dir,
// PYTHONDONTWRITEBYTECODE). Where compiling fails, Python is used without.
//
// Later calls, in this process or another, only check what is there, which
// takes some 15 ms and writes nothing, so dir may be read-only by then: fill it
// while building an image, for instance. Checked are: every file's presence,
// kind, size and time of modification, and the contents of the executable and
// of libpython; contents of any other file if its time of modification isn't
// the one it was given when unpacked (if the contents are right, the time is
// put right too). So what is missing, cut short or overwritten is found,
// whichever way an unpacking or a repair was interrupted; what escapes is a
// change to a file of the standard library that keeps its size and restores its
// time. Files that don't belong to the distribution are ignored.
//
// A damaged folder is replaced as a whole by a newly unpacked one, and anything
// else put there (packages installed into it: use [Venv]) goes with it. Files
// are never overwritten in place, so processes that run from the damaged folder
// keep the library they have loaded.
//
// Any number of goroutines and processes may call it at once: one unpacks (it
// holds a lock on a file beside the folder), the others wait. An error says
// what failed and leaves nothing half done: dir can't be written to, the disk
// is full, the file system doesn't allow files to be executed or locked, the
// distribution doesn't run on this system.
func PythonIn(dir string) (string, error) {
	return pythonIn(context.Background(), dir)
}

// Venv makes a virtual environment in dir, on the Python that [Python] returns,
// with pip and the given packages in it, and returns the absolute path of its
// bin/python:
//
//	python, err := embedded.Venv(ctx, "venv", "flask==3.1.0")
//	python, err := embedded.Venv(ctx, "venv", "-r", "requirements.txt")
//
// It needs the distribution unpacked as long as it is used, and doesn't survive
// being moved.
//
// The requirements are arguments of "pip install", in pip's own syntax, each a
// string of its own. pip's configuration applies as usual (its files, PIP_*
// variables, the proxy), except for what would install elsewhere (PIP_TARGET,
// PIP_PREFIX, PIP_ROOT, PIP_USER, PIP_PYTHON); PYTHON* variables are not passed
// on. Relative paths are relative to the working directory. Without
// requirements pip isn't run and needs no network.
//
// What was made is recorded in dir. A later call with the same requirements, the
// same contents of the files they name with -r and -c (and of those that these
// include), and the same Python finds the environment intact, that is each of
// its files in place and of the recorded size, and does nothing. Otherwise it is
// made anew, from nothing: after an interruption, after damage, and after an
// upgrade of one of its packages by other means. Changes to a package installed
// from a local folder ("./shop") are not noticed, and neither are newer releases
// that would now meet the requirements: remove dir to start over. While an
// environment is made anew, processes that run from it may fail to import what
// they haven't yet imported.
//
// dir is created as needed. If it exists and is neither empty nor the work of an
// earlier call, that is an error and nothing is touched. In a folder that is,
// files beside the environment's own (bin, include, lib, lib64, pyvenv.cfg and
// a .gitignore that ignores them all) are left alone.
//
// When pip fails, the error holds the end of its output, and an earlier
// environment in dir stays as it was, or else nothing of a new one. The same
// goes for ctx: when it is done, pip is interrupted, and after five seconds
// killed. Calls for the same dir wait for each other.
func Venv(ctx context.Context, dir string, requirements ...string) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	return VenvIn(ctx, cache, dir, requirements...)
}

// VenvIn is [Venv] on the Python that PythonIn(cache) returns.
func VenvIn(ctx context.Context, cache, dir string, requirements ...string) (string, error) {
	return venvIn(ctx, cache, dir, requirements)
}

// cacheDir returns the folder that [Python] and [Venv] unpack into.
func cacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("embedded: no folder to unpack Python into: %w (set XDG_CACHE_HOME, or name a folder with PythonIn)", err)
	}
	return filepath.Join(dir, "go-wsgi"), nil
}
