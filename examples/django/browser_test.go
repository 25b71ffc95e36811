package main

import (
	"bytes"
	"crypto/tls"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

const password = "a horse named Wirehair"

// A browser is an HTTP client with cookies, which fills in forms and doesn't
// follow redirects.
type browser struct {
	t testing.TB
	*http.Client
	url string
}

func newBrowser(t testing.TB, url string) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(transport.CloseIdleConnections)
	return &browser{t, &http.Client{
		Jar: jar, Transport: transport, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, url}
}

// do sends a request and returns the answer with its body read.
func (b *browser) do(method, path string, body io.Reader, header ...string) (*http.Response, string) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path, body)
	if err != nil {
		b.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	r.Header.Set("Referer", b.url+path) // which Django asks for under https
	if len(r.Header.Values("Host")) > 0 {
		r.Host = r.Header.Get("Host")
	}
	resp, err := b.Do(r)
	if err != nil {
		b.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp, string(data)
}

// get fails the test unless the answer is the one expected, and returns its
// body.
func (b *browser) get(status int, path string, want ...string) string {
	b.t.Helper()
	resp, body := b.do("GET", path, nil)
	b.check(resp, body, status, want...)
	return body
}

// check fails the test unless an answer has the status, and in its body the
// texts.
func (b *browser) check(resp *http.Response, body string, status int, want ...string) {
	b.t.Helper()
	if resp.StatusCode != status {
		b.t.Fatalf("%s %s: %s, want %d\n%s", resp.Request.Method, resp.Request.URL.Path, resp.Status, status, body)
	}
	for _, text := range want {
		if !strings.Contains(body, text) {
			b.t.Errorf("%s %s lacks %q:\n%s", resp.Request.Method, resp.Request.URL.Path, text, body)
		}
	}
}

var tokenField = regexp.MustCompile(`name="csrfmiddlewaretoken" value="(\w+)"`)

// token returns the CSRF token of the form on a page.
func (b *browser) token(page string) string {
	b.t.Helper()
	found := tokenField.FindStringSubmatch(b.get(200, page))
	if found == nil {
		b.t.Fatalf("%s has no form with a CSRF token", page)
	}
	return found[1]
}

// submit fills in a form and returns the answer.
func (b *browser) submit(path string, fields url.Values) (*http.Response, string) {
	b.t.Helper()
	return b.do("POST", path, strings.NewReader(fields.Encode()), "Content-Type", "application/x-www-form-urlencoded")
}

func (b *browser) logIn(name, password string) (*http.Response, string) {
	b.t.Helper()
	const page = "/accounts/login/"
	return b.submit(page, url.Values{"csrfmiddlewaretoken": {b.token(page)}, "username": {name}, "password": {password}})
}

// upload uploads a document and returns the answer.
func (b *browser) upload(title, filename string, data []byte, published bool, token string) (*http.Response, string) {
	b.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	fields := [][2]string{{"csrfmiddlewaretoken", token}, {"title", title}}
	if published {
		fields = append(fields, [2]string{"published", "on"})
	}
	for _, field := range fields {
		if err := form.WriteField(field[0], field[1]); err != nil {
			b.t.Fatal(err)
		}
	}
	file, err := form.CreateFormFile("file", filename)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := file.Write(data); err != nil {
		b.t.Fatal(err)
	}
	if err := form.Close(); err != nil {
		b.t.Fatal(err)
	}
	return b.do("POST", "/upload", &body, "Content-Type", form.FormDataContentType())
}
