//go:build (linux || darwin) && (amd64 || arm64)

package embedded

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// outputTail is how much of a failed command's output its error holds.
const outputTail = 4 << 10

// run runs a command, in an environment that doesn't change what Python and pip
// do, with lock inherited unless it is nil: so that the lock stays taken until
// the command has ended too, should this process be killed. An error holds the
// end of the command's output. When ctx is done the command is interrupted,
// which lets pip clean up, and killed five seconds later.
func run(ctx context.Context, lock *os.File, name string, args ...string) error {
	var out tail
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = commandEnv(os.Environ())
	cmd.Stdout = &out
	cmd.Stderr = &out
	if lock != nil {
		cmd.ExtraFiles = []*os.File{lock}
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %v", context.Cause(ctx), err)
	}
	if text := strings.TrimSpace(out.String()); text != "" {
		err = fmt.Errorf("%w\n%s", err, text)
	}
	return err
}

// commandEnv returns env without what would make Python look for its library
// elsewhere, or pip install elsewhere.
func commandEnv(env []string) []string {
	drop := []string{"PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"}
	var kept []string
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, "PYTHON") && !slices.Contains(drop, name) {
			kept = append(kept, kv)
		}
	}
	return kept
}

// tail is an io.Writer that keeps the last outputTail bytes, from a line's start
// where it can.
type tail struct {
	buf []byte
	cut bool
}

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - outputTail; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
		t.cut = true
	}
	return len(p), nil
}

func (t *tail) String() string {
	s := string(t.buf)
	if !t.cut {
		return s
	}
	if _, rest, ok := strings.Cut(s, "\n"); ok {
		s = rest
	}
	return "...\n" + s
}
