package wsgi_test

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/seed-a2d07992/wsgi"
)

// TestFlask serves a Flask application out of a virtual environment on the
// Python under test. "make test" makes the environment and names it.
func TestFlask(t *testing.T) {
	venv := os.Getenv("WSGI_TEST_VENV")
	if venv == "" {
		t.Skip("WSGI_TEST_VENV names no virtual environment with Flask in it; make test does")
	}
	if os.Getenv("WSGI_PYTHON") != venv {
		// In a process of its own: the main interpreter of this one is not in
		// the virtual environment.
		ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestFlask$", "-test.v")
		cmd.Env = append(os.Environ(), "WSGI_PYTHON="+venv)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestFlask") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	isolations(t, func(t *testing.T, mode wsgi.Isolation) {
		s := servePlain(t, `
import sys
from flask import Flask, request

application = Flask(__name__)

@application.get("/<name>")
def show(name):
    return {"name": name, "prefix": sys.prefix, "query": request.args.get("q")}

@application.post("/")
def add():
    return {"sum": sum(request.get_json())}, 201
`, wsgi.WithIsolation(mode))
		resp, body := s.get(t, "/Zo%C3%AB?q=a%26b")
		for _, want := range []string{`"name":"Zo\u00eb"`, `"prefix":"` + venv + `"`, `"query":"a&b"`} {
			if !strings.Contains(body, want) {
				t.Errorf("GET: %s %s lacks %s", resp.Status, body, want)
			}
		}
		r, err := http.NewRequestWithContext(t.Context(), "POST", s.URL, strings.NewReader("[1, 2, 3]"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		if resp, body := s.send(t, r); resp.StatusCode != 201 || strings.TrimSpace(body) != `{"sum":6}` {
			t.Errorf("POST: %s %s", resp.Status, body)
		}
		s.Logs.expectQuiet(t)
	})
}
