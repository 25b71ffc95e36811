package wsgi_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// bzipped is "packed content".
var bzipped = []byte("\x42\x5a\x68\x39\x31\x41\x59\x26\x53\x59\x5e\x96\x20\x8d\x00\x00\x05\x91\x80\x40\x00\x2e\x09\xc4\x00\x20\x00\x22\x07\xa8\x1a\x10\x03\x03\x82\xf1\x6a\xa9\x13\x78\xbb\x92\x29\xc2\x84\x82\xf4\xb1\x04\x68")

func gzipped(t testing.TB, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFileWrapperReadsWhatIsNoRealFile(t *testing.T) {
	s := servePlain(t, files, one(1)...)
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, test := range []struct {
		open, body string
		bytes      []byte // of the file
	}{
		{"gzip", "packed content", gzipped(t, "packed content")},
		{"gzip_buffered", "packed content", gzipped(t, "packed content")},
		{"bz2_buffered", "packed content", bzipped},
		{"bytesio", "in memory", nil},
		{"bytesio_buffered", "in memory", nil},
		{"counted", "counted content", []byte("counted content")},
		{"no_close", "no close", nil},
		{"lying", "not what fileno says", nil},
		{"subclass", "UPPER CASE", []byte("upper case")},
		{"subclass_buffered", "UPPER CASE", []byte("upper case")},
		{"named_temporary", "", nil},
		{"written", "written and not flushed", nil},
		{"overwritten", "CHANGED! by hand", []byte("original by hand")},
		{"pipe", "through a pipe", nil},
		{"deleted", "gone from its directory", []byte("gone from its directory")},
		{"null", "", nil},
		{"rb", "", []byte{}},
	} {
		if err := os.WriteFile(path, test.bytes, 0o600); err != nil {
			t.Fatal(err)
		}
		resp, body := s.get(t, fileQuery("open", test.open, "path", path))
		if resp.StatusCode != 200 || body != test.body {
			t.Errorf("%s: %s %q, want %q", test.open, resp.Status, body, test.body)
		}
	}
	s.Logs.expectQuiet(t)
}

// TestFileWrapperOfOtherFilesStandsAtTheirPosition and keeps to a Content-Length, as
// it does with real files.
func TestFileWrapperOfOtherFilesStandsAtTheirPosition(t *testing.T) {
	s := servePlain(t, files, one(1)...)
	path := filepath.Join(t.TempDir(), "file")
	for _, test := range []struct {
		open, text string
		bytes      []byte // of the file
	}{
		{"bytesio", "in memory", nil},
		{"gzip", "packed content", gzipped(t, "packed content")},
		{"counted", "counted content", []byte("counted content")},
		{"pipe", "through a pipe", nil},
		{"written", "written and not flushed", nil},
		{"deleted", "gone from its directory", []byte("gone from its directory")},
	} {
		for _, skip := range []int{0, 3, len(test.text)} {
			for _, length := range []int{-1, 0, 2, len(test.text) - skip} {
				if err := os.WriteFile(path, test.bytes, 0o600); err != nil {
					t.Fatal(err)
				}
				query := []string{"open", test.open, "path", path, "skip", strconv.Itoa(skip)}
				want := test.text[skip:]
				if length >= 0 && length <= len(want) {
					query, want = append(query, "length", strconv.Itoa(length)), want[:length]
				}
				if resp, body := s.get(t, fileQuery(query...)); resp.StatusCode != 200 || body != want {
					t.Errorf("%s from %d, length %d: %s %q, want %q", test.open, skip, length, resp.Status, body, want)
				}
			}
		}
		if err := os.WriteFile(path, test.bytes, 0o600); err != nil {
			t.Fatal(err)
		}
		conn := s.dial(t)
		conn.write("GET " + fileQuery("open", test.open, "path", path, "length", "1000") + " HTTP/1.1\r\nHost: h\r\n\r\n")
		resp := conn.response("GET")
		if body, err := io.ReadAll(resp.Body); string(body) != test.text || err != io.ErrUnexpectedEOF {
			t.Errorf("%s, 1000 bytes promised: %q, %v", test.open, body, err)
		}
	}
}

// TestFileWrapperTakesAFileAndABlockSize, which is a suggestion.
func TestFileWrapperTakesAFileAndABlockSize(t *testing.T) {
	s := servePlain(t, `
import ast, io

class Index:
    def __index__(self):
        return 3

def application(environ, start_response):
    size = environ["HTTP_X_SIZES"]
    sizes = [Index()] if size == "Index" else ast.literal_eval(size)
    try:
        body = environ["wsgi.file_wrapper"](io.BytesIO(b"some content"), *sizes)
    except TypeError as e:
        body = [("TypeError: %s" % e).encode()]
    start_response("200 OK", [])
    return body
`)
	for sizes, want := range map[string]string{
		"[]": "some content", "[1]": "some content", "[8192]": "some content", "[True]": "some content", "Index": "some content",
		"[1000000000000000000000000000000]": "some content", "[0]": "some content", "[-1]": "some content",
		"['8']": "TypeError: ", "[None]": "TypeError: ", "[1.5]": "TypeError: ", "[1, 2]": "TypeError: wsgi.file_wrapper takes",
	} {
		r, err := http.NewRequest("GET", s.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Sizes", sizes)
		if resp, body := s.send(t, r); resp.StatusCode != 200 || !strings.HasPrefix(body, want) {
			t.Errorf("%s: %s %q, want %q", sizes, resp.Status, body, want)
		}
	}
	s.Logs.expectQuiet(t)
}
