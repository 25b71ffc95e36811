package wsgi

import (
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/seed-a2d07992/wsgi/forwarded"
)

// splitPath divides the request's path into SCRIPT_NAME, the mount at which
// the application is found, and PATH_INFO, the rest (PEP 3333, "environ
// Variables"; RFC 3875, sections 4.1.5 and 4.1.13). Both are percent-decoded,
// and each is either empty or begins with a slash.
//
// What remains for PATH_INFO is always URL.Path, because that is the path that
// the Go handlers before this one have routed, rewritten and checked. The
// request target only tells what was taken off it. A web server's PATH_INFO counts
// where they have not touched the path.
//
// Of several that know the mount the first in this order decides: WithScriptName,
// the web server's SCRIPT_NAME (gateway), and what Go handlers took off, behind
// what a proxy took off before them (forwarded.Prefix).
func (c *environConfig) splitPath(r *http.Request, gateway map[string]string) (scriptName, pathInfo string, err error) {
	mount, given := c.scriptName, c.hasScriptName
	if !given && gateway != nil {
		if mount, err = gatewayMount(gateway); err != nil {
			return "", "", err
		}
		given = mount != ""
	}
	if isAsterisk(r) {
		// A target that names no resource has no path at all (RFC 9112,
		// section 3.3), and PATH_INFO could not hold a star: it begins with
		// a slash. REQUEST_URI tells it from a request for the mount itself.
		return mount, "", nil
	}
	scriptName, pathInfo = inferMount(r.RequestURI, r.URL.Path)
	if gateway != nil {
		pathInfo = gatewayPath(gateway, r, pathInfo)
		if _, ok := cutMount(scriptName, mount); ok && !c.hasScriptName {
			given = false // Go handlers took off the whole of it, and maybe more
		}
	}
	if given {
		scriptName, pathInfo = applyMount(mount, scriptName, pathInfo)
	} else if !c.hasScriptName {
		scriptName = forwarded.Prefix(r) + scriptName
	}
	if scriptName == "" && pathInfo == "" && r.Method != http.MethodOptions && r.Method != http.MethodConnect {
		// "GET http://example.com" means the root (RFC 9110, section 4.2.3).
		pathInfo = "/"
	}
	return scriptName, pathInfo, nil
}

// isAsterisk reports whether the target is "*" (RFC 9112, section 3.2.4). The
// path alone does not tell: it is "*" too where a slash was taken off "/*".
func isAsterisk(r *http.Request) bool {
	return r.URL.Path == "*" && (r.RequestURI == "*" || r.RequestURI == "")
}

// inferMount finds what a handler such as http.StripPrefix took off the path:
// where the decoded path of the request target ends in urlPath, that is what
// precedes it. The mount is empty where
//
//   - nothing was taken off, as under a ServeMux pattern alone,
//   - urlPath was rewritten, so that the target does not end in it,
//   - there is no target, as in a request that Go code made, or
//   - what precedes is no clean mount: it ends within a segment
//     (StripPrefix("/ap") before /app/x), or checkScriptName refuses it.
//
// Slashes at the mount's end are not part of it. Where StripPrefix("/app/")
// took the slash that begins PATH_INFO, it is put back: x becomes /x, and
// nothing becomes /, so that /app and /app/ stay different. A path that has
// its slash is left alone. StripPrefix("/a/") before /a//b leaves /b, and so
// does StripPrefix("/a") behind a handler that cleans paths; as the two look
// the same, no second slash is put back that a handler may have removed.
//
// StripPrefix("/a") before /a//b leaves //b, and PATH_INFO is //b.
func inferMount(target, urlPath string) (mount, pathInfo string) {
	pathInfo = urlPath
	if urlPath != "" && urlPath[0] != '/' {
		pathInfo = "/" + urlPath
	}
	prefix, ok := strings.CutSuffix(targetPath(target, len(urlPath)), urlPath)
	if !ok || prefix == "" {
		return "", pathInfo
	}
	mount = strings.TrimRight(prefix, "/")
	if len(mount) < len(prefix) {
		if urlPath == "" {
			pathInfo = "/"
		}
	} else if pathInfo != urlPath {
		return "", pathInfo // cut within a segment
	}
	if checkScriptName(mount) != nil {
		return "", pathInfo
	}
	return mount, pathInfo
}

// targetPath returns the percent-decoded path of a request target, or "" if it
// has none. Targets whose path is no longer than min can have nothing before
// that path: they are answered with "" too, and cost no allocation.
func targetPath(target string, min int) string {
	if !strings.HasPrefix(target, "/") {
		// Absolute-form, authority-form or nothing (RFC 9112, section 3.2).
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return ""
		}
		return u.Path
	}
	// Origin-form, as nearly always: url.ParseRequestURI does no more than this.
	escaped, _, _ := strings.Cut(target, "?")
	if len(escaped)-2*strings.Count(escaped, "%") <= min {
		return ""
	}
	decoded, err := url.PathUnescape(escaped)
	if err != nil {
		return ""
	}
	return decoded
}

// applyMount puts the mount that WithScriptName gave over what inferMount
// found. It always counts: behind a proxy that removes a prefix, nothing in the
// request tells of it. A path that still has the mount before it loses it, as with
// mod_wsgi and uWSGI; one that does not is taken whole.
//
// inferred, what was taken off already, is not taken off again. So under
// WithScriptName("/shop") and StripPrefix("/shop") the request /shop/shop/x has
// the PATH_INFO /shop/x, and under WithScriptName("/v1/shop") and
// StripPrefix("/v1") the request /v1/shop/x has /x.
func applyMount(mount, inferred, pathInfo string) (string, string) {
	remaining, ok := cutMount(mount, inferred)
	if !ok {
		remaining = mount
	}
	if rest, ok := cutMount(pathInfo, remaining); ok {
		pathInfo = rest
	}
	return mount, pathInfo
}

// cutMount returns urlPath without the leading mount, if it begins with it and
// the mount ends where a segment does: /shopping is not below /shop.
func cutMount(urlPath, mount string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(urlPath, mount)
	return rest, ok && (rest == "" || rest[0] == '/')
}

// checkScriptName reports what makes prefix unfit to be a SCRIPT_NAME. The
// empty prefix is fit: the application is at the root, whatever was taken off
// the path.
//
// An application builds its URLs by putting SCRIPT_NAME before its own paths,
// each of which begins with a slash (PEP 3333, "URL Reconstruction"). So "/"
// is written "", and no prefix ends in a slash. A prefix with empty or dot
// segments would never match, as clients and ServeMux remove them. Prefixes
// are percent-decoded: a "%" stands for itself.
func checkScriptName(prefix string) error {
	if prefix == "" {
		return nil
	}
	for i := range len(prefix) {
		if isControlByte(prefix[i]) {
			return fmt.Errorf("script name %q contains a control character", prefix)
		}
	}
	switch {
	case prefix[0] != '/':
		return fmt.Errorf("script name %q does not begin with a slash", prefix)
	case prefix == "/":
		return fmt.Errorf(`script name "/" is to be written "" where the application is at the root`)
	case prefix[len(prefix)-1] == '/':
		return fmt.Errorf("script name %q ends in a slash", prefix)
	case path.Clean(prefix) != prefix:
		return fmt.Errorf("script name %q contains empty or dot segments", prefix)
	}
	return nil
}

func isControlByte(c byte) bool { return c < ' ' || c == 0x7f }
