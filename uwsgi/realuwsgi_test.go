package uwsgi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-a2d07992/wsgi/internal/servertest"
	"github.com/seed-a2d07992/wsgi/uwsgi"
)

const uwsgiApp = `
import sys, time

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/vars":
        names = ("REQUEST_METHOD SCRIPT_NAME PATH_INFO QUERY_STRING REQUEST_URI SERVER_NAME SERVER_PORT "
            "SERVER_PROTOCOL HTTP_HOST HTTP_X_MANY HTTP_COOKIE wsgi.url_scheme REMOTE_USER").split()
        start_response("200 OK", [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
        return ["".join("%s=%s\n" % (n, environ.get(n)) for n in names).encode()]
    if path == "/length":
        n = 0
        while chunk := environ["wsgi.input"].read(65536):
            n += len(chunk)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"%d %s" % (n, environ.get("CONTENT_LENGTH", "none").encode())]
    if path == "/large":
        start_response("200 OK", [("Content-Length", str(64 << 20))])
        return (bytes(1 << 16) for _ in range(1 << 10))
    if path == "/short":
        start_response("200 OK", [("Content-Length", "100")])
        return [b"short"]
    if path == "/slow":
        start_response("200 OK", [])
        def ticks():
            yield b"tick\n"
            time.sleep(60)
        return ticks()
    if path == "/wait":
        time.sleep(60)
    if path in ("/204", "/304"):
        start_response(path[1:] + " Whatever", [])
        return []
    start_response("404 Not Found", [])
    return [b"no " + path.encode()]
`

// startUWSGI runs a uWSGI server of uwsgiApp, and returns its address.
func startUWSGI(t *testing.T, network string) string {
	t.Helper()
	path := servertest.Program(t, "uwsgi-core and uwsgi-plugin-python3", "uwsgi-core", "uwsgi")
	dir := t.TempDir()
	app := filepath.Join(dir, "app.py")
	if err := os.WriteFile(app, []byte(uwsgiApp), 0o600); err != nil {
		t.Fatal(err)
	}
	address := servertest.SocketPath(t)
	if network == "tcp" {
		address = servertest.FreeAddress(t)
	}
	servertest.Start(t, network, address, path,
		"--plugin", "python3", "--wsgi-file", app, "--uwsgi-socket", address,
		"--master", "--die-on-term", "--no-orphans", "--processes", "2", "--need-app", "--worker-reload-mercy", "1")
	return address
}

// reverseProxy puts a ReverseProxy before a uWSGI server.
func reverseProxy(t *testing.T, transport *uwsgi.Transport) *httptest.Server {
	t.Helper()
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.Out.Host = r.In.Host },
		Transport: transport,
		ErrorLog:  log.New(io.Discard, "", 0),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			var tooLarge *http.MaxBytesError
			if errors.As(err, &tooLarge) {
				w.WriteHeader(http.StatusRequestEntityTooLarge)
				return
			}
			http.Error(w, err.Error(), http.StatusBadGateway)
		},
	})
	t.Cleanup(proxy.Close)
	return proxy
}

func TestUWSGI(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string) {
		transport := &uwsgi.Transport{
			Address: startUWSGI(t, network),
			Vars: func(r *http.Request) map[string]string {
				if strings.HasPrefix(r.URL.Path, "/app/") {
					return map[string]string{"SCRIPT_NAME": "/app", "REMOTE_USER": "me"}
				}
				return nil
			},
		}
		proxy := reverseProxy(t, transport)
		get := func(t *testing.T, r *http.Request) (*http.Response, string) {
			t.Helper()
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			return response, readAll(t, response)
		}
		t.Run("vars", func(t *testing.T) {
			r, _ := http.NewRequest("GET", proxy.URL+"/app/vars?a=b%20c", nil)
			r.Host = "shop.test:81"
			r.Header["X-Many"] = []string{"1", "2"}
			r.Header.Add("Cookie", "a=b")
			response, got := get(t, r)
			want := `REQUEST_METHOD=GET
SCRIPT_NAME=/app
PATH_INFO=/vars
QUERY_STRING=a=b%20c
REQUEST_URI=/app/vars?a=b%20c
SERVER_NAME=shop.test
SERVER_PORT=81
SERVER_PROTOCOL=HTTP/1.1
HTTP_HOST=shop.test:81
HTTP_X_MANY=1, 2
HTTP_COOKIE=a=b
wsgi.url_scheme=http
REMOTE_USER=me
`
			if got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
			if n := len(response.Header["Set-Cookie"]); n != 2 {
				t.Errorf("%d cookies", n)
			}
		})
		t.Run("uploads", func(t *testing.T) {
			r, _ := http.NewRequest("POST", proxy.URL+"/length", &zeros{large})
			r.ContentLength = large
			if _, got := get(t, r); got != fmt.Sprint(large, large) {
				t.Errorf("got %s", got)
			}
			r, _ = http.NewRequest("POST", proxy.URL+"/length", &zeros{1000}) // chunked
			if _, got := get(t, r); got != "1000 1000" {
				t.Errorf("chunked: got %s", got)
			}
			r, _ = http.NewRequest("POST", proxy.URL+"/length", &zeros{2 << 20})
			if response, _ := get(t, r); response.StatusCode != http.StatusRequestEntityTooLarge {
				t.Errorf("chunked and too large: %s", response.Status)
			}
		})
		t.Run("large download", func(t *testing.T) {
			response, err := http.Get(proxy.URL + "/large")
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if n, err := io.Copy(io.Discard, response.Body); n != large || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
		})
		t.Run("status", func(t *testing.T) {
			for path, status := range map[string]int{"/204": 204, "/304": 304, "/other": 404} {
				for _, method := range []string{"GET", "HEAD"} {
					r, _ := http.NewRequest(method, proxy.URL+path, nil)
					want := ""
					if status == 404 && method == "GET" {
						want = "no " + path
					}
					if response, got := get(t, r); response.StatusCode != status || got != want {
						t.Errorf("%s %s: %s %q", method, path, response.Status, got)
					}
				}
			}
		})
		t.Run("streaming", func(t *testing.T) {
			response, err := http.Get(proxy.URL + "/slow")
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			tick := make([]byte, 5)
			if _, err := io.ReadFull(response.Body, tick); err != nil || string(tick) != "tick\n" {
				t.Errorf("%q, %v", tick, err)
			}
		})
		t.Run("short response", func(t *testing.T) {
			r, _ := http.NewRequest("GET", "http://shop.test/short", nil)
			response, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if b, err := io.ReadAll(response.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%q, %v", b, err)
			}
		})
		t.Run("too many variables for uWSGI", func(t *testing.T) {
			r, _ := http.NewRequest("GET", "http://shop.test/", nil)
			r.Header.Set("X-Large", strings.Repeat("x", 5000))
			var protocolError *uwsgi.ProtocolError
			if _, err := transport.RoundTrip(r); !errors.As(err, &protocolError) {
				t.Errorf("%v", err)
			}
		})
		t.Run("cancel", func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			r, _ := http.NewRequestWithContext(ctx, "GET", "http://shop.test/wait", nil)
			if _, err := transport.RoundTrip(r); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
		})
	})
}
