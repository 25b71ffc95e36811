package wsgi_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// files is an application that wraps, in wsgi.file_wrapper, what the query
// asks for, and tells under /state what became of it.
const files = `
import bz2, gzip, io, os, tempfile
from urllib.parse import parse_qs

state = {}

class Counted:
    """A file-like object that is no real file."""
    def __init__(self, file):
        self.file, self.closed = file, 0
    def read(self, size=-1):
        return self.file.read(size)
    def close(self):
        self.closed += 1
        self.file.close()

class NoClose:
    def __init__(self, data):
        self.data = io.BytesIO(data)
    def read(self, size):
        return self.data.read(size)

class BadClose(NoClose):
    def close(self):
        raise ValueError("can't close")

class RaisingRead:
    reads = 0
    def read(self, size):
        self.reads += 1
        if self.reads == 2:
            raise OSError("a bad sector")
        return b"begin "

class LyingFileno(io.BytesIO):
    def fileno(self):
        return 0

class MyFile(io.FileIO):
    def read(self, size=-1):
        return super().read(size).upper()
    def readinto(self, buffer):
        data = self.read(len(buffer))
        buffer[:len(data)] = data
        return len(data)

def written():
    f = tempfile.TemporaryFile()
    f.write(b"written ")
    f.write(b"and not flushed")
    f.seek(0)
    return f

def overwritten(path):
    f = open(path, "r+b")
    f.read(1)
    f.seek(0)
    f.write(b"CHANGED!")
    f.seek(0)
    return f

def piped():
    r, w = os.pipe()
    os.write(w, b"through a pipe")
    os.close(w)
    return open(r, "rb")

def closed(path):
    f = open(path, "rb")
    f.close()
    return f

def deleted(path):
    f = open(path, "rb")
    os.unlink(path)
    return f

openers = {
    "rb": lambda path: open(path, "rb"),
    "r+b": lambda path: open(path, "r+b"),
    "raw": lambda path: open(path, "rb", buffering=0),
    "small_buffer": lambda path: open(path, "rb", buffering=16),
    "text": lambda path: open(path, "r", encoding="latin-1"),
    "gzip": lambda path: gzip.open(path, "rb"),
    "gzip_buffered": lambda path: io.BufferedReader(gzip.open(path, "rb")),
    "bz2_buffered": lambda path: io.BufferedReader(bz2.open(path, "rb")),
    "bytesio": lambda path: io.BytesIO(b"in memory"),
    "bytesio_buffered": lambda path: io.BufferedReader(io.BytesIO(b"in memory")),
    "counted": lambda path: Counted(open(path, "rb")),
    "no_close": lambda path: NoClose(b"no close"),
    "bad_close": lambda path: BadClose(b"bad close"),
    "raising": lambda path: RaisingRead(),
    "lying": lambda path: LyingFileno(b"not what fileno says"),
    "subclass": lambda path: MyFile(path),
    "subclass_buffered": lambda path: io.BufferedReader(MyFile(path)),
    "named_temporary": lambda path: tempfile.NamedTemporaryFile(),
    "written": lambda path: written(),
    "overwritten": overwritten,
    "pipe": lambda path: piped(),
    "closed": closed,
    "deleted": deleted,
    "directory": lambda path: open(os.open("/", os.O_RDONLY), "rb", buffering=0),
    "null": lambda path: open("/dev/null", "rb"),
    "not_a_file": lambda path: object(),
    "write_only": lambda path: open(path, "ab"),
}

def application(environ, start_response):
    q = {k: v[0] for k, v in parse_qs(environ["QUERY_STRING"]).items()}
    if environ["PATH_INFO"] == "/state":
        start_response("200 OK", [])
        f = state.pop("file")
        return [repr(f.closed).encode()]
    f = state["file"] = openers[q["open"]](q.get("path"))
    if "skip" in q:
        assert len(f.read(int(q["skip"]))) == int(q["skip"])
    if "seek" in q:
        f.seek(int(q["seek"]))
    headers = [("Content-Length", q["length"])] if "length" in q else []
    write = start_response(q.get("status", "200 OK"), headers)
    if "write" in q:
        write(q["write"].encode())
    wrapped = environ["wsgi.file_wrapper"](f, *map(int, q.get("block", "").split()))
    if q.get("as") == "iterator":
        return (chunk for chunk in wrapped)
    return wrapped
`

// content is the content of the files of these tests.
var content = bytes.Repeat([]byte("0123456789abcdef"), 20000) // 320 kB

func fileQuery(pairs ...string) string {
	values := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		values.Set(pairs[i], pairs[i+1])
	}
	return "/?" + values.Encode()
}

func TestFileWrapperSendsRealFiles(t *testing.T) {
	s := servePlain(t, files, one(1)...)
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	conn := s.dial(t)
	whole := len(content)
	for _, mode := range []string{"rb", "r+b", "raw", "small_buffer"} {
		for _, test := range []struct {
			extra    []string
			from, to int
		}{
			{nil, 0, whole},
			{[]string{"skip", "1"}, 1, whole},
			{[]string{"skip", "100000"}, 100000, whole},
			{[]string{"skip", "100000", "seek", "5"}, 5, whole},
			{[]string{"seek", strconv.Itoa(whole - 1)}, whole - 1, whole},
			{[]string{"seek", strconv.Itoa(whole)}, whole, whole},
			{[]string{"seek", strconv.Itoa(whole + 500)}, whole, whole},
			{[]string{"length", "10"}, 0, 10},
			{[]string{"length", "0"}, 0, 0},
			{[]string{"skip", "7", "length", "100000"}, 7, 100007},
			{[]string{"length", strconv.Itoa(whole)}, 0, whole},
			{[]string{"block", "10"}, 0, whole},
			{[]string{"block", "1000000"}, 0, whole},
		} {
			target := fileQuery(append([]string{"open", mode, "path", path}, test.extra...)...)
			for _, method := range []string{"GET", "HEAD"} {
				conn.write(method + " " + target + " HTTP/1.1\r\nHost: h\r\n\r\n")
				resp, body := conn.answer(method)
				want := string(content[test.from:test.to])
				if method == "HEAD" {
					want = ""
				}
				if resp.StatusCode != 200 || body != want {
					t.Errorf("%s %s: %s with %d bytes, want %d, the same: %v", method, target, resp.Status, len(body), len(want), body == want)
				}
				if length := resp.Header.Get("Content-Length"); length != strconv.Itoa(test.to-test.from) {
					t.Errorf("%s %s: Content-Length is %q, want %d", method, target, length, test.to-test.from)
				}
				if types, ok := resp.Header["Content-Type"]; ok {
					t.Errorf("%s %s: a Content-Type was invented: %q", method, target, types)
				}
				if _, state := s.get(t, "/state"); state != "True" {
					t.Errorf("%s %s: the file's state is %s, want it closed", method, target, state)
				}
			}
		}
		for _, status := range []string{"204 No Content", "304 Not Modified"} {
			conn.write("GET " + fileQuery("open", mode, "path", path, "status", status) + " HTTP/1.1\r\nHost: h\r\n\r\n")
			if resp, body := conn.answer("GET"); body != "" || resp.Status[:3] != status[:3] || resp.Header.Get("Content-Length") != "" {
				t.Errorf("%s %s: %s %v %d bytes", mode, status, resp.Status, resp.Header, len(body))
			}
			s.get(t, "/state")
		}
	}
	s.Logs.expectQuiet(t)
}

func TestFileWrapperOverHTTP10AndHTTP2(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	target := fileQuery("open", "rb", "path", path, "skip", "10")
	s := servePlain(t, files)
	conn := s.dial(t)
	conn.write("GET " + target + " HTTP/1.0\r\n\r\n")
	if resp, body := conn.answer("GET"); resp.ContentLength != int64(len(content)-10) || body != string(content[10:]) {
		t.Errorf("HTTP/1.0: length %d, %d bytes", resp.ContentLength, len(body))
	}
	s = serveHTTP2(t, files)
	if resp, body := s.get(t, target); resp.ProtoMajor != 2 || resp.ContentLength != int64(len(content)-10) || body != string(content[10:]) {
		t.Errorf("%s: length %d, %d bytes", resp.Proto, resp.ContentLength, len(body))
	}
}

func TestFileWrapperErrors(t *testing.T) {
	s := servePlain(t, files, one(1)...)
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("some content"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ open, says string }{
		{"text", "must be bytes, not str"},
		{"closed", "closed file"},
		{"not_a_file", "'object' object has no attribute 'read'"},
		{"write_only", "read"},
	} {
		resp, body := s.get(t, fileQuery("open", test.open, "path", path))
		if resp.StatusCode != 500 || body != "Internal Server Error\n" {
			t.Errorf("%s: %s %q", test.open, resp.Status, body)
		}
		s.Logs.Wait(t, test.says)
	}
	if resp, body := s.get(t, fileQuery("open", "bad_close")); resp.StatusCode != 200 || body != "bad close" {
		t.Errorf("bad_close: %s %q", resp.Status, body)
	}
	s.Logs.Wait(t, "can't close")
	conn := s.dial(t)
	conn.write("GET " + fileQuery("open", "raising") + " HTTP/1.1\r\nHost: h\r\n\r\n")
	conn.response("GET")
	expectTruncated(t, conn, "begin ")
	s.Logs.Wait(t, "a bad sector")

	// More was promised than the file has.
	resp, err := s.Client().Get(s.URL + fileQuery("open", "rb", "path", path, "length", "1000"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.ContentLength != 1000 || string(got) != "some content" || err == nil {
		t.Errorf("a file that is too short: length %d, %q, %v", resp.ContentLength, got, err)
	}
	s.Logs.Wait(t, "promised a Content-Length of 1000")
}

func TestFileWrapperAfterWriteAndAsAnIterator(t *testing.T) {
	s := servePlain(t, files)
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	s.expectBody(t, fileQuery("open", "rb", "path", path, "write", "before "), "before "+string(content))
	s.expectBody(t, fileQuery("open", "rb", "path", path, "as", "iterator"), string(content))
	s.expectBody(t, fileQuery("open", "bytesio", "as", "iterator"), "in memory")
	s.Logs.expectQuiet(t)
}

func TestFileWrapperLeavesTheFilesOffsetAlone(t *testing.T) {
	s := servePlain(t, `
import os
kept = []

def application(environ, start_response):
    if environ["PATH_INFO"] == "/kept":
        start_response("200 OK", [])
        f, before = kept.pop()
        result = repr((f.tell() - before, len(f.read()))).encode()
        f.close()
        return [result]
    f = open(environ["HTTP_X_PATH"], "rb", buffering=0 if environ["PATH_INFO"] == "/raw" else -1)
    f.read(1000)
    start_response("200 OK", [])
    wrapper = environ["wsgi.file_wrapper"](f)
    # The descriptor stays open past close(), so that it can be looked at.
    copy = open(os.dup(f.fileno()), "rb", buffering=0)
    kept.append((copy, copy.tell()))
    return wrapper
`, one(1)...)
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	r, _ := http.NewRequest("GET", s.URL+"/raw", nil)
	r.Header.Set("X-Path", path)
	if resp, body := s.send(t, r); resp.StatusCode != 200 || body != string(content[1000:]) {
		t.Errorf("%s with %d bytes", resp.Status, len(body))
	}
	s.expectBody(t, "/kept", fmt.Sprintf("(0, %d)", len(content)-1000))
}

func TestFileWrapperClosesOnceAndLeavesNoDescriptor(t *testing.T) {
	s := servePlain(t, `
import io
closes = []

def application(environ, start_response):
    if environ["PATH_INFO"] == "/closes":
        start_response("200 OK", [])
        result = repr(closes).encode()
        closes.clear()
        return [result]
    start_response("200 OK", [])
    f = open(__file__, "rb")
    if environ["PATH_INFO"] == "/counted":
        inner = f
        class Counted:
            read = inner.read
            def close(self):
                closes.append(1)
                inner.close()
        f = Counted()
    return environ["wsgi.file_wrapper"](f)
`, one(1)...)
	s.get(t, "/real")
	s.get(t, "/counted")
	s.expectBody(t, "/closes", "[1]")
	before := measure(t)
	for range 50 {
		s.get(t, "/real")
		s.get(t, "/counted")
		s.do(t, "HEAD", "/real", nil)
	}
	s.expectBody(t, "/closes", "["+strings.TrimSuffix(strings.Repeat("1, ", 50), ", ")+"]")
	expectReleased(t, before)
}

// sparseFile makes a file of that many zeros, which takes no room on disk.
func sparseFile(t testing.TB, size int64) (path string, f *os.File) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "file")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return path, f
}

// A file that shrinks while it is sent can't be sent whole any more: the
// client must see that.
func TestFileThatShrinksWhileItIsSentIsCutOff(t *testing.T) {
	s := servePlain(t, files, one(1)...)
	const size = 256 << 20 // far more than sockets hold
	path, f := sparseFile(t, size)
	conn := s.dial(t)
	conn.write("GET " + fileQuery("open", "rb", "path", path) + " HTTP/1.1\r\nHost: h\r\n\r\n")
	resp := conn.response("GET")
	if resp.ContentLength != size {
		t.Fatalf("length %d", resp.ContentLength)
	}
	if err := f.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil || n >= size {
		t.Errorf("%d bytes and %v, want less than %d and an error", n, err, size)
	}
	s.Logs.Wait(t, "became shorter")
	s.expectBody(t, fileQuery("open", "bytesio"), "in memory")
}

// The worker of a file that a client takes its time with is free.
func TestLargeFileOccupiesNoWorker(t *testing.T) {
	s := servePlain(t, files, one(1)...)
	const size = 1 << 30
	path, _ := sparseFile(t, size)
	conn := s.dial(t)
	conn.write("GET " + fileQuery("open", "rb", "path", path) + " HTTP/1.1\r\nHost: h\r\n\r\n")
	resp := conn.response("GET")
	s.expectBody(t, fileQuery("open", "bytesio"), "in memory")
	if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	s.Logs.expectQuiet(t)
}
