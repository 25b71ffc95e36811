package compat

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/seed-a2d07992/wsgi"
)

// startProject has Django make a project, adds a view and settings to it, and
// makes its database. Its modules have the names that any other's have.
func startProject(t *testing.T, parent, name, zone, level, filter string) (dir string) {
	t.Helper()
	dir = filepath.Join(parent, name)
	own := filepath.Join(dir, "own")
	if err := os.MkdirAll(own, 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), mustPython(t), args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	run("-m", "django", "startproject", "config", ".")
	view, err := os.ReadFile("apps/project/pages.py")
	if err != nil {
		t.Fatal(err)
	}
	settings, err := os.ReadFile(filepath.Join(dir, "config", "settings.py"))
	if err != nil {
		t.Fatal(err)
	}
	settings = fmt.Appendf(settings, `
import os, sys, warnings
os.environ["PROJECT"] = %q
sys.path.append(str(BASE_DIR / "own"))
warnings.simplefilter(%q, RuntimeWarning)
TIME_ZONE = %q
LOGGING = {"version": 1, "disable_existing_loggers": False, "root": {"level": %q}}
`, name, filter, zone, level)
	urls := "from django.urls import path\nfrom pages import state\nurlpatterns = [path('state', state)]\n"
	for path, content := range map[string]string{
		"config/settings.py": string(settings),
		"config/urls.py":     urls,
		"pages.py":           string(view),
		"own/own_library.py": fmt.Sprintf("NAME = %q\n", name),
	} {
		if err := os.WriteFile(filepath.Join(dir, path), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run("manage.py", "migrate", "--verbosity", "0")
	return dir
}

// TestTwoDjangoProjects as startproject writes them, whose modules all have the
// same names, run side by side.
func TestTwoDjangoProjects(t *testing.T) {
	type project struct{ name, zone, level, filter string }
	projects := []project{
		{"shop", "Europe/Berlin", "DEBUG", "error"},
		{"blog", "Asia/Tokyo", "ERROR", "ignore"},
	}
	parent := t.TempDir()
	dirs := make([]string, len(projects))
	for i, p := range projects {
		dirs[i] = startProject(t, parent, p.name, p.zone, p.level, p.filter)
	}
	for _, mode := range []wsgi.Isolation{wsgi.OwnGIL, wsgi.SharedGIL} {
		t.Run(mode.String(), func(t *testing.T) {
			mux := http.NewServeMux()
			for i, p := range projects {
				app, records := newApp(t, "config.wsgi", "application", wsgi.WithPath(dirs[i]), wsgi.WithIsolation(mode))
				mux.Handle("/"+p.name+"/", http.StripPrefix("/"+p.name, app))
				t.Cleanup(func() {
					if said := records.take(); said != "" {
						t.Errorf("%s has logged %s", p.name, said)
					}
				})
			}
			url := serve(t, mux).URL
			var group sync.WaitGroup
			for i := range 12 {
				p := projects[i%2]
				c := newClient(t, url+"/"+p.name)
				group.Go(func() {
					resp, body := c.do("GET", "/state", nil)
					if resp.StatusCode != 200 {
						t.Errorf("%s: %s %.2000s", p.name, resp.Status, body)
						return
					}
					expectJSON(t, body, fmt.Sprintf(`{"settings": "config.settings in %[1]s", "environ": %[1]q, "library": %[1]q,
						"path": [%[1]q], "logging": %[2]q, "warnings": %[3]q, "zone": %[4]q, "users": [%[1]q]}`,
						p.name, p.level, map[string]string{"error": "raised", "ignore": "ignored"}[p.filter], p.zone))
				})
			}
			group.Wait()
		})
	}
	// In the main interpreter there is room for one of them.
	app, _ := newApp(t, "config.wsgi", "application", wsgi.WithPath(dirs[0]), wsgi.WithIsolation(wsgi.Main))
	_, err := wsgi.New("config.wsgi", "application",
		wsgi.WithPython(mustPython(t)), wsgi.WithPath(dirs[1]), wsgi.WithIsolation(wsgi.Main))
	if err == nil || !strings.Contains(err.Error(), dirs[0]) || !strings.Contains(err.Error(), dirs[1]) {
		t.Errorf("the second one in the main interpreter: %v", err)
	}
	c := newClient(t, serve(t, app).URL)
	if body := c.get(200, "/state"); !strings.Contains(body, "config.settings in shop") {
		t.Errorf("the first one there: %s", body)
	}
}
