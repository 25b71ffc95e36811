// Command flask serves a Flask application, the package shop beside it, and two
// Go routes on one port:
//
//	go run ./examples/flask
//
// It is one binary, which carries the application, CPython and pip. At the
// first start it unpacks CPython and installs Flask from PyPI into a virtual
// environment, both in the user's cache folder, and finds them there later.
package main

import (
	"context"
	"embed"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/seed-a2d07992/wsgi"
	"github.com/seed-a2d07992/wsgi/examples/internal/flaskvenv"
	"github.com/seed-a2d07992/wsgi/examples/internal/serve"
)

// Each pattern by itself: naming the folder would leave out __init__.py.
//
//go:embed shop/*.py shop/templates/*.html
var sources embed.FS

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "listen on `address`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *addr, os.Stdout)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

// run serves until ctx is done.
func run(ctx context.Context, addr string, out io.Writer) error {
	listener, err := net.Listen("tcp", addr) // before all that takes time
	if err != nil {
		return err
	}
	defer listener.Close()
	dir, err := os.MkdirTemp("", "shop-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	fmt.Fprintln(out, "Preparing Python and Flask ...")
	app, err := start(ctx, dir)
	if err != nil {
		if ctx.Err() != nil {
			return nil // stopped meanwhile
		}
		return err
	}
	server := &http.Server{Handler: routes(app), ReadHeaderTimeout: 10 * time.Second}
	fmt.Fprintf(out, `Flask: http://%[1]s/
       http://%[1]s/api/orders
Go:    http://%[1]s/go
       http://%[1]s/go/stats
Ctrl-C stops the server.
`, listener.Addr())
	return serve.UntilDone(ctx, server, listener, app, out)
}

// start makes the virtual environment, if there is none yet, and starts the
// application on it. Its source and its database are in dir.
func start(ctx context.Context, dir string) (*wsgi.App, error) {
	python, err := flaskvenv.Python(ctx)
	if err != nil {
		return nil, err
	}
	if err := os.CopyFS(dir, sources); err != nil {
		return nil, err
	}
	return wsgi.New("shop", "create_app()",
		wsgi.WithPython(python),
		wsgi.WithPath(dir),
		wsgi.WithEnv(map[string]string{"SHOP_DATABASE": filepath.Join(dir, "shop.sqlite")}),
	)
}

// routes puts the application beside the Go routes.
func routes(app *wsgi.App) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /go", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "Hello from %s!\n", runtime.Version())
	})
	mux.HandleFunc("GET /go/stats", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(app.Stats()) // the client may be gone
	})
	mux.Handle("/", app)
	return mux
}
