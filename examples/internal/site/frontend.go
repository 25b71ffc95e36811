package site

import (
	"net/http"

	"github.com/klauspost/compress/gzhttp"
)

// MaxBody is the size of a request's body, in bytes, up to which the site takes it.
const MaxBody = 8 << 20

// Frontend is what a web server does for an application, done by Go: static files
// below /static, with ranges, "not modified" and a time for which they may be kept;
// compression of what is worth it; a limit to the size of requests.
func Frontend(app http.Handler, static string) http.Handler {
	mux := http.NewServeMux()
	files := http.StripPrefix("/static", http.FileServer(http.Dir(static)))
	mux.HandleFunc("GET /static/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=3600")
		files.ServeHTTP(w, r)
	})
	mux.Handle("/", limit(app))
	return gzhttp.GzipHandler(mux)
}

// limit answers 413 before the application is asked, where the request says that it
// is larger; one that doesn't say is cut off.
func limit(next http.Handler) http.Handler {
	cut := http.MaxBytesHandler(next, MaxBody)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > MaxBody {
			http.Error(w, http.StatusText(http.StatusRequestEntityTooLarge), http.StatusRequestEntityTooLarge)
			return
		}
		cut.ServeHTTP(w, r)
	})
}
