package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A target is a way to serve an application, and the processes that do.
type target struct {
	Name     string
	commands [][]string // the last one listens on addr
	addr     string
	env      []string

	running []*exec.Cmd
	output  bytes.Buffer
	err     error // why it is missing
}

// bench is what the targets are made with.
type bench struct {
	dir      string // scratch
	apps     string // the folder of the applications
	server   string // the compiled command in server
	venv     string // a virtual environment with the frameworks and the peers
	database string
	file     string // of fileSize bytes
	port     int
	cores    int
	form     string // a script for wrk that posts a form
	gibibyte int64  // a GiB, or less in a quick run

	mu     sync.Mutex
	shares []float64 // of the cores, that the load generator took in each turn
}

// fileSize is the size of bench.file.
const fileSize = 100 << 20

func (b *bench) nextAddr() string {
	b.port++
	return "127.0.0.1:" + strconv.Itoa(b.port)
}

func (b *bench) bin(name string) string { return filepath.Join(b.venv, "bin", name) }

func (b *bench) new(name string, commands ...[]string) *target {
	return &target{
		Name:     name,
		commands: commands,
		env: append(os.Environ(), "PYTHONDONTWRITEBYTECODE=", "BENCH_DATABASE="+b.database, "BENCH_FILE="+b.file,
			"PYTHONPATH="+b.apps),
	}
}

// on sets the address that a target's last command listens on.
func (t *target) on(addr string) *target {
	t.addr = addr
	return t
}

// bare is net/http alone.
func (b *bench) bare() *target {
	addr := b.nextAddr()
	return b.new("net/http", []string{b.server, "-addr", addr}).on(addr)
}

// this is the library.
func (b *bench) this(app string, arguments ...string) *target {
	addr := b.nextAddr()
	command := append([]string{b.server, "-addr", addr, "-python", b.venv, "-app", filepath.Join(b.apps, app+".py")}, arguments...)
	return b.new(strings.Join(append([]string{"this"}, arguments...), " "), command).on(addr)
}

// behind puts a ReverseProxy before a peer.
func (b *bench) behind(peer func(app, addr string) *target, app string) *target {
	upstream := peer(app, filepath.Join(b.dir, fmt.Sprintf("%d.sock", b.port)))
	if upstream.err != nil {
		return upstream
	}
	if upstream.addr != "" && !strings.Contains(upstream.addr, "/") {
		return &target{Name: upstream.Name, err: fmt.Errorf("not on a Unix socket")}
	}
	addr := b.nextAddr()
	upstream.Name = "ReverseProxy to " + upstream.Name
	upstream.commands = append(upstream.commands, []string{b.server, "-addr", addr, "-proxy", upstream.addr})
	return upstream.on(addr)
}

// withOne is the same target with one interpreter or worker.
func (t *target) withOne(b *bench) *target {
	addr := b.nextAddr()
	last := slices.Clone(t.commands[len(t.commands)-1])
	for i, argument := range last {
		switch {
		case argument == t.addr:
			last[i] = addr
		case i > 0 && (last[i-1] == "-interpreters" || last[i-1] == "--workers"):
			last[i] = "1"
		}
	}
	return b.new(t.Name+", one", last).on(addr)
}

// ---- Running them

// start starts the processes and waits until the target answers path.
func (t *target) start(ctx context.Context, path string) error {
	if t.err != nil {
		return t.err
	}
	for i, command := range t.commands {
		if i > 0 {
			if err := t.ready(ctx, "unix", t.commands[i][len(command)-1]); err != nil {
				return err
			}
		}
		cmd := exec.Command(command[0], command[1:]...)
		cmd.Env = t.env
		cmd.Stdout, cmd.Stderr = &t.output, &t.output
		inGroup(cmd)
		if err := cmd.Start(); err != nil {
			return err
		}
		t.running = append(t.running, cmd)
	}
	if err := t.ready(ctx, "tcp", t.addr); err != nil {
		return err
	}
	for {
		resp, err := http.Get("http://" + t.addr + path)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("%s answered %s", t.Name, resp.Status)
		}
		if !t.pause(ctx) {
			return fmt.Errorf("%w\n%s", err, t.output.String())
		}
	}
}

// ready waits until somebody listens.
func (t *target) ready(ctx context.Context, network, addr string) error {
	for {
		conn, err := net.Dial(network, addr)
		if err == nil {
			return conn.Close()
		}
		if !t.pause(ctx) {
			return fmt.Errorf("%s does not listen: %w\n%s", t.Name, err, t.output.String())
		}
	}
}

func (t *target) pause(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(2 * time.Millisecond):
		return true
	}
}

// settings tells how a target is run, without this machine's folders.
func (b *bench) settings(t *target) string {
	var lines []string
	for _, command := range t.commands {
		lines = append(lines, strings.Join(command, " "))
	}
	return strings.NewReplacer(b.server, "server", b.venv+"/bin/", "", b.venv, "VENV", b.apps, "apps", b.dir, "TMP").Replace(strings.Join(lines, "; "))
}

func (t *target) stop() {
	for _, cmd := range t.running {
		killGroup(cmd)
		_ = cmd.Wait()
	}
	t.running = nil
}
