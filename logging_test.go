package wsgi_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/seed-a2d07992/wsgi"
)

// messages are those of a level.
func (l *logs) messages(level slog.Level) []string {
	var found []string
	for _, r := range l.All() {
		if r.Level == level {
			found = append(found, r.Message)
		}
	}
	return found
}

func TestErrorsStreamGoesToTheLog(t *testing.T) {
	const source = `
import sys

def application(environ, start_response):
    errors = environ["wsgi.errors"]
    case = environ["QUERY_STRING"]
    if case == "lines":
        errors.write("one\n")
        errors.write("two\n")
    elif case == "parts":
        errors.write("in ")
        errors.write("parts")
        errors.write("\n")
    elif case == "many":
        errors.writelines(["first\n", "sec", "ond\n"])
    elif case == "block":
        errors.write("a block\nof lines\n\nwith one between\n")
    elif case == "flush":
        errors.write("without end")
        errors.flush()
        errors.write("and more")
        errors.flush()
        errors.flush()
    elif case == "end":
        errors.write("left over at the end")
    elif case == "print":
        print("printed", 1, [2], file=errors)
        print("with", "flush", file=errors, flush=True)
    elif case == "unicode":
        errors.write("caf\u00e9 \u20ac \U0001f600 \ud800 \x00 end\n")
    elif case == "empty":
        errors.write("")
        errors.write("\n")
        errors.writelines([])
        errors.flush()
    elif case == "large":
        errors.write("x" * 1000000 + "\n")
    elif case == "iterating":
        start_response("200 OK", [("Content-Type", "text/plain")])
        def body():
            errors.write("before\n")
            yield b"ok"
            errors.write("after\n")
        return body()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]
`
	// The validator's stream has no place for print's flush.
	isolations(t, func(t *testing.T, mode wsgi.Isolation) {
		for query, want := range map[string][]string{
			"lines":     {"one", "two"},
			"parts":     {"in parts"},
			"many":      {"first", "second"},
			"block":     {"a block\nof lines\n\nwith one between"},
			"flush":     {"without end", "and more"},
			"end":       {"left over at the end"},
			"print":     {"printed 1 [2]", "with flush"},
			"unicode":   {"caf\u00e9 \u20ac \U0001f600 \\ud800 \x00 end"},
			"empty":     nil,
			"large":     {strings.Repeat("x", 1000000)},
			"iterating": {"before", "after"},
			"nothing":   nil,
		} {
			t.Run(query, func(t *testing.T) {
				s := servePlain(t, source, append(oneWorker, wsgi.WithIsolation(mode))...)
				s.expectBody(t, "/path?"+query, "ok")
				eventually(t, "the request is over", func() bool { return s.App.Stats().InFlight == 0 })
				shutdown(t, s.App) // what it logged is in the log by then
				if got := s.Logs.messages(slog.LevelError); !slices.Equal(got, want) {
					t.Errorf("got %.200q, want %.200q", got, want)
				}
				for _, r := range s.Logs.All() {
					if r.Level != slog.LevelError {
						continue
					}
					if r.Attrs["method"] != "GET" || r.Attrs["uri"] != "/path?"+query || !strings.HasPrefix(r.Attrs["remote"], "127.0.0.1:") {
						t.Errorf("the record's attributes are %v", r.Attrs)
					}
				}
			})
		}
	})
}

func TestErrorsStreamTakesTextAlone(t *testing.T) {
	s := servePlain(t, `
def application(environ, start_response):
    errors = environ["wsgi.errors"]
    results = []
    for use in (lambda: errors.write(b"bytes"), lambda: errors.write(None), lambda: errors.write(),
                lambda: errors.writelines([b"x"]), lambda: errors.writelines(5), lambda: errors.writelines(1 // 0 for _ in "x")):
        try:
            use()
            results.append("taken")
        except (TypeError, ZeroDivisionError) as e:
            results.append(type(e).__name__)
    start_response("200 OK", [])
    return [" ".join(results).encode()]
`)
	s.expectBody(t, "/", "TypeError TypeError TypeError TypeError TypeError ZeroDivisionError")
}

// TestErrorsStreamIsAvailableEarly: a long request's lines don't wait for its end.
func TestErrorsStreamIsAvailableEarly(t *testing.T) {
	s := serve(t, strings.Replace(blocking, `    note("waiting", environ["PATH_INFO"])`, `    environ["wsgi.errors"].write("about to wait\n")
    note("waiting", environ["PATH_INFO"])`, 1))
	b := newBarrier(t, s)
	answer := start(t.Context(), s, "/wait")
	b.waitFor(1)
	s.Logs.Wait(t, "about to wait")
	b.open()
	receive(t, "the answer", answer)
}

// TestErrorsStreamFromThreads: lines of several threads come whole, and those
// that come after the request do no harm.
func TestErrorsStreamFromThreads(t *testing.T) {
	isolations(t, func(t *testing.T, mode wsgi.Isolation) {
		s := servePlain(t, `
import threading
late = []

def application(environ, start_response):
    errors = environ["wsgi.errors"]
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/late":
        for stream in late:
            stream.write("")
            stream.flush()
            stream.writelines([])
        return [b"ok"]
    def work(name):
        for n in range(200):
            errors.write(f"thread {name} line {n}\n")
    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    late.append(errors)
    return [b"ok"]
`, append(oneWorker, wsgi.WithIsolation(mode))...)
		s.expectBody(t, "/", "ok")
		s.expectBody(t, "/late", "ok")
		shutdown(t, s.App)
		counts := map[string]int{}
		for _, message := range s.Logs.messages(slog.LevelError) {
			// A record is what was there at a newline: of one thread or of several.
			for line := range strings.SplitSeq(message, "\n") {
				counts[line]++
			}
		}
		for _, name := range "abcd" {
			for n := range 200 {
				if line := fmt.Sprintf("thread %c line %d", name, n); counts[line] != 1 {
					t.Fatalf("%q came %d times", line, counts[line])
				}
			}
		}
	})
}

func TestLogsKeepRequestsApart(t *testing.T) {
	s := serve(t, `
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    for n in range(20):
        environ["wsgi.errors"].write(environ["QUERY_STRING"] + "\n")
    return [b"ok"]
`)
	var group sync.WaitGroup
	for n := range 30 {
		group.Go(func() { s.expectBody(t, fmt.Sprint("/?", n), "ok") })
	}
	group.Wait()
	shutdown(t, s.App)
	got := s.Logs.messages(slog.LevelError)
	if len(got) != 600 {
		t.Errorf("%d records, want 600", len(got))
	}
	for _, r := range s.Logs.All() {
		if r.Level == slog.LevelError && r.Attrs["uri"] != "/?"+r.Message {
			t.Errorf("%q is in the log of %s", r.Message, r.Attrs["uri"])
		}
	}
}

// TestEndlessLoggingIsBounded: an application that logs faster than the log
// takes it waits, and is let go.
func TestEndlessLoggingIsBounded(t *testing.T) {
	s := serve(t, `
def application(environ, start_response):
    for n in range(20000):
        environ["wsgi.errors"].write("x" * 500 + "\n")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]
`, wsgi.WithResponseBuffer(4096))
	s.expectBody(t, "/", "ok")
	shutdown(t, s.App)
	if n := len(s.Logs.messages(slog.LevelError)); n != 20000 {
		t.Errorf("%d records of 20000", n)
	}
}

// TestRemoteUserComesFromGo, and what PEP 3333 reserves does not.
func TestRemoteUserComesFromGo(t *testing.T) {
	show := `
def application(environ, start_response):
    keys = ("REMOTE_USER", "my.key", "HTTP_REMOTE_USER", "wsgi.url_scheme", "PATH_INFO")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr([environ.get(k) for k in keys]).encode()]
`
	s := serve(t, show, wsgi.WithEnviron(func(r *http.Request, set func(string, string)) {
		set("REMOTE_USER", "j\u00fcrgen")
		set("my.key", r.Method)
		set("wsgi.url_scheme", "https")
		if key := r.URL.Query().Get("key"); key != "" {
			set(key, "value")
		}
	}))
	s.expectBody(t, "/x", "['j\u00c3\u00bcrgen', 'GET', None, 'https', '/x']")
	for _, key := range []string{"wsgi.input", "wsgi.errors", "wsgi.version", "wsgi.multithread", "wsgi.file_wrapper", "wsgi.anything"} {
		before := len(s.Logs.With("reserved"))
		resp, body := s.get(t, "/x?key="+key)
		if resp.StatusCode != 500 || strings.Contains(body, "reserved") {
			t.Errorf("%s: %s %q", key, resp.Status, body)
		}
		if found := s.Logs.With("reserved"); len(found) != before+1 || !strings.Contains(found[before].Message, key) {
			t.Errorf("%s: logged %v", key, found)
		}
	}
	s.expectBody(t, "/x?key=other", "['j\u00c3\u00bcrgen', 'GET', None, 'https', '/x']")
}

// TestMountedApplicationKnowsItsPlace through net/http's own routing.
func TestMountedApplicationKnowsItsPlace(t *testing.T) {
	const show = `
from wsgiref.util import request_uri

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    uri = request_uri(environ).split("/", 3)[3]
    return [f"{environ['SCRIPT_NAME']}|{environ['PATH_INFO']}|{environ['QUERY_STRING']}|/{uri}".encode("latin-1")]
`
	s := serveWith(t, func(_ *server, app http.Handler) http.Handler {
		mux := http.NewServeMux()
		mux.Handle("/shop/", http.StripPrefix("/shop", app))
		mux.Handle("/whole/", app)
		mux.Handle("/a/b/", http.StripPrefix("/a", http.StripPrefix("/b", app)))
		mux.HandleFunc("/go", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "from Go") })
		return mux
	}, validated(show))
	for path, want := range map[string]string{
		"/shop/":             "/shop|/||/shop/",
		"/shop/cart?x=1":     "/shop|/cart|x=1|/shop/cart?x=1",
		"/shop/caf%C3%A9":    "/shop|/caf\u00e9||/shop/caf%C3%A9",
		"/shop/a%2Fb":        "/shop|/a/b||/shop/a/b",
		"/whole/x":           "|/whole/x||/whole/x",
		"/a/b/c":             "/a/b|/c||/a/b/c",
		"/go":                "from Go",
		"/shop/x%20y?%C3%A9": "/shop|/x y|%C3%A9|/shop/x%20y?%C3%A9",
	} {
		s.expectBody(t, path, want)
	}
	s.Logs.expectQuiet(t)
}
