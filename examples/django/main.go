// Command django serves a Django site, the project in the folder site beside
// it, and Go routes that read its database, on one port:
//
//	go run ./examples/django
//
// It is one binary, which carries the project, CPython and pip. At the first
// start it unpacks CPython and installs Django from PyPI into a virtual
// environment, both in the user's cache folder, and finds them there later. At
// every start it runs Django's commands migrate and collectstatic, once, before
// any interpreter loads the site. Other commands are run the same way:
//
//	go run ./examples/django manage createsuperuser
//
// The database, the uploads and the secret key are in the folder that -data
// names.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/seed-a2d07992/wsgi/examples/internal/serve"
)

// options are the command line's.
type options struct {
	addr      string
	data      string
	hosts     string
	cert, key string
	debug     bool
	maxUpload int64 // bytes of a request's body
}

func main() {
	var opts options
	flag.StringVar(&opts.addr, "addr", "127.0.0.1:8080", "listen on `address`")
	flag.StringVar(&opts.data, "data", "", "keep database, uploads and secret key in `folder` (go-wsgi-django-example in the user's cache folder)")
	flag.StringVar(&opts.hosts, "hosts", "localhost,127.0.0.1,[::1]", "`names` that the site is reached by, Django's ALLOWED_HOSTS")
	flag.StringVar(&opts.cert, "cert", "", "serve https with the certificate in `file`")
	flag.StringVar(&opts.key, "key", "", "the certificate's private key, in `file`")
	flag.BoolVar(&opts.debug, "debug", false, "show errors to clients, Django's DEBUG")
	flag.Int64Var(&opts.maxUpload, "max-upload", 256<<20, "refuse requests with more than this number of `bytes`")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), "usage: django [flags]\n       django [flags] manage command ...\n")
		flag.PrintDefaults()
	}
	flag.Parse()

	var err error
	switch {
	case flag.Arg(0) == "manage":
		err = manage(opts, flag.Args()[1:])
	case flag.NArg() > 0:
		flag.Usage()
		os.Exit(2)
	default:
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err = run(ctx, opts, os.Stdout)
		stop()
	}
	// A command that failed has said why.
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && flag.Arg(0) == "manage" {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		log.Fatal(err)
	}
}

// manage runs one of Django's management commands on the terminal. Ctrl-C is
// the command's to handle, which gets it from the terminal too.
func manage(opts options, args []string) error {
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return withSite(ctx, opts, func(s *site) error {
		cmd := s.command(ctx, args...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		return cmd.Run()
	})
}

// run serves until ctx is done.
func run(ctx context.Context, opts options, out io.Writer) error {
	listener, err := net.Listen("tcp", opts.addr) // before all that takes time
	if err != nil {
		return err
	}
	defer listener.Close()
	fmt.Fprintln(out, "Preparing Python and Django ...")
	err = withSite(ctx, opts, func(s *site) error { return runSite(ctx, s, opts, listener, out) })
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // stopped before it served
	}
	return err
}

func runSite(ctx context.Context, s *site, opts options, listener net.Listener, out io.Writer) error {
	scheme := "http"
	var config *tls.Config
	if opts.cert != "" {
		pair, err := tls.LoadX509KeyPair(opts.cert, opts.key)
		if err != nil {
			return err
		}
		config = &tls.Config{Certificates: []tls.Certificate{pair}}
		scheme = "https"
	}
	app, documents, err := s.start(ctx)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: routes(app, documents, s.static(), opts.maxUpload), ReadHeaderTimeout: 10 * time.Second, TLSConfig: config}
	fmt.Fprintf(out, `Django: %[1]s://%[2]s/
        %[1]s://%[2]s/admin/
Go:     %[1]s://%[2]s/api/documents
        %[1]s://%[2]s/go/stats
Ctrl-C stops the server.
`, scheme, listener.Addr())
	// Go's view of the database goes last: see openDocuments.
	return errors.Join(serve.UntilDone(ctx, server, listener, app, out), documents.Close())
}

// withSite prepares the site's Python, its source and its folder of data, and
// removes what is only needed meanwhile.
func withSite(ctx context.Context, opts options, f func(*site) error) error {
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	cache = filepath.Join(cache, "go-wsgi-django-example")
	if opts.data == "" {
		opts.data = filepath.Join(cache, "data")
	}
	source, err := os.MkdirTemp("", "django-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(source)
	s, err := newSite(ctx, opts, filepath.Join(cache, "venv"), source)
	if err != nil {
		return err
	}
	return f(s)
}
