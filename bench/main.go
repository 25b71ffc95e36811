// Command bench measures the library side by side with what else could be done:
// Go alone, a ReverseProxy in front of a Python server, that server directly.
// "make bench" runs it; see README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"time"
)

func main() {
	log.SetFlags(0)
	quick := flag.Bool("quick", false, "one short round of each")
	only := flag.String("only", "", "measure only the ratios whose names match the regular `expression`")
	rounds := flag.Int("rounds", 5, "how often each pair is measured")
	seconds := flag.Int("seconds", 3, "how long a turn takes")
	venv := flag.String("venv", "../.build/venv-bench", "the virtual environment with the frameworks and the peers")
	redraw := flag.Bool("draw", false, "measure nothing: write results.md and chart.svg of the results.json that is there")
	out := flag.String("out", ".", "write results.json, results.md and chart.svg into the `folder`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *redraw {
		if err := draw(*out); err != nil {
			log.Fatal(err)
		}
		return
	}
	if *quick {
		*rounds, *seconds = 1, 1
	}
	if err := run(ctx, *quick, *only, *rounds, time.Duration(*seconds), *venv, *out); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, quick bool, only string, rounds int, seconds time.Duration, venv, out string) error {
	match, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	if err := checkSystem(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "wsgi-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// Apache's processes run as another user, who has to find their sockets.
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	b, err := prepare(ctx, dir, venv, quick)
	if err != nil {
		return err
	}
	var measured []*ratio
	var failed []error
	for _, r := range ratios(b.cores, seconds) {
		if !match.MatchString(r.Name) {
			continue
		}
		if err := r.run(ctx, b, rounds); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			failed = append(failed, err)
			continue
		}
		fmt.Println(r)
		measured = append(measured, r)
	}
	if !quick && only == "" {
		counted, err := instructions(ctx, dir, b.venv, b.apps)
		if err == nil {
			err = report(out, b, measured, counted, rounds, seconds)
		}
		if err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// prepare makes what the targets need.
func prepare(ctx context.Context, dir, venv string, quick bool) (*bench, error) {
	apps, err := filepath.Abs("apps")
	if err != nil {
		return nil, err
	}
	if venv, err = filepath.Abs(venv); err != nil {
		return nil, err
	}
	b := &bench{
		dir:      dir,
		apps:     apps,
		server:   filepath.Join(dir, "server"),
		venv:     venv,
		database: filepath.Join(dir, "articles.sqlite3"),
		file:     filepath.Join(dir, "file"),
		form:     filepath.Join(dir, "form.lua"),
		port:     19000,
		cores:    runtime.NumCPU(),
		gibibyte: 1 << 30,
	}
	if quick {
		b.gibibyte = 1 << 28
	}
	for _, command := range [][]string{
		{"go", "build", "-o", b.server, "./server"},
		{b.bin("python"), filepath.Join(apps, "django_page.py"), b.database},
	} {
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("%v: %w", command, err)
		}
	}
	file, err := os.Create(b.file)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	chunk := make([]byte, 1<<20)
	for i := range chunk {
		chunk[i] = byte(i * 31)
	}
	for range fileSize / len(chunk) {
		if _, err := file.Write(chunk); err != nil {
			return nil, err
		}
	}
	const form = `wrk.method = "POST"
wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
wrk.body = "field=" .. string.rep("x", 16384 - 6)
`
	return b, os.WriteFile(b.form, []byte(form), 0o600)
}
