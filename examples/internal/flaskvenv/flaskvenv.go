// Package flaskvenv is the virtual environment of the examples that serve Flask.
package flaskvenv

import (
	"context"
	_ "embed"
	"os"
	"path/filepath"
	"strings"

	"github.com/seed-a2d07992/wsgi/embedded"
)

//go:embed requirements.txt
var requirements string

// Python returns the interpreter of a virtual environment with Flask in it, on the
// embedded CPython. The first call installs Flask from PyPI, into the user's cache
// folder; later ones find it there.
func Python(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return embedded.Venv(ctx, filepath.Join(cache, "go-wsgi-flask-example"), packages()...)
}

// packages returns the requirements, without the comments.
func packages() []string {
	var list []string
	for line := range strings.Lines(requirements) {
		name, _, _ := strings.Cut(line, "#")
		if name = strings.TrimSpace(name); name != "" {
			list = append(list, name)
		}
	}
	return list
}
