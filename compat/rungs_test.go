package compat

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/seed-a2d07992/wsgi"
	"github.com/seed-a2d07992/wsgi/embedded"
)

// The table of docs/extension-modules.md is made here:
//
//	WSGI_UPDATE_TABLE=1 go test -run Rungs .
//
// WSGI_TEST_PYTHON_3_13 names a CPython 3.13 for its column, which otherwise
// stays as it is.
const tableFile = "../docs/extension-modules.md"

// packages are the rows: a name in rungs.txt, and an application that uses
// what makes up the package.
var packages = []struct{ name, uses string }{
	{"numpy", "import numpy; assert numpy.arange(4).sum() == 6"},
	{"pydantic", "from pydantic import create_model; assert create_model('M', x=(int, ...))(x='3').x == 3"},
	{"cryptography", "from cryptography.fernet import Fernet; f = Fernet(Fernet.generate_key()); assert f.decrypt(f.encrypt(b'x')) == b'x'"},
	{"lxml", "from lxml import etree; assert etree.fromstring('<a>b</a>').text == 'b'"},
	{"psycopg2-binary", "import psycopg2.extensions; assert psycopg2.extensions.parse_dsn('host=h') == {'host': 'h'}"},
	{"psycopg", "from psycopg import conninfo, pq; assert pq.__impl__ == 'python' and conninfo.conninfo_to_dict('host=h')['host'] == 'h'"},
	{"pillow", "from PIL import Image; assert Image.new('RGB', (2, 2)).resize((1, 1)).getpixel((0, 0)) == (0, 0, 0)"},
	{"orjson", "import orjson; assert orjson.dumps([1]) == b'[1]'"},
	{"sqlalchemy", "from sqlalchemy import create_engine, text; assert create_engine('sqlite://').connect().execute(text('select 1')).scalar() == 1"},
	{"greenlet", "import greenlet; assert greenlet.greenlet(lambda: 3).switch() == 3"},
	{"markupsafe", "import markupsafe; assert markupsafe.escape('<') == '&lt;'"},
}

// A rung is where an application comes to run under Auto.
type rung struct {
	Isolation string   // OwnGIL or Main
	Refused   []string // the modules that were named in warnings
	Err       string   // it does not run at all
}

// String is a cell of the table.
func (r rung) String() string {
	cell := r.Isolation
	if len(r.Refused) > 0 {
		names := "`" + strings.Join(r.Refused, "`, `") + "`"
		if r.Isolation == "Main" {
			cell += ": " + names + " refuses"
		} else {
			cell += ", without " + names
		}
	}
	return cell
}

// TestMain runs one application instead of the tests, where it is told to: a
// process can load only one libpython, and what is imported into its main
// interpreter stays.
func TestMain(m *testing.M) {
	if file := os.Getenv("WSGI_TEST_RUNG"); file != "" {
		_ = json.NewEncoder(os.Stdout).Encode(climb(file)) // whoever reads it sees an error
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// climb starts the application in file on $WSGI_PYTHON under Auto, sends it a
// request, and says where it runs.
func climb(file string) rung {
	var found refusals
	app, err := wsgi.New(file, "application", wsgi.WithInterpreters(1), wsgi.WithLogger(slog.New(&found)))
	if err != nil {
		return rung{Err: err.Error()}
	}
	defer app.Close()
	w := httptest.NewRecorder()
	app.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	r := rung{Isolation: app.Stats().Isolation.String(), Refused: found.names}
	if w.Code != 200 || w.Body.String() != "works" {
		r.Err = fmt.Sprint(w.Code, " ", w.Body)
	}
	return r
}

// refusals is a slog.Handler that keeps the extension modules that are named.
type refusals struct {
	mu    sync.Mutex
	names []string
}

func (f *refusals) Enabled(context.Context, slog.Level) bool { return true }
func (f *refusals) WithAttrs([]slog.Attr) slog.Handler       { return f }
func (f *refusals) WithGroup(string) slog.Handler            { return f }

func (f *refusals) Handle(_ context.Context, record slog.Record) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	record.Attrs(func(a slog.Attr) bool {
		if a.Key == "extension" {
			f.names = append(f.names, strings.Split(a.Value.String(), ", ")...)
		}
		return true
	})
	return nil
}

// measureRung runs a package's application on a Python.
func measureRung(t *testing.T, python, uses string) rung {
	t.Helper()
	file := filepath.Join(t.TempDir(), "uses.py")
	source := uses + "\n\ndef application(environ, start_response):\n    " + uses +
		"\n    start_response('200 OK', [])\n    return [b'works']\n"
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), "WSGI_PYTHON="+python, "WSGI_TEST_RUNG="+file)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var r rung
	if err == nil {
		err = json.Unmarshal(out, &r)
	}
	if err != nil || r.Err != "" {
		t.Fatalf("%v: %s\n%s", err, r.Err, stderr.Bytes())
	}
	return r
}

// TestRungs holds docs/extension-modules.md to what each package does
// under Auto: the table tells no more and no less.
func TestRungs(t *testing.T) {
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	current, err := embedded.Venv(t.Context(), filepath.Join(cache, "go-wsgi-rungs"), "--only-binary", ":all:", "-r", "rungs.txt")
	if err != nil {
		t.Fatal(err)
	}
	pythons := []string{current, older(t)}
	text, err := os.ReadFile(tableFile)
	if err != nil {
		t.Fatal(err)
	}
	versions, err := os.ReadFile("rungs.txt")
	if err != nil {
		t.Fatal(err)
	}
	update := os.Getenv("WSGI_UPDATE_TABLE") != ""
	lines := strings.Split(string(text), "\n")
	for _, p := range packages {
		t.Run(p.name, func(t *testing.T) {
			at := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "| "+p.name+" ") })
			if at < 0 {
				t.Fatal("it has no row in the table")
			}
			// Package and version, a cell for each Python, and what else to use.
			cells := strings.Split(strings.Trim(lines[at], "| "), " | ")
			if len(cells) != 4 {
				t.Fatalf("its row has %d cells: %s", len(cells), lines[at])
			}
			_, version, _ := strings.Cut("\n"+string(versions), "\n"+p.name+"==")
			version, _, _ = strings.Cut(version, "\n")
			want := []string{p.name + " " + version, cells[1], cells[2], cells[3]}
			for i, python := range pythons {
				if python != "" {
					want[1+i] = measureRung(t, python, p.uses).String()
				}
			}
			if update {
				lines[at] = "| " + strings.Join(want, " | ") + " |"
			} else if !slices.Equal(cells, want) {
				t.Errorf("the table says %q, and it is %q", cells, want)
			}
		})
	}
	if update {
		if err := os.WriteFile(tableFile, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// older returns a CPython 3.13 with the same packages, or "" where none is named.
func older(t *testing.T) string {
	t.Helper()
	base := os.Getenv("WSGI_TEST_PYTHON_3_13")
	if base == "" {
		return ""
	}
	venv := filepath.Join(t.TempDir(), "venv")
	python := filepath.Join(venv, "bin", "python")
	for _, args := range [][]string{
		{base, "-c", "import sys; assert sys.version_info[:2] == (3, 13)"},
		{base, "-m", "venv", venv},
		{python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "-r", "rungs.txt"},
	} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	return python
}
