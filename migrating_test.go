package wsgi_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestMigrationGuide keeps docs/migrating.md from naming options that are not, and its
// programs from not compiling.
func TestMigrationGuide(t *testing.T) {
	page, err := os.ReadFile("docs/migrating.md")
	if err != nil {
		t.Fatal(err)
	}
	options, err := os.ReadFile("options.go")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("(?:wsgi\\.|`)(With[A-Z][A-Za-z]+)").FindAllSubmatch(page, -1)
	for _, name := range named {
		if !strings.Contains(string(options), fmt.Sprintf("\nfunc %s(", name[1])) {
			t.Errorf("there is no option %s", name[1])
		}
	}
	if len(named) < 20 {
		t.Errorf("only %d options are named", len(named))
	}
	programs := regexp.MustCompile("(?s)```go\n(package main\n.*?)```").FindAllSubmatch(page, -1)
	if len(programs) != 3 {
		t.Fatalf("the page has %d programs, want 3", len(programs))
	}
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	sum, err := os.ReadFile("go.sum")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "go.sum"), string(sum))
	version := regexp.MustCompile(`(?m)^require golang.org/x/sync (\S+)$`)
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	sync := version.FindSubmatch(mod)
	if sync == nil {
		t.Fatalf("go.mod requires something else: %s", mod)
	}
	writeFile(t, filepath.Join(dir, "go.mod"), fmt.Sprintf("module guide\n\ngo 1.26.0\n\nrequire (\n\t%s v0.0.0\n\tgolang.org/x/sync %s // indirect\n)\n\nreplace %[1]s => %[3]s\n",
		modulePath, sync[1], root))
	for i, program := range programs {
		writeFile(t, filepath.Join(dir, fmt.Sprint("program", i), "main.go"), string(program[1]))
	}
	vet := exec.CommandContext(t.Context(), "go", "vet", "./...")
	vet.Dir = dir
	vet.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
	if out, err := vet.CombinedOutput(); err != nil {
		t.Errorf("go vet: %v\n%s", err, out)
	}
}
