// Command server is the Go side of the benchmarks: an application in this
// library, a ReverseProxy in front of one elsewhere, or Go alone, the limit.
// Beside each there is a Go route, /go.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/seed-a2d07992/wsgi"
)

func main() {
	log.SetFlags(0)
	addr := flag.String("addr", "127.0.0.1:9000", "listen on `address`")
	app := flag.String("app", "", "serve the application in `file`; without, Go answers")
	python := flag.String("python", "", "with the Python at `path`")
	interpreters := flag.Int("interpreters", 0, "in `n` interpreters")
	threads := flag.Int("threads", 0, "with `n` threads each")
	proxy := flag.String("proxy", "", "pass requests on to the server at `address`, host:port or a Unix socket's path")
	flag.Parse()

	mux := http.NewServeMux()
	mux.HandleFunc("GET /go", hello)
	mux.HandleFunc("GET /counts", counts)
	switch {
	case *proxy != "":
		mux.Handle("/", reverseProxy(*proxy))
	case *app != "":
		options := []wsgi.Option{wsgi.WithPython(*python)}
		if *interpreters > 0 {
			options = append(options, wsgi.WithInterpreters(*interpreters))
		}
		if *threads > 0 {
			options = append(options, wsgi.WithThreads(*threads))
		}
		h, err := wsgi.New(*app, "application", options...)
		if err != nil {
			log.Fatal(err)
		}
		mux.Handle("/", h)
	default:
		mux.HandleFunc("/", hello)
		mux.HandleFunc("/upload", upload)
		mux.HandleFunc("/download", download)
		mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
			http.ServeFile(w, r, os.Getenv("BENCH_FILE"))
		})
	}
	log.Fatal(http.ListenAndServe(*addr, mux))
}

// reverseProxy is httputil's, with as many idle connections as there are clients.
func reverseProxy(addr string) http.Handler {
	network := "tcp"
	if strings.Contains(addr, "/") {
		network = "unix"
	}
	p := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "upstream"})
	p.Transport = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
		MaxIdleConns:        1024,
		MaxIdleConnsPerHost: 1024,
	}
	return p
}

// counts says how often the process has allocated memory in Go and called C.
func counts(w http.ResponseWriter, r *http.Request) {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	fmt.Fprintln(w, stats.Mallocs, runtime.NumCgoCall())
}

// These are what the applications of apps/plain.py do.

func hello(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, "Hello, world!\n")
}

func upload(w http.ResponseWriter, r *http.Request) {
	var size int
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Body.Read(buf)
		size += n
		if err != nil {
			break
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, size)
}

func download(w http.ResponseWriter, r *http.Request) {
	size, err := strconv.Atoi(r.URL.RawQuery)
	if err != nil {
		http.Error(w, "how many bytes?", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(size))
	chunk := make([]byte, 64<<10)
	for size > 0 {
		n := min(size, len(chunk))
		if _, err := w.Write(chunk[:n]); err != nil {
			return
		}
		size -= n
	}
}
