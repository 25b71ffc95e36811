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
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/seed-a2d07992/wsgi"
	"github.com/seed-a2d07992/wsgi/examples/internal/serve"
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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *addr, mount, os.Stdout)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

// run serves until ctx is done.
func run(ctx context.Context, addr string, mount func(http.Handler) http.Handler, out io.Writer) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	defer listener.Close()
	dir, err := os.MkdirTemp("", "routers-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Fprintln(out, "Preparing Python and Flask ...")
	app, err := site.Start(ctx, dir, wsgi.WithEnviron(setUser))
	if err != nil {
		return err
	}
	server := &http.Server{Handler: authenticate(mount(app)), ReadHeaderTimeout: 10 * time.Second}
	fmt.Fprintf(out, "Flask: http://%[1]s/\n       http://%[1]s/shop/\nCtrl-C stops the server.\n", listener.Addr())
	return serve.UntilDone(ctx, server, listener, app, out)
}
