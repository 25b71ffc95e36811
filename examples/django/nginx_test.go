package main

import (
	"net"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/seed-a2d07992/wsgi"
	"github.com/seed-a2d07992/wsgi/internal/servertest"
	"github.com/seed-a2d07992/wsgi/uwsgi"
)

// TestBehindNginx uses the site through nginx, which ends TLS: once by the uwsgi
// protocol, as it stands before uWSGI, and once as a reverse proxy. Django has to
// know that the client came by https: by http it would redirect for ever, and
// refuse the forms.
func TestBehindNginx(t *testing.T) {
	const server = `
		upstream site { server BACKEND fail_timeout=0; }
		PARAMS
		server {
			listen LISTEN ssl;
			ssl_certificate CERT;
			ssl_certificate_key KEY;
			client_max_body_size 20m;
			location / { PASS }
			location /mount { MOUNTED }
		}
		server {
			listen PLAIN;
			location / { PASS }
		}`
	const forwarded = `
		proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
		proxy_set_header X-Forwarded-Proto $scheme;
		proxy_set_header Host $http_host;
		proxy_redirect off;`
	for _, test := range []struct{ name, pass, mounted string }{
		{"uwsgi_pass", `uwsgi_pass site;`, servertest.UWSGIParams + `uwsgi_param SCRIPT_NAME /mount; uwsgi_pass site;`},
		{"proxy_pass", forwarded + `proxy_pass http://site;`,
			forwarded + `proxy_set_header X-Forwarded-Prefix /mount; rewrite ^/mount(.*)$ $1 break; proxy_pass http://site;`},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := startSite(t, options{cert: "nginx has it"}, wsgi.WithTrustedProxies("unix"))
			backend := servertest.SocketPath(t)
			l, err := net.Listen("unix", backend)
			if err != nil {
				t.Fatal(err)
			}
			if test.name == "uwsgi_pass" {
				server := &uwsgi.Server{Handler: s.handler}
				go server.Serve(l)
				t.Cleanup(func() { server.Close() })
			} else {
				server := httptest.NewUnstartedServer(s.handler)
				server.Listener.Close()
				server.Listener = l
				server.Start()
				t.Cleanup(server.Close)
			}
			cert, key := servertest.Certificate(t, "127.0.0.1")
			plain := servertest.FreeAddress(t)
			base := strings.Replace(servertest.Nginx(t, strings.NewReplacer("PARAMS", servertest.UWSGIParams,
				"BACKEND", "unix:"+backend, "CERT", cert, "KEY", key, "PLAIN", plain,
				"PASS", test.pass, "MOUNTED", test.mounted).Replace(server)), "http:", "https:", 1)

			stranger := newBrowser(t, "http://"+plain)
			resp, body := stranger.do("GET", "/accounts/login/", nil)
			stranger.check(resp, body, 301)
			if to := resp.Header.Get("Location"); to != "https://"+plain+"/accounts/login/" {
				t.Errorf("by http: Location %q", to)
			}

			ada := newBrowser(t, base)
			resp, body = ada.logIn("ada", password)
			ada.check(resp, body, 302)
			for _, cookie := range resp.Cookies() {
				if !cookie.Secure {
					t.Errorf("the cookie %s is for http too", cookie.Name)
				}
			}
			data := []byte(strings.Repeat("through nginx\n", 100_000))
			resp, body = ada.upload("Notes", "notes.txt", data, true, ada.token("/upload"))
			ada.check(resp, body, 302)
			if body := ada.get(200, "/1/file"); body != string(data) {
				t.Errorf("of %d bytes came %d", len(data), len(body))
			}
			if docs := ada.published(); len(docs) != 1 || docs[0].Title != "Notes" {
				t.Errorf("Go sees %+v", docs)
			}
			ada.get(200, "/admin/documents/document/", "Notes")
			css := regexp.MustCompile(`/static/admin/css/base\.\w+\.css`).FindString(ada.get(200, "/admin/"))
			ada.get(200, css, "--primary:")

			// Under a prefix, which only nginx knows of.
			resp, body = newBrowser(t, base).do("GET", "/mount/upload", nil)
			ada.check(resp, body, 302)
			if to, err := url.PathUnescape(resp.Header.Get("Location")); err != nil || to != "/mount/accounts/login/?next=/mount/upload" {
				t.Errorf("under a prefix: Location %q", to)
			}
			ada.get(200, "/mount/", `href="/mount/upload"`, "Notes")
			resp, body = ada.submit("/mount/1/delete", url.Values{"csrfmiddlewaretoken": {ada.token("/mount/upload")}})
			ada.check(resp, body, 302)
			if to := resp.Header.Get("Location"); to != "/mount/" {
				t.Errorf("a form under a prefix: Location %q", to)
			}
			if left := s.logs.all(); len(left) > 0 {
				t.Errorf("logged: %q", left)
			}
		})
	}
}
