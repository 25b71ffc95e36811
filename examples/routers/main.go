// Command routers mounts one Flask application in the routers that Go services use,
// at the root and below /shop:
//
//	go run ./examples/routers -router chi
//
// Its tests mount it behind the older gateways as well, by net/http/fcgi and
// net/http/cgi, and hold each to the same rules: SCRIPT_NAME and PATH_INFO, absolute
// URLs and redirects, REMOTE_USER from Go code.
package main

import (
	"context"
	"flag"
	"log"
	"maps"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/seed-a2d07992/wsgi"
	"github.com/seed-a2d07992/wsgi/examples/internal/site"
)

func main() {
	names := strings.Join(slices.Sorted(maps.Keys(routers)), ", ")
	addr := flag.String("addr", "127.0.0.1:8080", "listen on `address`")
	router := flag.String("router", "ServeMux", "mount the application in one of: "+names)
	flag.Parse()
	mount, ok := routers[*router]
	if !ok {
		log.Fatalf("-router %s: it is none of %s", *router, names)
	}
	if err := run(*addr, mount); err != nil {
		log.Fatal(err)
	}
}

func run(addr string, mount func(http.Handler) http.Handler) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "routers-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	app, err := site.Start(ctx, dir, wsgi.WithEnviron(setUser))
	if err != nil {
		return err
	}
	server := &http.Server{Addr: addr, Handler: authenticate(mount(app)), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.ListenAndServe() }()
	log.Printf("http://%s/ and http://%[1]s/shop/", addr)
	select {
	case err = <-served:
	case <-ctx.Done():
		patience, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err = server.Shutdown(patience)
	}
	if e := app.Close(); err == nil {
		err = e
	}
	return err
}
