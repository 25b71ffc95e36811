package site

import (
	"fmt"
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
	folder := http.Dir(static)
	files := http.FileServer(folder)
	mux.Handle("GET /static/", http.StripPrefix("/static", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=3600")
		if tag := etag(folder, r.URL.Path); tag != "" {
			w.Header().Set("ETag", tag)
		}
		files.ServeHTTP(w, r)
	})))
	mux.Handle("/", limit(app))
	return gzhttp.GzipHandler(mux)
}

// etag is what tells one version of a file from another. http.FileServer sends none
// of its own; this one is made as nginx makes it.
func etag(folder http.FileSystem, name string) string {
	f, err := folder.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return ""
	}
	return fmt.Sprintf(`"%x-%x"`, info.ModTime().Unix(), info.Size())
}

// limit answers 413 before the application is asked, where the request says that it
// is larger. One that doesn't say is cut off: the application's read raises, of which
// Flask makes a 500.
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
