//go:build !linux

package main

import (
	"errors"
	"os/exec"
)

// checkSystem says that this system has no /proc that tells the size of processes.
func checkSystem() error { return errors.New("the benchmarks need Linux") }

func inGroup(*exec.Cmd) {}

func killGroup(cmd *exec.Cmd) { _ = cmd.Process.Kill() }

func (t *target) pss() []int64 { return nil }
