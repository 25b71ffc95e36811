package wsgi

import (
	"bufio"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/seed-a2d07992/wsgi/pool"
)

// FuzzEnviron builds the environ of whatever http.Server takes for a request.
func FuzzEnviron(f *testing.F) {
	for _, request := range []string{
		"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
		"GET /a%2Fb//%00%ff?x HTTP/1.0\r\n\r\n",
		"GET http://example.com HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nX-A: 2\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
		"CONNECT example.com:443 HTTP/1.1\r\nHost: ::1\r\n\r\n",
		"POST /shop/ HTTP/1.1\r\nHost: :1\r\nContent-Length: 0\r\nContent-Type: a\r\nProxy: x\r\nX_Y: z\r\n\r\n",
		"POST /shopping HTTP/1.1\r\nHost: a:b\r\nTransfer-Encoding: chunked\r\nCookie: a\r\nCookie: b\r\n\r\n0\r\n\r\n",
	} {
		f.Add(request, "192.0.2.1:1", "/shop")
	}
	f.Fuzz(func(t *testing.T, request, remote, mount string) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(request)))
		if err != nil {
			return
		}
		for name := range r.Header {
			if strings.Contains(name, " ") {
				return // http.Server refuses it
			}
		}
		r.RemoteAddr = remote
		checkEnviron(t, &environConfig{}, r)
		if checkScriptName(mount) == nil {
			c := &environConfig{scriptName: mount, hasScriptName: true}
			if env := checkEnviron(t, c, r); env["SCRIPT_NAME"] != mount {
				t.Errorf("SCRIPT_NAME = %q, want %q", env["SCRIPT_NAME"], mount)
			}
		}
	})
}

// checkEnviron checks what holds for every request that no handler changed.
func checkEnviron(t *testing.T, c *environConfig, r *http.Request) map[string]string {
	var e pool.Environ
	if err := c.build(&e, r); err != nil {
		t.Fatal(err)
	}
	env := make(map[string]string)
	for key, value := range e.All() {
		if _, ok := env[key]; ok {
			t.Errorf("%s is set twice", key)
		}
		env[key] = value
		if strings.ContainsAny(key, "-abcdefghijklmnopqrstuvwxyz") && key != "wsgi.url_scheme" {
			t.Errorf("strange key %q", key)
		}
	}
	for _, key := range []string{"REQUEST_METHOD", "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "REQUEST_URI"} {
		if env[key] == "" {
			t.Errorf("%s is empty", key)
		}
	}
	for _, key := range []string{"HTTP_PROXY", "HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING"} {
		expectVars(t, env, key, absentVar)
	}
	if host, ok := env["HTTP_HOST"]; ok && host != r.Host {
		t.Errorf("HTTP_HOST = %q, want %q", host, r.Host)
	}
	if strings.Trim(env["SERVER_PORT"], "0123456789") != "" {
		t.Errorf("SERVER_PORT = %q", env["SERVER_PORT"])
	}
	script, path := env["SCRIPT_NAME"], env["PATH_INFO"]
	checkPaths(t, script, path)
	if script+path != r.URL.Path && path != r.URL.Path && r.URL.Path != "*" && r.URL.Path != "" {
		t.Errorf("path %q became %q, %q", r.URL.Path, script, path)
	}
	return env
}

// checkPaths checks what PEP 3333 and the applications rely on.
func checkPaths(t *testing.T, scriptName, pathInfo string) {
	if err := checkScriptName(scriptName); err != nil {
		t.Error(err)
	}
	if pathInfo != "" && pathInfo[0] != '/' {
		t.Errorf("PATH_INFO = %q does not begin with a slash", pathInfo)
	}
}

// FuzzScriptName relates what was inferred to the request's target.
func FuzzScriptName(f *testing.F) {
	for _, seed := range [][3]string{
		{"/app/x?q", "/x", "/app"},
		{"/app/", "", ""},
		{"/a//b", "/b", "/a"},
		{"/a%2Fb/x", "x", "/a/b"},
		{"http://example.com/app/x", "/x", "/shop"},
		{"*", "*", "/a"},
		{"//x", "/x", ""},
		{"example.com:443", "", "/a/b"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, target, path, mount string) {
		slashed := path
		if path != "" && path[0] != '/' {
			slashed = "/" + path
		}
		script, rest := inferMount(target, path)
		checkPaths(t, script, rest)
		if rest != slashed && !(path == "" && rest == "/") {
			t.Errorf("inferMount(%q, %q): PATH_INFO %q", target, path, rest)
		}
		full := ""
		u, err := url.ParseRequestURI(target)
		if err == nil {
			full = u.Path
			if got := targetPath(target, -1); got != full {
				t.Errorf("targetPath(%q) = %q, url.ParseRequestURI has %q", target, got, full)
			}
		}
		if script != "" && err == nil {
			// Only slashes may be between the mount and the rest.
			if between, ok := strings.CutPrefix(full, script); !ok ||
				strings.TrimLeft(between, "/") != strings.TrimLeft(rest, "/") {
				t.Errorf("inferMount(%q, %q) = %q, %q", target, path, script, rest)
			}
		}
		if path == full && err == nil && script != "" {
			t.Errorf("inferMount(%q, %q): mount %q where nothing was stripped", target, path, script)
		}

		if checkScriptName(mount) == nil {
			c := &environConfig{scriptName: mount, hasScriptName: true}
			r := &http.Request{RequestURI: target, URL: &url.URL{Path: path}}
			script, rest, _ := c.splitPath(r, nil)
			checkPaths(t, script, rest)
			if script != mount {
				t.Errorf("SCRIPT_NAME = %q, want %q", script, mount)
			}
			if !strings.HasSuffix(slashed, rest) && rest != "/" {
				t.Errorf("mount %q, target %q, path %q: PATH_INFO = %q", mount, target, path, rest)
			}
		}
	})
}
