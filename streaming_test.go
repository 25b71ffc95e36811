package wsgi_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-a2d07992/wsgi"
)

// A gate is a pipe that holds an application up: it reads a byte from its end.
type gate struct {
	r, w *os.File
}

func newGate(t testing.TB) *gate {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Close() // which lets everyone through
		r.Close()
	})
	return &gate{r, w}
}

// fd is the descriptor for the application.
func (g *gate) fd() string { return strconv.Itoa(int(g.r.Fd())) }

// open lets the application go on once.
func (g *gate) open(t testing.TB) {
	t.Helper()
	if _, err := g.w.Write([]byte{1}); err != nil {
		t.Error(err)
	}
}

// Each chunk is read by the client before the next one is produced: whatever
// held one back until there is more would hang this test.
func TestEveryChunkArrivesWithoutWaitingForTheNext(t *testing.T) {
	source := `
import os

def generator(environ, start_response):
    gate = int(environ["QUERY_STRING"])
    os.read(gate, 1)
    start_response("200 OK", [])
    os.read(gate, 1)
    for i in range(20):
        yield b"chunk %d\n" % i
        yield b""
        os.read(gate, 1)

def length(environ, start_response):
    gate = int(environ["QUERY_STRING"])
    os.read(gate, 1)
    start_response("200 OK", [("Content-Length", str(sum(len("chunk %d\n" % i) for i in range(20))))])
    os.read(gate, 1)
    for i in range(20):
        yield b"chunk %d\n" % i
        os.read(gate, 1)

def write(environ, start_response):
    gate = int(environ["QUERY_STRING"])
    os.read(gate, 1)
    write = start_response("200 OK", [])
    os.read(gate, 1)
    for i in range(20):
        write(b"chunk %d\n" % i)
        os.read(gate, 1)
    return []

def mixed(environ, start_response):
    gate = int(environ["QUERY_STRING"])
    os.read(gate, 1)
    write = start_response("200 OK", [])
    def body():
        os.read(gate, 1)
        for i in range(0, 20, 2):
            write(b"chunk %d\n" % i)
            os.read(gate, 1)
            yield b"chunk %d\n" % (i + 1)
            os.read(gate, 1)
    return body()
` + routed
	run := func(t *testing.T, s *server) {
		for _, path := range []string{"generator", "length", "write", "mixed"} {
			t.Run(path, func(t *testing.T) {
				g := newGate(t)
				type answer struct {
					resp *http.Response
					err  error
				}
				answers := make(chan answer, 1)
				go func() {
					resp, err := s.Client().Get(s.URL + "/" + path + "?" + g.fd())
					answers <- answer{resp, err}
				}()
				g.open(t) // to start_response
				select {
				case a := <-answers:
					t.Fatalf("an answer before the first chunk: %v", a)
				default:
				}
				g.open(t) // to the first chunk
				var a answer
				select {
				case a = <-answers:
				case <-time.After(patience):
					t.Fatalf("the first chunk has not arrived\n%s", stacks())
				}
				if a.err != nil {
					t.Fatal(a.err)
				}
				defer a.resp.Body.Close()
				stop := time.AfterFunc(patience, func() {
					t.Error("a chunk has not arrived")
					g.w.Close()
				})
				defer stop.Stop()
				body := bufio.NewReader(a.resp.Body)
				for i := range 20 {
					line, err := body.ReadString('\n')
					if line != fmt.Sprintf("chunk %d\n", i) || err != nil {
						t.Fatalf("chunk %d is %q, %v", i, line, err)
					}
					g.open(t)
				}
				if rest, err := io.ReadAll(body); len(rest) > 0 || err != nil {
					t.Errorf("after the last chunk: %q, %v", rest, err)
				}
				// An answer may be whole before the application is done, and the
				// next gate may have the same descriptor.
				eventually(t, "the application to return", func() bool { return s.App.Stats().InFlight == 0 })
			})
		}
	}
	t.Run("HTTP/1.1", func(t *testing.T) { run(t, servePlain(t, source)) })
	t.Run("HTTP/2", func(t *testing.T) { run(t, serveHTTP2(t, source)) })
}

// Nothing goes out before the first chunk that isn't empty: until then the
// application may change its mind.
func TestNothingIsSentBeforeTheFirstNonEmptyChunk(t *testing.T) {
	s := servePlain(t, `
import os, sys

def application(environ, start_response):
    gate = int(environ["QUERY_STRING"])
    write = start_response("200 OK", [("X-Old", "yes")])
    write(b"")
    for i in range(10):
        yield b""
        os.read(gate, 1)
    try:
        raise ValueError
    except ValueError:
        start_response("418 I'm a teapot", [], sys.exc_info())
    yield b"short and stout"
`)
	g := newGate(t)
	go func() {
		for range 10 {
			g.open(t)
		}
	}()
	resp, body := s.get(t, "/?"+g.fd())
	if resp.StatusCode != 418 || body != "short and stout" || resp.Header.Get("X-Old") != "" {
		t.Errorf("%s %v %q", resp.Status, resp.Header, body)
	}
}

const pulled = `
import threading

count, ended, closes = 0, 0, 0

class Stream:
    def __init__(self, chunks, size):
        self.left, self.chunk = chunks, b"z" * size
    def __iter__(self):
        return self
    def __next__(self):
        global count
        if not self.left:
            raise StopIteration
        self.left -= 1
        count += len(self.chunk)
        return self.chunk
    def close(self):
        global closes
        closes += 1

def finishing(chunk):
    global count, ended, closes
    try:
        while True:
            count += len(chunk)
            yield chunk
    except GeneratorExit:
        ended += 1
        raise
    finally:
        closes += 1

def application(environ, start_response):
    global ended
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    write = start_response("200 OK", [])
    if path == "/state":
        return [b"%d %d %d" % (count, ended, closes)]
    if path == "/endless":
        return Stream(-1, int(query))
    if path == "/generator":
        return finishing(b"z" * int(query))
    if path == "/write":
        s = Stream(-1, int(query))
        try:
            for chunk in s:
                write(chunk)
        except OSError as e:
            ended += 1
            raise
        finally:
            s.close()
    if path == "/list":
        return [b"z" * (1 << 20)] * int(query)
    chunks, size = map(int, query.split(","))
    return Stream(chunks, size)
`

// state is what the application pulled tells of itself.
func (s *server) state(t testing.TB) (count, ended, closes int) {
	t.Helper()
	_, body := s.get(t, "/state")
	if _, err := fmt.Sscan(body, &count, &ended, &closes); err != nil {
		t.Fatal(err)
	}
	return count, ended, closes
}

func TestIterableIsPulledNoFurtherThanTheBufferAllows(t *testing.T) {
	s := servePlain(t, pulled, append(one(2), wsgi.WithResponseBuffer(64<<10))...)
	for _, size := range []int{512, 10 << 10, 300 << 10} {
		before, _, closed := s.state(t)
		chunks := 64 << 20 / size
		conn := s.dial(t)
		conn.write(fmt.Sprintf("GET /some?%d,%d HTTP/1.0\r\n\r\n", chunks, size))
		// It has stopped when it gets no further for a while.
		last, since := -1, time.Now()
		eventually(t, "the iterable to be held up", func() bool {
			now, _, _ := s.state(t)
			if now != last {
				last, since = now, time.Now()
			}
			return now > before && time.Since(since) > 100*time.Millisecond
		})
		if got := last - before; got > 24<<20 {
			t.Errorf("chunks of %d: %d bytes were produced for a client that reads nothing", size, got)
		}
		resp := conn.response("GET")
		if n, err := io.Copy(io.Discard, resp.Body); n != int64(chunks*size) || err != nil {
			t.Errorf("chunks of %d: %d bytes arrived, want %d; %v", size, n, chunks*size, err)
		}
		eventually(t, "close()", func() bool { _, _, closes := s.state(t); return closes == closed+1 })
	}
	s.Logs.expectQuiet(t)
}

func TestLargeListOccupiesNoWorkerWhileItIsSent(t *testing.T) {
	s := servePlain(t, pulled, one(1)...)
	conn := s.dial(t)
	const size = 48
	conn.write(fmt.Sprintf("GET /list?%d HTTP/1.0\r\n\r\n", size))
	for range 10 {
		s.state(t) // by the only worker
	}
	resp := conn.response("GET")
	s.state(t)
	if n, err := io.Copy(io.Discard, resp.Body); n != size<<20 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestChunkLargerThanTheBufferIsSentWhole(t *testing.T) {
	s := servePlain(t, pulled, append(one(1), wsgi.WithResponseBuffer(4<<10))...)
	for _, query := range []string{"1,20000000", "3,5000000", "5,4097"} {
		chunks, size, _ := strings.Cut(query, ",")
		n, _ := strconv.Atoi(chunks)
		m, _ := strconv.Atoi(size)
		if resp, body := s.get(t, "/some?"+query); resp.StatusCode != 200 || body != strings.Repeat("z", n*m) {
			t.Errorf("%s: %s with %d bytes", query, resp.Status, len(body))
		}
	}
}

// A client that leaves ends the application's work, by close() once, and its
// worker is free.
func TestDepartedClientEndsTheStream(t *testing.T) {
	s := servePlain(t, pulled, append(one(1), wsgi.WithResponseBuffer(64<<10))...)
	closed, ends := 0, 0
	for _, path := range []string{"/endless?1000", "/endless?1000000", "/generator?1000", "/write?1000", "/write?1000000"} {
		for _, reset := range []bool{true, false} {
			for _, read := range []int64{0, 1, 1 << 20} {
				conn := s.dial(t)
				handed := s.App.Stats().Requests
				conn.write("GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n")
				eventually(t, "the request to reach an interpreter", func() bool { return s.App.Stats().Requests > handed })
				if read > 0 {
					resp := conn.response("GET")
					if n, err := io.CopyN(io.Discard, resp.Body, read); err != nil {
						t.Fatalf("%s: %d bytes, %v", path, n, err)
					}
				}
				if reset {
					conn.reset()
				} else {
					conn.Close()
				}
				// The only worker answers when it is done with the stream, which it
				// may never have begun where the client left at once.
				_, ended, got := s.state(t)
				if got == closed && read > 0 {
					t.Errorf("%s: close() was not called", path)
				}
				if got > closed+1 {
					t.Errorf("%s: close() was called %d times", path, got-closed)
				}
				if strings.HasPrefix(path, "/generator") || strings.HasPrefix(path, "/write") {
					if ended-ends != got-closed {
						t.Errorf("%s: the application was told %d times, and closed %d times", path, ended-ends, got-closed)
					}
				} else if ended != ends {
					t.Errorf("%s: %d exceptions", path, ended-ends)
				}
				closed, ends = got, ended
			}
		}
	}
	s.Logs.expectQuiet(t) // it is nobody's fault
}

// Many clients that leave at odd moments, with the race detector looking on.
func TestClientsThatLeaveAtAnyMoment(t *testing.T) {
	s := servePlain(t, pulled, append(one(4), wsgi.WithResponseBuffer(64<<10))...)
	const clients, rounds = 8, 40
	done := make(chan error)
	for i := range clients {
		go func() {
			for n := range rounds {
				conn, err := net.Dial("tcp", s.Listener.Addr().String())
				if err != nil {
					done <- err
					return
				}
				path := []string{"/endless?700", "/generator?90000", "/write?5000", "/list?3"}[(i+n)%4]
				fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", path)
				_, _ = io.CopyN(io.Discard, conn, int64(n*n*n))
				if n%2 == 0 {
					_ = conn.(*net.TCPConn).SetLinger(0)
				}
				conn.Close()
			}
			done <- nil
		}()
	}
	for range clients {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	eventually(t, "all requests to end", func() bool { return s.App.Stats().InFlight == 0 })
	s.state(t)
	s.Logs.expectQuiet(t)
}

// write() after all that may be sent does nothing, but the client gets what it
// may have, and when it leaves, the application hears of it.
func TestEndlessWriteBeyondTheEndOfTheAnswer(t *testing.T) {
	s := servePlain(t, `
refused = 0

def application(environ, start_response):
    global refused
    path = environ["PATH_INFO"]
    write = start_response("204 No Content" if path == "/204" else "200 OK", [("Content-Length", "5")] if path == "/length" else [])
    if path == "/refused":
        return [b"%d" % refused]
    try:
        while True:
            write(b"12345")
    except OSError:
        refused += 1
        raise
`, one(1)...)
	for i, request := range []string{"GET /204", "HEAD /", "HEAD /length", "GET /length"} {
		conn := s.dial(t)
		conn.write(request + " HTTP/1.1\r\nHost: h\r\n\r\n")
		method, _, _ := strings.Cut(request, " ")
		resp := conn.response(method)
		if resp.StatusCode/100 != 2 {
			t.Errorf("%s: %s", request, resp.Status)
		}
		if request == "GET /length" {
			if body, err := io.ReadAll(resp.Body); string(body) != "12345" || err != nil {
				t.Errorf("%s: %q, %v", request, body, err)
			}
		}
		conn.Close()
		s.expectBody(t, "/refused", strconv.Itoa(i+1))
	}
}

// TestThreadsWriteBehindASlowReader has several threads of one request wait for
// the same room at the same time: none may be forgotten when there is some.
func TestThreadsWriteBehindASlowReader(t *testing.T) {
	s := serve(t, `
import threading

def application(environ, start_response):
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    def work():
        for _ in range(4):
            write(b"x" * 6000)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return []
`, wsgi.WithResponseBuffer(4<<10))
	for range 200 {
		within(t, "an answer of four threads", func() {
			if resp, got := s.get(t, "/"); resp.StatusCode != http.StatusOK || len(got) != 4*4*6000 {
				t.Errorf("%s, %d bytes", resp.Status, len(got))
			}
		})
	}
}
