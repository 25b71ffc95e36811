package wsgi_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-a2d07992/wsgi"
)

// anything is an application that does what the bytes of its query string say,
// and remembers what a client may see of it.
const anything = `
import io, json, sys, tempfile

class Record:
    def __init__(self):
        self.started = self.done = self.closable = False
        self.length = None      # the Content-Length of the headers that count
        self.body = b""
        self.closed = 0

records = {}
smuggled = 0

class Steps:
    def __init__(self, data):
        self.data, self.at = data, 0

    def choose(self, n):
        if self.at >= len(self.data):
            return 0
        self.at += 1
        return self.data[self.at - 1] % n

class Failure(Exception):
    pass

FAILURES = [Failure, KeyError, OSError, SystemExit, GeneratorExit, StopIteration, MemoryError, RecursionError]
SIZES = [1, 0, 7, 100, 5000, 70000, 300000]
STATUSES = ["200 OK"] * 6 + ["404 Not Found", "204 No Content", "304 Not Modified", "500 Mine", "999 x", "199 x", "200", 5, "200 O\nK", "200 \u20ac"]
ODD = [("X-A", "b")] * 8 + [("X-A", "b\r\nX-B: c"), ("X A", "b"), ("", ""), ("X-A", 5), ("X-A",), ["X-A", "b"], ("Connection", "close"), ("X-A", "\x00"), ("X-A", "\u20ac"), 5]

def act(steps, record, environ, start_response, writers):
    "One step of an application. Returns True when it is to go on."
    kind = steps.choose(12)
    if kind == 0:
        return False
    if kind in (1, 2, 3):
        body = environ["wsgi.input"]
        size = [-1, 0, 1, 10, 4096, 100000, None][steps.choose(7)]
        how = steps.choose(4)
        if how == 0:
            body.read(size)
        elif how == 1:
            body.readline(size)
        elif how == 2:
            body.readlines(size)
        else:
            for line in body:
                if steps.choose(3) == 0:
                    break
    elif kind == 4:
        environ["wsgi.errors"].write(["text", "line\n", "\udc80\n", ""][steps.choose(4)])
    elif kind == 5:
        environ["wsgi.early_hints"]([("Link", "</a>; rel=preload")])
    elif kind in (6, 7, 8):
        status = STATUSES[steps.choose(len(STATUSES))]
        headers = [("X-Mine", "yes"), ODD[steps.choose(len(ODD))]]
        length = [None, None, None, 0, 1, 107, 5000, 10**6][steps.choose(8)]
        if length is not None:
            headers.append(("Content-Length", str(length)))
        arguments = (status, headers)
        if steps.choose(4) == 3:
            try:
                raise Failure("SECRET")
            except Failure:
                arguments += (sys.exc_info(),)
        try:
            writers.append(start_response(*arguments))
        except Failure:
            raise
        except Exception:
            if steps.choose(2):
                raise
        else:
            record.started, record.length = True, length
    elif kind == 9:
        if writers:
            data = b"w" * SIZES[steps.choose(len(SIZES))]
            record.body += data
            writers[-1](data)
    elif kind == 10:
        if steps.choose(3) == 0:
            raise FAILURES[steps.choose(len(FAILURES))]("SECRET")
    return True

def chunks(steps, record, environ, start_response, writers):
    while act(steps, record, environ, start_response, writers):
        kind = steps.choose(16)
        if kind == 15:
            yield ["text", bytearray(b"x"), 5, None][steps.choose(4)]
            raise AssertionError("SECRET")
        if kind < 8:
            data = b"c" * SIZES[steps.choose(len(SIZES))]
            record.body += data
            yield data
    record.done = True

class Closable:
    def __init__(self, steps, record, chunks):
        self.record, self.chunks = record, chunks
        self.fails = steps.choose(8) == 7
        record.closable = True

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.chunks)

    def close(self):
        self.record.closed += 1
        if self.fails:
            raise Failure("SECRET")

class List(list):
    pass

class File(io.BytesIO):
    def close(self):
        if hasattr(self, "record"):
            self.record.closed += 1
        super().close()

def run(steps, record, environ, start_response):
    writers = []
    while act(steps, record, environ, start_response, writers):
        pass
    if not record.started and steps.choose(4):
        writers.append(start_response("200 OK", [("X-Mine", "yes")]))
        record.started = True
    kind = steps.choose(10)
    if kind < 3:
        return chunks(steps, record, environ, start_response, writers)
    if kind < 5:
        return Closable(steps, record, chunks(steps, record, environ, start_response, writers))
    if kind < 7:
        items = [b"i" * SIZES[steps.choose(len(SIZES))] for _ in range(steps.choose(4))]
        if steps.choose(8) == 7:
            return items + [["text", 5, None][steps.choose(3)]]
        record.body += b"".join(items)
        record.done = True
        return [list, tuple, List, iter][steps.choose(4)](items)
    data = b"f" * SIZES[steps.choose(len(SIZES))]
    if kind == 7:
        f = tempfile.TemporaryFile(buffering=[-1, 0][steps.choose(2)])
        f.write(data)
        f.flush()
        f.seek(0)
        record.body += data
        record.done = True
        return environ["wsgi.file_wrapper"](f)
    if kind == 8:
        f = File(data)
        f.record, record.closable = record, True
        record.body += data
        record.done = True
        return environ["wsgi.file_wrapper"](f)
    return [None, "text", b"bytes", 5][steps.choose(4)]

def application(environ, start_response):
    global smuggled
    path = environ["PATH_INFO"]
    if path == "/check":
        record = records.pop(environ["QUERY_STRING"], None)
        start_response("200 OK", [])
        if record is None:
            return [json.dumps({"ran": False, "smuggled": smuggled}).encode()]
        return [json.dumps({
            "ran": True, "smuggled": smuggled, "done": record.done, "length": record.length,
            "closable": record.closable, "closed": record.closed, "body": record.body.decode(),
        }).encode()]
    if path == "/next":
        start_response("200 OK", [("X-Next", "yes")])
        return [b"next"]
    if path != "/run":
        smuggled += 1
        start_response("200 OK", [])
        return []
    query = environ["QUERY_STRING"]
    key, _, program = query.partition("&")
    record = records[key] = Record()
    return run(Steps(bytes.fromhex(program)), record, environ, start_response)
`

// A ran is what the application remembers of a request.
type ran struct {
	Ran, Done, Closable bool
	Length              *int
	Closed, Smuggled    int
	Body                string
}

// FuzzHandler has random applications answer random clients. Whatever both do,
// close() is called once, a response that looks whole is whole, what an exception
// says reaches no client, the rest of a body is never a request, and the next
// client is served.
func FuzzHandler(f *testing.F) {
	for _, seed := range []struct{ application, client string }{
		{"", ""}, // a plain GET, and an empty generator
		{"\x06\x00\x00\x00\x00\x00\x05\x02\x05\x05", "\x01\x01"},
		{"\x09\x00\x0a\x00\x00", "\x02\x00\x03"},
		{"\x01\x00\x00\x00\x01\x03\x09\x00\x05\x00\x09\x00\x05", "\x01\x00\x02\x05\x00"},
	} {
		f.Add([]byte(seed.application), []byte(seed.client))
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 150 {
		application, client := make([]byte, 4+random.IntN(40)), make([]byte, 8)
		for i := range application {
			application[i] = byte(random.Uint32())
		}
		for i := range client {
			client[i] = byte(random.Uint32())
		}
		f.Add(application, client)
	}
	records := &logs{} // of its own, and emptied each time
	// The requests that have been answered, by their query, and the clients whose
	// connection the server is done with, by their address: a request that has got
	// lost on the way is not answered.
	var ended sync.Map
	watch := func(s *server, app http.Handler) http.Handler {
		s.Config.ConnState = func(conn net.Conn, state http.ConnState) {
			if state == http.StateClosed || state == http.StateHijacked {
				ended.Store(conn.RemoteAddr().String(), true)
			}
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer ended.Store(r.URL.RawQuery, true)
			app.ServeHTTP(w, r)
		})
	}
	s := serveWith(f, watch, anything, append(one(2), wsgi.WithLogger(slog.New(records)), wsgi.WithBodyBuffer(4096), wsgi.WithResponseBuffer(16384))...)
	var number atomic.Int64
	f.Fuzz(func(t *testing.T, application, client []byte) {
		if len(application) > 200 || len(client) > 50 {
			return
		}
		records.clear()
		ended.Clear()
		key := fmt.Sprint(number.Add(1))
		c := fuzzClient{steps: client}
		query := key + "&" + hex.EncodeToString(application)
		got := c.run(t, s.Listener.Addr().String(), query)
		if t.Failed() {
			return
		}
		eventually(t, "the request to end", func() bool {
			_, answered := ended.Load(query)
			_, closed := ended.Load(got.address)
			return (answered || closed) && s.App.Stats().InFlight == 0
		})
		resp, body := s.get(t, "/check?"+key)
		var r ran
		if err := json.Unmarshal([]byte(body), &r); err != nil {
			t.Fatalf("the next client got %s, %q", resp.Status, body)
		}
		checkAnswer(t, c, got, r)
		if t.Failed() {
			for _, record := range records.All() {
				t.Logf("log: %v", record)
			}
		}
	})
}

// checkAnswer compares what a client has seen with what the application did.
func checkAnswer(t *testing.T, c fuzzClient, got fuzzAnswer, r ran) {
	t.Helper()
	if r.Smuggled > 0 {
		t.Fatal("bytes of a body were taken for a request")
	}
	want := 0
	if r.Closable {
		want = 1
	}
	if r.Closed != want {
		t.Errorf("close() was called %d times, want %d", r.Closed, want)
	}
	if strings.Contains(got.raw, "Traceback") || strings.Contains(got.raw, "SECRET") {
		t.Errorf("the client has seen an exception: %q", got.raw)
	}
	if !got.whole {
		return // it knows
	}
	if !got.mine {
		// The server's own, in place of the application's.
		if r.Ran && got.status != 500 && got.status != 413 && got.status != 408 && got.status != 400 {
			t.Errorf("the server answered %d in place of the application: %.300q; %+v", got.status, got.raw, r)
		}
		return
	}
	body, complete := r.Body, r.Done
	if r.Length != nil && len(body) >= *r.Length {
		body, complete = body[:*r.Length], true
	} else if r.Length != nil {
		complete = false
	}
	if c.method == "HEAD" || got.status == 204 || got.status == 304 {
		body, complete = "", true
	}
	if !complete || got.body != body {
		t.Errorf("%s: the client took %d bytes for the whole answer (%d), where the application produced %d and reached its end: %v", c.method, len(got.body), got.status, len(r.Body), r.Done)
	}
}

// A fuzzClient does what its bytes say.
type fuzzClient struct {
	steps  []byte
	method string
}

// A fuzzAnswer is what it has seen.
type fuzzAnswer struct {
	address string // its own
	raw     string // all bytes
	status  int
	mine    bool // from the application
	body    string
	whole   bool // to all appearances
}

func (c *fuzzClient) choose(n int) int {
	if len(c.steps) == 0 {
		return 0
	}
	step := c.steps[0]
	c.steps = c.steps[1:]
	return int(step) % n
}

const (
	fuzzStays = iota
	fuzzShuts // its sending side, before the body is complete
	fuzzLeaves
	fuzzResets
)

func (c *fuzzClient) run(t *testing.T, address, query string) (got fuzzAnswer) {
	c.method = []string{"GET", "POST", "HEAD", "PUT"}[c.choose(4)]
	version := []string{"1.1", "1.1", "1.1", "1.0"}[c.choose(4)]
	lines := []byte("GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
	size := []int{0, 1, 100, 4096, 5000, 100000, 600000}[c.choose(7)]
	body := bytes.Repeat(lines, size/len(lines)+1)[:size]
	conduct := []int{fuzzStays, fuzzStays, fuzzStays, fuzzStays, fuzzStays, fuzzShuts, fuzzLeaves, fuzzResets}[c.choose(8)]
	piece := []int{0, 1, 1000}[c.choose(3)] // in which it reads; 0: as it comes
	pipelined := c.choose(2) == 1
	var head bytes.Buffer
	fmt.Fprintf(&head, "%s /run?%s HTTP/%s\r\nHost: x\r\n", c.method, query, version)
	if version == "1.1" && c.choose(4) == 3 {
		head.WriteString("Expect: 100-continue\r\n")
	}
	if version == "1.1" && size > 0 && c.choose(2) == 1 {
		head.WriteString("Transfer-Encoding: chunked\r\n\r\n")
		body = chunkedBody(body, 1+c.choose(256)*64)
	} else {
		if size > 0 || c.method == "POST" {
			fmt.Fprintf(&head, "Content-Length: %d\r\n", len(body))
		}
		head.WriteString("\r\n")
	}
	if conduct != fuzzStays {
		body = body[:len(body)/2]
		pipelined = false
	}
	if pipelined {
		body = append(body, "GET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"...)
	}

	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	got.address = conn.LocalAddr().String()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write(head.Bytes()); err != nil {
		t.Fatal(err)
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = conn.Write(body) // the server may not want it
		switch conduct {
		case fuzzShuts:
			_ = conn.(*net.TCPConn).CloseWrite()
		case fuzzLeaves:
			_ = conn.Close()
		case fuzzResets:
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		}
	}()
	defer func() { <-sent }()
	defer conn.Close()

	var raw bytes.Buffer
	defer func() { got.raw = raw.String() }()
	r := bufio.NewReader(io.TeeReader(pieces{conn, piece}, &raw))
	expired := func(err error) bool {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the server has not answered for %v; so far: %.200q", c.method, patience, raw.Bytes())
			return true
		}
		return false
	}
	var resp *http.Response
	for {
		resp, err = http.ReadResponse(r, &http.Request{Method: c.method})
		if err != nil {
			expired(err)
			return
		}
		if resp.StatusCode >= 200 {
			break
		}
	}
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		expired(err)
		return
	}
	got.status, got.mine, got.body, got.whole = resp.StatusCode, resp.Header.Get("X-Mine") != "", string(data), true
	if !pipelined || resp.Close {
		return
	}
	// What comes next, if anything, answers the request behind the body.
	next, err := http.ReadResponse(r, nil)
	if err != nil {
		expired(err)
		return
	}
	defer next.Body.Close()
	if text, err := io.ReadAll(next.Body); next.StatusCode != 200 || next.Header.Get("X-Next") == "" || string(text) != "next" || err != nil {
		t.Errorf("%s: the pipelined request was answered %s %q, %v", c.method, next.Status, text, err)
	}
	return
}

// chunkedBody encodes a body in chunks of a size, with a trailer.
func chunkedBody(body []byte, size int) []byte {
	var b bytes.Buffer
	for len(body) > 0 {
		n := min(size, len(body))
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	b.WriteString("0\r\nX-Trailer: x\r\n\r\n")
	return b.Bytes()
}

// pieces reads a few bytes at a time, which makes a slow client without waiting.
type pieces struct {
	r    io.Reader
	size int
}

func (p pieces) Read(b []byte) (int, error) {
	if p.size > 0 && len(b) > p.size {
		b = b[:p.size]
	}
	return p.r.Read(b)
}
