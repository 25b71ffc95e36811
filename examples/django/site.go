package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/seed-a2d07992/wsgi"
	"github.com/seed-a2d07992/wsgi/embedded"
)

// Each pattern by itself: naming the folder would leave out __init__.py, and
// take in what Python has compiled.
//
//go:embed site/*.py site/config/*.py site/documents/*.py site/documents/migrations/*.py
//go:embed site/documents/templates site/documents/static
var sources embed.FS

//go:embed requirements.txt
var requirements string

// A site is the Django project with the Python that runs it.
type site struct {
	python string // of the virtual environment
	source string // the folder with manage.py
	data   string // the database, uploads, static files, the secret key
	env    map[string]string
}

// newSite makes the virtual environment, if there is none yet, and writes the
// project to the folder source.
func newSite(ctx context.Context, opts options, venv, source string) (*site, error) {
	data, err := filepath.Abs(opts.data)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	python, err := embedded.Venv(ctx, venv, strings.Fields(requirements)...)
	if err != nil {
		return nil, err
	}
	project, err := fs.Sub(sources, "site")
	if err != nil {
		return nil, err
	}
	if err := os.CopyFS(source, project); err != nil {
		return nil, err
	}
	key, err := secretKey(filepath.Join(data, "secret_key"))
	if err != nil {
		return nil, err
	}
	env := map[string]string{
		"DJANGO_SETTINGS_MODULE": "config.settings",
		"DJANGO_DATA":            data,
		"DJANGO_SECRET_KEY":      key,
		"DJANGO_ALLOWED_HOSTS":   opts.hosts,
	}
	if opts.cert != "" {
		env["DJANGO_HTTPS"] = "1"
	}
	if opts.debug {
		env["DJANGO_DEBUG"] = "1"
	}
	return &site{python, source, data, env}, nil
}

// secretKey returns Django's SECRET_KEY, which is made at the first start.
func secretKey(file string) (string, error) {
	key, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		key = []byte(rand.Text() + rand.Text())
		err = os.WriteFile(file, key, 0o600)
	}
	return string(key), err
}

// command returns a management command, to be run as it would be from a shell.
func (s *site) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.python, append([]string{filepath.Join(s.source, "manage.py")}, args...)...)
	cmd.Env = os.Environ()
	for name, value := range s.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// start brings the database and the static files up to date and starts the
// application. Both are done here, by a process of their own, since each
// interpreter loads the application: there they would be done several times at
// once.
func (s *site) start(ctx context.Context, more ...wsgi.Option) (*wsgi.App, *documents, error) {
	for _, args := range [][]string{{"migrate", "--noinput"}, {"collectstatic", "--noinput"}} {
		if out, err := s.command(ctx, args...).CombinedOutput(); err != nil {
			return nil, nil, errors.Join(ctx.Err(), fmt.Errorf("manage.py %s: %w\n%s", args[0], err, bytes.TrimSpace(out)))
		}
	}
	docs, err := openDocuments(ctx, filepath.Join(s.data, "documents.sqlite"))
	if err != nil {
		return nil, nil, err
	}
	app, err := wsgi.New("config.wsgi", "application", append(more,
		wsgi.WithPython(s.python),
		wsgi.WithPath(s.source),
		wsgi.WithEnv(s.env),
	)...)
	if err != nil {
		return nil, nil, errors.Join(err, docs.Close())
	}
	return app, docs, nil
}

// static returns the files that collectstatic has collected.
func (s *site) static() fs.FS {
	return os.DirFS(filepath.Join(s.data, "static"))
}
