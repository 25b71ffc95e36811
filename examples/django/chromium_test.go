package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/seed-a2d07992/wsgi/internal/testenv"
)

// TestAdmin uses Django's admin in Chromium: its pages, with their style sheets
// and scripts, which Go serves. With -artifacts it leaves pictures of them.
func TestAdmin(t *testing.T) {
	chromium := findChromium(t)
	s := serveSite(t)
	ctx, trouble := startChromium(t, chromium)
	file := filepath.Join(t.TempDir(), "plan.txt")
	if err := os.WriteFile(file, []byte("the plan"), 0o644); err != nil {
		t.Fatal(err)
	}
	do := func(what string, steps ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		if err := chromedp.Do(ctx, steps...); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		name := filepath.Join(t.ArtifactDir(), strings.ReplaceAll(what, " ", "-")+".png")
		if err := os.WriteFile(name, value(t, ctx, chromedp.CaptureScreenshot()), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	do("logging in",
		chromedp.Navigate(s.URL+"/admin/"),
		chromedp.SendKeys("#id_username", "ada"),
		chromedp.SendKeys("#id_password", password+"\r"),
		chromedp.WaitVisible("#user-tools"),
	)
	if heading := value(t, ctx, chromedp.Text("#content h1")); heading != "Site administration" {
		t.Errorf("after logging in, the page is %q", heading)
	}
	const color = `getComputedStyle(document.getElementById("header")).backgroundColor`
	if header := value(t, ctx, chromedp.Evaluate[string](color)); header == "" || header == "rgba(0, 0, 0, 0)" {
		t.Errorf("the page has no style: its header is %q", header)
	}
	do("filling in the form",
		chromedp.Click(`a[href="/admin/documents/document/add/"]`),
		chromedp.SendKeys("#id_title", "The <plan>"),
		chromedp.SetUploadFiles("#id_file", []string{file}),
		chromedp.Click("#id_published"),
	)
	do("the list",
		chromedp.Click(`input[name="_save"]`),
		chromedp.WaitVisible(".messagelist .success"),
	)
	row := value(t, ctx, chromedp.Text("#result_list tbody tr"))
	for _, want := range []string{"The <plan>", "ada", "0"} {
		if !strings.Contains(row, want) {
			t.Errorf("the row of the list is %q, without %q", row, want)
		}
	}
	// The site's own form, with the session of the admin.
	do("uploading to the site",
		chromedp.Navigate(s.URL+"/upload"),
		chromedp.SendKeys("#id_title", "My notes"),
		chromedp.SetUploadFiles("#id_file", []string{file}),
		chromedp.Click(`form[enctype] button`),
		chromedp.WaitVisible(".message"),
	)
	if rows := value(t, ctx, chromedp.Text("table")); !strings.Contains(rows, "The <plan>") || !strings.Contains(rows, "My notes (yours alone)") {
		t.Errorf("the site lists\n%s", rows)
	}
	const download = `fetch(document.querySelector('td a[href$="/file"]').href).then(r => r.text())`
	if got := value(t, ctx, chromedp.Evaluate[string](download, chromedp.EvalAwaitPromise)); got != "the plan" {
		t.Errorf("the file is %q", got)
	}
	if docs := newBrowser(t, s.URL).published(); len(docs) != 1 || docs[0].Title != "The <plan>" || docs[0].Owner != "ada" {
		t.Errorf("Go sees %+v", docs)
	}
	do("logging out",
		chromedp.Navigate(s.URL+"/admin/"),
		chromedp.Submit("#logout-form"),
		chromedp.WaitVisible(`a[href="/accounts/login/"]`), // of the site, see LOGOUT_REDIRECT_URL
	)
	if found := trouble(); len(found) > 0 {
		t.Errorf("Chromium met with:\n%s", strings.Join(found, "\n"))
	}
	if left := s.logs.all(); len(left) > 0 {
		t.Errorf("logged: %q", left)
	}
}

// value returns what an action in the browser does.
func value[T any](t *testing.T, ctx context.Context, action chromedp.Action[T]) T {
	t.Helper()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// findChromium returns the path of a Chromium or Chrome. "make test" installs
// Debian's under CI.
func findChromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	testenv.Missing(t, "there is no Chromium: scripts/install chromium")
	return ""
}

// startChromium starts a browser with a profile of its own. The function
// returned tells which requests have failed, and what pages have complained of.
func startChromium(t *testing.T, path string) (context.Context, func() []string) {
	t.Helper()
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.NoSandbox, // which root can't have
		chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.WSURLReadTimeout(time.Minute),
	)
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(cancel)

	var mu sync.Mutex
	var found []string
	note := func(event any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := event.(type) {
		case *network.EventResponseReceived:
			if e.Response.Status >= 400 && !strings.HasSuffix(e.Response.URL, "/favicon.ico") {
				found = append(found, fmt.Sprintf("%d for %s", e.Response.Status, e.Response.URL))
			}
		case *network.EventLoadingFailed:
			if !e.Canceled {
				found = append(found, "a request that failed: "+e.ErrorText)
			}
		case *runtime.EventExceptionThrown:
			found = append(found, e.ExceptionDetails.Text)
		}
	}
	ctx, cancel = chromedp.NewContext(ctx, chromedp.WithListener(note))
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1100, 700)); err != nil {
		t.Fatalf("starting %s: %v", path, err)
	}
	if _, err := chromedp.Call(ctx, network.Enable, network.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute) // not the first: it would be the browser's
	t.Cleanup(cancel)
	return ctx, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return found
	}
}
