package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// checkSystem says whether what is measured here can be measured on this system.
func checkSystem() error { return nil }

// inGroup puts a process that is to be started, and those it starts, into a
// group of their own, which ends with this process.
func inGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func killGroup(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

// pss returns the proportional set sizes, in bytes, of the target's processes,
// those that its commands have started included.
func (t *target) pss() (sizes []int64) {
	groups := make(map[int]bool)
	for _, cmd := range t.running {
		groups[cmd.Process.Pid] = true
	}
	statuses, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, status := range statuses {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(status)))
		if group, err := syscall.Getpgid(pid); err != nil || !groups[group] {
			continue
		}
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "Pss:" {
				n, _ := strconv.ParseInt(fields[1], 10, 64)
				sizes = append(sizes, n<<10)
			}
		}
	}
	return sizes
}
