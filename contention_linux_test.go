package wsgi_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/seed-a2d07992/wsgi"
)

// computing is an application that computes for a fraction of a millisecond and
// counts how many of its requests begin in the middle of another one. /wait is as
// in blocking.
const computing = blocking + `
wait, inside, alone, beside = application, [], [], []

def application(environ, start_response):
    if environ["PATH_INFO"] == "/wait":
        return wait(environ, start_response)
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/counts":
        return [b"%d %d" % (len(alone), len(beside))]
    (beside if inside else alone).append(1)
    inside.append(1)
    for i in range(5000):
        pass
    inside.pop()
    return [b"computed"]
`

// compute sends requests that compute, by so many clients at the same time.
func compute(t *testing.T, s *server, clients, each int) {
	t.Helper()
	var group sync.WaitGroup
	for range clients {
		group.Go(func() {
			for range each {
				if _, body := s.get(t, "/"); body != "computed" {
					t.Errorf("a request that computes: %q", body)
					return
				}
			}
		})
	}
	within(t, "requests that compute", group.Wait)
}

// TestComputingRequestsRunOneByOne: threads that compute have one GIL, so that no
// good comes of beginning a request in the middle of another.
func TestComputingRequestsRunOneByOne(t *testing.T) {
	isolations(t, func(t *testing.T, mode wsgi.Isolation) {
		s := servePlain(t, computing, oneInterpreter(mode, 8)...)
		compute(t, s, 16, 200)
		var alone, beside int
		_, body := s.get(t, "/counts")
		if _, err := fmt.Sscan(body, &alone, &beside); err != nil || alone+beside != 16*200 {
			t.Fatalf("counts %q: %v", body, err)
		}
		// One that the kernel interrupts for long may get company. Were they to take
		// turns, it would be half of them.
		t.Logf("%d requests began alone, %d in the middle of another", alone, beside)
		if beside > (alone+beside)/5 {
			t.Errorf("%d requests began alone, %d in the middle of another", alone, beside)
		}
	})
}

// TestComputingRequestsPassAWaitingOne: the workers that sleep while one computes
// are there when that one is stuck, even if no later request wakes them.
func TestComputingRequestsPassAWaitingOne(t *testing.T) {
	isolations(t, func(t *testing.T, mode wsgi.Isolation) {
		const rounds = 10
		s := servePlain(t, computing, oneInterpreter(mode, rounds+1)...)
		b := newBarrier(t, s)
		var stuck sync.WaitGroup
		for round := range rounds {
			compute(t, s, 8, 20)
			stuck.Go(func() {
				if _, body := s.get(t, "/wait"); !strings.HasPrefix(body, "waited") {
					t.Errorf("a request that waits: %q", body)
				}
			})
			compute(t, s, 8, 1)
			b.waitFor(round + 1)
		}
		b.open()
		stuck.Wait()
	})
}
