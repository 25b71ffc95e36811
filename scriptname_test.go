package wsgi

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// mountPaths is what a request's path becomes.
type mountPaths struct{ scriptName, pathInfo string }

func TestInferMount(t *testing.T) {
	tests := []struct {
		rule         string
		target, path string // http.Request's RequestURI and URL.Path
		want         mountPaths
	}{
		{"nothing stripped", "/app/x?q=1", "/app/x", mountPaths{"", "/app/x"}},
		{"nothing stripped from an escaped path", "/caf%C3%A9/%00", "/caf\xc3\xa9/\x00", mountPaths{"", "/caf\xc3\xa9/\x00"}},
		{"invalid UTF-8 stays as it is", "/app/%FF", "/\xff", mountPaths{"/app", "/\xff"}},
		{"prefix stripped", "/app/x", "/x", mountPaths{"/app", "/x"}},
		{"prefix of two segments", "/a/b/x", "/x", mountPaths{"/a/b", "/x"}},
		{"query is no part of the path", "/app/x?a=/x", "/x", mountPaths{"/app", "/x"}},
		{"question mark without query", "/app/x?", "/x", mountPaths{"/app", "/x"}},
		{"mount itself has no PATH_INFO", "/app", "", mountPaths{"/app", ""}},
		{"mount with a slash", "/app/", "/", mountPaths{"/app", "/"}},
		{"stripped slash goes back", "/app/x", "x", mountPaths{"/app", "/x"}},
		{"stripped slash goes back to nothing", "/app/", "", mountPaths{"/app", "/"}},
		{"slash alone is no mount", "/x", "x", mountPaths{"", "/x"}},
		{"slash alone, all of the path", "/", "", mountPaths{"", "/"}},
		{"slash before a star", "/*", "*", mountPaths{"", "/*"}},
		{"double slash after the mount", "/a//b", "//b", mountPaths{"/a", "//b"}},
		{"double slash, one stripped", "/a//b", "/b", mountPaths{"/a", "/b"}},
		{"double slash, both stripped", "/a//b", "b", mountPaths{"/a", "/b"}},
		{"double slash at the end", "/a//", "/", mountPaths{"/a", "/"}},
		{"encoded prefix is decoded", "/a%20b/x", "/x", mountPaths{"/a b", "/x"}},
		{"encoded slash in the prefix", "/a%2Fb/x", "/x", mountPaths{"/a/b", "/x"}},
		{"encoded slash in the rest", "/app/a%2Fb", "/a/b", mountPaths{"/app", "/a/b"}},
		{"encoded percent is decoded once", "/app/%252F", "/%2F", mountPaths{"/app", "/%2F"}},
		{"plus is no space", "/app/a+b", "/a+b", mountPaths{"/app", "/a+b"}},
		{"absolute-form", "http://example.com/app/x", "/x", mountPaths{"/app", "/x"}},
		{"absolute-form without a path", "http://example.com", "", mountPaths{"", ""}},
		{"authority-form", "example.com:443", "", mountPaths{"", ""}},
		{"authority-form of an address", "192.0.2.1:443", "", mountPaths{"", ""}},
		{"two slashes are no authority", "//app/x", "/x", mountPaths{"", "/x"}},
		{"rewritten path", "/app/x", "/other", mountPaths{"", "/other"}},
		{"longer path than asked for", "/x", "/app/x", mountPaths{"", "/app/x"}},
		{"no target", "", "/x", mountPaths{"", "/x"}},
		{"malformed target", "/%zz/x", "/x", mountPaths{"", "/x"}},
		{"cut within a segment", "/app/x", "p/x", mountPaths{"", "/p/x"}},
		{"cut within a segment, to the end", "/app", "p", mountPaths{"", "/p"}},
		{"cleaned path", "/app//x", "/app/x", mountPaths{"", "/app/x"}},
		{"cleaned path, then stripped", "/app//x", "/x", mountPaths{"/app", "/x"}},
		{"cleaned path at the root", "//x", "/x", mountPaths{"", "/x"}},
		{"cleaned of dots, then stripped", "/y/../app/x", "/x", mountPaths{"", "/x"}},
		{"empty segment in what was stripped", "/a//b/x", "/x", mountPaths{"", "/x"}},
		{"control character in what was stripped", "/a%0Ab/x", "/x", mountPaths{"", "/x"}},
		{"no leading slash without target", "", "x", mountPaths{"", "/x"}},
	}
	for _, test := range tests {
		t.Run(test.rule, func(t *testing.T) {
			var got mountPaths
			got.scriptName, got.pathInfo = inferMount(test.target, test.path)
			if got != test.want {
				t.Errorf("inferMount(%q, %q) = %q, want %q", test.target, test.path, got, test.want)
			}
		})
	}
}

func TestApplyMount(t *testing.T) {
	tests := []struct {
		rule         string
		mount        string // WithScriptName
		target, path string
		want         mountPaths
	}{
		{"mount comes off", "/shop", "/shop/x", "/shop/x", mountPaths{"/shop", "/x"}},
		{"mount itself", "/shop", "/shop", "/shop", mountPaths{"/shop", ""}},
		{"mount with a slash", "/shop", "/shop/", "/shop/", mountPaths{"/shop", "/"}},
		{"only whole segments", "/shop", "/shopping", "/shopping", mountPaths{"/shop", "/shopping"}},
		{"a proxy took it off", "/shop", "/x", "/x", mountPaths{"/shop", "/x"}},
		{"StripPrefix took it off", "/shop", "/shop/x", "/x", mountPaths{"/shop", "/x"}},
		{"StripPrefix took the slash too", "/shop", "/shop/x", "x", mountPaths{"/shop", "/x"}},
		{"StripPrefix took all but the slash", "/shop", "/shop/", "", mountPaths{"/shop", "/"}},
		{"not taken off twice", "/shop", "/shop/shop/x", "/shop/x", mountPaths{"/shop", "/shop/x"}},
		{"StripPrefix took a part of it", "/v1/shop", "/v1/shop/x", "/shop/x", mountPaths{"/v1/shop", "/x"}},
		{"StripPrefix took more than it", "/shop", "/shop/v1/x", "/x", mountPaths{"/shop", "/x"}},
		{"StripPrefix took something else", "/shop", "/internal/shop/x", "/shop/x", mountPaths{"/shop", "/x"}},
		{"no target", "/shop", "", "/shop/x", mountPaths{"/shop", "/x"}},
		{"asterisk-form has no path", "/shop", "*", "*", mountPaths{"/shop", ""}},
		{"empty: at the root, whatever was stripped", "", "/shop/x", "/x", mountPaths{"", "/x"}},
		{"empty: the slash still goes back", "", "/shop/x", "x", mountPaths{"", "/x"}},
	}
	for _, test := range tests {
		t.Run(test.rule, func(t *testing.T) {
			c := &environConfig{scriptName: test.mount, hasScriptName: true}
			r := &http.Request{Method: "GET", RequestURI: test.target, URL: &url.URL{Path: test.path}}
			var got mountPaths
			got.scriptName, got.pathInfo, _ = c.splitPath(r, nil)
			if got != test.want {
				t.Errorf("mount %q, target %q, path %q: got %q, want %q",
					test.mount, test.target, test.path, got, test.want)
			}
		})
	}
}

// TestMounts has net/http route and strip, as services do.
func TestMounts(t *testing.T) {
	strip := func(prefixes ...string) func(http.Handler) http.Handler {
		return func(h http.Handler) http.Handler {
			for _, prefix := range prefixes {
				h = http.StripPrefix(prefix, h)
			}
			return h
		}
	}
	mux := func(pattern string, wrap func(http.Handler) http.Handler) func(http.Handler) http.Handler {
		return func(h http.Handler) http.Handler {
			m := http.NewServeMux()
			m.Handle(pattern, wrap(h))
			return m
		}
	}
	rewrite := func(path string) func(http.Handler) http.Handler {
		return func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.URL.Path = path
				h.ServeHTTP(w, r)
			})
		}
	}
	tests := []struct {
		rule   string
		wrap   func(http.Handler) http.Handler
		target string
		want   mountPaths
	}{
		{"no mount", strip(), "/a/b", mountPaths{"", "/a/b"}},
		{"pattern alone strips nothing", mux("/app/", strip()), "/app/x", mountPaths{"", "/app/x"}},
		{"pattern and StripPrefix", mux("/app/", strip("/app")), "/app/x", mountPaths{"/app", "/x"}},
		{"pattern with a wildcard and StripPrefix", mux("/app/{rest...}", strip("/app")), "/app/x", mountPaths{"/app", "/x"}},
		{"mount itself", strip("/app"), "/app", mountPaths{"/app", ""}},
		{"mount with a slash", strip("/app"), "/app/", mountPaths{"/app", "/"}},
		{"StripPrefix with a slash", mux("/app/", strip("/app/")), "/app/x", mountPaths{"/app", "/x"}},
		{"StripPrefix with a slash, at the mount", mux("/app/", strip("/app/")), "/app/", mountPaths{"/app", "/"}},
		{"StripPrefix of a slash", strip("/"), "/x", mountPaths{"", "/x"}},
		{"StripPrefix of all but a slash", strip("/app"), "/app//", mountPaths{"/app", "//"}},
		{"StripPrefix with a slash, of two: as cleaned", strip("/app/"), "/app//x", mountPaths{"/app", "/x"}},
		{"percent sign, escaped", strip("/app"), "/app/%252F", mountPaths{"/app", "/%2F"}},
		{"invalid UTF-8 in the rest", strip("/app"), "/app/%FF%00", mountPaths{"/app", "/\xff\x00"}},
		{"StripPrefix within StripPrefix", strip("/b", "/a"), "/a/b/x", mountPaths{"/a/b", "/x"}},
		{"StripPrefix of half a segment", strip("/ap"), "/app/x", mountPaths{"", "/p/x"}},
		{"double slash", strip("/a"), "/a//b", mountPaths{"/a", "//b"}},
		{"escaped slash in the rest", strip("/app"), "/app/a%2Fb%20c", mountPaths{"/app", "/a/b c"}},
		{"escaped prefix", strip("/a b"), "/a%20b/x", mountPaths{"/a b", "/x"}},
		{"absolute-form", strip("/app"), "http://example.com/app/x", mountPaths{"/app", "/x"}},
		{"absolute-form without a path is the root", strip(), "http://example.com", mountPaths{"", "/"}},
		{"rewritten path", rewrite("/index"), "/app/x", mountPaths{"", "/index"}},
	}
	for _, test := range tests {
		t.Run(test.rule, func(t *testing.T) {
			s := newEnvironServer(t, &environConfig{}, "tcp", "127.0.0.1:0", test.wrap)
			env := s.get(t, "GET "+test.target+" HTTP/1.1\r\nHost: example.com\r\n\r\n")
			if got := (mountPaths{env["SCRIPT_NAME"], env["PATH_INFO"]}); got != test.want {
				t.Errorf("%s: got %q, want %q", test.target, got, test.want)
			}
			if env["REQUEST_URI"] != test.target {
				t.Errorf("REQUEST_URI = %q, want %q as sent", env["REQUEST_URI"], test.target)
			}
		})
	}
}

// TestStripPrefixWithoutTarget has a request that no server received.
func TestStripPrefixWithoutTarget(t *testing.T) {
	r, err := http.NewRequest("GET", "http://example.com/app/x?q", nil)
	if err != nil {
		t.Fatal(err)
	}
	http.StripPrefix("/app", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		env := environOf(t, &environConfig{}, r)
		expectVars(t, env, "SCRIPT_NAME", "", "PATH_INFO", "/x", "REQUEST_URI", "/x?q")
	})).ServeHTTP(httptest.NewRecorder(), r)
}

func TestCheckScriptName(t *testing.T) {
	for _, prefix := range []string{"", "/shop", "/a/b", "/a b", "/%41", "/caf\xc3\xa9", "/..."} {
		if err := checkScriptName(prefix); err != nil {
			t.Errorf("checkScriptName(%q) = %v", prefix, err)
		}
	}
	for prefix, want := range map[string]string{
		"/":        "at the root",
		"shop":     "begin with a slash",
		"/shop/":   "ends in a slash",
		"/a//b":    "empty or dot segments",
		"/a/../b":  "empty or dot segments",
		"/a\nb":    "control character",
		"/a\x7f":   "control character",
		"//":       "ends in a slash",
		"http://x": "begin with a slash",
	} {
		if err := checkScriptName(prefix); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("checkScriptName(%q) = %v, want an error about %q", prefix, err, want)
		}
	}
}
