package main

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-a2d07992/wsgi/examples/internal/programtest"
)

// TestProgram runs the program as "make demo" does, on a port of the system's
// choosing, and stops it by each of the two signals.
func TestProgram(t *testing.T) {
	program := programtest.Build(t)
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			p := programtest.Start(t, "Flask: ", program)
			if !strings.Contains(p.Said(), p.URL+"/go\n") {
				t.Errorf("it printed no address of Go's route:\n%s", p.Said())
			}
			c := newClient(p.URL)
			if _, page := c.expect(t, 200, isHTML, nil, "GET", "/", ""); !strings.Contains(page, "Flask on Python 3.14.") {
				t.Errorf("GET /:\n%s", page)
			}
			if _, text := c.expect(t, 200, isText, nil, "GET", "/go", ""); !strings.HasPrefix(text, "Hello from go") {
				t.Errorf("GET /go: %s", text)
			}
			p.Stop(t, signal)
		})
	}

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	out, err := exec.CommandContext(t.Context(), program, "-addr", taken.Addr().String()).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "address already in use") {
		t.Errorf("where the port is taken: %v, %q", err, out)
	}
}
