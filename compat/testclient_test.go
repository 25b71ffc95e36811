package compat

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// A question is a request, put both to an application's test client and over
// HTTP.
type question struct {
	Prefix  string            `json:"prefix"`
	Method  string            `json:"method"`
	Target  string            `json:"target"`
	Headers map[string]string `json:"headers"`
	Body    []byte            `json:"body"`
}

// An answer is what a test client makes of the application's response.
type answer struct {
	Status  int         `json:"status"`
	Headers [][2]string `json:"headers"`
	Body    []byte      `json:"body"`
}

// compareWithTestClient puts the same questions to the application through its
// framework's test client, in a process of its own, and through c. What the test
// client sees of status, headers and body must be what comes over HTTP.
func compareWithTestClient(t *testing.T, c *client, name, prefix, file string) {
	form := map[string]string{"Content-Type": "application/x-www-form-urlencoded"}
	upload, contentType := multipartBody(t, "a.bin", noise(100_000, 3), "boundary")
	questions := []question{
		{Method: "GET", Target: "/"},
		{Method: "HEAD", Target: "/"},
		{Method: "OPTIONS", Target: "/form"},
		{Method: "GET", Target: "/item/Zo%C3%AB%20%26"},
		{Method: "GET", Target: "/query?q=a&q=Zo%C3%AB+%26"},
		{Method: "POST", Target: "/form", Headers: form, Body: []byte("name=Zo%C3%AB&tag=a&tag=b+c&empty=")},
		{Method: "GET", Target: "/form"},
		{Method: "GET", Target: "/cookies", Headers: map[string]string{"Cookie": "one=1; two=2"}},
		{Method: "POST", Target: "/upload", Headers: map[string]string{"Content-Type": contentType}, Body: upload},
		{Method: "GET", Target: "/redirect"},
		{Method: "GET", Target: "/download"},
		{Method: "HEAD", Target: "/download"},
		{Method: "GET", Target: "/download", Headers: map[string]string{"Range": "bytes=5-9"}},
		{Method: "GET", Target: "/missing"},
		{Method: "HEAD", Target: "/missing"},
		{Method: "GET", Target: "/item/"},
	}
	for i := range questions {
		questions[i].Prefix = prefix
	}
	asked, err := json.Marshal(questions)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), mustPython(t), "ask.py", name+"_app")
	cmd.Dir = "apps"
	cmd.Env = append(os.Environ(), "COMPAT_FILE="+file)
	cmd.Stdin = bytes.NewReader(asked)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, &errs)
	}
	var answers []answer
	if err := json.Unmarshal(out, &answers); err != nil || len(answers) != len(questions) {
		t.Fatalf("%d answers, %v", len(answers), err)
	}
	for i, q := range questions {
		header := []string{"Host", "localhost"}
		for name, value := range q.Headers {
			header = append(header, name, value)
		}
		resp, body := c.do(q.Method, q.Target, bytes.NewReader(q.Body), header...)
		want := answers[i]
		if q.Method == "HEAD" {
			want.Body = nil // some test clients show one
		}
		if resp.StatusCode != want.Status || body != string(want.Body) {
			t.Errorf("%s %s: %d %.200q, the test client has %d %.200q", q.Method, q.Target, resp.StatusCode, body, want.Status, want.Body)
		}
		expectHeader(t, q, resp.Header, want.Headers)
	}
}

// expectHeader fails the test unless the headers are those that the test client
// has, but for what a server adds.
func expectHeader(t *testing.T, q question, have http.Header, seen [][2]string) {
	t.Helper()
	want := http.Header{}
	for _, h := range seen {
		want.Add(h[0], h[1])
	}
	for _, added := range []string{"Date", "Content-Length", "Connection"} {
		if want[added] == nil {
			delete(have, added)
		}
	}
	for name := range have {
		if want[name] == nil {
			t.Errorf("%s %s: %s: %q is not seen by the test client", q.Method, q.Target, name, have[name])
		}
	}
	for name, values := range want {
		if name == "Allow" { // its order differs from run to run
			values, have[name] = sortedList(values), sortedList(have[name])
		}
		if name != "Date" && !slices.Equal(have[name], values) {
			t.Errorf("%s %s: %s is %q, the test client has %q", q.Method, q.Target, name, have[name], values)
		}
	}
}

// sortedList returns the elements of a header that is a list, sorted.
func sortedList(values []string) []string {
	list := strings.Split(strings.Join(values, ", "), ", ")
	slices.Sort(list)
	return list
}
