package compat

import (
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/seed-a2d07992/wsgi"
)

// TestWerkzeugDebugger goes the way from the page with the traceback to the
// console in one of its frames. The debugger keeps the frames in a variable, so
// there may be only one interpreter.
func TestWerkzeugDebugger(t *testing.T) {
	const pin = "123-456-789"
	app, records := newApp(t, "debugged_app", "application",
		wsgi.WithInterpreters(1), wsgi.WithEnv(map[string]string{"WERKZEUG_DEBUG_PIN": pin}))
	mux := http.NewServeMux()
	mux.Handle("/shop/", http.StripPrefix("/shop", app))
	c := newClient(t, serve(t, mux).URL+"/shop")
	c.http.Jar, _ = cookiejar.New(nil) // never fails
	ask := func(query ...string) (*http.Response, string) {
		values := url.Values{"__debugger__": {"yes"}}
		for i := 0; i < len(query); i += 2 {
			values.Set(query[i], query[i+1])
		}
		return c.do("GET", "/works?"+values.Encode(), nil)
	}

	if body := c.get(200, "/works"); body != "works" {
		t.Error(body)
	}
	page := c.get(500, "/")
	if !strings.Contains(page, "ValueError") || !strings.Contains(page, "it fails with 6") || !strings.Contains(page, "EVALEX = true") {
		t.Fatalf("the page with the traceback: %s", page)
	}
	secret := regexp.MustCompile(`SECRET = "(\w+)"`).FindStringSubmatch(page)
	frames := regexp.MustCompile(`id="frame-(\d+)"`).FindAllStringSubmatch(page, -1)
	if secret == nil || frames == nil {
		t.Fatalf("no secret and frames in %s", page)
	}
	frame := frames[len(frames)-1][1]

	script := regexp.MustCompile(`\?__debugger__=yes&amp;cmd=resource&amp;f=debugger\.js`)
	if resp, body := ask("cmd", "resource", "f", "debugger.js"); !script.MatchString(page) || resp.StatusCode != 200 || !strings.Contains(body, "function") {
		t.Errorf("its script: %s", resp.Status)
	}
	command := []string{"cmd", "known_to_the_frame * 7", "frm", frame, "s", secret[1]}
	if _, body := ask(command...); body != "works" {
		t.Errorf("without the PIN the console answers %q", body)
	}
	for _, try := range []struct {
		pin string
		ok  bool
	}{{"111-111-111", false}, {pin, true}} {
		if _, body := ask("cmd", "pinauth", "pin", try.pin, "s", secret[1]); !strings.Contains(body, fmt.Sprintf(`"auth": %v`, try.ok)) {
			t.Errorf("the PIN %s: %s", try.pin, body)
		}
	}
	if resp, body := ask(command...); resp.StatusCode != 200 || !strings.Contains(body, "42") {
		t.Errorf("the console answers %s %q", resp.Status, body)
	}
	// It logs when the client has the page already.
	if err := app.Close(); err != nil {
		t.Error(err)
	}
	if said := records.take(); !strings.Contains(said, "ValueError: it fails with 6") {
		t.Errorf("logged: %q", said)
	}
}
