// Command frontend serves a Flask application and its static files with nothing in
// front: TLS and HTTP/2, compression, limits and timeouts are Go's.
//
//	go run ./examples/frontend
//
// Without -cert it makes a certificate of its own, which a browser warns of. The same
// site behind nginx is examples/nginx; a test there compares the two.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/seed-a2d07992/wsgi/examples/internal/serve"
	"github.com/seed-a2d07992/wsgi/examples/internal/site"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8443", "listen on `address`")
	cert := flag.String("cert", "", "serve with the certificate in `file`")
	key := flag.String("key", "", "the certificate's private key, in `file`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *addr, *cert, *key, os.Stdout)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

// run serves until ctx is done.
func run(ctx context.Context, addr, cert, key string, out io.Writer) error {
	pair, err := certificate(cert, key)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	defer listener.Close()
	dir, err := os.MkdirTemp("", "frontend-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Fprintln(out, "Preparing Python and Flask ...")
	app, err := site.Start(ctx, dir)
	if err != nil {
		return err
	}
	server := newServer(site.Frontend(app, site.Static(dir)), pair)
	fmt.Fprintf(out, "Flask: https://%s/\nCtrl-C stops the server.\n", listener.Addr())
	return serve.UntilDone(ctx, server, listener, app, out)
}

// newServer has the limits that a web server in front would have. Without them a
// client that says nothing, or reads nothing, keeps its connection for ever.
func newServer(handler http.Handler, pair tls.Certificate) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       5 * time.Minute, // for the largest upload from the slowest client
		WriteTimeout:      10 * time.Minute,
		IdleTimeout:       75 * time.Second,
		MaxHeaderBytes:    32 << 10,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12},
	}
}

// certificate reads a certificate, or makes one for this machine that is good for a day.
func certificate(cert, key string) (tls.Certificate, error) {
	if cert != "" || key != "" {
		return tls.LoadX509KeyPair(cert, key)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		NotBefore:    time.Now().Add(-time.Minute),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, err
}
