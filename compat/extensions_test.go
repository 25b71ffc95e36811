package compat

import (
	"strings"
	"testing"

	"github.com/seed-a2d07992/wsgi"
)

// TestExtensionModules that frameworks have beside the same in Python: what
// docs/frameworks.md says of them.
func TestExtensionModules(t *testing.T) {
	for _, mode := range []wsgi.Isolation{wsgi.OwnGIL, wsgi.Main} {
		t.Run(mode.String(), func(t *testing.T) {
			app, _ := newApp(t, "extensions_app", "application", wsgi.WithIsolation(mode), wsgi.WithThreads(1))
			c := newClient(t, serve(t, app).URL)
			for module, refuses := range map[string]bool{
				"markupsafe._speedups":                          false,
				"zope.interface._zope_interface_coptimizations": true,
				"falcon.cyutil.uri":                             true,
				"dulwich._objects":                              true,
				"psycopg2._psycopg":                             true,
			} {
				want := "loaded"
				if refuses && mode == wsgi.OwnGIL {
					want = "module " + module + " does not support loading in subinterpreters"
				}
				if got := c.get(200, "/"+module); !strings.HasPrefix(got, want) {
					t.Errorf("%s: %q, want %q", module, got, want)
				}
			}
		})
	}
}
