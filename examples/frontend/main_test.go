package main

import (
	"compress/gzip"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/seed-a2d07992/wsgi/examples/internal/programtest"
	"github.com/seed-a2d07992/wsgi/examples/internal/site"
)

// newClient speaks HTTP/2, and takes any certificate.
func newClient() *http.Client {
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
}

// TestProgram runs the program as a user does.
func TestProgram(t *testing.T) {
	p := programtest.Start(t, "Flask:", programtest.Build(t))
	client := newClient()
	resp, err := client.Get(p.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.ProtoMajor != 2 || !strings.Contains(string(body), `<a href="`+p.URL+`/">`) {
		t.Errorf("%s %s %q, %v", resp.Proto, resp.Status, body, err)
	}
	client.CloseIdleConnections()
	p.Stop(t, os.Interrupt)
}

func TestLimits(t *testing.T) {
	dir := t.TempDir()
	app, err := site.Start(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	pair, err := certificate("", "")
	if err != nil {
		t.Fatal(err)
	}
	server := newServer(site.Frontend(app, site.Static(dir)), pair)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.ServeTLS(l, "", "")
	defer server.Close()
	url, client := "https://"+l.Addr().String(), newClient()
	defer client.CloseIdleConnections()
	get := func(path string, header ...string) (*http.Response, string) {
		t.Helper()
		r, _ := http.NewRequestWithContext(t.Context(), "GET", url+path, nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(data)
	}

	for _, path := range []string{"/report", "/static/words.txt"} {
		plain, want := get(path, "Accept-Encoding", "identity")
		resp, body := get(path, "Accept-Encoding", "gzip")
		if resp.Header.Get("Content-Encoding") != "gzip" || len(body) > len(want)/2 {
			t.Errorf("%s: %v, %d bytes of %d", path, resp.Header, len(body), len(want))
			continue
		}
		unpacked, err := gzip.NewReader(strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if data, err := io.ReadAll(unpacked); err != nil || string(data) != want || plain.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s: compressed it differs: %v", path, err)
		}
		for _, encoding := range []string{"identity", "gzip"} { // a part is not compressed
			resp, body = get(path, "Range", "bytes=10-19", "Accept-Encoding", encoding)
			if resp.StatusCode != 206 || body != want[10:20] {
				t.Errorf("%s, a range: %s %q", path, resp.Status, body)
			}
		}
	}
	if resp, _ := get("/static/site.css"); resp.Header.Get("Cache-Control") != "public, max-age=3600" {
		t.Errorf("a static file: %v", resp.Header)
	}
	// Over HTTP/2 clients know the limit, and don't send such a thing.
	long := newClient()
	long.Transport.(*http.Transport).ForceAttemptHTTP2 = false
	r, _ := http.NewRequestWithContext(t.Context(), "GET", url+"/", nil)
	r.Header.Set("X-Long", strings.Repeat("x", 40<<10))
	if resp, err := long.Do(r); err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a long header: %v, %v", resp, err)
	}
	for name, test := range map[string]struct {
		body   io.Reader
		status int
	}{
		"with a length": {strings.NewReader(strings.Repeat("x", site.MaxBody+1)), http.StatusRequestEntityTooLarge},
		// Here the application's read raises, and Flask makes a 500 of that.
		"in chunks": {struct{ io.Reader }{strings.NewReader("note=" + strings.Repeat("x", site.MaxBody+1))}, http.StatusInternalServerError},
	} {
		resp, err := client.Post(url+"/notes", "application/x-www-form-urlencoded", test.body)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != test.status {
			t.Errorf("a large request %s: %s", name, resp.Status)
		}
	}
	// TLS of a version that nobody should speak any more.
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}).Handshake(); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
}
