package wsgi_test

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-a2d07992/wsgi"
	"github.com/seed-a2d07992/wsgi/internal/servertest"
	"github.com/seed-a2d07992/wsgi/uwsgi"
)

// fronts are nginx as it stands before gunicorn and before uWSGI, as their
// documentations have it: static files are its own, the rest is passed on.
var fronts = map[string]string{
	"proxy_pass": `
		upstream app { server BACKEND fail_timeout=0; }
		BIND
		server {
			listen LISTEN;
			client_max_body_size 4G;
			location /static { autoindex on; alias STATIC; }
			location / {
				proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
				proxy_set_header Host $http_host;
				proxy_redirect off;
				proxy_pass http://app;
			}
		}
		server {
			listen TLS ssl;
			ssl_certificate CERT;
			ssl_certificate_key KEY;
			proxy_redirect off;
			location / {
				proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
				proxy_set_header X-Forwarded-Proto $scheme;
				proxy_set_header Host $http_host;
				proxy_pass http://app;
			}
			location /shop/ {
				proxy_set_header X-Forwarded-Prefix /shop;
				proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
				proxy_set_header X-Forwarded-Proto $scheme;
				proxy_set_header Host $http_host;
				proxy_pass http://app/;
			}
		}`,
	"uwsgi_pass": `
		upstream app { server BACKEND fail_timeout=0; }
		PARAMS
		server {
			listen LISTEN;
			location /static { autoindex on; alias STATIC; }
			location / { uwsgi_pass app; }
		}
		server {
			listen TLS ssl;
			ssl_certificate CERT;
			ssl_certificate_key KEY;
			location / { uwsgi_pass app; }
			location /shop { PARAMS uwsgi_param SCRIPT_NAME /shop; uwsgi_pass app; }
		}`,
}

// behindNginx serves an application behind one of the fronts, over TCP or a Unix
// socket, and returns the URLs of nginx's two servers.
func behindNginx(t *testing.T, front, network string, app http.Handler) (plain, secure string) {
	t.Helper()
	backend := "127.0.0.1:0"
	if network == "unix" {
		backend = servertest.SocketPath(t)
	}
	l, err := net.Listen(network, backend)
	if err != nil {
		t.Fatal(err)
	}
	if front == "uwsgi_pass" {
		s := &uwsgi.Server{Handler: app}
		go s.Serve(l)
		t.Cleanup(func() { s.Close() })
	} else {
		s := httptest.NewUnstartedServer(app)
		s.Listener.Close()
		s.Listener = l
		s.Start()
		t.Cleanup(func() {
			s.CloseClientConnections()
			s.Close()
		})
	}
	bind := "proxy_bind 127.0.0.2;" // so that nginx is not its own client
	if backend = l.Addr().String(); network == "unix" {
		backend, bind = "unix:"+backend, ""
	}
	static := t.TempDir()
	writeFile(t, filepath.Join(static, "a.txt"), "from nginx")
	cert, key := servertest.Certificate(t, "shop.example")
	tlsAddress := servertest.FreeAddress(t)
	plain = servertest.Nginx(t, strings.NewReplacer("BACKEND", backend, "STATIC", static, "TLS", tlsAddress,
		"CERT", cert, "KEY", key, "PARAMS", servertest.UWSGIParams, "BIND", bind).Replace(fronts[front]))
	return plain, "https://" + tlsAddress
}

// TestFlaskBehindNginx: an application sees its client and builds its URLs as if
// nothing stood between.
func TestFlaskBehindNginx(t *testing.T) {
	if !inFlaskVenv(t) {
		return
	}
	app, records, _ := newApp(t, `
from flask import Flask, jsonify, redirect, request, session, url_for

application = Flask(__name__)
application.secret_key = "x"

@application.before_request
def cookies_of_https():
    application.config["SESSION_COOKIE_SECURE"] = request.is_secure

@application.get("/")
def index():
    return jsonify(url=url_for("index", _external=True), here=request.url, client=request.remote_addr,
                   secure=request.is_secure, user=session.get("user"))

@application.post("/login")
def login():
    session["user"] = request.form["user"]
    return redirect(url_for("index", _external=request.args.get("how") == "whole"))
`, wsgi.WithTrustedProxies("127.0.0.2", "unix"))
	for front := range fronts {
		for _, network := range []string{"tcp", "unix"} {
			t.Run(front+" over "+network, func(t *testing.T) {
				plain, secure := behindNginx(t, front, network, app)
				for _, base := range []string{plain, secure, secure + "/shop"} {
					expectSite(t, base)
				}
				if resp, body := fetch(t, http.DefaultClient, "GET", plain+"/static/a.txt", nil); body != "from nginx" {
					t.Errorf("a static file: %s %q", resp.Status, body)
				}
				if resp, body := fetch(t, http.DefaultClient, "GET", plain+"/static/", nil); !strings.Contains(body, `<a href="a.txt">`) {
					t.Errorf("autoindex: %s %q", resp.Status, body)
				}
			})
		}
	}
	records.expectQuiet(t)
}

// fetch sends a request and returns the answer with its body read. fields are a
// form's.
func fetch(t *testing.T, client *http.Client, method, target string, fields url.Values) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(fields.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if fields != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	r.Header.Set("X-Forwarded-For", "198.51.100.66") // as anybody can
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// expectSite uses the site at a URL as a browser does.
func expectSite(t *testing.T, base string) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Jar: jar, Transport: transport, Timeout: patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	secure := strings.HasPrefix(base, "https:")
	prefix := strings.TrimPrefix(base[len("https://"):], strings.SplitN(base[len("https://"):], "/", 2)[0])

	for how, want := range map[string]string{"whole": base + "/", "path": prefix + "/"} {
		resp, body := fetch(t, client, "POST", base+"/login?how="+how, url.Values{"user": {"ada"}})
		if got := resp.Header.Get("Location"); resp.StatusCode != 302 || got != want {
			t.Errorf("%s/login: %s, Location %q, want %q\n%s", base, resp.Status, got, want, body)
		}
		if cookie := resp.Header.Get("Set-Cookie"); cookie == "" || strings.Contains(cookie, "Secure;") != secure {
			t.Errorf("%s/login: Set-Cookie %q", base, cookie)
		}
	}
	resp, body := fetch(t, client, "GET", base+"/?q=a%20b", nil)
	var seen struct {
		URL, Here, Client, User string
		Secure                  bool
	}
	if err := json.Unmarshal([]byte(body), &seen); err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s: %s %q: %v", base, resp.Status, body, err)
	}
	if seen.URL != base+"/" || seen.Here != base+"/?q=a b" && seen.Here != base+"/?q=a%20b" ||
		seen.Secure != secure || seen.User != "ada" {
		t.Errorf("%s: the application sees %+v", base, seen)
	}
	if seen.Client != "127.0.0.1" {
		t.Errorf("%s: the client is %q, want the one that nginx has seen", base, seen.Client)
	}
}
