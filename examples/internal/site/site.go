// Package site is the small site that the examples routers, frontend and nginx
// serve: a Flask application, and a folder of static files.
package site

import (
	"context"
	"embed"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/seed-a2d07992/wsgi"
	"github.com/seed-a2d07992/wsgi/examples/internal/flaskvenv"
)

//go:embed app/notebook.py static
var files embed.FS

// Start writes the application and the static files into dir and starts the
// application. At the first start Flask is installed from PyPI into a virtual
// environment in the user's cache folder.
func Start(ctx context.Context, dir string, opts ...wsgi.Option) (*wsgi.App, error) {
	python, err := flaskvenv.Python(ctx)
	if err != nil {
		return nil, err
	}
	for _, folder := range []string{"app", "static"} {
		source, err := fs.Sub(files, folder)
		if err != nil {
			return nil, err
		}
		if err := os.CopyFS(filepath.Join(dir, folder), source); err != nil {
			return nil, err
		}
	}
	return wsgi.New(filepath.Join(dir, "app", "notebook.py"), "application", append([]wsgi.Option{wsgi.WithPython(python)}, opts...)...)
}

// Static is the folder of static files that Start has written.
func Static(dir string) string { return filepath.Join(dir, "static") }
