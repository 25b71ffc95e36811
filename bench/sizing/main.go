// Command sizing measures how many interpreters and threads serve an application
// that waits and one that computes, by throughput and by the slowest percent:
//
//	WSGI_PYTHON=... go run ./sizing
//
// docs/sizing.md says what it has found.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/seed-a2d07992/wsgi"
)

// The application waits 10 ms, as for a database, or computes for about 1 ms.
const source = `
import time

def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    if environ["PATH_INFO"] == "/waits":
        time.sleep(0.01)
    else:
        n = 0
        for i in range(ROUNDS):
            n += i
    return [b"ok"]
`

const (
	duration = 700 * time.Millisecond
	turns    = 5
	rounds   = 20000 // about a millisecond; the same for all, so that they compare
)

// A load is a path, and how many clients ask for it one request after another.
type load struct {
	path    string
	clients int
}

var loads = []load{{"/waits", 64}, {"/computes", 16}}

type result struct {
	perSecond float64
	p99       time.Duration
}

func main() {
	log.SetFlags(0)
	dir, err := os.MkdirTemp("", "sizing")
	if err != nil {
		log.Fatal(err)
	}
	err = run(dir)
	os.RemoveAll(dir)
	if err != nil {
		log.Fatal(err)
	}
}

func run(dir string) error {
	file := filepath.Join(dir, "sized_app.py")
	if err := os.WriteFile(file, fmt.Appendf(nil, "ROUNDS = %d\n%s", rounds, source), 0o600); err != nil {
		return err
	}
	cores := runtime.GOMAXPROCS(0)
	fmt.Printf("%s, %d cores\n", time.Now().Format("2 January 2006"), cores)
	var own, main []size
	for _, threads := range []int{8, 1, 2, 4, 16} { // the default comes first
		own = append(own, size{cores, threads})
	}
	own = append(own, size{1, 1}, size{1, 8}, size{2 * cores, 8})
	for _, threads := range []int{max(8, 4*cores), 4, 16, 32} {
		main = append(main, size{1, threads})
	}
	if err := table(file, wsgi.OwnGIL, own); err != nil {
		return err
	}
	return table(file, wsgi.Main, main)
}

type size struct{ interpreters, threads int }

// table measures sizes of one mode in turns, and prints medians: ratios to the
// first one in the same turn, which is the default, and how far those range.
func table(file string, mode wsgi.Isolation, sizes []size) error {
	ratios := map[size]map[string][]float64{}
	tails := map[size]map[string][]float64{}
	var rate []float64
	for _, s := range sizes {
		ratios[s], tails[s] = map[string][]float64{}, map[string][]float64{}
	}
	for range turns {
		var base map[string]result
		for _, s := range sizes {
			opts := []wsgi.Option{wsgi.WithIsolation(mode), wsgi.WithThreads(s.threads)}
			if mode == wsgi.OwnGIL {
				opts = append(opts, wsgi.WithInterpreters(s.interpreters))
			}
			results, err := measure(file, opts...)
			if err != nil {
				return fmt.Errorf("%v, %v: %w", mode, s, err)
			}
			if base == nil {
				base = results
				rate = append(rate, results["/computes"].perSecond)
			}
			for path, r := range results {
				ratios[s][path] = append(ratios[s][path], r.perSecond/base[path].perSecond)
				tails[s][path] = append(tails[s][path], r.p99.Seconds()*1000)
			}
		}
	}
	slices.Sort(rate)
	fmt.Printf("\n%v: the default computes %.0f/s\n\n| interpreters × threads |", mode, rate[turns/2])
	for _, l := range loads {
		fmt.Printf(" %s: throughput | p99 |", l.path[1:])
	}
	fmt.Println("\n|---|---|---|---|---|")
	for _, s := range sizes {
		fmt.Printf("| %d × %d |", s.interpreters, s.threads)
		for _, l := range loads {
			r, tail := ratios[s][l.path], tails[s][l.path]
			slices.Sort(r)
			slices.Sort(tail)
			fmt.Printf(" %.2f (%.2f–%.2f) | %.0f ms |", r[turns/2], r[0], r[turns-1], tail[turns/2])
		}
		fmt.Println()
	}
	return nil
}

// measure starts the application, puts each load on it, and ends it.
func measure(file string, opts ...wsgi.Option) (map[string]result, error) {
	app, err := wsgi.New(file, "application", opts...)
	if err != nil {
		return nil, err
	}
	defer app.Close()
	server := httptest.NewServer(app)
	defer server.Close()
	results := map[string]result{}
	for _, l := range loads {
		if results[l.path], err = l.put(server.URL); err != nil {
			return nil, err
		}
	}
	return results, nil
}

// put has the clients ask for a while.
func (l load) put(url string) (result, error) {
	transport := &http.Transport{MaxIdleConnsPerHost: l.clients, DialContext: (&net.Dialer{}).DialContext}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	var mu sync.Mutex
	var took []time.Duration
	var failed error
	var group sync.WaitGroup
	start := time.Now()
	for range l.clients {
		group.Go(func() {
			var mine []time.Duration
			var err error
			for time.Since(start) < duration && err == nil {
				began := time.Now()
				if err = ask(client, url+l.path); err == nil {
					mine = append(mine, time.Since(began))
				}
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
			if failed == nil {
				failed = err
			}
		})
	}
	group.Wait()
	elapsed := time.Since(start)
	if failed != nil {
		return result{}, failed
	}
	slices.Sort(took)
	return result{float64(len(took)) / elapsed.Seconds(), took[len(took)*99/100]}, nil
}

func ask(client *http.Client, url string) error {
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != 200 || string(body) != "ok") {
		err = fmt.Errorf("%s: %q", resp.Status, body)
	}
	return err
}
