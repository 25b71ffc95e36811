package wsgi

import (
	"errors"
	"io"
	"net/http"
	"os"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-a2d07992/wsgi/internal/cpython"
	"github.com/seed-a2d07992/wsgi/pool"
)

const (
	// ringSize is how far a streamed body is read ahead of the application. With
	// half of it, the two wait for each other more often than they must: 1 GiB took
	// 1.18 times as long, and with a quarter some twice as long. With twice as much it
	// took 0.91 times as long, but that is memory for each upload.
	ringSize = 1 << 20

	// drainTime is how long net/http may take, after an answer that did not
	// need the whole body, to read more of it: a connection that is closed with
	// unread data in it is reset, and the client may lose the answer.
	drainTime = 500 * time.Millisecond

	// stopTime is how long a Read may take that goes on when the application
	// has answered: enough for one that finds data. Ended at once it would fail
	// with data at hand, and a chunked body that has failed stays so: nothing
	// would be drained.
	stopTime = 10 * time.Millisecond
)

// A bodyReader reads a streamed body into the ring that the application
// empties.
//
// The bodies of net/http's server have a goroutine for it, beside that of the
// request: it reads ahead, and ends before ServeHTTP returns. Others may do more
// in Read than read: http.MaxBytesReader sets a header of the response. They
// are read on the goroutine of the request, as in any handler, while the
// application waits for them; what it writes from another thread meanwhile goes
// out after that.
type bodyReader struct {
	body io.Reader
	call *pool.Call
	lazy bool // nothing is read before the application asks (Expect: 100-continue)
	solo bool // it has no goroutine of its own
	stop chan struct{}
	done chan struct{} // closed when it has returned
	end  atomic.Int32  // how it ended (a cpython.InputEnd), or 0 so far

	// Held during the first Read of a lazy body, in which net/http writes its 100;
	// begun is the reader's own.
	first sync.Mutex
	begun bool
}

// bodyLength is the Content-Length, or -1 where it is unknown.
func (e *exchange) bodyLength() int64 {
	if e.r.Body == nil || e.r.Body == http.NoBody {
		return 0
	}
	return e.r.ContentLength
}

// openBody reads a small body, or starts to stream a large one. It returns
// false where it has answered the request, because the body is at fault.
func (e *exchange) openBody() bool {
	r, n := e.r, e.bodyLength()
	if n == 0 {
		return true
	}
	lazy := awaitsContinue(r)
	if n > 0 && n <= int64(e.app.bodyBuffer) && !lazy {
		return e.readBody(int(n))
	}
	solo := !readableAside(r.Body)
	if err := e.call.Stream(ringSize, solo); err != nil {
		e.app.refuse(e.w, r, err)
		return false
	}
	// Without this, net/http reads the rest of the body itself when the
	// response begins, and would wait for the reader. Elsewhere the call fails,
	// and nothing is to be had or lost.
	_ = e.control.EnableFullDuplex()
	e.body = &bodyReader{
		body: r.Body,
		call: e.call,
		lazy: lazy,
		solo: solo,
		stop: make(chan struct{}),
		done: make(chan struct{}),
	}
	if solo {
		close(e.body.done)
	} else {
		go e.body.run()
	}
	return true
}

// awaitsContinue reports whether the client sends the body when it is asked to,
// which net/http does in the first Read. Its HTTP/2 server takes the header out of
// the request; what is left of it is in the body, unless Go code has wrapped that.
func awaitsContinue(r *http.Request) bool {
	if strings.Contains(strings.ToLower(r.Header.Get("Expect")), "100-continue") {
		return true
	}
	switch body := reflect.ValueOf(r.Body); body.Type().String() {
	case "*http.http2requestBody", "*http2.requestBody":
		needs := body.Elem().FieldByName("needsContinue")
		return needs.Kind() == reflect.Bool && needs.Bool()
	}
	return false
}

// readableAside reports whether a body is one that net/http's servers make:
// those may be read beside the goroutine that writes the response.
func readableAside(body io.ReadCloser) bool {
	switch reflect.TypeOf(body).String() {
	case "*http.body", "*http.expectContinueReader", "*http.http2requestBody", "*http2.requestBody":
		return true
	}
	return false
}

// readBody reads a body of known size.
func (e *exchange) readBody(n int) bool {
	buf, err := e.call.Request().Body(n)
	if err != nil {
		e.app.refuse(e.w, e.r, err)
		return false
	}
	if _, err := io.ReadFull(e.r.Body, buf); err != nil {
		e.answer(bodyStatus(bodyEnd(err)))
		return false
	}
	return true
}

// bodyEnd says what an error of a body's Read means to the application.
func bodyEnd(err error) cpython.InputEnd {
	var tooBig *http.MaxBytesError
	switch {
	case err == io.EOF:
		return cpython.InputEOF
	case errors.As(err, &tooBig):
		return cpython.InputTooBig
	case errors.Is(err, os.ErrDeadlineExceeded):
		return cpython.InputTimeout
	}
	return cpython.InputCut
}

// bodyStatus is the answer to a request whose body ended that way.
func bodyStatus(end cpython.InputEnd) int {
	switch end {
	case cpython.InputTooBig:
		return http.StatusRequestEntityTooLarge
	case cpython.InputTimeout:
		return http.StatusRequestTimeout
	}
	return http.StatusBadRequest
}

// atEnd reports whether the body was read to its end.
func (b *bodyReader) atEnd() bool {
	return cpython.InputEnd(b.end.Load()) == cpython.InputEOF
}

func (b *bodyReader) run() {
	defer close(b.done)
	request := b.call.Request()
	for b.lazy && !request.Wanted() {
		if !b.wait() {
			return
		}
	}
	for {
		p := request.Writable()
		if p == nil {
			if !b.wait() {
				return
			}
			continue
		}
		if !b.read(p) {
			return
		}
		select {
		case <-b.stop:
			return
		default:
		}
	}
}

// readWanted reads a piece of a body without a goroutine of its own, if the
// application waits for it.
func (b *bodyReader) readWanted() bool {
	request := b.call.Request()
	if b.end.Load() != 0 || !request.TakeWanted() {
		return false
	}
	if p := request.Writable(); p != nil {
		b.read(p)
	}
	return true
}

func (b *bodyReader) readBody(p []byte) (int, error) {
	if b.lazy && !b.begun {
		b.begun = true
		b.first.Lock()
		defer b.first.Unlock()
	}
	return b.body.Read(p)
}

// besideFirst calls f, unless the first piece of a body that net/http sends a
// 100 for is being read: it would write both at once.
func (b *bodyReader) besideFirst(f func()) {
	if b.first.TryLock() {
		defer b.first.Unlock()
		f()
	}
}

// read reads once into p, a piece of the ring. It returns false at the end of
// the body.
func (b *bodyReader) read(p []byte) bool {
	request := b.call.Request()
	n, err := b.readBody(p)
	if err != nil {
		// Before the application can see the last bytes and answer: whether the
		// connection can be used again depends on it.
		b.end.Store(int32(bodyEnd(err)))
	}
	if n > 0 {
		request.Wrote(n)
	}
	if err != nil {
		request.EndInput(bodyEnd(err))
		return false
	}
	return true
}

// wait waits for the application to read, or returns false when the request is
// over.
func (b *bodyReader) wait() bool {
	select {
	case <-b.call.Room():
		return true
	case <-b.stop:
		return false
	}
}

// closeBody stops the reader, which may be blocked in a Read.
func (e *exchange) closeBody() {
	b := e.body
	if b == nil {
		return
	}
	close(b.stop)
	if b.end.Load() != 0 {
		// All of it was read, or no more can be. The connection may live on, so
		// its deadline is not to be touched.
		<-b.done
		return
	}
	if b.solo {
		_ = e.control.SetReadDeadline(time.Now().Add(drainTime))
		return
	}
	if b.lazy && !e.call.Request().Wanted() {
		<-b.done // it has not begun to read
		// A client that was not told to go on has nothing to send, and net/http
		// would wait for it.
		_ = e.control.SetReadDeadline(time.Now().Add(drainTime))
		return
	}
	if err := e.control.SetReadDeadline(time.Now().Add(stopTime)); err != nil {
		// Not net/http's server. Closing ends the Read of a pipe; for others it
		// does no harm, and the reader ends with the body's next piece.
		_ = e.r.Body.Close()
		<-b.done
		return
	}
	<-b.done
	_ = e.control.SetReadDeadline(time.Now().Add(drainTime))
}
