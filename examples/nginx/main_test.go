package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-a2d07992/wsgi"
	"github.com/seed-a2d07992/wsgi/examples/internal/programtest"
	"github.com/seed-a2d07992/wsgi/examples/internal/site"
	"github.com/seed-a2d07992/wsgi/internal/servertest"
)

// TestProgram runs the program as a user does, over both kinds of socket.
func TestProgram(t *testing.T) {
	nginx := servertest.Program(t, "nginx-light", "nginx")
	program := programtest.Build(t)
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			p := programtest.Start(t, "Flask:", program, "-network", network, "-nginx", nginx)
			for path, want := range map[string]string{"/": p.URL + "/", "/static/site.css": "font-family", "/static/": "words.txt",
				"/where": `"client":"127.0.0.1"`} {
				resp, err := http.Get(p.URL + path)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != 200 || !strings.Contains(string(body), want) {
					t.Errorf("%s: %s %q, %v", path, resp.Status, body, err)
				}
			}
			http.DefaultClient.CloseIdleConnections()
			p.Stop(t, os.Interrupt)
		})
	}
	out, err := exec.CommandContext(t.Context(), program, "-nginx", "/no/such/nginx").CombinedOutput()
	if _, failed := err.(*exec.ExitError); !failed || !strings.Contains(string(out), "there is no nginx: install it") {
		t.Errorf("without nginx: %v\n%s", err, out)
	}
}

// An answer is what a client sees of one, as far as the two sites must agree.
type answer struct {
	status int
	header http.Header
	body   string
}

// compared are the headers that must be the same.
var compared = []string{"Content-Type", "Content-Length", "Content-Range", "Content-Disposition", "Location", "Set-Cookie", "Vary", "ETag", "Last-Modified"}

// TestSameAsGoAlone asks both sites for the same and compares the answers. They may
// differ in what each server says of itself (Server, Date, Connection, Accept-Ranges
// where there is nothing to have ranges of) and in:
//
//   - Cache-Control of static files, which the classic configuration does not set;
//   - the charset of static files, which Go adds for text;
//   - Last-Modified with a 304, which Go leaves out where there is an ETag;
//   - Vary, since this nginx compresses nothing;
//   - the pages of errors that are not the application's, and lists of files;
//   - a request that is too large and comes in chunks: nginx reads it all first and
//     answers 413, and here the application has begun with it.
func TestSameAsGoAlone(t *testing.T) {
	dir := t.TempDir()
	app, err := site.Start(t.Context(), dir, wsgi.WithTrustedProxies("unix"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { app.Close() })
	alone := httptest.NewServer(site.Frontend(app, site.Static(dir)))
	t.Cleanup(alone.Close)

	listener, err := listen("unix", filepath.Dir(servertest.SocketPath(t)))
	if err != nil {
		t.Fatal(err)
	}
	behind := &http.Server{Handler: app}
	go behind.Serve(listener)
	t.Cleanup(func() { behind.Close() })
	nginx := "http://" + servertest.FreeAddress(t)
	command, err := startNginx(servertest.Program(t, "nginx-light", "nginx"), dir, strings.TrimPrefix(nginx, "http://"), listener.Addr())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	t.Cleanup(func() {
		command.Process.Signal(os.Interrupt) // and not Kill, which its workers survive
		<-ended
	})
	ready, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := await(ready, strings.TrimPrefix(nginx, "http://"), ended); err != nil {
		t.Fatal(err)
	}

	var file bytes.Buffer
	form := multipart.NewWriter(&file)
	part, _ := form.CreateFormFile("file", "a.bin")
	part.Write(bytes.Repeat([]byte("0123456789"), 200_000))
	form.Close()
	const urlencoded = "application/x-www-form-urlencoded"
	known := ask(t, "HEAD", alone.URL+"/static/words.txt", "", "", nil).header
	modified, tag := known.Get("Last-Modified"), known.Get("ETag")
	if modified == "" || tag == "" {
		t.Fatalf("a static file: %v", known)
	}

	t.Run("a note is there the next time", func(t *testing.T) {
		var pages [2]string
		for i, base := range []string{alone.URL, nginx} {
			jar, err := cookiejar.New(nil)
			if err != nil {
				t.Fatal(err)
			}
			client := &http.Client{Jar: jar, Timeout: time.Minute} // which follows the redirect
			resp, err := client.PostForm(base+"/notes", map[string][]string{"note": {"<Zoë>"}})
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			client.CloseIdleConnections()
			if err != nil || resp.Request.Method != "GET" || !strings.Contains(string(body), "<li>&lt;Zoë&gt;</li>") {
				t.Errorf("%s: %s %q, %v", base, resp.Status, body, err)
			}
			pages[i] = strings.ReplaceAll(string(body), base, "")
		}
		if pages[0] != pages[1] {
			t.Errorf("Go has %q, nginx %q", pages[0], pages[1])
		}
	})

	for _, test := range []struct {
		what         string
		method, path string
		contentType  string
		body         string
		header       []string
		errorPage    bool // the web server's own
		static       bool
	}{
		{what: "a page", method: "GET", path: "/"},
		{what: "its head", method: "HEAD", path: "/"},
		{what: "what the application knows", method: "GET", path: "/where?a=b%20c&d=%2F"},
		{what: "a redirect by path", method: "GET", path: "/away"},
		{what: "a redirect by URL", method: "GET", path: "/away?how=whole"},
		{what: "a form", method: "POST", path: "/notes", contentType: urlencoded, body: "note=Zo%C3%AB"},
		{what: "a form that lacks its field", method: "POST", path: "/notes", contentType: urlencoded, body: "x=y"},
		{what: "a method that isn't allowed", method: "DELETE", path: "/notes"},
		{what: "an upload", method: "POST", path: "/upload", contentType: form.FormDataContentType(), body: file.String()},
		{what: "a download", method: "GET", path: "/report"},
		{what: "a part of it", method: "GET", path: "/report", header: []string{"Range", "bytes=100-199"}},
		{what: "its end", method: "GET", path: "/report", header: []string{"Range", "bytes=-7"}},
		{what: "a part beyond its end", method: "GET", path: "/report", header: []string{"Range", "bytes=9999999-"}},
		{what: "a download that is known", method: "GET", path: "/report", header: []string{"If-None-Match", `"v1"`}},
		{what: "a page that isn't", method: "GET", path: "/no/such/page"},
		{what: "an error", method: "GET", path: "/fail"},
		{what: "too large", method: "POST", path: "/notes", contentType: urlencoded, body: strings.Repeat("x", site.MaxBody+1), errorPage: true},
		{what: "a static file", method: "GET", path: "/static/words.txt", static: true},
		{what: "its head", method: "HEAD", path: "/static/words.txt", static: true},
		{what: "a style sheet", method: "GET", path: "/static/site.css", static: true},
		{what: "a part of a static file", method: "GET", path: "/static/words.txt", header: []string{"Range", "bytes=55-109"}, static: true},
		{what: "a static file that is known", method: "GET", path: "/static/words.txt", header: []string{"If-Modified-Since", modified}, static: true},
		{what: "a static file of a known version", method: "GET", path: "/static/words.txt", header: []string{"If-None-Match", tag}, static: true},
		{what: "a part of a version that isn't any more", method: "GET", path: "/static/words.txt", header: []string{"Range", "bytes=0-9", "If-Range", `"other"`}, static: true},
		{what: "a static file that isn't", method: "GET", path: "/static/no.txt", static: true, errorPage: true},
		{what: "a file outside", method: "GET", path: "/static/..%2fapp/notebook.py", static: true, errorPage: true},
		{what: "a list of files", method: "GET", path: "/static/", static: true, errorPage: true},
	} {
		t.Run(test.what, func(t *testing.T) {
			var answers [2]answer
			for i, base := range []string{alone.URL, nginx} {
				answers[i] = ask(t, test.method, base+test.path, test.contentType, test.body, test.header)
			}
			goAlone, nginx := answers[0], answers[1]
			if goAlone.status != nginx.status {
				t.Fatalf("Go answers %d, nginx %d: %.200q, %.200q", goAlone.status, nginx.status, goAlone.body, nginx.body)
			}
			if test.errorPage {
				return
			}
			for _, name := range compared {
				ours, theirs := goAlone.header.Values(name), nginx.header.Values(name)
				if test.static {
					ours, theirs = withoutCharset(ours), withoutCharset(theirs)
					if name == "Vary" { // for the compression that this nginx isn't told to do
						continue
					}
				}
				if name == "Vary" {
					ours = slices.DeleteFunc(slices.Clone(ours), func(v string) bool { return v == "Accept-Encoding" })
				}
				if name == "Last-Modified" && goAlone.status == http.StatusNotModified {
					continue // Go leaves it out where there is an ETag
				}
				if !slices.Equal(ours, theirs) {
					t.Errorf("%s: Go has %q, nginx %q", name, ours, theirs)
				}
			}
			if goAlone.body != nginx.body {
				t.Errorf("Go sends %d bytes, sha256 %x, nginx %d bytes, %x\n%.300q\n%.300q", len(goAlone.body), sha256.Sum256([]byte(goAlone.body)),
					len(nginx.body), sha256.Sum256([]byte(nginx.body)), goAlone.body, nginx.body)
			}
		})
	}
}

func withoutCharset(values []string) []string {
	var short []string
	for _, v := range values {
		short = append(short, strings.TrimSuffix(v, "; charset=utf-8"))
	}
	return short
}

// session is the value of a cookie, which holds the time at which it was signed.
var session = regexp.MustCompile(`session=[^;]+`)

// ask sends a request under one name for both sites.
func ask(t *testing.T, method, url, contentType, body string, header []string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "notebook.example"
	r.Header.Set("Accept-Encoding", "identity")
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for i, cookie := range resp.Header["Set-Cookie"] {
		resp.Header["Set-Cookie"][i] = session.ReplaceAllString(cookie, "session=...")
	}
	if resp.Header.Get("Content-Length") == "" && resp.ContentLength >= 0 {
		resp.Header.Set("Content-Length", fmt.Sprint(resp.ContentLength))
	}
	return answer{resp.StatusCode, resp.Header, string(data)}
}
