package wsgi_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
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
