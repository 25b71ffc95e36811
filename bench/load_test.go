package main

import (
	"strings"
	"testing"
	"time"
)

func TestParseWrk(t *testing.T) {
	const out = `Running 1s test @ http://127.0.0.1:9000/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     3.25ms    1.56ms  14.90ms   71.84%
    Req/Sec    18.62k     2.81k   25.52k    72.00%
  Latency Distribution
     50%   87.00us
     75%    3.91ms
     90%    5.02ms
     99%    1.02s
  92616 requests in 5.01s, 11.57MB read
Requests/sec:  18498.60
Transfer/sec:      2.31MB
`
	s, err := parseWrk(out)
	if want := (sample{Requests: 92616, PerSecond: 18498.60, P50: 87 * time.Microsecond, P99: 1020 * time.Millisecond}); err != nil || s != want {
		t.Errorf("got %+v, %v, want %+v", s, err, want)
	}
	for _, line := range []string{"  Non-2xx or 3xx responses: 17", "  Socket errors: connect 0, read 3, write 0, timeout 0"} {
		if _, err := parseWrk(out + line + "\n"); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(line)) {
			t.Errorf("%q: the error is %v", line, err)
		}
	}
	if _, err := parseWrk("unable to connect"); err == nil {
		t.Error("no error for output without figures")
	}
}

func TestRatioSaysWhetherItIsReached(t *testing.T) {
	for _, test := range []struct {
		ratio ratio
		want  string
	}{
		{ratio{Name: "a", Value: 0.8, Target: 0.75}, "RATIO a 0.80 target 0.75 ok"},
		{ratio{Name: "a", Value: 0.7, Target: 0.75}, "RATIO a 0.70 target 0.75 short"},
		{ratio{Name: "b", Value: 31, Target: 30, AtMost: true}, "RATIO b 31.00 target 30 short"},
		{ratio{Name: "b", Value: 12.5, Target: 30, AtMost: true}, "RATIO b 12.50 target 30 ok"},
		{ratio{Name: "c", Target: 2, Missing: "no such program"}, "RATIO c missing target 2: no such program"},
	} {
		if got := test.ratio.String(); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

func TestMedian(t *testing.T) {
	if got := median([]float64{9, 1, 5}); got != 5 {
		t.Errorf("of three: %v", got)
	}
	if got := median([]float64{4, 1, 2, 9}); got != 3 {
		t.Errorf("of four: %v", got)
	}
}
