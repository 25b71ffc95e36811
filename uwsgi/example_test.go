package uwsgi_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/signal"
	"time"

	"github.com/seed-a2d07992/wsgi/uwsgi"
)

// A Go program in uWSGI's place. nginx has "include uwsgi_params;" and
// "uwsgi_pass 127.0.0.1:3031;".
func ExampleServer() {
	s := &uwsgi.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "Hello, %s!\n", uwsgi.ProcessEnv(r)["REMOTE_USER"])
		}),
		ReadHeaderTimeout: 10 * time.Second,
	}
	l, err := net.Listen("tcp", "127.0.0.1:3031")
	if err != nil {
		log.Fatal(err)
	}

	interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	go func() {
		if err := s.Serve(l); err != uwsgi.ErrServerClosed {
			log.Fatal(err)
		}
	}()
	<-interrupted.Done()
	if err := s.Shutdown(context.Background()); err != nil {
		log.Print(err)
	}
}

// A Go program in nginx's place, before an application that uWSGI serves below
// /shop.
func ExampleTransport() {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.Host = r.In.Host
			r.SetXForwarded()
		},
		Transport: &uwsgi.Transport{
			Address:               "/run/shop/uwsgi.sock",
			ResponseHeaderTimeout: time.Minute,
			Vars: func(*http.Request) map[string]string {
				return map[string]string{"SCRIPT_NAME": "/shop"}
			},
		},
		FlushInterval: -1, // send what the application yields at once
	}
	http.Handle("/shop/", proxy)
	log.Fatal(http.ListenAndServe(":8080", nil))
}

func ExampleProcessEnv() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	go uwsgi.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		env := uwsgi.ProcessEnv(r)
		fmt.Fprintln(w, r.URL.Path, env["SCRIPT_NAME"], env["PATH_INFO"])
	}))

	c := &http.Client{Transport: &uwsgi.Transport{
		Address: l.Addr().String(),
		Vars: func(*http.Request) map[string]string {
			return map[string]string{"SCRIPT_NAME": "/shop"}
		},
	}}
	response, err := c.Get("http://example.com/shop/cart")
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	fmt.Print(string(body))
	// Output: /shop/cart /shop /cart
}
