package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"
)

// A ratio compares two targets, measured in turns, by medians.
type ratio struct {
	Name    string  `json:"name"`
	What    string  `json:"what"`
	Unit    string  `json:"unit"`    // "" for a ratio
	Target  float64 `json:"target"`  // 0 for none
	AtMost  bool    `json:"at_most"` // the value is to be at most the target
	Value   float64 `json:"value"`
	Low     float64 `json:"low"` // of the rounds
	High    float64 `json:"high"`
	Ours    float64 `json:"ours"`   // the medians that the value is made of
	Theirs  float64 `json:"theirs"` //
	Missing string  `json:"missing,omitempty"`

	OursBy   string `json:"ours_by"` // the commands that ran
	TheirsBy string `json:"theirs_by"`

	path    string
	ours    func(*bench) *target
	theirs  func(*bench) *target
	measure func(context.Context, *bench, *target) (float64, error)
	added   bool // the value is the difference, not the quotient
}

// ok reports whether the target is reached by the value as it is printed.
func (r *ratio) ok() bool {
	value := math.Round(100*r.Value) / 100
	if r.AtMost {
		return value <= r.Target
	}
	return value >= r.Target
}

func (r *ratio) verdict() string {
	if r.ok() {
		return "ok"
	}
	return "short"
}

// String is the line that a quick run prints.
func (r *ratio) String() string {
	if r.Missing != "" {
		return fmt.Sprintf("RATIO %s missing target %g: %s", r.Name, r.Target, r.Missing)
	}
	if r.Target == 0 {
		return fmt.Sprintf("RATIO %s %.2f target none -", r.Name, r.Value)
	}
	return fmt.Sprintf("RATIO %s %.2f target %g %s", r.Name, r.Value, r.Target, r.verdict())
}

// run measures both in turns. A target that can't be had leaves the ratio
// missing; one that answers wrongly is an error.
func (r *ratio) run(ctx context.Context, b *bench, rounds int) error {
	ours, theirs := r.ours(b), r.theirs(b)
	defer ours.stop()
	defer theirs.stop()
	r.OursBy, r.TheirsBy = b.settings(ours), b.settings(theirs)
	for _, t := range []*target{ours, theirs} {
		starting, cancel := context.WithTimeout(ctx, 30*time.Second)
		err := t.start(starting, r.path)
		cancel()
		if err != nil && t == theirs {
			r.Missing = fmt.Sprintf("%s: %v", t.Name, err)
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", r.Name, err)
		}
	}
	var all, mine, other []float64
	for range rounds {
		var values [2]float64
		for i, t := range []*target{ours, theirs} {
			value, err := r.measure(ctx, b, t)
			if err != nil && t == theirs {
				r.Missing = fmt.Sprintf("%s: %v", t.Name, err)
				return nil
			}
			if err != nil {
				return fmt.Errorf("%s: %s: %w", r.Name, t.Name, err)
			}
			values[i] = value
		}
		value := values[0] / values[1]
		if r.added {
			value = values[0] - values[1]
		}
		all, mine, other = append(all, value), append(mine, values[0]), append(other, values[1])
	}
	r.Value, r.Low, r.High = median(all), slices.Min(all), slices.Max(all)
	r.Ours, r.Theirs = median(mine), median(other)
	return nil
}

func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// throughput is requests per second under wrk.
func throughput(path string, connections int, seconds time.Duration, want string) func(context.Context, *bench, *target) (float64, error) {
	return func(ctx context.Context, b *bench, t *target) (float64, error) {
		if err := check(t.addr, path, want); err != nil {
			return 0, err
		}
		s, err := b.wrk(ctx, t.addr, load{path: path, connections: connections, duration: seconds * time.Second})
		return s.PerSecond, err
	}
}

func bare(b *bench) *target { return b.bare() }

func this(app string, arguments ...string) func(*bench) *target {
	return func(b *bench) *target { return b.this(app, arguments...) }
}

func direct(peer func(*bench, string, string) *target, app string) func(*bench) *target {
	return func(b *bench) *target { return peer(b, app, b.nextAddr()) }
}

func behind(peer func(*bench, string, string) *target, app string) func(*bench) *target {
	return func(b *bench) *target {
		return b.behind(func(app, addr string) *target { return peer(b, app, addr) }, app)
	}
}

func gunicornThreads(n int) func(*bench, string, string) *target {
	return func(b *bench, app, addr string) *target { return b.gunicornThreads(n)(app, addr) }
}

func modWSGI(daemon bool) func(*bench, string, string) *target {
	return func(b *bench, app, addr string) *target { return b.modWSGI(daemon)(app, addr) }
}

const helloWorld = "Hello, world!\n"

// ratios are what is measured, in the order of the table. Each turn takes so
// many seconds.
func ratios(cores int, seconds time.Duration) []*ratio {
	flaskWith := func(clients int, name, what string, target float64, theirs func(*bench) *target) *ratio {
		return &ratio{Name: name, What: fmt.Sprintf("Flask JSON, %d clients: this / %s", clients, what), Target: target, path: "/",
			ours: this("flask_json"), theirs: theirs, measure: throughput("/", clients, seconds, "")}
	}
	flask := func(name, what string, target float64, theirs func(*bench) *target) *ratio {
		return flaskWith(64, name, what, target, theirs)
	}
	list := []*ratio{
		{Name: "hello", What: "hello, 64 clients: this / bare net/http", Target: 0.75, path: "/",
			ours: this("plain"), theirs: bare, measure: throughput("/", 64, seconds, helloWorld)},
		{Name: "hello-one-interpreter", What: "hello, 64 clients: two interpreters / one", Target: 1, path: "/",
			ours: this("plain", "-interpreters", "2"), theirs: this("plain", "-interpreters", "1"), measure: throughput("/", 64, seconds, helloWorld)},
		{Name: "latency", What: "hello, one client: p50 that this adds to bare net/http", Unit: "µs", Target: 30, AtMost: true, added: true, path: "/",
			ours: this("plain"), theirs: bare, measure: latency(seconds, func(s sample) time.Duration { return s.P50 })},
		{Name: "latency-p99", What: "hello, one client: p99 that this adds to bare net/http", Unit: "µs", AtMost: true, added: true, path: "/",
			ours: this("plain"), theirs: bare, measure: latency(seconds, func(s sample) time.Duration { return s.P99 })},
		{Name: "allocations", What: "hello: Go allocations of a request that this adds to net/http's", Unit: "allocations", Target: 12, AtMost: true, added: true, path: "/",
			ours: this("plain"), theirs: bare, measure: perRequest(seconds, 64, func(allocations, _ float64) float64 { return allocations })},
		{Name: "cgo", What: "hello, one client: calls of C by a request", Unit: "calls", Target: 2, AtMost: true, added: true, path: "/",
			ours: this("plain"), theirs: bare, measure: perRequest(seconds, 1, func(_, calls float64) float64 { return calls })},
		flask("flask-proxied-gunicorn", "ReverseProxy to gunicorn, sync workers", 7, behind((*bench).gunicornSync, "flask_json")),
		flask("flask-proxied-gthread", "ReverseProxy to gunicorn, gthread", 3, behind(gunicornThreads(4), "flask_json")),
		flask("flask-proxied-granian", "ReverseProxy to Granian", 3, behind((*bench).granian, "flask_json")),
		flask("flask-proxied-uwsgi", "ReverseProxy to uWSGI (on Debian's Python)", 3, behind((*bench).uwsgi, "flask_json")),
		flask("flask-gunicorn-sync", "gunicorn, sync workers", 1.2, direct((*bench).gunicornSync, "flask_json")),
		flask("flask-gunicorn-gthread", "gunicorn, gthread", 1.2, direct(gunicornThreads(4), "flask_json")),
		flask("flask-granian", "Granian", 1.2, direct((*bench).granian, "flask_json")),
		flask("flask-uwsgi", "uWSGI (on Debian's Python)", 1.2, direct((*bench).uwsgi, "flask_json")),
		flask("flask-waitress", "waitress", 1.2, direct((*bench).waitress, "flask_json")),
		flask("flask-bjoern", "bjoern (on Debian's Python)", 1.2, direct((*bench).bjoern, "flask_json")),
		flask("flask-fastwsgi", "fastwsgi (on Debian's Python)", 1.2, direct((*bench).fastwsgi, "flask_json")),
		flask("flask-modwsgi-embedded", "mod_wsgi, embedded (on Debian's Python)", 1.2, direct(modWSGI(false), "flask_json")),
		flask("flask-modwsgi-daemon", "mod_wsgi, daemon (on Debian's Python)", 1.2, direct(modWSGI(true), "flask_json")),
		flask("flask-caddysnake", "caddysnake", 1.2, direct((*bench).caddysnake, "flask_json")),
		flask("flask-pyvoy", "pyvoy", 1.2, direct((*bench).pyvoy, "flask_json")),
		flaskWith(8, "flask-8-proxied-gunicorn", "ReverseProxy to gunicorn, sync workers", 0, behind((*bench).gunicornSync, "flask_json")),
		flaskWith(8, "flask-8-proxied-granian", "ReverseProxy to Granian", 0, behind((*bench).granian, "flask_json")),
		flaskWith(8, "flask-8-granian", "Granian", 0, direct((*bench).granian, "flask_json")),
		{Name: "django-proxied-gunicorn", What: "Django page, 64 clients: this / ReverseProxy to gunicorn", Target: 1.5, path: "/",
			ours: this("django_page"), theirs: behind((*bench).gunicornSync, "django_page"), measure: throughput("/", 64, seconds, "")},
		{Name: "cpu", What: fmt.Sprintf("1 ms of pure Python, 16 clients: %d interpreters / 1", cores), Target: 1.75, path: "/spin",
			ours:   this("plain", "-interpreters", fmt.Sprint(cores)),
			theirs: this("plain", "-interpreters", "1"), measure: throughput("/spin", 16, seconds, helloWorld)},
		{Name: "io", What: "10 ms of waiting, 256 clients: this / gunicorn gthread, as many threads", Target: 1.2, path: "/wait",
			ours: this("plain", "-threads", "32"), theirs: direct(gunicornThreads(32), "plain"),
			measure: throughput("/wait", 256, seconds, helloWorld)},
		{Name: "form", What: "POST of a 16 KiB form, 64 clients: this / ReverseProxy to gunicorn", Target: 1.5, path: "/",
			ours: this("plain"), theirs: behind((*bench).gunicornSync, "plain"), measure: func(ctx context.Context, b *bench, t *target) (float64, error) {
				s, err := b.wrk(ctx, t.addr, load{path: "/form", connections: 64, duration: seconds * time.Second, script: b.form})
				return s.PerSecond, err
			}},
		{Name: "go-route", What: "p99 of a Go route while 64 clients keep Flask busy: this / ReverseProxy to gunicorn", Target: 0.8, AtMost: true, path: "/",
			ours: this("flask_json"), theirs: behind((*bench).gunicornSync, "flask_json"), measure: goRoute(seconds)},
		{Name: "upload", What: "upload of 1 GiB: this / a Go handler", Target: 0.6, path: "/",
			ours: this("plain"), theirs: bare, measure: func(_ context.Context, b *bench, t *target) (float64, error) { return upload(t.addr, b.gibibyte) }},
		{Name: "download", What: "download of 1 GiB: this / a Go handler", Target: 0.6, path: "/",
			ours: this("plain"), theirs: bare, measure: func(_ context.Context, b *bench, t *target) (float64, error) {
				return download(t.addr, fmt.Sprintf("/download?%d", b.gibibyte), b.gibibyte)
			}},
		{Name: "file", What: "100 MiB by wsgi.file_wrapper / http.ServeFile", Target: 0.9, path: "/",
			ours: this("plain"), theirs: bare, measure: func(_ context.Context, b *bench, t *target) (float64, error) {
				return download(t.addr, "/file", fileSize)
			}},
		{Name: "startup", What: "from the start to the first answer, Django page: this / gunicorn, sync workers", AtMost: true, path: "/",
			ours: this("django_page"), theirs: direct((*bench).gunicornSync, "django_page"), measure: startup},
		{Name: "memory", What: "memory of a second Django interpreter / of a second gunicorn worker (PSS)", Target: 0.8, AtMost: true, path: "/",
			ours:   func(b *bench) *target { return b.this("django_page", "-interpreters", "2") },
			theirs: func(b *bench) *target { return b.gunicornSync("django_page", b.nextAddr()) }, measure: second},
	}
	return list
}

// latency is what one client waits, in microseconds.
func latency(seconds time.Duration, which func(sample) time.Duration) func(context.Context, *bench, *target) (float64, error) {
	return func(ctx context.Context, b *bench, t *target) (float64, error) {
		s, err := b.wrk(ctx, t.addr, load{path: "/", connections: 1, duration: seconds * time.Second})
		return float64(which(s)) / float64(time.Microsecond), err
	}
}

// perRequest is what the Go server counts of one request.
func perRequest(seconds time.Duration, clients int, which func(allocations, calls float64) float64) func(context.Context, *bench, *target) (float64, error) {
	return func(ctx context.Context, b *bench, t *target) (float64, error) {
		allocations, calls, err := askCounts(t.addr)
		if err != nil {
			return 0, err
		}
		s, err := b.wrk(ctx, t.addr, load{path: "/", connections: clients, duration: seconds * time.Second})
		if err != nil {
			return 0, err
		}
		allocatedNow, callsNow, err := askCounts(t.addr)
		return which(allocatedNow-allocations, callsNow-calls) / s.Requests, err
	}
}

// goRoute is the p99 of /go, in microseconds, while / has more clients than it
// can serve.
func goRoute(seconds time.Duration) func(context.Context, *bench, *target) (float64, error) {
	return func(ctx context.Context, b *bench, t *target) (float64, error) {
		type result struct {
			sample
			error
		}
		busy := make(chan result)
		go func() {
			s, err := b.wrk(ctx, t.addr, load{path: "/", connections: 64, duration: (seconds + 1) * time.Second})
			busy <- result{s, err}
		}()
		s, err := b.wrk(ctx, t.addr, load{path: "/go", connections: 1, duration: seconds * time.Second})
		return float64(s.P99) / float64(time.Microsecond), cmp.Or(err, (<-busy).error)
	}
}

// startup is how long another start takes until the first answer, in
// milliseconds.
func startup(ctx context.Context, _ *bench, t *target) (float64, error) {
	t.stop()
	starting, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	start := time.Now()
	if err := t.start(starting, "/"); err != nil {
		return 0, err
	}
	return float64(time.Since(start)) / float64(time.Millisecond), nil
}

// second is what one interpreter or worker more takes, in MiB: two of them less
// one, once each has served.
func second(ctx context.Context, b *bench, t *target) (float64, error) {
	total := func(t *target) (float64, error) {
		if _, err := b.wrk(ctx, t.addr, load{path: "/", connections: 16, duration: 2 * time.Second}); err != nil {
			return 0, err
		}
		var sum int64
		for _, size := range t.pss() {
			sum += size
		}
		return float64(sum) / (1 << 20), nil
	}
	two, err := total(t)
	if err != nil {
		return 0, err
	}
	single := t.withOne(b)
	defer single.stop()
	starting, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := single.start(starting, "/"); err != nil {
		return 0, err
	}
	one, err := total(single)
	return two - one, err
}
