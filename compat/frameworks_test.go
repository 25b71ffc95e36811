package compat

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-a2d07992/wsgi"
)

// A framework is one that has an application in apps, in the module that is
// named for it.
type framework struct {
	name     string
	notFound string   // in its page for a path that it doesn't know
	compiled bool     // parts of it are extension modules that only Main takes
	lacks    []string // the rules that it has nothing for, by their names
}

var frameworks = []framework{
	{name: "flask", notFound: "The requested URL was not found on the server."},
	// It knows no bodies without a Content-Length, and no ranges.
	{name: "django", notFound: "The requested resource was not found on this server.",
		lacks: []string{"upload in chunks", "ranges", "not modified"}},
	// A method that no view is for is a path that isn't found.
	{name: "pyramid", compiled: true, notFound: "The resource could not be found.",
		lacks: []string{"method not allowed", "async view"}},
	{name: "bottle", notFound: "Not found: ", lacks: []string{"upload in chunks", "async view"}},
	{name: "falcon", compiled: true, notFound: "404 Not Found", lacks: []string{"sessions", "upload in chunks", "async view"}},
	{name: "webob", notFound: "The resource could not be found.", lacks: []string{"async view"}},
	{name: "werkzeug", notFound: "The requested URL was not found on the server.", lacks: []string{"sessions", "async view"}},
}

// downloaded is the contents of the file that is downloaded.
var downloaded = noise(1<<20+11, 1)

// TestFrameworks holds each of them to the same rules, at the root and under a
// prefix that Go takes off.
func TestFrameworks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file.bin")
	if err := os.WriteFile(file, downloaded, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range frameworks {
		t.Run(f.name, func(t *testing.T) { testFramework(t, f, file) })
		if f.compiled {
			t.Run(f.name+" in the main interpreter", func(t *testing.T) { testFramework(t, f, file, wsgi.WithIsolation(wsgi.Main)) })
		}
	}
}

func testFramework(t *testing.T, f framework, file string, opts ...wsgi.Option) {
	app, records := newApp(t, f.name+"_app", "application",
		append(opts, wsgi.WithEnv(map[string]string{"COMPAT_FILE": file}), wsgi.WithTrustedProxies("127.0.0.1"))...)
	if got := app.Stats().Isolation; len(opts) == 0 && got != wsgi.OwnGIL {
		t.Errorf("by default it runs under %v", got)
	}
	skips := f.compiled && len(opts) == 0
	if said := records.take(); skips != strings.Contains(said, "loaded although an extension module refused") || !skips && said != "" {
		t.Errorf("its start has logged %q", said)
	}
	mux := http.NewServeMux()
	mux.Handle("/", app)
	mux.Handle("/shop/", http.StripPrefix("/shop", app))
	mux.Handle("/sized/", http.StripPrefix("/sized", sized(app)))
	server := serve(t, mux)
	if slices.Contains(f.lacks, "upload in chunks") {
		t.Run("upload in chunks that Go has put together", func(t *testing.T) {
			uploadRule(t, &mount{newClient(t, server.URL+"/sized"), f, "/sized", records}, true)
		})
	}
	for _, prefix := range []string{"", "/shop"} {
		t.Run("at "+prefix+"/", func(t *testing.T) {
			for _, rule := range rules {
				if slices.Contains(f.lacks, rule.name) {
					continue
				}
				t.Run(rule.name, func(t *testing.T) {
					rule.test(t, &mount{newClient(t, server.URL+prefix), f, prefix, records})
					if said := records.take(); said != "" {
						t.Errorf("it has logged %s", said)
					}
				})
			}
			t.Run("what its test client sees", func(t *testing.T) {
				compareWithTestClient(t, newClient(t, server.URL+prefix), f.name, prefix, file)
				if said := records.take(); strings.Contains(said, "Traceback") {
					t.Errorf("it has logged %s", said)
				}
			})
		})
	}
}

// sized is what docs/frameworks.md offers to frameworks that take a body without
// a Content-Length for an empty one.
func sized(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength < 0 {
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 10<<20))
			if err != nil {
				http.Error(w, "The request is too large, or cut short.", http.StatusRequestEntityTooLarge)
				return
			}
			r = r.Clone(r.Context())
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		}
		h.ServeHTTP(w, r)
	})
}
