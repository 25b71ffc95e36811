package uwsgi_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-a2d07992/wsgi/internal/servertest"
	"github.com/seed-a2d07992/wsgi/uwsgi"
)

const nginxConfig = `
	client_max_body_size 100m;
	server {
		listen LISTEN;
		server_name shop.test;
		PARAMS
		location / {
			uwsgi_pass BACKEND;
		}
		location /unbuffered {
			uwsgi_buffering off;
			uwsgi_request_buffering off;
			uwsgi_pass BACKEND;
		}
		location /modifier {
			uwsgi_modifier1 5;
			uwsgi_pass BACKEND;
		}
		location /http {
			proxy_pass http://BACKEND;
		}
	}
`

// nginx runs nginx before a server, and returns the URL at which it listens.
func nginx(t *testing.T, network string, s *uwsgi.Server) string {
	t.Helper()
	backend := serve(t, network, s)
	if network == "unix" {
		backend = "unix:" + backend + ":"
	}
	return servertest.Nginx(t, strings.NewReplacer("PARAMS", servertest.UWSGIParams,
		"proxy_pass http://BACKEND", "proxy_pass http://"+backend,
		"BACKEND", strings.TrimSuffix(backend, ":")).Replace(nginxConfig))
}

func TestNginxRequest(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string) {
		url := nginx(t, network, &uwsgi.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			env := uwsgi.ProcessEnv(r)
			w.Header().Add("Set-Cookie", "a=1")
			w.Header().Add("Set-Cookie", "b=2")
			fmt.Fprintf(w, "%s %s %s %s %s %q %q %s %t", r.Method, r.URL, r.Proto, r.Host,
				env["PATH_INFO"], r.Header["X-Many"], r.Header.Get("User-Agent"), r.Header.Get("X-Under-Score"), r.TLS != nil)
			if ip, _, err := net.SplitHostPort(r.RemoteAddr); ip != "127.0.0.1" || err != nil {
				t.Errorf("RemoteAddr is %q", r.RemoteAddr)
			}
		})})
		r, _ := http.NewRequest("GET", url+"/a%20b/../c%2Fd?e=f&g", nil)
		r.Host = "shop.test:81"
		r.Header["X-Many"] = []string{"1", "2"}
		r.Header["X_under_score"] = []string{"spoofed"}
		r.Header.Set("User-Agent", "me")
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		got := readAll(t, response)
		want := `GET /a%20b/../c%2Fd?e=f&g HTTP/1.1 shop.test:81 /c/d ["1" "2"] "me"  false`
		joined := strings.Replace(want, `"1" "2"`, `"1, 2"`, 1) // since 1.23
		if got != want && got != joined {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if response.StatusCode != 200 || len(response.Header["Set-Cookie"]) != 2 || response.ContentLength != int64(len(got)) {
			t.Errorf("%s %v", response.Status, response.Header)
		}
	})
}

func TestNginxStatus(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string) {
		url := nginx(t, network, &uwsgi.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var status int
			_, _ = fmt.Sscanf(r.URL.Query().Get("status"), "%d", &status)
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "body")
		})})
		for _, status := range []int{200, 204, 304, 404, 500, 503} {
			for _, method := range []string{"GET", "HEAD", "POST"} {
				r, _ := http.NewRequest(method, fmt.Sprintf("%s/?status=%d", url, status), nil)
				response, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				want := "body"
				if method == "HEAD" || status == 204 || status == 304 {
					want = ""
				}
				if got := readAll(t, response); got != want || response.StatusCode != status {
					t.Errorf("%s %d: got %d %q", method, status, response.StatusCode, got)
				}
			}
		}
	})
}

func TestNginxUpload(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string) {
		url := nginx(t, network, &uwsgi.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			hash := sha256.New()
			n, err := io.Copy(hash, r.Body)
			fmt.Fprintf(w, "%d %v %x %v", n, err, hash.Sum(nil), r.TransferEncoding)
		})})
		body := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
		want := fmt.Sprintf("%d <nil> %x []", len(body), sha256.Sum256(body))
		for _, path := range []string{"/", "/unbuffered"} {
			for _, reader := range []io.Reader{
				bytes.NewReader(body),
				struct{ io.Reader }{bytes.NewReader(body)}, // chunked
			} {
				response, err := http.Post(url+path, "text/plain", reader)
				if err != nil {
					t.Fatal(err)
				}
				if got := readAll(t, response); got != want {
					t.Errorf("%s with %T: got %s, want %s", path, reader, got, want)
				}
			}
		}
	})
}

func TestNginxRefusedUpload(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string) {
		url := nginx(t, network, &uwsgi.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "no", http.StatusForbidden)
		})})
		for _, path := range []string{"/", "/unbuffered"} {
			r, _ := http.NewRequest("POST", url+path, &zeros{32 << 20})
			r.ContentLength = 32 << 20
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Errorf("%s: %v", path, err)
				continue
			}
			if got := readAll(t, response); got != "no\n" || response.StatusCode != http.StatusForbidden {
				t.Errorf("%s: %s %q", path, response.Status, got)
			}
		}
	})
}

func TestNginxStreaming(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string) {
		next, left := make(chan struct{}), make(chan struct{})
		url := nginx(t, network, &uwsgi.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for range 3 {
				_, _ = io.WriteString(w, "tick\n")
				w.(http.Flusher).Flush()
				<-next
			}
			<-r.Context().Done()
			close(left)
		})})
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		r, _ := http.NewRequestWithContext(ctx, "GET", url+"/unbuffered", nil)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		lines := bufio.NewReader(response.Body)
		for range 3 {
			if line, err := lines.ReadString('\n'); line != "tick\n" || err != nil {
				t.Fatalf("%q, %v", line, err)
			}
			next <- struct{}{}
		}
		cancel() // and nginx closes its connection
		await(t, left, "the handler's context to end")
	})
}

func TestNginxBrokenResponse(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string) {
		proceed := make(chan struct{}, 1)
		url := nginx(t, network, &uwsgi.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if length := r.URL.Query().Get("length"); length != "" {
				w.Header().Set("Content-Length", length)
			}
			if !r.URL.Query().Has("early") {
				_, _ = w.Write(make([]byte, 5000))
				w.(http.Flusher).Flush()
			}
			if strings.HasPrefix(r.URL.Path, "/unbuffered") && !r.URL.Query().Has("early") {
				<-proceed // nginx has sent the head on
			}
			panic(http.ErrAbortHandler)
		})})
		for _, path := range []string{"/", "/unbuffered", "/?length=9000", "/unbuffered?length=9000"} {
			// Only a reset tells, and a Unix socket knows none.
			silent := network == "unix" && !strings.Contains(path, "length")
			response, err := http.Get(url + path)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(path, "/unbuffered") {
				proceed <- struct{}{}
			}
			n, err := io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
			t.Logf("%s: %s, %d bytes, %v", path, response.Status, n, err)
			if seen := err != nil || response.StatusCode == http.StatusBadGateway; seen == silent {
				t.Errorf("%s: %s, %d bytes, %v", path, response.Status, n, err)
			}
		}
		response, err := http.Get(url + "/?early")
		if err != nil {
			t.Fatal(err)
		}
		if readAll(t, response); response.StatusCode != http.StatusBadGateway {
			t.Errorf("nothing sent: %s", response.Status)
		}
	})
}

func TestNginxMisconfigured(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string) {
		var logged logBuffer
		url := nginx(t, network, &uwsgi.Server{
			ErrorLog: logged.logger(),
			Handler:  http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { t.Error("the handler is called") }),
		})
		for path, want := range map[string]string{"/modifier": "modifier1 is 5", "/http": "looks like HTTP"} {
			response, err := http.Get(url + path)
			if err != nil {
				t.Fatal(err)
			}
			if readAll(t, response); response.StatusCode != http.StatusBadRequest {
				t.Errorf("%s: %s", path, response.Status)
			}
			if !strings.Contains(logged.String(), want) {
				t.Errorf("%s: logged %s", path, logged.String())
			}
		}
	})
}

func TestNginxClientLeavesUpload(t *testing.T) {
	onNetworks(t, func(t *testing.T, network string) {
		started, result := make(chan struct{}), make(chan error, 1)
		url := nginx(t, network, &uwsgi.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(started)
			_, err := io.Copy(io.Discard, r.Body)
			result <- err
		})})
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, "POST /unbuffered HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 1000\r\n\r\nsome")
		await(t, started, "the handler")
		_ = c.Close()
		select {
		case err := <-result:
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("the handler's error is %v", err)
			}
		case <-time.After(patience):
			t.Error("the handler reads on")
		}
	})
}
