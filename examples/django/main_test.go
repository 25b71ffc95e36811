package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-a2d07992/wsgi/examples/internal/programtest"
	"github.com/seed-a2d07992/wsgi/internal/servertest"
)

// TestProgram runs the program as a user does: over http and over https, with
// management commands beside it.
func TestProgram(t *testing.T) {
	program := programtest.Build(t)
	cert, key := servertest.Certificate(t, "127.0.0.1")
	for _, test := range []struct {
		scheme string
		flags  []string
		signal os.Signal
	}{
		{"http", nil, os.Interrupt},
		{"https", []string{"-cert", cert, "-key", key}, syscall.SIGTERM},
	} {
		t.Run(test.scheme, func(t *testing.T) {
			flags := append([]string{"-data", filepath.Join(t.TempDir(), "da#ta")}, test.flags...)
			manage := manager(t, program, flags...)
			p := programtest.Start(t, "Django: ", program, flags...)
			if !strings.HasPrefix(p.URL, test.scheme+"://") || !strings.Contains(p.Said(), p.URL+"/api/documents\n") {
				t.Errorf("it printed\n%s", p.Said())
			}
			if out, err := manage("createsuperuser", "--noinput", "--username", "ada", "--email", "ada@example.org"); err != nil {
				t.Errorf("createsuperuser: %v\n%s", err, out)
			}
			// Over https nothing is left to complain about.
			out, err := manage("check", "--deploy", "--fail-level", "WARNING")
			if secure := err == nil; secure != (test.scheme == "https") {
				t.Errorf("check --deploy: %v\n%s", err, out)
			}

			b := newBrowser(t, p.URL)
			resp, _ := b.logIn("ada", password)
			hsts := resp.Header.Get("Strict-Transport-Security") != ""
			session := ""
			for _, cookie := range resp.Header.Values("Set-Cookie") {
				if strings.HasPrefix(cookie, "sessionid=") {
					session = cookie
				}
			}
			if secure := strings.Contains(session, "; Secure"); resp.StatusCode != 302 || secure != (test.scheme == "https") || hsts != secure {
				t.Errorf("logging in: %s %v", resp.Status, resp.Header)
			}
			p.Stop(t, test.signal)
		})
	}
	out, err := exec.CommandContext(t.Context(), program, "mange").CombinedOutput()
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 2 || !strings.HasPrefix(string(out), "usage: ") {
		t.Errorf("called wrongly: %v\n%s", err, out)
	}
}

// TestManage runs management commands where there is no server.
func TestManage(t *testing.T) {
	manage := manager(t, programtest.Build(t), "-data", t.TempDir())
	if out, err := manage("migrate"); err != nil || !strings.Contains(out, "Applying documents.0001_initial... OK") {
		t.Errorf("migrate: %v\n%s", err, out)
	}
	if out, err := manage("makemigrations", "--check"); err != nil {
		t.Errorf("the models don't match the migrations: %v\n%s", err, out)
	}
	if out, err := manage("shell"); err != nil || !strings.Contains(out, "there are 0\n") {
		t.Errorf("shell: %v\n%s", err, out)
	}
	out, err := manage("no_such_command")
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 || !strings.HasPrefix(out, "Unknown command: 'no_such_command'") {
		t.Errorf("a command that isn't: %v\n%s", err, out)
	}
}

// manager returns a function that runs the program's management commands.
func manager(t *testing.T, program string, flags ...string) func(args ...string) (string, error) {
	return func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), program, slices.Concat(flags, []string{"manage"}, args)...)
		cmd.Stdin = strings.NewReader("from documents.models import Document\nprint('there are', Document.objects.count())\n")
		cmd.Env = append(os.Environ(), "DJANGO_SUPERUSER_PASSWORD="+password, "TMPDIR="+t.TempDir())
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
}
