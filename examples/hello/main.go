// Command hello mounts a small WSGI application, hello.py, beside a Go route:
//
//	cd examples/hello && go run .
//
// It needs no Python on the machine: the program carries one.
package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"
	"runtime"

	"github.com/seed-a2d07992/wsgi"
	"github.com/seed-a2d07992/wsgi/embedded"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "listen on `address`")
	file := flag.String("app", "hello.py", "serve the application in `file`")
	flag.Parse()
	app, err := start(*file)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("http://%s/ is Python and http://%[1]s/go is Go", *addr)
	log.Fatal(http.ListenAndServe(*addr, routes(app)))
}

// start starts the application on the Python that the program carries.
func start(file string) (*wsgi.App, error) {
	python, err := embedded.Python()
	if err != nil {
		return nil, err
	}
	return wsgi.New(file, "application", wsgi.WithPython(python))
}

// routes puts the application beside the Go route.
func routes(app http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /go", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "Hello from %s!\n", runtime.Version())
	})
	mux.Handle("/", app)
	return mux
}
