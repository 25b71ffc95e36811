package wsgi_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// reference are applications on whose answers wsgiref and this library must
// agree. Where they fail, the status is compared alone.
const reference = `
import io, sys

def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]

def two_items(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"one ", b"two"]

def generator(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b""
    yield b"one "
    yield b"two"

def late(environ, start_response):
    start_response("202 Accepted", [("X-Late", "1")])
    yield b"late"

def write(environ, start_response):
    w = start_response("200 OK", [("X-W", "1")])
    w(b"one ")
    w(b"two ")
    return [b"three"]

def write_alone(environ, start_response):
    start_response("200 OK", [])(b"one")
    return []

def empty(environ, start_response):
    start_response("200 OK", [("X-E", "1")])
    return []

def empty_generator(environ, start_response):
    start_response("404 Not Found", [("X-E", "1")])
    return iter([])

def cookies(environ, start_response):
    start_response("200 OK", [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-A", "1"), ("X-A", "2")])
    return [b"x"]

def latin1(environ, start_response):
    start_response("200 OK", [("X-L", "\xe4\xf6\xfc\xff")])
    return [b"\xff\x00\r\n"]

def replaced(environ, start_response):
    start_response("200 OK", [("X-Old", "1")])
    try:
        raise ValueError
    except ValueError:
        start_response("503 Service Unavailable", [("X-New", "1")], sys.exc_info())
    return [b"replaced"]

def file_wrapper(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return environ["wsgi.file_wrapper"](open(__file__, "rb"))

def file_wrapper_half(environ, start_response):
    f = open(__file__, "rb")
    f.seek(100)
    f.read(11)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return environ["wsgi.file_wrapper"](f)

def file_wrapper_bytesio(environ, start_response):
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](io.BytesIO(b"bytes" * 10000), 1000)

def file_wrapper_gzip(environ, start_response):
    import gzip
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(b"packed"))))

def redirect(environ, start_response):
    start_response("302 Found", [("Location", "/elsewhere?a=b")])
    return []

def nothing(environ, start_response):
    start_response("204 No Content", [("X-N", "1")])
    return []

def unchanged(environ, start_response):
    start_response("304 Not Modified", [("ETag", '"abc"')])
    return []

def own_date(environ, start_response):
    start_response("200 OK", [("Date", "Thu, 01 Jan 1970 00:00:00 GMT"), ("Server", "mine")])
    return [b"x"]

def raises(environ, start_response):
    raise ValueError("no")

def raises_late(environ, start_response):
    start_response("200 OK", [("X-Failed", "no")])
    raise ValueError("no")
    yield b"never"

def no_start(environ, start_response):
    return [b"x"]

def returns_none(environ, start_response):
    start_response("200 OK", [])

def returns_int(environ, start_response):
    start_response("200 OK", [])
    return 5

def str_items(environ, start_response):
    start_response("200 OK", [])
    return ["text"]

def str_status(environ, start_response):
    start_response(b"200 OK", [])
    return []

def short_status(environ, start_response):
    start_response("200", [])
    return []

def tuple_headers(environ, start_response):
    start_response("200 OK", (("X-A", "1"),))
    return []

def bytes_header(environ, start_response):
    start_response("200 OK", [("X-A", b"1")])
    return []

def hop_by_hop(environ, start_response):
    start_response("200 OK", [("Connection", "close")])
    return []

def twice(environ, start_response):
    start_response("200 OK", [])
    start_response("200 OK", [])
    return []

def list_with_iter(environ, start_response):
    class L(list):
        def __iter__(self):
            return iter([b"other"])
    start_response("200 OK", [])
    return L([b"items"])

def input_ignored(environ, start_response):
    start_response("200 OK", [])
    return [environ["REQUEST_METHOD"].encode()]
` + routed

func TestAnswersAreThoseOfWsgiref(t *testing.T) {
	s := servePlain(t, reference, one(1)...)
	_, file := writeApp(t, reference)
	server := exec.CommandContext(t.Context(), pythonPath(), "-c", `
import runpy, sys
from wsgiref import simple_server
class Quiet(simple_server.WSGIRequestHandler):
    def log_message(self, *args):
        pass
with simple_server.make_server("127.0.0.1", 0, runpy.run_path(sys.argv[1])["application"], handler_class=Quiet) as server:
    print(server.server_port, flush=True)
    server.serve_forever()
`, file)
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	}()
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	ref := "http://127.0.0.1:" + strings.TrimSpace(port)
	// One connection for each request: wsgiref serves one at a time.
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	ask := func(method, url string) (string, string, http.Header) {
		r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(r)
		if err != nil {
			return err.Error(), "", nil
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			body = append(body, (" " + err.Error())...)
		}
		return fmt.Sprint(resp.StatusCode), string(body), resp.Header
	}
	for line := range strings.Lines(reference) {
		name, ok := strings.CutPrefix(line, "def ")
		name, _, _ = strings.Cut(name, "(")
		if !ok || name == "application" {
			continue
		}
		for _, method := range []string{"GET", "POST", "HEAD"} {
			status, body, header := ask(method, s.URL+"/"+name)
			wantStatus, wantBody, wantHeader := ask(method, ref+"/"+name)
			if status != wantStatus {
				t.Errorf("%s %s: status %s, wsgiref answers %s", method, name, status, wantStatus)
				continue
			}
			if status == "500" {
				continue
			}
			if body != wantBody {
				t.Errorf("%s %s: %q, wsgiref answers %q", method, name, body, wantBody)
			}
			// What each server has to set for itself, and which the application
			// set to the same for both where it did.
			for _, key := range []string{"Connection", "Content-Length"} {
				header.Del(key)
				wantHeader.Del(key)
			}
			for _, key := range []string{"Date", "Server"} {
				if name != "own_date" {
					header.Del(key)
					wantHeader.Del(key)
				}
			}
			if got, want := flat(header), flat(wantHeader); !slices.Equal(got, want) {
				t.Errorf("%s %s: headers %q, wsgiref sends %q", method, name, got, want)
			}
		}
	}
}

// flat lists headers in a fixed order.
func flat(header http.Header) []string {
	var lines []string
	for name, values := range header {
		for _, value := range values {
			lines = append(lines, name+": "+value)
		}
	}
	slices.Sort(lines)
	return lines
}
