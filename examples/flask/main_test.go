package main

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestProgram runs the program as "make demo" does, on a port of the system's
// choosing, and stops it by each of the two signals.
func TestProgram(t *testing.T) {
	program := filepath.Join(t.TempDir(), "flask")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	// The first start may take a while: it installs Flask.
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) { runProgram(ctx, t, program, signal) })
	}

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	out, err := exec.CommandContext(ctx, program, "-addr", taken.Addr().String()).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "address already in use") {
		t.Errorf("where the port is taken: %v, %q", err, out)
	}
}

func runProgram(ctx context.Context, t *testing.T, program string, signal os.Signal) {
	temp := t.TempDir()
	cmd := exec.CommandContext(ctx, program, "-addr", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), "TMPDIR="+temp)
	var errs strings.Builder
	cmd.Stderr = &errs
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waited := false
	defer func() {
		if !waited {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		if t.Failed() {
			t.Logf("standard error:\n%s", &errs)
		}
	}()

	// Until it has said where it listens and how it is stopped.
	var said strings.Builder
	lines := bufio.NewScanner(stdout)
	url := ""
	for lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		if rest, ok := strings.CutPrefix(lines.Text(), "Flask: "); ok {
			url = strings.TrimSuffix(rest, "/")
		}
		if strings.Contains(lines.Text(), "Ctrl-C") {
			break
		}
	}
	if !strings.HasPrefix(url, "http://127.0.0.1:") || !strings.Contains(said.String(), url+"/go\n") {
		t.Fatalf("it printed no addresses:\n%s", &said)
	}
	c := newClient(url)
	if _, page := c.expect(t, 200, isHTML, nil, "GET", "/", ""); !strings.Contains(page, "Flask on Python 3.14.") {
		t.Errorf("GET /:\n%s", page)
	}
	if _, text := c.expect(t, 200, isText, nil, "GET", "/go", ""); !strings.HasPrefix(text, "Hello from go") {
		t.Errorf("GET /go: %s", text)
	}

	if err := cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
		said.WriteString(lines.Text() + "\n")
	}
	waited = true
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if !strings.HasSuffix(said.String(), "\nStopping ...\nStopped.\n") || errs.Len() > 0 {
		t.Errorf("it printed\n%sand to standard error\n%s", &said, &errs)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("it left %v in the temporary folder (%v)", left, err)
	}
}
