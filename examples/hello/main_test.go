package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestHello(t *testing.T) {
	app, err := start("hello.py")
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	server := httptest.NewServer(routes(app))
	defer server.Close()
	client := &http.Client{Timeout: 30 * time.Second}
	get := func(path string) (status int, contentType, body string, err error) {
		resp, err := client.Get(server.URL + path)
		if err != nil {
			return 0, "", "", err
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		return resp.StatusCode, resp.Header.Get("Content-Type"), string(data), err
	}

	for path, want := range map[string]string{
		"/":                "<h1>Hello, world!</h1>",
		"/J%C3%BCrgen":     "<h1>Hello, Jürgen!</h1>",
		"/%3Cscript%3E":    "<h1>Hello, &lt;script&gt;!</h1>",
		"/gopher?a=b":      "This is Python 3.14.",
		"/go/is/only/this": "<h1>Hello, go/is/only/this!</h1>",
	} {
		status, contentType, body, err := get(path)
		if err != nil {
			t.Fatal(err)
		}
		if status != 200 || contentType != "text/html; charset=utf-8" || !strings.Contains(body, want) {
			t.Errorf("GET %s: %d %s\n%s\nwant %s", path, status, contentType, body, want)
		}
	}
	if status, _, body, err := get("/go"); err != nil || status != 200 || body != "Hello from "+runtime.Version()+"!\n" {
		t.Errorf("GET /go: %d %q, %v", status, body, err)
	}

	// Both at once, from many clients.
	var group sync.WaitGroup
	for i := range 64 {
		group.Go(func() {
			path, want := fmt.Sprintf("/client-%d", i), fmt.Sprintf("<h1>Hello, client-%d!</h1>", i)
			if i%8 == 0 {
				path, want = "/go", "Hello from go"
			}
			if status, _, body, err := get(path); err != nil || status != 200 || !strings.Contains(body, want) {
				t.Errorf("GET %s: %d %q, %v", path, status, body, err)
			}
		})
	}
	group.Wait()
}
