package compat

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// A mount is a framework's application at a prefix.
type mount struct {
	*client
	framework framework
	prefix    string
	logs      *logs
}

// rules are what each framework must do.
var rules = []struct {
	name string
	test func(t *testing.T, m *mount)
}{
	{"routes and links", linksRule},
	{"query", queryRule},
	{"form", formRule},
	{"cookies", cookiesRule},
	{"sessions", sessionsRule},
	{"upload", func(t *testing.T, m *mount) { uploadRule(t, m, false) }},
	{"upload in chunks", func(t *testing.T, m *mount) { uploadRule(t, m, true) }},
	{"download", downloadRule},
	{"ranges", rangesRule},
	{"not modified", notModifiedRule},
	{"stream", streamRule},
	{"async view", asyncRule},
	{"redirect", redirectRule},
	{"behind a proxy", proxyRule},
	{"HEAD", headRule},
	{"not found", notFoundRule},
	{"method not allowed", notAllowedRule},
	{"exception", exceptionRule},
}

// expectJSON fails the test unless the body is the JSON wanted.
func expectJSON(t *testing.T, body, want string) {
	t.Helper()
	var have, wanted any
	if err := json.Unmarshal([]byte(want), &wanted); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(body), &have); err != nil || !reflect.DeepEqual(have, wanted) {
		t.Errorf("the answer is %s, want %s (%v)", body, want, err)
	}
}

func linksRule(t *testing.T, m *mount) {
	if body, want := m.get(200, "/"), "hello from "+m.prefix+"/"; body != want {
		t.Errorf("the first page is %q, want %q", body, want)
	}
	expectJSON(t, m.get(200, "/item/Zo%C3%AB%20%26"), `{"name": "Zoë &", "url": "`+m.prefix+`/item/Zo%C3%AB%20&"}`)
}

func queryRule(t *testing.T, m *mount) {
	expectJSON(t, m.get(200, "/query?q=a&q=Zo%C3%AB%20%26+b&other=1&q="), `{"q": ["a", "Zoë & b", ""]}`)
}

// post sends a form.
func (m *mount) post(target string, form url.Values) (*http.Response, string) {
	m.t.Helper()
	return m.do("POST", target, strings.NewReader(form.Encode()), "Content-Type", "application/x-www-form-urlencoded")
}

func formRule(t *testing.T, m *mount) {
	large := strings.Repeat("large & ", 10_000) // more than is read ahead
	for _, name := range []string{"Zoë", large} {
		resp, body := m.post("/form", url.Values{"name": {name}, "tag": {"a", "b=c"}, "empty": {""}})
		if resp.StatusCode != 200 {
			t.Fatalf("POST: %s %s", resp.Status, body)
		}
		expectJSON(t, body, `{"name": "`+name+`", "tags": ["a", "b=c"], "empty": ""}`)
	}
}

func cookiesRule(t *testing.T, m *mount) {
	resp, body := m.do("GET", "/cookies", nil, "Cookie", `one=1; two="2 and 3"`)
	expectJSON(t, body, `{"one": "1", "two": "2 and 3"}`)
	cookies := resp.Cookies()
	slices.SortFunc(cookies, func(a, b *http.Cookie) int { return strings.Compare(a.Name, b.Name) })
	if len(cookies) != 2 || cookies[0].Value != "yes" || !cookies[0].HttpOnly ||
		cookies[1].Value != "dark-blue" || cookies[1].SameSite != http.SameSiteLaxMode {
		t.Errorf("it sets %q", resp.Header.Values("Set-Cookie"))
	}
}

func sessionsRule(t *testing.T, m *mount) {
	ada, eve := newClient(t, m.url), newClient(t, m.url)
	ada.http.Jar, _ = cookiejar.New(nil) // never fails
	eve.http.Jar, _ = cookiejar.New(nil)
	ada.http.CheckRedirect = nil
	resp, body := (&mount{client: ada}).post("/login", url.Values{"user": {"ada"}})
	if resp.StatusCode != 200 || body != "ada" || resp.Request.URL.Path != m.prefix+"/who" {
		t.Errorf("the login leads to %s: %s %q", resp.Request.URL, resp.Status, body)
	}
	for range 4 { // interpreters share nothing but the secret
		if a, e := ada.get(200, "/who"), eve.get(200, "/who"); a != "ada" || e != "nobody" {
			t.Errorf("ada is %q, eve is %q", a, e)
		}
	}
	if _, body := (&mount{client: ada}).post("/logout", nil); body != "nobody" {
		t.Errorf("after the logout ada is %q", body)
	}
}

// multipartBody returns a form with a text and a file.
func multipartBody(t *testing.T, name string, data []byte, boundary string) (body []byte, contentType string) {
	t.Helper()
	var buf bytes.Buffer
	w := multipart.NewWriter(&buf)
	if boundary != "" {
		if err := w.SetBoundary(boundary); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.WriteField("title", "Ein Käse"); err != nil {
		t.Fatal(err)
	}
	part, err := w.CreateFormFile("file", name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes(), w.FormDataContentType()
}

func uploadRule(t *testing.T, m *mount, chunked bool) {
	for _, size := range []int{1, 64 << 10, 3<<20 + 1} { // the last one is more than they keep in memory
		data := noise(size, 2)
		sent, contentType := multipartBody(t, "Käse.bin", data, "")
		var reader io.Reader = bytes.NewReader(sent)
		if chunked {
			reader = unsized{reader}
		}
		resp, body := m.do("POST", "/upload", reader, "Content-Type", contentType)
		if resp.StatusCode != 200 {
			t.Fatalf("%d bytes: %s %s", size, resp.Status, body)
		}
		var got struct {
			Title, Name, SHA256 string
			Size                int
		}
		sum := sha256.Sum256(data)
		if err := json.Unmarshal([]byte(body), &got); err != nil || got.Title != "Ein Käse" || got.Name != "Käse.bin" ||
			got.Size != size || got.SHA256 != hex.EncodeToString(sum[:]) {
			t.Errorf("of %d bytes arrived %s (%v)", size, body, err)
		}
	}
}

func downloadRule(t *testing.T, m *mount) {
	resp, body := m.do("GET", "/download", nil)
	if resp.StatusCode != 200 || resp.ContentLength != int64(len(downloaded)) || body != string(downloaded) {
		t.Errorf("%s, length %d, got %d bytes", resp.Status, resp.ContentLength, len(body))
	}
	if disposition := resp.Header.Get("Content-Disposition"); !strings.HasPrefix(disposition, "attachment") ||
		!strings.Contains(disposition, "file.bin") || resp.Header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("with %v", resp.Header)
	}
}

func rangesRule(t *testing.T, m *mount) {
	for asked, want := range map[string][2]int{
		"bytes=100-199":    {100, 200},
		"bytes=1048576-":   {1 << 20, len(downloaded)},
		"bytes=-5":         {len(downloaded) - 5, len(downloaded)},
		"bytes=300000-":    {300_000, len(downloaded)},
		"bytes=0-99999999": {0, len(downloaded)},
	} {
		resp, body := m.do("GET", "/download", nil, "Range", asked)
		// One that covers all may also be answered as if there were none.
		if whole := resp.StatusCode == 200 && want[0] == 0; resp.StatusCode != 206 && !whole ||
			body != string(downloaded[want[0]:want[1]]) || resp.ContentLength != int64(len(body)) {
			t.Errorf("%s: %s, length %d, %d bytes, %q", asked, resp.Status, resp.ContentLength, len(body), resp.Header.Get("Content-Range"))
		}
	}
	if resp, _ := m.do("GET", "/download", nil, "Range", "bytes=99999999-"); resp.StatusCode != 416 {
		t.Errorf("a range behind the end: %s", resp.Status)
	}
}

func notModifiedRule(t *testing.T, m *mount) {
	resp, _ := m.do("GET", "/download", nil)
	for name, value := range map[string]string{
		"If-None-Match":     resp.Header.Get("ETag"),
		"If-Modified-Since": resp.Header.Get("Last-Modified"),
	} {
		if value == "" {
			continue
		}
		if resp, body := m.do("GET", "/download", nil, name, value); resp.StatusCode != 304 || body != "" {
			t.Errorf("%s: %s, %d bytes", name, resp.Status, len(body))
		}
	}
	if resp.Header.Get("ETag")+resp.Header.Get("Last-Modified") == "" {
		t.Errorf("nothing to ask by: %v", resp.Header)
	}
}

func streamRule(t *testing.T, m *mount) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if out, err := exec.Command("mkfifo", fifo).CombinedOutput(); err != nil {
		t.Fatalf("mkfifo: %v\n%s", err, out)
	}
	resp, err := m.http.Get(m.url + "/stream?fifo=" + url.QueryEscape(fifo))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body := bufio.NewReader(resp.Body)
	if line, err := body.ReadString('\n'); err != nil || line != "first\n" {
		t.Fatalf("the first chunk is %q, %v", line, err)
	}
	// Only now is the second one made.
	within(t, "opening the pipe", func() {
		pipe, err := os.OpenFile(fifo, os.O_WRONLY, 0)
		if err != nil {
			t.Error(err)
			return
		}
		pipe.Close()
	})
	if rest, err := io.ReadAll(body); err != nil || string(rest) != "last\n" {
		t.Errorf("the rest is %q, %v", rest, err)
	}
}

func asyncRule(t *testing.T, m *mount) {
	if body := m.get(200, "/async"); body != "later" {
		t.Errorf("it answers %q", body)
	}
}

func redirectRule(t *testing.T, m *mount) {
	resp, _ := m.do("GET", "/redirect", nil)
	to, err := resp.Location()
	if err != nil || resp.StatusCode/100 != 3 || to.String() != m.url+"/item/7" {
		t.Errorf("%s %v leads to %v, %v", resp.Status, resp.Header, to, err)
	}
}

// proxyRule is about links behind a proxy that hides scheme, host and a prefix.
func proxyRule(t *testing.T, m *mount) {
	resp, body := m.do("GET", "/redirect", nil, "X-Forwarded-For", "192.0.2.7", "X-Forwarded-Proto", "https",
		"X-Forwarded-Host", "shop.example", "X-Forwarded-Prefix", "/outer")
	outer := *resp.Request.URL
	outer.Scheme, outer.Host, outer.Path = "https", "shop.example", "/outer"+outer.Path
	to, err := outer.Parse(resp.Header.Get("Location"))
	if err != nil || resp.StatusCode/100 != 3 || to.String() != "https://shop.example/outer"+m.prefix+"/item/7" {
		t.Errorf("%s leads to %v, %v\n%s", resp.Status, resp.Header["Location"], err, body)
	}
}

func headRule(t *testing.T, m *mount) {
	for _, target := range []string{"/", "/download"} {
		get, body := m.do("GET", target, nil)
		head, nothing := m.do("HEAD", target, nil)
		if nothing != "" || head.StatusCode != get.StatusCode || head.ContentLength != int64(len(body)) {
			t.Errorf("%s: %s, length %d, %d bytes; GET is %s, %d bytes", target, head.Status, head.ContentLength, len(nothing), get.Status, len(body))
		}
	}
}

func notFoundRule(t *testing.T, m *mount) {
	for _, target := range []string{"/missing", "/item/a/b", "/no/%2e%2e/no"} {
		if body := m.get(404, target); !strings.Contains(body, m.framework.notFound) {
			t.Errorf("%s: %q doesn't say %q", target, body, m.framework.notFound)
		}
	}
}

func notAllowedRule(t *testing.T, m *mount) {
	resp, body := m.do("DELETE", "/form", nil)
	if resp.StatusCode != 405 || !strings.Contains(resp.Header.Get("Allow"), "POST") {
		t.Errorf("%s %v %s", resp.Status, resp.Header, body)
	}
	if said := m.logs.take(); strings.Contains(said, "Traceback") {
		t.Errorf("logged: %s", said)
	}
}

func exceptionRule(t *testing.T, m *mount) {
	if body := m.get(500, "/raises"); strings.Contains(body, "Traceback") || strings.Contains(body, "a secret") || body == "" {
		t.Errorf("the client sees %q", body)
	}
	if said := m.logs.take(); !strings.Contains(said, "Traceback") || !strings.Contains(said, "ValueError: a secret of the application") {
		t.Errorf("logged: %q", said)
	}
}
