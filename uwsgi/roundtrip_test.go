package uwsgi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-a2d07992/wsgi/uwsgi"
)

func TestRoundTrip(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string) {
		c := client(t, network, func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			w.Header().Add("Set-Cookie", "a=1")
			w.Header().Add("Set-Cookie", "b=2")
			w.Header().Set("X-Got", r.Header.Get("X-Sent"))
			w.WriteHeader(http.StatusAccepted)
			fmt.Fprintf(w, "%s %s %s %d %q", r.Method, r.RequestURI, r.Host, r.ContentLength, body)
		})
		for _, test := range []struct{ method, body, want string }{
			{"GET", "", `GET /a%20b?c=d example.com 0 ""`},
			{"HEAD", "", ""},
			{"POST", "hello", `POST /a%20b?c=d example.com 5 "hello"`},
			{"PUT", strings.Repeat("x", 100), `PUT /a%20b?c=d example.com 100 "` + strings.Repeat("x", 100) + `"`},
		} {
			var body io.Reader
			if test.body != "" {
				body = strings.NewReader(test.body)
			}
			r, _ := http.NewRequest(test.method, "http://example.com/a%20b?c=d", body)
			r.Header.Set("X-Sent", "yes")
			response, err := c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			if got := readAll(t, response); got != test.want {
				t.Errorf("%s: got %s, want %s", test.method, got, test.want)
			}
			if response.StatusCode != http.StatusAccepted || response.Header.Get("X-Got") != "yes" ||
				!slices.Equal(response.Header["Set-Cookie"], []string{"a=1", "b=2"}) {
				t.Errorf("%s: %d %v", test.method, response.StatusCode, response.Header)
			}
			if test.method != "HEAD" && response.ContentLength != int64(len(test.want)) {
				t.Errorf("%s: Content-Length %d, want %d", test.method, response.ContentLength, len(test.want))
			}
			if got := response.Header.Get("Content-Type"); test.method != "HEAD" && got != "text/plain; charset=utf-8" {
				t.Errorf("%s: Content-Type %q", test.method, got)
			}
		}
	})
}

func TestStatusWithoutBody(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string) {
		for _, status := range []int{http.StatusNoContent, http.StatusNotModified} {
			c := client(t, network, func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(status)
				if _, err := io.WriteString(w, "x"); !errors.Is(err, http.ErrBodyNotAllowed) {
					t.Errorf("%d: %v", status, err)
				}
			})
			response, err := c.Get("http://example.com/")
			if err != nil {
				t.Fatal(err)
			}
			if got := readAll(t, response); got != "" || response.StatusCode != status {
				t.Errorf("%d: got %d %q", status, response.StatusCode, got)
			}
		}
	})
}

func TestInformationalIsDropped(t *testing.T) {
	c := client(t, "tcp", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a>")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusTeapot)
	})
	response, err := c.Get("http://example.com/")
	if err != nil {
		t.Fatal(err)
	}
	if readAll(t, response); response.StatusCode != http.StatusTeapot {
		t.Error(response.Status)
	}
}

// zeros reads as n zeros.
type zeros struct{ n int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.n == 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), z.n)]
	clear(p)
	z.n -= int64(len(p))
	return len(p), nil
}

const large = 64 << 20

func TestLargeBodies(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string) {
		c := client(t, network, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				n, err := io.Copy(io.Discard, r.Body)
				fmt.Fprint(w, n, err)
				return
			}
			if _, err := io.Copy(w, &zeros{large}); err != nil {
				t.Error(err)
			}
		})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		response, err := c.Get("http://example.com/")
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, response.Body); n != large || err != nil {
			t.Errorf("downloaded %d bytes, %v", n, err)
		}
		r, _ := http.NewRequest("POST", "http://example.com/", &zeros{large})
		r.ContentLength = large
		if response, err = c.Do(r); err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, response); got != fmt.Sprint(int64(large), nil) {
			t.Errorf("uploaded %s", got)
		}
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 8<<20 {
			t.Errorf("%d bytes allocated for bodies of %d", used, large)
		}
	})
}

func TestStreaming(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string) {
		c := client(t, network, func(w http.ResponseWriter, r *http.Request) {
			// Echoes as it reads, both ways at once.
			buffer := make([]byte, 16)
			for {
				n, err := r.Body.Read(buffer)
				if n > 0 {
					_, _ = w.Write(buffer[:n])
					w.(http.Flusher).Flush()
				}
				if err != nil {
					return
				}
			}
		})
		pr, pw := io.Pipe()
		r, _ := http.NewRequest("POST", "http://example.com/", pr)
		r.ContentLength = 30
		go func() { _, _ = io.WriteString(pw, "first-----") }()
		response, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		for i, part := range []string{"first-----", "second----", "third-----"} {
			if i > 0 {
				_, _ = io.WriteString(pw, part)
			}
			got := make([]byte, 10)
			if _, err := io.ReadFull(response.Body, got); err != nil || string(got) != part {
				t.Fatalf("got %q, %v", got, err)
			}
		}
		_ = pw.Close()
		if rest := readAll(t, response); rest != "" {
			t.Errorf("then %q", rest)
		}
	})
}

func TestUnreadBody(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string) {
		c := client(t, network, func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "too much", http.StatusRequestEntityTooLarge)
		})
		r, _ := http.NewRequest("POST", "http://example.com/", &zeros{large})
		r.ContentLength = large
		response, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, response); got != "too much\n" || response.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: %q", response.Status, got)
		}
	})
}

func TestClientLeavesUpload(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string) {
		result := make(chan error, 1)
		c := client(t, network, func(w http.ResponseWriter, r *http.Request) {
			_, err := io.Copy(io.Discard, r.Body)
			result <- err
		})
		pr, pw := io.Pipe()
		r, _ := http.NewRequest("POST", "http://example.com/", pr)
		r.ContentLength = 100
		broken := errors.New("broken")
		go func() {
			_, _ = io.WriteString(pw, "some")
			_ = pw.CloseWithError(broken)
		}()
		if _, err := c.Do(r); !errors.Is(err, broken) {
			t.Errorf("the client's error is %v", err)
		}
		if err := <-result; !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("the handler's error is %v", err)
		}
	})
}

func TestClientLeavesDownload(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string) {
		left := make(chan struct{})
		c := client(t, network, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // until then, nothing is watching
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			close(left)
		})
		ctx, cancel := context.WithCancelCause(context.Background())
		r, _ := http.NewRequestWithContext(ctx, "POST", "http://example.com/", strings.NewReader("x"))
		response, err := c.Transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		reason := errors.New("enough")
		cancel(reason)
		await(t, left, "the handler's context to end")
		if _, err := io.ReadAll(response.Body); !errors.Is(err, reason) {
			t.Errorf("reading on gives %v", err)
		}
		_ = response.Body.Close()
	})
}

func TestBrokenResponse(t *testing.T) {
	for _, length := range []string{"", "100000"} {
		for name, fail := range map[string]func(){
			"abort": func() { panic(http.ErrAbortHandler) },
			"panic": func() { panic("oops") },
		} {
			onNetworks(t, func(t *testing.T, network string) {
				var logged logBuffer
				seen := make(chan struct{})
				transport := &uwsgi.Transport{Network: network}
				transport.Address = serve(t, network, &uwsgi.Server{
					ErrorLog: logged.logger(),
					Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if length != "" {
							w.Header().Set("Content-Length", length)
						}
						_, _ = w.Write(make([]byte, 10000))
						w.(http.Flusher).Flush()
						<-seen
						fail()
					}),
				})
				r, _ := http.NewRequest("GET", "http://example.com/", nil)
				response, err := transport.RoundTrip(r)
				if err != nil {
					t.Fatal(err)
				}
				defer response.Body.Close()
				_, _ = io.ReadFull(response.Body, make([]byte, 10000))
				close(seen)
				_, err = io.ReadAll(response.Body)
				if told := length != "" || network == "tcp"; told != (err != nil) {
					t.Errorf("%s %q: reading gives %v", name, length, err)
				}
			})
		}
	}
}

func TestDeclaredLength(t *testing.T) {
	c := client(t, "tcp", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "4")
		_, _ = io.WriteString(w, "abc")
		if _, err := io.WriteString(w, "longer"); !errors.Is(err, http.ErrContentLength) {
			t.Error(err)
		}
	})
	response, err := c.Get("http://example.com/")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(response.Body); string(b) != "abc" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestConcurrent(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string) {
		c := client(t, network, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(w, r.Body)
		})
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				for j := range 5 {
					body := bytes.Repeat([]byte{byte(i), byte(j)}, 5000)
					response, err := c.Post("http://example.com/", "", bytes.NewReader(body))
					if err != nil {
						t.Error(err)
						return
					}
					got, err := io.ReadAll(response.Body)
					_ = response.Body.Close()
					if err != nil || !bytes.Equal(got, body) {
						t.Errorf("%d bytes came back of %d, %v", len(got), len(body), err)
					}
				}
			})
		}
		wg.Wait()
	})
}

func TestShutdownWaits(t *testing.T) {
	started, finish := make(chan struct{}), make(chan struct{})
	s := &uwsgi.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(started)
		<-finish
		_, _ = io.WriteString(w, "whole")
	})}
	c := &http.Client{Transport: &uwsgi.Transport{Address: serve(t, "tcp", s)}}
	answer := make(chan string, 1)
	go func() {
		response, err := c.Get("http://example.com/")
		if err != nil {
			t.Error(err)
			answer <- ""
			return
		}
		answer <- readAll(t, response)
	}()
	await(t, started, "the handler")
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown under way: %v", err)
	}
	if _, err := c.Get("http://example.com/"); err == nil {
		t.Error("a request is answered after Shutdown")
	}
	close(finish)
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if got := <-answer; got != "whole" {
		t.Errorf("got %q", got)
	}
}

func TestCloseDoesNotWait(t *testing.T) {
	left := make(chan struct{})
	s := &uwsgi.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		close(left)
	})}
	c := &http.Client{Transport: &uwsgi.Transport{Address: serve(t, "tcp", s)}}
	response, err := c.Get("http://example.com/")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	await(t, left, "the handler's context to end")
	if b, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("the response looks whole: %q", b)
	}
}
