package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

// A load is what wrk does to a target.
type load struct {
	path        string
	connections int
	duration    time.Duration
	script      string // Lua, or ""
}

// A sample is what wrk has seen.
type sample struct {
	Requests  float64
	PerSecond float64
	P50, P99  time.Duration
}

var (
	requests   = regexp.MustCompile(`(?m)^\s+([0-9]+) requests in `)
	perSecond  = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
	percentile = regexp.MustCompile(`(?m)^\s+(50|99)%\s+([0-9.]+(?:us|ms|s|m))$`)
	wrong      = regexp.MustCompile(`(?m)^\s+(Non-2xx.*|Socket errors:.*)$`)
)

// wrk puts a load on a target. Answers that aren't 2xx and broken connections
// are errors.
func (b *bench) wrk(ctx context.Context, addr string, l load) (sample, error) {
	arguments := []string{"-t", "1", "-c", strconv.Itoa(l.connections), "-d", fmt.Sprintf("%ds", int(l.duration.Seconds())), "--latency", "--timeout", "20s"}
	if l.script != "" {
		arguments = append(arguments, "-s", l.script)
	}
	cmd := exec.CommandContext(ctx, "wrk", append(arguments, "http://"+addr+l.path)...)
	start := time.Now()
	out, err := cmd.Output()
	if err != nil {
		return sample{}, fmt.Errorf("wrk: %w", err)
	}
	used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	b.shared(used.Seconds() / time.Since(start).Seconds() / float64(b.cores))
	return parseWrk(string(out))
}

// shared takes note of what the load generator took of the cores. Two of them may
// run at once.
func (b *bench) shared(part float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shares = append(b.shares, part)
}

func parseWrk(out string) (s sample, err error) {
	if m := wrong.FindString(out); m != "" {
		return s, fmt.Errorf("wrk:%s", m)
	}
	m := perSecond.FindStringSubmatch(out)
	if m == nil {
		return s, fmt.Errorf("wrk says nothing of requests: %q", out)
	}
	if s.PerSecond, err = strconv.ParseFloat(m[1], 64); err != nil {
		return s, err
	}
	if m = requests.FindStringSubmatch(out); m == nil {
		return s, fmt.Errorf("wrk says nothing of their number: %q", out)
	}
	if s.Requests, err = strconv.ParseFloat(m[1], 64); err != nil {
		return s, err
	}
	for _, m := range percentile.FindAllStringSubmatch(out, -1) {
		d, err := time.ParseDuration(m[2])
		if err != nil {
			return s, err
		}
		if m[1] == "50" {
			s.P50 = d
		} else {
			s.P99 = d
		}
	}
	return s, nil
}

// check sends one request and compares the answer.
func check(addr, path, want string) error {
	resp, err := http.Get("http://" + addr + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	switch {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: %s", path, resp.Status)
	case want != "" && string(body) != want:
		return fmt.Errorf("%s: %q instead of %q", path, body, want)
	}
	return nil
}

// askCounts asks a Go server how often it has allocated memory and called C.
func askCounts(addr string) (allocations, calls float64, err error) {
	resp, err := http.Get("http://" + addr + "/counts")
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	_, err = fmt.Fscan(resp.Body, &allocations, &calls)
	return allocations, calls, err
}

// zeros yields n zero bytes.
type zeros int64

func (z *zeros) Read(p []byte) (int, error) {
	if *z <= 0 {
		return 0, io.EOF
	}
	n := min(len(p), int(*z))
	clear(p[:n])
	*z -= zeros(n)
	return n, nil
}

// upload sends size bytes and returns how many arrived per second.
func upload(addr string, size int64) (float64, error) {
	body := zeros(size)
	r, err := http.NewRequest("POST", "http://"+addr+"/upload", &body)
	if err != nil {
		return 0, err
	}
	r.ContentLength = size
	start := time.Now()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if want := fmt.Sprintln(size); string(answer) != want {
		return 0, fmt.Errorf("/upload: %q instead of %q", answer, want)
	}
	return float64(size) / time.Since(start).Seconds(), nil
}

// download fetches path, which is to have size bytes, and returns how many
// arrived per second.
func download(addr, path string, size int64) (float64, error) {
	start := time.Now()
	resp, err := http.Get("http://" + addr + path)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	buf := make([]byte, 256<<10)
	var got int64
	for {
		n, err := resp.Body.Read(buf)
		got += int64(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, err
		}
	}
	if got != size {
		return 0, fmt.Errorf("%s: %d bytes instead of %d", path, got, size)
	}
	return float64(size) / time.Since(start).Seconds(), nil
}
