package uwsgi

import (
	"io"
	"net/http"
	"time"
)

// A response is net/http's without the ways to do what uwsgi has no form for.
type response struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

func (r *response) Header() http.Header { return r.w.Header() }

// WriteHeader drops what is not the response's own head.
func (r *response) WriteHeader(status int) {
	if status >= 100 && status <= 199 {
		return
	}
	r.w.WriteHeader(status)
}

func (r *response) Write(p []byte) (int, error) { return r.w.Write(p) }

func (r *response) WriteString(s string) (int, error) { return io.WriteString(r.w, s) }

func (r *response) ReadFrom(src io.Reader) (int64, error) {
	if rf, ok := r.w.(io.ReaderFrom); ok {
		return rf.ReadFrom(src)
	}
	return io.Copy(struct{ io.Writer }{r.w}, src)
}

func (r *response) Flush() { _ = r.rc.Flush() }

// What http.ResponseController looks for. There is no Unwrap, by which it
// would find a way to hijack the connection.

func (r *response) FlushError() error                  { return r.rc.Flush() }
func (r *response) SetReadDeadline(t time.Time) error  { return r.rc.SetReadDeadline(t) }
func (r *response) SetWriteDeadline(t time.Time) error { return r.rc.SetWriteDeadline(t) }
func (r *response) EnableFullDuplex() error            { return r.rc.EnableFullDuplex() }
