package wsgi_test

import (
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/seed-a2d07992/wsgi"
)

// zeros reads as that many bytes.
type zeros struct{ left int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), z.left)
	clear(p[:n])
	z.left -= n
	return int(n), nil
}

const counting = `
def application(environ, start_response):
    source, size = environ["wsgi.input"], 0
    while True:
        piece = source.read(1 << 18)
        if not piece:
            break
        size += len(piece)
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] != "/down":
        return [str(size).encode()]
    piece, times = b"x" * (1 << 18), int(environ["QUERY_STRING"]) >> 18
    def pieces():
        for _ in range(times):
            yield piece
    return pieces()
`

// TestGigabytesStreamInLittleMemory sends one GiB each way. What the process
// needs for it must not depend on how much it is.
func TestGigabytesStreamInLittleMemory(t *testing.T) {
	size := int64(1) << 30
	if testing.Short() || raceDetector {
		size = 128 << 20
	}
	limit := int64(48 << 20) // the buffers, and what the garbage collector leaves
	if addressSanitizer {
		limit += 64 << 20 // freed memory that isn't used again yet
	}
	s := serve(t, counting, wsgi.WithInterpreters(1))
	warm := func() { s.do(t, "POST", "/", chunked{&zeros{8 << 20}}) }
	transfer := func(name string, f func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			warm()
			before, most := residentBytes(t), int64(0)
			stop, done := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				look := time.NewTicker(2 * time.Millisecond)
				defer look.Stop()
				for {
					most = max(most, residentBytes(t))
					select {
					case <-stop:
						return
					case <-look.C:
					}
				}
			}()
			f(t)
			close(stop)
			<-done
			if grown := most - before; grown > limit {
				t.Errorf("%d MiB took %d MiB of memory", size>>20, grown>>20)
			}
		})
	}
	for _, framing := range []string{"length", "chunked"} {
		transfer("up by "+framing, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), "POST", s.URL, io.NopCloser(&zeros{size}))
			if err != nil {
				t.Fatal(err)
			}
			r.ContentLength = -1
			if framing == "length" {
				r.ContentLength = size
			}
			if _, got := s.send(t, r); got != strconv.FormatInt(size, 10) {
				t.Errorf("the application counted %s bytes of %d", got, size)
			}
		})
	}
	transfer("down", func(t *testing.T) {
		resp, err := s.Client().Get(s.URL + "/down?" + strconv.FormatInt(size, 10))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
			t.Errorf("got %d bytes of %d, %v", n, size, err)
		}
	})
	transfer("down to a client that is slower", func(t *testing.T) {
		resp, err := s.Client().Get(s.URL + "/down?" + strconv.FormatInt(size, 10))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		// It reads in small pieces, each of which costs a call.
		if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{resp.Body}, make([]byte, 4<<10)); n != size || err != nil {
			t.Errorf("got %d bytes of %d, %v", n, size, err)
		}
	})
	s.Logs.expectQuiet(t)
}
