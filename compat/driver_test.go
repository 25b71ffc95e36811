package compat

import (
	"strings"
	"testing"

	"github.com/seed-a2d07992/wsgi"
)

// TestPsycopg2ByDefault: an interpreter with its own GIL refuses it, and the main
// interpreter, which comes next, must find it whole. There is no database.
func TestPsycopg2ByDefault(t *testing.T) {
	app, records := newApp(t, "driver_app", "application")
	if got, said := app.Stats().Isolation, records.take(); got != wsgi.Main || !strings.Contains(said, "refuses an interpreter with its own GIL") {
		t.Errorf("it runs under %v and has logged %q", got, said)
	}
	if body := newClient(t, serve(t, app).URL).get(200, "/"); !strings.Contains(body, "127.0.0.1") {
		t.Errorf("connecting where nobody listens: %q", body)
	}
}
