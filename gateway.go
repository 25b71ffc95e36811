package wsgi

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/seed-a2d07992/wsgi/pool"
)

// This file is about web servers that hand on a request by variables and not by
// headers: those in front of uwsgi.Serve. gateway is uwsgi.ProcessEnv's map, and nil
// for all other requests.

// gatewayMount returns the SCRIPT_NAME that the web server gave. A slash at its end
// is taken off, for the same reason as with WithScriptName.
func gatewayMount(gateway map[string]string) (string, error) {
	mount := strings.TrimRight(gateway["SCRIPT_NAME"], "/")
	if err := checkScriptName(mount); err != nil {
		return "", fmt.Errorf("wsgi: the web server's variable SCRIPT_NAME: %w", err)
	}
	return mount, nil
}

// gatewayPath returns the web server's PATH_INFO in place of the request's path.
// It is what the web server made of the path, by rewrites for example, and so it
// counts unless a Go handler has changed the path in turn.
func gatewayPath(gateway map[string]string, r *http.Request, pathInfo string) string {
	given, ok := gateway["PATH_INFO"]
	if !ok || given != "" && given[0] != '/' {
		return pathInfo
	}
	if given == "" && strings.TrimRight(gateway["SCRIPT_NAME"], "/") == "" {
		return pathInfo // nothing is said of the path at all
	}
	if whole := targetPath(r.RequestURI, -1); whole != r.URL.Path {
		return pathInfo
	}
	return given
}

// setGateway passes on what else the web server gave, as uWSGI does: REMOTE_USER,
// DOCUMENT_ROOT, SSL_CLIENT_S_DN, whatever name the configuration has. What build
// sets for every request is its own, and shows what Go handlers have changed.
func setGateway(e *pool.Environ, gateway map[string]string) error {
	for key, value := range gateway {
		switch key {
		case "REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "REQUEST_URI", "RAW_URI",
			"SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "SERVER_SOFTWARE", "GATEWAY_INTERFACE",
			"REMOTE_ADDR", "REMOTE_PORT", "CONTENT_TYPE", "CONTENT_LENGTH", "HTTPS":
			continue
		}
		if strings.HasPrefix(key, "HTTP_") {
			continue // a header; those that Go handlers removed stay so
		}
		if err := checkExtra(key, value); err != nil {
			return fmt.Errorf("wsgi: the web server's variables: %w", err)
		}
		e.Set(key, value)
	}
	return nil
}
