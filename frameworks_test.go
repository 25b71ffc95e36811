package wsgi_test

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/seed-a2d07992/wsgi"
	"github.com/seed-a2d07992/wsgi/internal/testenv"
)

// inFlaskVenv reports whether the process's Python has Flask. "make test" makes a
// virtual environment with it on the Python under test and names it. Where that is
// not the process's, the test is run in a process of its own, because the main
// interpreter of this one is not in the virtual environment.
func inFlaskVenv(t *testing.T) bool {
	t.Helper()
	venv := os.Getenv("WSGI_TEST_VENV")
	if venv == "" {
		testenv.Missing(t, "WSGI_TEST_VENV names no virtual environment with Flask in it; make test does")
	}
	if os.Getenv("WSGI_PYTHON") == venv {
		return true
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "WSGI_PYTHON="+venv)
	out, err := cmd.CombinedOutput()
	if bytes.Contains(out, []byte("--- SKIP: "+t.Name())) {
		testenv.Missing(t, "%s", out)
	}
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// TestFlask serves a Flask application out of a virtual environment.
func TestFlask(t *testing.T) {
	if !inFlaskVenv(t) {
		return
	}
	venv := os.Getenv("WSGI_TEST_VENV")
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
