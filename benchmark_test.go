package wsgi_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// smallest is the smallest application there is.
const smallest = `
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [b"Hello, world!\n"]
`

// discard is a ResponseWriter that allocates nothing, so that what a benchmark
// counts is the handler's.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}
func (d discard) Flush()                      {}

// BenchmarkHandler is a whole request, in the process: environ, handoff,
// application, response. What net/http adds is left out.
func BenchmarkHandler(b *testing.B) {
	app, _, _ := newApp(b, smallest)
	r := httptest.NewRequest("GET", "/?q=1", nil)
	r.Header.Set("User-Agent", "benchmark")
	r.Header.Set("Accept", "*/*")
	w := discard{header: make(http.Header)}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		app.ServeHTTP(w, r)
	}
}

// BenchmarkHandlerParallel is the same with several requests at once.
func BenchmarkHandlerParallel(b *testing.B) {
	app, _, _ := newApp(b, smallest)
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		r := httptest.NewRequest("GET", "/?q=1", nil)
		r.Header.Set("User-Agent", "benchmark")
		r.Header.Set("Accept", "*/*")
		w := discard{header: make(http.Header)}
		for pb.Next() {
			clear(w.header)
			app.ServeHTTP(w, r)
		}
	})
}
