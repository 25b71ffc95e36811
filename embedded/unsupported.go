//go:build !((linux || darwin) && (amd64 || arm64))

package embedded

import (
	"context"
	"errors"
	"fmt"
	"runtime"
)

// The module with the distributions doesn't compile where it has none, so this
// file stands in for everything that imports it.

func pythonIn(context.Context, string) (string, error) {
	return "", fmt.Errorf("embedded: no Python for %s/%s: %w", runtime.GOOS, runtime.GOARCH, errors.ErrUnsupported)
}

func venvIn(ctx context.Context, cache, _ string, _ []string) (string, error) {
	return pythonIn(ctx, cache)
}
