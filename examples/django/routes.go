package main

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"regexp"
	"strings"

	"github.com/seed-a2d07992/wsgi"
)

// routes puts the application beside the Go routes.
func routes(app *wsgi.App, documents http.Handler, static fs.FS, maxUpload int64) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /api/documents", documents)
	mux.HandleFunc("GET /go/stats", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(app.Stats()) // the client may be gone
	})
	mux.Handle("GET /static/", http.StripPrefix("/static", staticFiles(static)))
	mux.Handle("/", limitBody(app, maxUpload))
	return mux
}

// limitBody answers 413 to requests that say that their body is larger, before
// Python sees them. Django reads the body in its CSRF check, and would take one
// that is cut short for one without a token.
func limitBody(h http.Handler, limit int64) http.Handler {
	cut := http.MaxBytesHandler(h, limit) // for those that don't say it
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > limit {
			http.Error(w, "The request is too large.", http.StatusRequestEntityTooLarge)
			return
		}
		cut.ServeHTTP(w, r)
	})
}

// hashed is a name that Django has given: it holds a hash of the contents.
var hashed = regexp.MustCompile(`\.[0-9a-f]{12}(\.[^./]+)?$`)

// staticFiles serves files, but no lists of them.
func staticFiles(files fs.FS) http.Handler {
	server := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/") {
			http.NotFound(w, r)
			return
		}
		if hashed.MatchString(r.URL.Path) {
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		server.ServeHTTP(w, r)
	})
}
