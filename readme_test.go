package wsgi_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestReadmeOptions keeps the table of options complete.
func TestReadmeOptions(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "options.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var options []string
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && strings.HasPrefix(f.Name.Name, "With") {
			options = append(options, f.Name.Name)
		}
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(With[A-Za-z]+)\\(").FindAllSubmatch(readme, -1) {
		documented = append(documented, string(row[1]))
	}
	slices.Sort(options)
	slices.Sort(documented)
	if !slices.Equal(options, documented) || len(options) == 0 {
		t.Errorf("README.md has rows for %q, and options.go has %q", documented, options)
	}
}

// TestDocumentedTestsExist keeps docs/pep3333.md from naming tests that are not.
func TestDocumentedTestsExist(t *testing.T) {
	defined := make(map[string]string) // their source
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, name, source, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
				defined[f.Name.Name] = string(source[files.Position(f.Pos()).Offset:files.Position(f.End()).Offset])
			}
		}
	}
	page, err := os.ReadFile("docs/pep3333.md")
	if err != nil {
		t.Fatal(err)
	}
	// A row of a table of rules ends in the names of its tests.
	rows := regexp.MustCompile(`(?m)^\|.*\| ([^|]*) \|$`).FindAllSubmatch(page, -1)
	named := 0
	for _, row := range rows {
		for _, name := range regexp.MustCompile("`((?:Test|Fuzz)[^`]+)`").FindAllSubmatch(row[1], -1) {
			named++
			test, subtest, nested := strings.Cut(string(name[1]), "/")
			if source := defined[test]; source == "" || nested && !strings.Contains(source, strconv.Quote(subtest)) {
				t.Errorf("docs/pep3333.md names %s, which is no test: %s", name[1], row[0])
			}
		}
	}
	rules, _, _ := strings.Cut(string(page), "## What other servers do")
	for line := range strings.Lines(rules) {
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| rule |") && !strings.Contains(line, "`Test") {
			t.Errorf("a rule without a test: %s", line)
		}
	}
	if named < 50 {
		t.Errorf("only %d tests are named", named)
	}
}
