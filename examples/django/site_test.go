package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/seed-a2d07992/wsgi"
)

// A testSite is the whole program's handler on a server, with an empty database
// and the superuser ada.
type testSite struct {
	*site
	*httptest.Server
	handler http.Handler
	logs    *logs
}

func serveSite(t *testing.T) *testSite {
	t.Helper()
	s := startSite(t, options{})
	s.Server = httptest.NewServer(s.handler)
	t.Cleanup(s.Server.Close)
	return s
}

// startSite is serveSite without the server.
func startSite(t *testing.T, opts options, more ...wsgi.Option) *testSite {
	t.Helper()
	opts.data, opts.hosts, opts.maxUpload = t.TempDir(), "127.0.0.1", 10<<20
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	s := &testSite{logs: &logs{}}
	before := slog.Default()
	slog.SetDefault(slog.New(s.logs))
	t.Cleanup(func() { slog.SetDefault(before) })

	s.site, err = newSite(t.Context(), opts, filepath.Join(cache, "go-wsgi-django-example", "venv"), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	app, docs, err := s.start(t.Context(), more...)
	if err != nil {
		t.Fatal(err)
	}
	s.handler = routes(app, docs, s.static(), opts.maxUpload)
	t.Cleanup(func() {
		if err := app.Close(); err != nil {
			t.Error(err)
		}
		if err := docs.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("logged:\n%s", strings.Join(s.logs.all(), "\n"))
		}
	})
	t.Setenv("DJANGO_SUPERUSER_PASSWORD", password)
	s.manage(t, "createsuperuser", "--noinput", "--username", "ada", "--email", "ada@example.org")
	return s
}

// manage runs a management command and returns what it prints.
func (s *testSite) manage(t *testing.T, args ...string) string {
	t.Helper()
	out, err := s.command(t.Context(), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("manage.py %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// logs is a slog.Handler that keeps its records as text.
type logs struct {
	mu      sync.Mutex
	records []string
}

func (l *logs) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }
func (l *logs) WithAttrs([]slog.Attr) slog.Handler               { return l }
func (l *logs) WithGroup(string) slog.Handler                    { return l }

func (l *logs) Handle(_ context.Context, r slog.Record) error {
	text := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool {
		text += " " + a.String()
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = append(l.records, text)
	return nil
}

func (l *logs) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.records)
}

// expect fails the test unless the next record contains all of these, and
// forgets it.
func (l *logs) expect(t *testing.T, texts ...string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.records) == 0 {
		t.Errorf("nothing is logged, want %q", texts)
		return
	}
	for _, text := range texts {
		if !strings.Contains(l.records[0], text) {
			t.Errorf("%q is not in the log: %s", text, l.records[0])
		}
	}
	l.records = l.records[1:]
}

// published asks Go for the documents.
func (b *browser) published() []document {
	b.t.Helper()
	var answer struct{ Documents []document }
	if err := json.Unmarshal([]byte(b.get(200, "/api/documents")), &answer); err != nil {
		b.t.Fatal(err)
	}
	return answer.Documents
}

func TestSite(t *testing.T) {
	s := serveSite(t)
	ada, eve := newBrowser(t, s.URL), newBrowser(t, s.URL)

	t.Run("login", func(t *testing.T) {
		resp, body := ada.submit("/accounts/login/", url.Values{"username": {"ada"}, "password": {password}})
		ada.check(resp, body, 403, "CSRF verification failed")
		s.logs.expect(t, "Forbidden (CSRF cookie not set.): /accounts/login/", "method=POST uri=/accounts/login/ remote=127.0.0.1:")
		resp, body = ada.logIn("ada", "wrong")
		ada.check(resp, body, 200, "Please enter a correct username and password")
		resp, _ = ada.do("GET", "/upload", nil)
		if to := resp.Header.Get("Location"); resp.StatusCode != 302 || to != "/accounts/login/?next=/upload" {
			t.Errorf("a stranger uploads: %s %s", resp.Status, to)
		}
		resp, body = ada.logIn("ada", password)
		ada.check(resp, body, 302)
		cookies := strings.Join(resp.Header.Values("Set-Cookie"), "\n")
		if resp.Header.Get("Location") != "/" || !regexp.MustCompile(`sessionid=\w+;.*HttpOnly.*SameSite=Lax`).MatchString(cookies) {
			t.Errorf("logging in: %v", resp.Header)
		}
		ada.get(200, "/", "Log ada out", `href="/admin/"`, "There is none that you may see.")
		eve.get(200, "/", `href="/accounts/login/"`)
	})

	text := []byte("Zoë's notes\n")
	large := make([]byte, 5<<20) // more than Django keeps in memory
	for i := range large {
		large[i] = byte(rand.Uint32())
	}
	t.Run("upload", func(t *testing.T) {
		token := ada.token("/upload")
		resp, body := ada.upload("Notes", "notes.txt", text, true, "not the token")
		ada.check(resp, body, 403, "CSRF verification failed")
		s.logs.expect(t, "Forbidden (CSRF token from POST")
		resp, body = ada.upload("", "notes.txt", nil, false, token)
		ada.check(resp, body, 200, "This field is required.", "The submitted file is empty.")
		for _, doc := range []struct {
			title, file string
			data        []byte
			published   bool
		}{{"Notes & <b>", "Zoë.txt", text, true}, {"Large", "large.bin", large, false}} {
			resp, body = ada.upload(doc.title, doc.file, doc.data, doc.published, token)
			ada.check(resp, body, 302)
		}
		ada.get(200, "/", "Notes &amp; &lt;b&gt; is uploaded.", "Large is uploaded.", "(yours alone)")
		// Whichever way an upload came, it is one file, and the temporary one is gone.
		var files []string
		for _, pattern := range []string{"*.upload*", "media/documents/*/*/*"} {
			found, _ := filepath.Glob(filepath.Join(s.data, pattern))
			files = append(files, found...)
		}
		if len(files) != 2 {
			t.Errorf("there are the files %q", files)
		}
	})

	t.Run("download", func(t *testing.T) {
		resp, body := ada.do("GET", "/1/file", nil)
		ada.check(resp, body, 200)
		if body != string(text) || resp.Header.Get("Content-Type") != "text/plain" ||
			resp.Header.Get("Content-Disposition") != "attachment; filename*=utf-8''Zo%C3%AB.txt" || resp.ContentLength != int64(len(text)) {
			t.Errorf("the text came as %q with %v", body, resp.Header)
		}
		if body := ada.get(200, "/2/file"); body != string(large) {
			t.Errorf("of the large file came %d bytes", len(body))
		}
		ada.get(200, "/", "You downloaded: Large, Notes &amp; &lt;b&gt;")
		if page := eve.get(200, "/", "Notes"); strings.Contains(page, "Large") || strings.Contains(page, "You downloaded") {
			t.Errorf("eve sees\n%s", page)
		}
		eve.get(404, "/2/file", "Not Found")
		resp, body = eve.do("HEAD", "/1/file", nil)
		if resp.StatusCode != 200 || body != "" || resp.ContentLength != int64(len(text)) {
			t.Errorf("HEAD: %s %v %q", resp.Status, resp.Header, body)
		}
	})

	t.Run("Go reads the rows", func(t *testing.T) {
		docs := eve.published()
		if len(docs) != 1 || docs[0].Title != "Notes & <b>" || docs[0].Owner != "ada" || docs[0].File != "/1/file" ||
			docs[0].Downloads != 2 || docs[0].Uploaded.IsZero() {
			t.Errorf("Go sees %+v", docs)
		}
		if out := s.manage(t, "shell", "-v", "0", "-c", "from documents.models import Document\nprint(Document.objects.update(title='Renamed'))"); !strings.Contains(out, "2\n") {
			t.Error(out)
		}
		if docs := eve.published(); len(docs) != 1 || docs[0].Title != "Renamed" {
			t.Errorf("after a command has changed it, Go sees %+v", docs)
		}
	})

	t.Run("not modified", func(t *testing.T) {
		resp, _ := eve.do("GET", "/", nil)
		if resp, body := eve.do("GET", "/", nil, "If-None-Match", resp.Header.Get("ETag")); resp.StatusCode != 304 || body != "" {
			t.Errorf("%s %q", resp.Status, body)
		}
	})

	t.Run("static files", func(t *testing.T) {
		css := regexp.MustCompile(`/static/admin/css/base\.\w+\.css`).FindString(eve.get(200, "/admin/login/"))
		resp, body := eve.do("GET", css, nil)
		eve.check(resp, body, 200, "--primary:")
		if cache := resp.Header.Get("Cache-Control"); !strings.Contains(cache, "immutable") {
			t.Errorf("%s: %v", css, resp.Header)
		}
		resp, _ = eve.do("GET", "/static/admin/css/base.css", nil)
		if resp.StatusCode != 200 || resp.Header.Get("Cache-Control") != "" {
			t.Errorf("by the name without a hash: %s %v", resp.Status, resp.Header)
		}
		for _, path := range []string{"/static/", "/static/admin/", "/static/no.css", "/static/..%2fsecret_key"} {
			if resp, body := eve.do("GET", path, nil); resp.StatusCode != 404 {
				t.Errorf("%s: %s %s", path, resp.Status, body)
			}
		}
	})

	t.Run("errors", func(t *testing.T) {
		resp, body := eve.do("GET", "/", nil, "Host", "evil.example")
		eve.check(resp, body, 400)
		s.logs.expect(t, "Invalid HTTP_HOST header: 'evil.example'")
		if err := os.RemoveAll(filepath.Join(s.data, "media")); err != nil {
			t.Fatal(err)
		}
		if body := eve.get(500, "/1/file", "Server Error (500)"); strings.Contains(body, "Traceback") {
			t.Errorf("the client sees\n%s", body)
		}
		s.logs.expect(t, "ERROR Internal Server Error: /1/file\nTraceback", "FileNotFoundError", "uri=/1/file")
	})

	t.Run("too large", func(t *testing.T) {
		resp, body := ada.upload("Too large", "large.bin", bytes.Repeat([]byte("x"), 11<<20), false, ada.token("/upload"))
		ada.check(resp, body, 413)
	})

	t.Run("delete", func(t *testing.T) {
		token := ada.token("/upload")
		resp, body := eve.submit("/2/delete", url.Values{"csrfmiddlewaretoken": {eve.token("/accounts/login/")}})
		eve.check(resp, body, 302)
		for _, path := range []string{"/1/delete", "/2/delete"} {
			resp, body := ada.submit(path, url.Values{"csrfmiddlewaretoken": {token}})
			ada.check(resp, body, 302)
		}
		if docs := eve.published(); len(docs) != 0 {
			t.Errorf("Go sees %+v", docs)
		}
		resp, body = ada.submit("/accounts/logout/", url.Values{"csrfmiddlewaretoken": {token}})
		ada.check(resp, body, 302)
		ada.get(200, "/", `href="/accounts/login/"`)
	})
	if left := s.logs.all(); len(left) > 0 {
		t.Errorf("also logged: %q", left)
	}
}

// TestConcurrently has Django write in all of its interpreters while Go and
// another process read, and looks whether the database is whole afterwards.
func TestConcurrently(t *testing.T) {
	s := serveSite(t)
	const clients, each = 6, 5
	var group sync.WaitGroup
	for i := range clients {
		b := newBrowser(t, s.URL)
		group.Go(func() {
			resp, body := b.logIn("ada", password)
			b.check(resp, body, 302)
			token := b.token("/upload")
			for j := range each {
				title := fmt.Sprintf("document %d of client %d", j, i)
				resp, body := b.upload(title, "a.txt", []byte(title), true, token)
				b.check(resp, body, 302)
				for _, doc := range b.published() {
					if doc.Title == title && b.get(200, doc.File) != title {
						t.Errorf("%s has other contents", title)
					}
				}
				b.get(200, "/", title)
			}
		})
	}
	group.Go(func() { s.manage(t, "dumpdata", "documents") })
	group.Wait()

	docs := newBrowser(t, s.URL).published()
	if len(docs) != clients*each {
		t.Errorf("Go sees %d documents, want %d", len(docs), clients*each)
	}
	for _, doc := range docs {
		if doc.Downloads != 1 {
			t.Errorf("%s was downloaded %d times, want 1", doc.Title, doc.Downloads)
		}
	}
	check := "from django.db import connection\nprint(connection.cursor().execute('PRAGMA integrity_check').fetchall())"
	if out := s.manage(t, "shell", "-v", "0", "-c", check); out != "[('ok',)]\n" {
		t.Errorf("the database: %s", out)
	}
	if left := s.logs.all(); len(left) > 0 {
		t.Errorf("logged: %q", left)
	}
}
