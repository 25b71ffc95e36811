package wsgi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/seed-a2d07992/wsgi/internal/cpython"
	"github.com/seed-a2d07992/wsgi/pool"
)

// faultTime is how long a reader that has met a deadline may take to say so,
// once net/http has ended the request's context.
const faultTime = 50 * time.Millisecond

// An exchange is one request on its way through ServeHTTP, on whose goroutine
// all its methods run.
type exchange struct {
	app     *App
	w       http.ResponseWriter
	r       *http.Request
	control *http.ResponseController
	call    *pool.Call
	body    *bodyReader // of a streamed body, else nil

	copied []byte // see write

	headed    bool // the head went to the ResponseWriter
	hasLength bool // with a Content-Length
	unflushed bool // a chunk was written that should not wait for the next
	cut       bool // less was sent than the application gave
	gone      bool // the client can't be reached any more
}

// run passes the application's output on until the application is done, and
// then does what the outcome asks for.
func (e *exchange) run() {
	ctx := e.r.Context()
	var abandoned error
	for {
		// In this order: what comes with the end must not be missed.
		over := e.call.Over()
		for record, ok := e.call.Next(); ok; record, ok = e.call.Next() {
			e.handle(record)
			e.call.Take(record)
			if abandoned == nil && e.call.Closing() {
				abandoned = pool.ErrClosed
				e.call.Abandon(abandoned)
			}
		}
		if over {
			break
		}
		e.flush()
		if e.body != nil && e.body.solo && e.body.readWanted() {
			continue
		}
		if abandoned != nil {
			e.call.WaitAbandoned()
		} else if err := e.call.Wait(ctx); err != nil {
			if !errors.Is(err, pool.ErrClosed) && e.bodyFault(faultTime) != 0 {
				// net/http ends the context with a read deadline too, but the
				// client is there and gets an answer.
				ctx = context.WithoutCancel(ctx)
				continue
			}
			abandoned = err
			e.call.Abandon(err)
		}
	}
	e.finish(abandoned)
}

func (e *exchange) handle(record cpython.Record) {
	switch record.Kind {
	case cpython.RecordHead:
		e.writeHead(record)
	case cpython.RecordBody:
		e.writeBody(record)
	case cpython.RecordFile:
		e.writeFile(record)
	case cpython.RecordHints:
		e.writeHints(record)
	case cpython.RecordLog:
		e.logApplication(cpython.LogLevel(record.Number), string(record.Data))
	}
}

// writeHead sends the status and the headers. Those of the application replace
// what Go code has set before under the same name, except those that add up.
func (e *exchange) writeHead(record cpython.Record) {
	h := e.w.Header()
	text := string(record.Data) // of which all names and values are parts
	values := make([]string, 0, 16)
	var seen nameSet
	offset := 0
	for name, value := range cpython.PackedHeaders(record.Data) {
		offset += 8
		key := textproto.CanonicalMIMEHeaderKey(text[offset : offset+len(name)])
		offset += len(name)
		v := text[offset : offset+len(value)]
		offset += len(value)
		if key == "Content-Length" {
			e.hasLength = true
		}
		if again := seen.add(key); again || key == "Set-Cookie" || key == "Vary" {
			h[key] = append(h[key], v)
		} else {
			values = append(values, v)
			h[key] = values[len(values)-1 : len(values) : len(values)]
		}
	}
	if record.Length >= 0 {
		h["Content-Length"] = []string{strconv.FormatInt(record.Length, 10)}
		e.hasLength = true
	}
	if !e.hasLength || record.Number == http.StatusNoContent || record.Number == http.StatusNotModified {
		// Go code can't know the length. A 204 has none (RFC 9110, section 8.6), and
		// with a 304's, clients wait for a body; net/http takes both out over
		// HTTP/1, but not over HTTP/2.
		delete(h, "Content-Length")
	}
	if _, set := h["Content-Type"]; !set {
		h["Content-Type"] = nil // else net/http guesses one
	}
	if e.body != nil && !e.body.atEnd() && e.r.ProtoMajor == 1 {
		// The rest of the body must never be taken for the next request.
		h.Set("Connection", "close")
	}
	e.w.WriteHeader(record.Number)
	e.headed = true
	e.unflushed = !record.More
}

// A nameSet holds the names of a response's headers: as a rule so few that
// looking through them is quickest, and costs no allocation.
type nameSet struct {
	few  [16]string
	n    int
	many map[string]bool // all of them, once there are more
}

// add adds a name and reports whether it was there already.
func (s *nameSet) add(name string) (again bool) {
	if s.many != nil {
		again = s.many[name]
		s.many[name] = true
		return again
	}
	if slices.Contains(s.few[:s.n], name) {
		return true
	}
	if s.n < len(s.few) {
		s.few[s.n] = name
		s.n++
		return false
	}
	s.many = make(map[string]bool, 2*len(s.few))
	for _, known := range s.few {
		s.many[known] = true
	}
	s.many[name] = true
	return false
}

func (e *exchange) writeBody(record cpython.Record) {
	if e.gone {
		return
	}
	if err := e.write(record.Data); err != nil {
		e.lost(err)
		return
	}
	e.unflushed = !record.More
}

// write writes a piece of body, which is the C side's memory. Where a stream is
// reset, net/http's HTTP/2 server may look at what it was given after Write has
// returned, so there it gets a copy, which is left alone after an error.
func (e *exchange) write(p []byte) error {
	if e.r.ProtoMajor == 1 {
		_, err := e.w.Write(p)
		return err
	}
	if e.copied == nil {
		e.copied = make([]byte, 0, min(len(p), 64<<10))
	}
	for len(p) > 0 {
		n := min(len(p), 64<<10)
		e.copied = append(e.copied[:0], p[:n]...)
		if _, err := e.w.Write(e.copied); err != nil {
			e.copied = nil
			return err
		}
		p = p[n:]
	}
	return nil
}

// writeFile sends a part of a file. Its descriptor is ours.
func (e *exchange) writeFile(record cpython.Record) {
	f := os.NewFile(uintptr(record.Number), "wsgi.file_wrapper")
	defer f.Close()
	if e.gone || record.Length == 0 {
		return
	}
	if _, err := f.Seek(record.Offset, io.SeekStart); err != nil {
		e.logRecord(slog.LevelError, "wsgi: the file of a response can't be read: "+err.Error())
		e.cut = true
		return
	}
	n, err := io.Copy(e.w, &io.LimitedReader{R: f, N: record.Length})
	switch {
	case err != nil:
		var pathError *os.PathError
		if !errors.As(err, &pathError) {
			e.lost(err)
			return
		}
		e.logRecord(slog.LevelError, "wsgi: the file of a response can't be read: "+err.Error())
		e.cut = true
	case n < record.Length:
		e.logRecord(slog.LevelError, "wsgi: the file of a response became shorter while it was sent")
		e.cut = true
	}
}

// writeHints sends a 103 (RFC 8297) with the Link headers given and no others. A
// hint is a hint: beside a 100 that is on its way there is none.
func (e *exchange) writeHints(record cpython.Record) {
	switch {
	case e.headed || e.gone:
	case e.body != nil:
		e.body.besideFirst(func() { e.sendHints(record) })
	default:
		e.sendHints(record)
	}
}

func (e *exchange) sendHints(record cpython.Record) {
	h := e.w.Header()
	saved := h.Clone()
	clear(h)
	for name, value := range cpython.PackedHeaders(record.Data) {
		h.Add(string(name), string(value))
	}
	e.w.WriteHeader(http.StatusEarlyHints)
	clear(h)
	for k, v := range saved {
		h[k] = v
	}
}

// passesHints reports whether w can send a 103. One that has no way to flush
// keeps the answer back, and takes a 103 for its status: http.TimeoutHandler's
// does, and wrappers that only know Write and WriteHeader may.
func passesHints(w http.ResponseWriter) bool {
	for {
		switch v := w.(type) {
		case http.Flusher, interface{ FlushError() error }:
			return true
		case interface{ Unwrap() http.ResponseWriter }:
			w = v.Unwrap()
		default:
			return false
		}
	}
}

// flush sends what was written, while the application makes the next chunk.
func (e *exchange) flush() {
	if !e.unflushed || e.gone {
		return
	}
	e.unflushed = false
	if err := e.control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		e.lost(err)
	}
}

// lost takes note that the client can't be reached.
func (e *exchange) lost(err error) {
	if errors.Is(err, http.ErrBodyNotAllowed) || errors.Is(err, http.ErrContentLength) {
		return // the C side sends neither; a wrapping writer may change the status
	}
	e.gone = true
	e.call.Abandon(err)
}

// finish answers where nothing was answered yet, and cuts the connection where
// the client would otherwise take a part for the whole.
func (e *exchange) finish(abandoned error) {
	if err := e.call.Err(); err != nil { // never started
		if errors.Is(err, pool.ErrClosed) {
			e.answer(http.StatusServiceUnavailable)
			return
		}
		if e.r.Context().Err() == nil {
			e.app.refuse(e.w, e.r, err)
			return
		}
		e.abort()
		return
	}
	switch outcome := e.call.Outcome(); {
	case outcome == cpython.Complete && !e.cut:
		return
	case e.headed:
		e.abort()
	case outcome == cpython.Failed:
		status := http.StatusInternalServerError
		if fault := e.bodyFault(0); fault != 0 {
			status = bodyStatus(fault)
		}
		e.answer(status)
	case errors.Is(abandoned, pool.ErrClosed):
		e.answer(http.StatusServiceUnavailable)
	default:
		e.abort()
	}
}

// bodyFault says which limit the body has broken, if it has: then a failure of
// the application is the client's. The reader may be on its way to tell, so
// it is given the time to.
func (e *exchange) bodyFault(patience time.Duration) cpython.InputEnd {
	if e.body == nil {
		return 0
	}
	if patience > 0 && e.body.end.Load() == 0 {
		select {
		case <-e.body.done:
		case <-time.After(patience):
		}
	}
	end := cpython.InputEnd(e.body.end.Load())
	if end == cpython.InputTooBig || end == cpython.InputTimeout {
		return end
	}
	return 0
}

// answer sends a short answer of the server's own.
func (e *exchange) answer(status int) {
	if e.body != nil && !e.body.atEnd() && e.r.ProtoMajor == 1 {
		e.w.Header().Set("Connection", "close")
	}
	http.Error(e.w, http.StatusText(status), status)
}

// abort ends a response that is not whole, in a way that the client can tell.
func (e *exchange) abort() {
	if !e.gone && e.headed { // a flush would send a head of its own: a 200
		_ = e.control.Flush() // what there is may still be of use
	}
	if !e.hasLength && e.r.ProtoMajor == 1 && e.r.ProtoMinor == 0 && e.headed {
		// The end of such a response is the end of the connection: only a reset
		// tells a broken one from a whole one.
		if conn, _, err := e.control.Hijack(); err == nil {
			reset(conn)
			return
		}
	}
	if _, ok := e.r.Context().Value(http.ServerContextKey).(*http.Server); ok {
		panic(http.ErrAbortHandler)
	}
	// A server that may not recover: fcgi, a test. It would make a 200 of nothing.
	if !e.headed {
		e.answer(http.StatusInternalServerError)
		return
	}
	e.logRecord(slog.LevelWarn, "wsgi: a response was cut short, which this server can't tell its client")
}

// reset closes a connection such that its client sees no orderly end.
func reset(conn net.Conn) {
	if outer, ok := conn.(interface{ NetConn() net.Conn }); ok {
		// First what is below TLS, whose Close would send its client an end.
		reset(outer.NetConn())
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// logApplication logs what Python has to say about the request.
func (e *exchange) logApplication(level cpython.LogLevel, text string) {
	switch level {
	case cpython.LogInfo:
		e.logRecord(slog.LevelDebug, text)
	case cpython.LogWarning:
		e.logRecord(slog.LevelWarn, text)
	default:
		e.logRecord(slog.LevelError, text)
	}
}

func (e *exchange) logRecord(level slog.Level, message string) {
	e.app.log.LogAttrs(e.r.Context(), level, message,
		slog.String("method", e.r.Method),
		slog.String("uri", e.r.RequestURI),
		slog.String("remote", e.r.RemoteAddr))
}
