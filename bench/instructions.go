package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/seed-a2d07992/wsgi/internal/cpython"
)

// counts are instructions per request.
type counts struct {
	All float64 `json:"all"`    // the application, CPython and libc included
	Own float64 `json:"c_side"` // of this library's C side alone
}

// instructions counts what one small request costs between Go's submitting it
// and Go's resetting it, under callgrind: unlike a time, the count is the same on
// a busy machine as on an idle one. The program that is counted is
// instructions/main.c with the C side; two runs of it differ by so many requests.
func instructions(ctx context.Context, dir, venv, apps string) (c counts, err error) {
	inst, err := cpython.Find(venv)
	if err != nil {
		return c, err
	}
	side := filepath.Join(apps, "..", "..", "internal", "cpython")
	sources, err := filepath.Glob(filepath.Join(side, "*.c"))
	if err != nil {
		return c, err
	}
	program := filepath.Join(dir, "instructions")
	arguments := []string{"-std=gnu11", "-O2", "-g", "-o", program, filepath.Join(apps, "..", "instructions", "main.c")}
	if out, err := exec.CommandContext(ctx, "cc", append(append(arguments, sources...), "-ldl", "-lpthread")...).CombinedOutput(); err != nil {
		return c, fmt.Errorf("cc: %w\n%s", err, out)
	}
	const few, many = 200, 1200
	var runs [2]counts
	for i, n := range []int{few, many} {
		profile := filepath.Join(dir, "callgrind.out")
		cmd := exec.CommandContext(ctx, "valgrind", "--tool=callgrind", "--callgrind-out-file="+profile, program, inst.Library,
			strconv.Itoa(inst.Version.Minor), strconv.Itoa(inst.ObjectSize), inst.BaseExecutable, inst.BasePrefix,
			filepath.Join(side, "bootstrap.py"), apps, strconv.Itoa(n))
		if out, err := cmd.CombinedOutput(); err != nil {
			return c, fmt.Errorf("callgrind: %w\n%s", err, out)
		}
		if runs[i], err = readProfile(profile); err != nil {
			return c, err
		}
	}
	return counts{(runs[1].All - runs[0].All) / (many - few), (runs[1].Own - runs[0].Own) / (many - few)}, nil
}

// readProfile adds up what a profile of callgrind's holds. In its format a line
// that starts with a number, or with how far that is from the last one, is a
// source line and its cost; the one after "calls=" is the cost of what is called,
// which is counted where it arises; "fl", "fi" and "fe" name the source file, by
// its name and number at first and by its number from then on.
func readProfile(path string) (c counts, err error) {
	file, err := os.Open(path)
	if err != nil {
		return c, err
	}
	defer file.Close()
	names := make(map[string]string)
	own, call := false, false
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		key, value, named := strings.Cut(line, "=")
		switch {
		case named && (key == "fl" || key == "fi" || key == "fe"):
			number, name, _ := strings.Cut(value, " ")
			if name != "" {
				names[number] = name
			}
			own = strings.Contains(names[number], "internal/cpython/")
		case named && key == "cfi", named && key == "cfl":
			if number, name, _ := strings.Cut(value, " "); name != "" {
				names[number] = name
			}
		case named && key == "calls":
			call = true
		case line != "" && strings.ContainsRune("0123456789+-*", rune(line[0])):
			fields := strings.Fields(line)
			if call || len(fields) < 2 {
				call = false
				continue
			}
			cost, err := strconv.ParseFloat(fields[1], 64)
			if err != nil {
				return c, fmt.Errorf("%s: %q: %w", path, line, err)
			}
			c.All += cost
			if own {
				c.Own += cost
			}
		}
	}
	return c, lines.Err()
}
