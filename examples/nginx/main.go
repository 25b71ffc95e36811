// Command nginx serves the site of examples/frontend with nginx in front: that has
// the static files, and passes on the rest.
//
//	go run ./examples/nginx
//	go run ./examples/nginx -network tcp
//
// The configuration is the one that gunicorn's and uWSGI's users know. Nothing in it is
// of this library: the Go program listens where the application server did. On its side
// it takes WithTrustedProxies for the application to see the client and not nginx.
package main

import (
	"context"
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
	"strings"
	"syscall"
	"time"

	"github.com/seed-a2d07992/wsgi"
	"github.com/seed-a2d07992/wsgi/examples/internal/site"
)

func main() {
	var opts options
	flag.StringVar(&opts.addr, "addr", "127.0.0.1:8080", "let nginx listen on `address`")
	flag.StringVar(&opts.network, "network", "unix", "put a socket of this `kind` between nginx and Go: unix or tcp")
	flag.StringVar(&opts.nginx, "nginx", "nginx", "run the nginx at `path`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, opts, os.Stdout)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

type options struct{ addr, network, nginx string }

// run serves until ctx is done.
func run(ctx context.Context, opts options, out io.Writer) error {
	path, err := findNginx(opts.nginx)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "nginx-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Fprintln(out, "Preparing Python and Flask ...")
	app, err := site.Start(ctx, dir, wsgi.WithTrustedProxies("127.0.0.1", "unix"))
	if err != nil {
		return err
	}
	defer app.Close()

	listener, err := listen(opts.network, dir)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: app, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 2)
	go func() { served <- server.Serve(listener) }()

	addr, err := free(opts.addr)
	if err != nil {
		return err
	}
	command, err := startNginx(path, dir, addr, listener.Addr())
	if err != nil {
		return err
	}
	go func() { served <- command.Wait() }()
	if err := await(ctx, addr, served); err != nil {
		return err
	}
	fmt.Fprintf(out, "Flask: http://%s/\nCtrl-C stops the server.\n", addr)

	select {
	case err = <-served:
		err = fmt.Errorf("a server has ended: %w", err)
	case <-ctx.Done():
		fmt.Fprintln(out, "Stopping ...")
	}
	// First nginx, which lets the requests that it has end, then Go.
	_ = command.Process.Signal(syscall.SIGQUIT)
	patience, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	select {
	case <-served:
	case <-patience.Done():
		_ = command.Process.Signal(syscall.SIGTERM) // kill would leave its workers
		<-served
	}
	if err := errors.Join(err, server.Shutdown(patience), app.Shutdown(patience)); err != nil {
		return err
	}
	fmt.Fprintln(out, "Stopped.")
	return nil
}

func findNginx(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil && !strings.Contains(name, "/") {
		path, err = exec.LookPath("/usr/sbin/" + name) // which is not on everybody's PATH
	}
	if err != nil {
		return "", fmt.Errorf("there is no nginx: install it (Debian's package is nginx-light), or name it with -nginx: %w", err)
	}
	return path, nil
}

func listen(network, dir string) (net.Listener, error) {
	switch network {
	case "tcp":
		return net.Listen("tcp", "127.0.0.1:0")
	case "unix":
		return net.Listen("unix", filepath.Join(dir, "app.sock"))
	}
	return nil, fmt.Errorf("-network %s: it is neither unix nor tcp", network)
}

// free returns addr, with a port if it has 0 for one.
func free(addr string) (string, error) {
	if !strings.HasSuffix(addr, ":0") {
		return addr, nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

const config = `
daemon off;
worker_processes auto;
pid DIR/nginx.pid;
error_log stderr crit;
events { accept_mutex off; }
http {
	access_log off;
	types {
		text/html  html;
		text/css   css;
		text/plain txt;
	}
	default_type application/octet-stream;
	sendfile on;
	client_body_temp_path DIR/body;
	proxy_temp_path       DIR/proxy;
	fastcgi_temp_path     DIR/fastcgi;
	uwsgi_temp_path       DIR/uwsgi;
	scgi_temp_path        DIR/scgi;

	upstream app_server {
		# A failed request is no reason to think the application is down.
		server BACKEND fail_timeout=0;
	}
	server {
		listen ADDRESS;
		client_max_body_size BODY;
		keepalive_timeout 5;

		location /static {
			autoindex on;
			alias STATIC;
		}
		location / {
			proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
			proxy_set_header X-Forwarded-Proto $scheme;
			proxy_set_header Host $http_host;
			# The application's redirects are right already.
			proxy_redirect off;
			proxy_pass http://app_server;
		}
	}
}
`

func startNginx(path, dir, addr string, backend net.Addr) (*exec.Cmd, error) {
	upstream := backend.String()
	if backend.Network() == "unix" {
		upstream = "unix:" + upstream
	}
	text := strings.NewReplacer("DIR", dir, "BACKEND", upstream, "ADDRESS", addr,
		"STATIC", site.Static(dir), "BODY", fmt.Sprint(site.MaxBody)).Replace(config)
	if os.Getuid() == 0 {
		// Its workers would be another user's, who can't enter a temporary folder.
		text = "user root;" + text
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return nil, err
	}
	command := exec.Command(path, "-p", dir, "-c", file, "-e", "stderr")
	command.Stderr = os.Stderr
	// Ctrl-C is for this program, which stops nginx in its turn.
	command.SysProcAttr = ownGroup()
	return command, command.Start()
}

// await waits until nginx listens.
func await(ctx context.Context, addr string, ended <-chan error) error {
	for {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case err := <-ended:
			return fmt.Errorf("nginx or Go's server has ended: %w", err)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}
