package wsgi_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/seed-a2d07992/wsgi/pool"
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

// BenchmarkHandoff is a request without HTTP: from Go to a worker and back, with
// no environ but what every request has, and an application that does nothing.
func BenchmarkHandoff(b *testing.B) {
	_, file := writeApp(b, "def application(environ, start_response):\n    start_response('200 OK', [])\n    return ()\n")
	p, err := pool.New(pool.Config{Module: file, Callable: "application", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	b.ReportAllocs()
	for b.Loop() {
		call, err := p.Get()
		if err != nil {
			b.Fatal(err)
		}
		call.Configure(0, false, false)
		if err := call.Start(); err != nil {
			b.Fatal(err)
		}
		for {
			over := call.Over()
			for record, ok := call.Next(); ok; record, ok = call.Next() {
				call.Take(record)
			}
			if over {
				break
			}
			if err := call.Wait(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		call.Release()
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
