//go:build (linux || darwin) && (amd64 || arm64)

package embedded

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"
)

// lockFile takes an exclusive lock on the file at path, creating it. The lock
// holds between goroutines too, and lasts until the file is closed here and by
// every child that inherited it, however they end. The file stays: removing it
// would let two processes hold locks on two files of that name.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o644)
	if err != nil {
		return nil, err
	}
	// A blocking flock can't be cancelled, and others hold the lock for seconds.
	const retry = 20 * time.Millisecond
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, syscall.EINTR):
			continue
		case !errors.Is(err, syscall.EWOULDBLOCK):
			f.Close()
			return nil, &os.PathError{Op: "lock", Path: path, Err: err}
		}
		select {
		case <-time.After(retry):
		case <-ctx.Done():
			f.Close()
			return nil, &os.PathError{Op: "lock", Path: path, Err: ctx.Err()}
		}
	}
}
