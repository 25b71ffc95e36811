package main

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/fcgi"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/seed-a2d07992/wsgi"
	"github.com/seed-a2d07992/wsgi/examples/internal/site"
	"github.com/seed-a2d07992/wsgi/internal/servertest"
)

// TestMain lets this binary be a CGI script: the application answers one request.
func TestMain(m *testing.M) {
	if dir := os.Getenv("ROUTERS_CGI"); dir != "" {
		app, err := start(dir, wsgi.WithInterpreters(1), wsgi.WithScriptName(os.Getenv("SCRIPT_NAME")))
		if err != nil {
			log.Fatal(err)
		}
		if err := cgi.Serve(app); err != nil {
			log.Fatal(err)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func start(dir string, opts ...wsgi.Option) (*wsgi.App, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	return site.Start(ctx, dir, append(opts, wsgi.WithEnviron(setUser))...)
}

func startFor(t *testing.T, opts ...wsgi.Option) *wsgi.App {
	t.Helper()
	app, err := start(t.TempDir(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	})
	return app
}

var client = &http.Client{
	Timeout:       time.Minute,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func ask(t *testing.T, method, url, body, user string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if user != "" {
		r.SetBasicAuth(user, "")
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return resp, string(data)
}

// expectMounted holds the application at a URL to what any mount must keep. path is
// the mount's part of it.
func expectMounted(t *testing.T, base, mount, user string) {
	t.Helper()
	resp, body := ask(t, "GET", base+"/where?q=a%20b", "", user)
	var place struct{ Script, Path, URL, Link, Client, User string }
	if err := json.Unmarshal([]byte(body), &place); err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s: %s %q: %v", base, resp.Status, body, err)
	}
	if place.Script != mount || place.Path != "/where" || place.Link != base+"/notes" || place.Client != "127.0.0.1" || place.User != user ||
		place.URL != base+"/where?q=a b" && place.URL != base+"/where?q=a%20b" {
		t.Errorf("%s, mounted at %q: the application sees %+v", base, mount, place)
	}
	for how, want := range map[string]string{"whole": base + "/where", "path": mount + "/where"} {
		resp, body := ask(t, "GET", base+"/away?how="+how, "", "")
		if to := resp.Header.Get("Location"); resp.StatusCode != 302 || to != want {
			t.Errorf("%s/away: %s, Location %q, want %q: %s", base, resp.Status, to, want, body)
		}
	}
	resp, body = ask(t, "POST", base+"/notes", "note=one", "")
	if resp.StatusCode != 302 || resp.Header.Get("Location") != mount+"/" || resp.Header.Get("Set-Cookie") == "" {
		t.Errorf("%s/notes: %s %v %s", base, resp.Status, resp.Header, body)
	}
	if resp, body := ask(t, "GET", base+"/", "", ""); resp.StatusCode != 200 || !strings.Contains(body, `action="`+mount+`/notes"`) {
		t.Errorf("%s/: %s %s", base, resp.Status, body)
	}
	if resp, body := ask(t, "GET", base+"/no/such/page", "", ""); resp.StatusCode != 404 || !strings.Contains(body, "Not Found") {
		t.Errorf("%s/no/such/page: %s %s", base, resp.Status, body)
	}
}

func TestRouters(t *testing.T) {
	app := startFor(t)
	for name, mount := range routers {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(authenticate(mount(app)))
			defer server.Close()
			for _, user := range []string{"", "ada"} {
				expectMounted(t, server.URL, "", user)
				expectMounted(t, server.URL+"/shop", "/shop", user)
			}
			if resp, body := ask(t, "GET", server.URL+"/go", "", ""); resp.StatusCode != 200 || body != "Hello from Go!\n" {
				t.Errorf("the Go route: %s %q", resp.Status, body)
			}
		})
	}
}

// TestFastCGI has nginx in front, which authenticates by its own means.
func TestFastCGI(t *testing.T) {
	shop := startFor(t, wsgi.WithScriptName("/shop")) // net/http/fcgi keeps nothing of SCRIPT_NAME
	root := startFor(t)
	mux := http.NewServeMux()
	mux.Handle("/shop/", shop)
	mux.Handle("/", root)
	for _, network := range []string{"tcp", "unix"} {
		address := "127.0.0.1:0"
		if network == "unix" {
			address = servertest.SocketPath(t)
		}
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- fcgi.Serve(l, mux) }()
		t.Cleanup(func() {
			l.Close()
			<-served
		})
		backend := l.Addr().String()
		if network == "unix" {
			backend = "unix:" + backend
		}
		config := strings.NewReplacer("BACKEND", backend).Replace(`
			server {
				listen LISTEN;
				set $user "";
				if ($http_authorization ~ "^Basic YWRhOg==$") { set $user ada; }
				fastcgi_param QUERY_STRING    $query_string;
				fastcgi_param REQUEST_METHOD  $request_method;
				fastcgi_param CONTENT_TYPE    $content_type;
				fastcgi_param CONTENT_LENGTH  $content_length;
				fastcgi_param REQUEST_URI     $request_uri;
				fastcgi_param DOCUMENT_URI    $document_uri;
				fastcgi_param SERVER_PROTOCOL $server_protocol;
				fastcgi_param REMOTE_ADDR     $remote_addr;
				fastcgi_param REMOTE_PORT     $remote_port;
				fastcgi_param SERVER_PORT     $server_port;
				fastcgi_param SERVER_NAME     $server_name;
				fastcgi_param REMOTE_USER     $user;
				location / { fastcgi_pass BACKEND; }
			}`)
		url := servertest.Nginx(t, config)
		for _, user := range []string{"", "ada"} {
			expectMounted(t, url, "", user)
			expectMounted(t, url+"/shop", "/shop", user)
		}
	}
}

// TestCGI runs a process for each request, as CGI does: Python's start included.
func TestCGI(t *testing.T) {
	const mount = "/cgi-bin/shop"
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc(mount+"/", func(w http.ResponseWriter, r *http.Request) {
		h := &cgi.Handler{
			Path: program, Root: mount, Stderr: os.Stderr,
			Env:        []string{"ROUTERS_CGI=" + t.TempDir()},
			InheritEnv: []string{"HOME", "PATH", "XDG_CACHE_HOME"},
		}
		if user, _, ok := r.BasicAuth(); ok { // the web server's to check
			h.Env = append(h.Env, "REMOTE_USER="+user)
		}
		h.ServeHTTP(w, r)
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	expectMounted(t, server.URL+mount, mount, "ada")
}
