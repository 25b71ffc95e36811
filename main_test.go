package wsgi_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-a2d07992/wsgi"
	"github.com/seed-a2d07992/wsgi/internal/testenv"
)

// patience is how long a test waits for what should happen at once. It is only
// spent where something is wrong.
const patience = 30 * time.Second

// programs are what this binary can do instead of running tests: things that
// need a process of their own. See runProgram.
var programs = map[string]func(){}

func TestMain(m *testing.M) {
	if name := os.Getenv("WSGI_TEST_PROGRAM"); name != "" {
		programs[name]()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// runProgram runs one of the programs in a process of its own and returns what
// it wrote, and how it ended.
func runProgram(t testing.TB, name string, env ...string) (stdout, stderr string, err error) {
	t.Helper()
	if programs[name] == nil {
		t.Fatalf("there is no program %q", name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(append(os.Environ(), env...), "WSGI_TEST_PROGRAM="+name)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// ---- Applications and servers

// A server is an application behind a real HTTP server.
type server struct {
	*httptest.Server
	App  *wsgi.App
	Logs *logs
	Dir  string // holds the application's file, and is on its sys.path
}

// serve starts a server for the application that source, a Python module,
// defines under the name of application. It runs under the standard library's
// wsgiref.validate, which checks both sides of the protocol: an application
// that breaks the rules on purpose, or whose list, tuple or file must reach the
// server as what it is, goes to servePlain.
func serve(t testing.TB, source string, opts ...wsgi.Option) *server {
	t.Helper()
	return serveWith(t, nil, validated(source), opts...)
}

// servePlain is serve without the validator.
func servePlain(t testing.TB, source string, opts ...wsgi.Option) *server {
	t.Helper()
	return serveWith(t, nil, source, opts...)
}

// serveWith is servePlain with handlers around the application, and with a
// hand in the server's settings: wrap may change s.Config before it starts.
func serveWith(t testing.TB, wrap func(s *server, app http.Handler) http.Handler, source string, opts ...wsgi.Option) *server {
	t.Helper()
	s := &server{}
	s.App, s.Logs, s.Dir = newApp(t, source, opts...)
	s.Server = httptest.NewUnstartedServer(s.App)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	if wrap != nil {
		s.Config.Handler = wrap(s, s.App)
	}
	s.Start()
	t.Cleanup(func() {
		s.CloseClientConnections()
		within(t, "the server's Close", s.Server.Close)
	})
	return s
}

// newApp starts the application that source defines, and closes it at the end
// of the test. It logs to the logs returned, unless opts say otherwise.
func newApp(t testing.TB, source string, opts ...wsgi.Option) (*wsgi.App, *logs, string) {
	t.Helper()
	app, records, dir := startApp(t, source, opts...)
	t.Cleanup(func() {
		within(t, "App.Close", func() {
			if err := app.Close(); err != nil {
				t.Errorf("App.Close: %v", err)
			}
		})
		if t.Failed() {
			for _, r := range records.All() {
				t.Logf("log: %v", r)
			}
		}
	})
	return app, records, dir
}

// startApp is newApp for a test that ends the application itself.
func startApp(t testing.TB, source string, opts ...wsgi.Option) (*wsgi.App, *logs, string) {
	t.Helper()
	dir, file := writeApp(t, source)
	records := &logs{}
	app, err := wsgi.New(file, "application", append([]wsgi.Option{wsgi.WithLogger(slog.New(records))}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return app, records, dir
}

var appNumber atomic.Int64

// writeApp writes a module of a name that no other test has: under Main they
// all live in one interpreter.
func writeApp(t testing.TB, source string) (dir, file string) {
	t.Helper()
	dir = t.TempDir()
	file = filepath.Join(dir, fmt.Sprintf("app_%d.py", appNumber.Add(1)))
	writeFile(t, file, source)
	return dir, file
}

func writeFile(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// validated adds the standard library's validator to an application.
func validated(source string) string {
	return source + "\n\nfrom wsgiref.validate import validator as _validator\napplication = _validator(application)\n"
}

// pythonVersion asks the Python under test for its version.
var pythonVersion = sync.OnceValues(func() (version [2]int, err error) {
	out, err := exec.Command(pythonPath(), "-c", "import sys; print(*sys.version_info[:2])").Output()
	if err == nil {
		_, err = fmt.Sscan(string(out), &version[0], &version[1])
	}
	return version, err
})

// atLeast reports whether the Python under test is of a version 3.minor or later.
func atLeast(t testing.TB, minor int) bool {
	t.Helper()
	version, err := pythonVersion()
	if err != nil {
		t.Fatal(err)
	}
	return version[0] > 3 || version[1] >= minor
}

// needOwnGIL skips a test of what only comes with several interpreters at work
// or with Auto's choice: Python has them since 3.13.
func needOwnGIL(t testing.TB) {
	t.Helper()
	if !atLeast(t, 13) {
		t.Skip("no interpreter has a GIL of its own before Python 3.13")
	}
}

// pythonPath is the interpreter under test.
func pythonPath() string {
	if path := os.Getenv("WSGI_PYTHON"); path != "" {
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			return filepath.Join(path, "bin", "python3")
		}
		return path
	}
	if path := os.Getenv("VIRTUAL_ENV"); path != "" {
		return filepath.Join(path, "bin", "python3")
	}
	return "python3"
}

// isolations runs test once for each kind of interpreter that this Python has.
func isolations(t *testing.T, test func(t *testing.T, mode wsgi.Isolation)) {
	t.Helper()
	t.Run(wsgi.Main.String(), func(t *testing.T) { test(t, wsgi.Main) })
	subinterpreters(t, test)
}

// subinterpreters is isolations without Main: the modes in which applications are apart.
func subinterpreters(t *testing.T, test func(t *testing.T, mode wsgi.Isolation)) {
	t.Helper()
	modes := []wsgi.Isolation{wsgi.SharedGIL}
	if atLeast(t, 13) {
		modes = append(modes, wsgi.OwnGIL)
	}
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) { test(t, mode) })
	}
}

// ---- Requests

// get sends a GET and returns the answer with its body read.
func (s *server) get(t testing.TB, path string) (*http.Response, string) {
	t.Helper()
	return s.do(t, "GET", path, nil)
}

// do sends a request and returns the answer with its body read.
func (s *server) do(t testing.TB, method, path string, body io.Reader) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	return s.send(t, r)
}

// send sends a request and returns the answer with its body read.
func (s *server) send(t testing.TB, r *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: reading the body after %d bytes: %v", r.Method, r.URL, len(data), err)
	}
	return resp, string(data)
}

// expectBody fails the test unless a GET is answered 200 with the body wanted.
func (s *server) expectBody(t testing.TB, path, want string) {
	t.Helper()
	if resp, body := s.get(t, path); resp.StatusCode != 200 || body != want {
		t.Errorf("GET %s: %s %q, want 200 OK %q", path, resp.Status, body, want)
	}
}

// A rawConn is a connection on which the test itself writes the requests.
type rawConn struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

// dial opens a connection to the server.
func (s *server) dial(t testing.TB) *rawConn {
	t.Helper()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &rawConn{Conn: conn, t: t, r: bufio.NewReader(conn)}
}

// write sends bytes as they are. A line feed in text is the test's to write as
// \r\n where HTTP wants it.
func (c *rawConn) write(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, text); err != nil {
		c.t.Fatalf("writing to the server: %v", err)
	}
}

// response reads the head of the next response to a request of that method.
func (c *rawConn) response(method string) *http.Response {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("reading a response: %v", err)
	}
	return resp
}

// answer reads the next response whole.
func (c *rawConn) answer(method string) (*http.Response, string) {
	c.t.Helper()
	resp := c.response(method)
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("reading a response's body after %q: %v", body, err)
	}
	return resp, string(body)
}

// expectEnd fails the test unless the server closes the connection without
// another byte.
func (c *rawConn) expectEnd() {
	c.t.Helper()
	rest, err := io.ReadAll(c.r)
	if len(rest) > 0 {
		c.t.Errorf("after the last response came %q", rest)
	}
	if e, ok := err.(net.Error); ok && e.Timeout() {
		c.t.Error("the server keeps the connection open")
	}
}

// reset closes the connection as a client that crashes does.
func (c *rawConn) reset() {
	_ = c.Conn.(*net.TCPConn).SetLinger(0)
	_ = c.Conn.Close()
}

// ---- Waiting

// eventually waits until condition holds, and fails the test when it takes too
// long. Conditions are for what nothing can announce.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v in vain: %s\n%s", patience, what, stacks())
		}
	}
}

// within fails the test with the stacks of all goroutines when f takes too long.
func within(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(2 * patience):
		t.Fatalf("%s has not returned after %v\n%s", what, 2*patience, stacks())
	}
}

func stacks() string {
	buf := make([]byte, 1<<20)
	return string(buf[:runtime.Stack(buf, true)])
}

// ---- Logs

// A logRecord is what the application or the library logged.
type logRecord struct {
	Level   slog.Level
	Message string
	Attrs   map[string]string
}

func (r logRecord) String() string {
	return fmt.Sprintf("%v %q %v", r.Level, r.Message, r.Attrs)
}

// logs is a slog.Handler that keeps its records.
type logs struct {
	mu      sync.Mutex
	records []logRecord
}

func (l *logs) Enabled(context.Context, slog.Level) bool { return true }
func (l *logs) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logs) WithGroup(string) slog.Handler            { return l }

func (l *logs) Handle(_ context.Context, r slog.Record) error {
	attrs := make(map[string]string)
	r.Attrs(func(a slog.Attr) bool {
		attrs[a.Key] = a.Value.String()
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = append(l.records, logRecord{r.Level, r.Message, attrs})
	return nil
}

// All returns the records so far.
func (l *logs) All() []logRecord {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]logRecord(nil), l.records...)
}

// clear forgets the records so far.
func (l *logs) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = nil
}

// With returns the records so far whose message contains text.
func (l *logs) With(text string) []logRecord {
	var found []logRecord
	for _, r := range l.All() {
		if strings.Contains(r.Message, text) {
			found = append(found, r)
		}
	}
	return found
}

// Wait waits for a record whose message contains text.
func (l *logs) Wait(t testing.TB, text string) logRecord {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if found := l.With(text); len(found) > 0 {
			return found[0]
		}
		if time.Now().After(end) {
			t.Fatalf("no log record contains %q; there are %v", text, l.All())
		}
	}
}

// remains is what an application's start warns of on Pythons before 3.14, where
// the process has ended interpreters already, as the tests do all the time.
const remains = "each leaves memory behind on Python before 3.14"

// expectQuiet fails the test where something was logged at Warn or above.
func (l *logs) expectQuiet(t testing.TB) {
	t.Helper()
	for _, r := range l.All() {
		if r.Level >= slog.LevelWarn && !strings.Contains(r.Message, remains) {
			t.Errorf("logged: %v", r)
		}
	}
}

// ---- What the process holds

// A footprint is what an application must give back.
type footprint struct {
	goroutines  int
	threads     []string // their names
	descriptors []string // what they are of
}

// measure takes the footprint of the process. Keep-alive connections of the
// test's own clients are closed first.
func measure(t testing.TB) footprint {
	t.Helper()
	http.DefaultClient.CloseIdleConnections()
	f := footprint{goroutines: runtime.NumGoroutine()}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return f // no such thing here: goroutines alone are looked at
	}
	for _, task := range tasks {
		name, err := os.ReadFile(filepath.Join("/proc/self/task", task.Name(), "comm"))
		// Go starts and ends threads as it sees fit: ours have names.
		if err == nil && strings.HasPrefix(string(name), "wsgi-") {
			f.threads = append(f.threads, strings.TrimSpace(string(name)))
		}
	}
	descriptors, _ := os.ReadDir("/proc/self/fd")
	for _, d := range descriptors {
		if target, err := os.Readlink(filepath.Join("/proc/self/fd", d.Name())); err == nil {
			f.descriptors = append(f.descriptors, target)
		}
	}
	return f
}

// expectReleased waits until the process holds no more than it did before.
func expectReleased(t testing.TB, before footprint) {
	t.Helper()
	var now footprint
	for end := time.Now().Add(patience / 3); ; time.Sleep(5 * time.Millisecond) {
		now = measure(t)
		if now.goroutines <= before.goroutines && len(now.threads) <= len(before.threads) &&
			len(now.descriptors) <= len(before.descriptors) {
			return
		}
		if time.Now().After(end) {
			break
		}
	}
	if now.goroutines > before.goroutines {
		t.Errorf("%d goroutines, before it were %d:\n%s", now.goroutines, before.goroutines, stacks())
	}
	if len(now.threads) > len(before.threads) {
		t.Errorf("threads %v, before it were %v", now.threads, before.threads)
	}
	if len(now.descriptors) > len(before.descriptors) {
		t.Errorf("descriptors of %v, before it were %v", now.descriptors, before.descriptors)
	}
}

// residentBytes is how much memory the process has in use.
func residentBytes(t testing.TB) int64 {
	t.Helper()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		testenv.Missing(t, "what the process has in use is only known on Linux: %v", err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(data))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// hello is the least application.
const hello = `
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]
`

// record has an application answer a request without a server.
func record(t testing.TB, app http.Handler, method, target string, body io.Reader) (*http.Response, string) {
	t.Helper()
	w := httptest.NewRecorder()
	within(t, "ServeHTTP", func() { app.ServeHTTP(w, httptest.NewRequest(method, target, body)) })
	return w.Result(), w.Body.String()
}

// openPipe opens a pipe for writing. It waits for somebody who reads.
func openPipe(t testing.TB, path string) *os.File {
	t.Helper()
	var f *os.File
	var err error
	within(t, "opening "+path, func() { f, err = os.OpenFile(path, os.O_WRONLY, 0) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
