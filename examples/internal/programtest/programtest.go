// Package programtest runs the examples as a user does: built, started on a port
// of the system's choosing, and stopped by a signal.
package programtest

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Build builds the program in the working directory and returns its path.
func Build(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "program")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return program
}

// A Program is one that runs and serves.
type Program struct {
	URL string // without a slash at the end

	cmd   *exec.Cmd
	temp  string // its folder for temporary files
	lines *bufio.Scanner
	said  strings.Builder
	errs  strings.Builder
}

// Start starts a program and waits until it has said how it is stopped. Its URL
// is what follows the label in a line before that. The first start may take a
// while: it installs packages.
func Start(t *testing.T, label, path string, args ...string) *Program {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	p := &Program{temp: t.TempDir()}
	p.cmd = exec.CommandContext(ctx, path, append([]string{"-addr", "127.0.0.1:0"}, args...)...)
	p.cmd.Env = append(os.Environ(), "TMPDIR="+p.temp)
	p.cmd.Stderr = &p.errs
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
		if t.Failed() {
			t.Logf("standard output:\n%sstandard error:\n%s", &p.said, &p.errs)
		}
	})
	p.lines = bufio.NewScanner(stdout)
	for p.lines.Scan() {
		p.said.WriteString(p.lines.Text() + "\n")
		if rest, ok := strings.CutPrefix(p.lines.Text(), label); ok {
			p.URL = strings.TrimSuffix(strings.TrimSpace(rest), "/")
		}
		if strings.Contains(p.lines.Text(), "Ctrl-C") {
			break
		}
	}
	if !strings.Contains(p.URL, "://127.0.0.1:") {
		t.Fatalf("it printed no address after %q", label)
	}
	return p
}

// Said returns what the program has printed.
func (p *Program) Said() string { return p.said.String() }

// Stop stops the program, which must end well, and leave nothing on standard
// error and in the folder for temporary files.
func (p *Program) Stop(t *testing.T, signal os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	for p.lines.Scan() {
		p.said.WriteString(p.lines.Text() + "\n")
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if !strings.HasSuffix(p.Said(), "\nStopping ...\nStopped.\n") || p.errs.Len() > 0 {
		t.Errorf("it printed\n%sand to standard error\n%s", p.Said(), &p.errs)
	}
	if left, err := os.ReadDir(p.temp); err != nil || len(left) > 0 {
		t.Errorf("it left %v in the temporary folder (%v)", left, err)
	}
}
