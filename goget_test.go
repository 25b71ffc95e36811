package wsgi_test

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	modulePath  = "github.com/seed-a2d07992/wsgi"
	testVersion = "v0.0.0-test"
)

// The service that gets the module, and the application that it mounts. It
// serves until its standard input ends, so it doesn't outlive the test.
const (
	serviceSource = `package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/seed-a2d07992/wsgi"
)

func main() {
	app, err := wsgi.New("./app.py", "application")
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /go", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "Go") })
	mux.Handle("/", app)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(listener, mux)
	fmt.Println(listener.Addr())
	io.Copy(io.Discard, os.Stdin)
	if err := app.Shutdown(context.Background()); err != nil {
		log.Fatal(err)
	}
	fmt.Println("stopped")
}
`
	serviceApp = `def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"Python ", environ["PATH_INFO"].encode("latin-1")]
`
)

// TestGoGet gets the module as a stranger does: from a module proxy, into a
// module elsewhere, with nothing but what the module's zip holds.
func TestGoGet(t *testing.T) {
	proxy := writeProxy(t)
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "go.mod"), "module example.com/service\n\ngo 1.26\n")
	writeFile(t, filepath.Join(dir, "main.go"), serviceSource)
	writeFile(t, filepath.Join(dir, "app.py"), serviceApp)

	// The dependencies come from this machine's module cache, where building
	// the tests has put them, though maybe in another version: a workspace
	// builds with the newest that one of its modules asks for.
	runGo(t, ".", []string{"GOWORK=off"}, "mod", "download", "golang.org/x/sync")
	cache := strings.TrimSpace(runGo(t, ".", nil, "env", "GOMODCACHE"))
	env := []string{
		"GOPROXY=file://" + filepath.ToSlash(proxy) + ",file://" + filepath.ToSlash(filepath.Join(cache, "cache", "download")),
		"GOMODCACHE=" + t.TempDir(), "GOFLAGS=-mod=mod -modcacherw -trimpath",
		"GOSUMDB=off", "GONOSUMDB=", "GONOPROXY=", "GOPRIVATE=", "GOWORK=off", "GOTOOLCHAIN=local",
	}
	runGo(t, dir, env, "get", modulePath+"@"+testVersion)
	modules := strings.Fields(runGo(t, dir, env, "list", "-m", "-f", "{{.Path}}", "all"))
	if want := []string{"example.com/service", modulePath, "golang.org/x/sync"}; !slices.Equal(modules, want) {
		t.Errorf("the service's modules are %v, want %v", modules, want)
	}

	program := filepath.Join(dir, "service")
	t.Run("with cgo", func(t *testing.T) {
		runGo(t, dir, append(env, "CGO_ENABLED=1"), "build", "-o", program, ".")
		if f, err := elf.Open(program); err == nil { // on other systems it is no ELF file
			defer f.Close()
			libraries, err := f.ImportedLibraries()
			if err != nil || slices.ContainsFunc(libraries, func(l string) bool { return strings.Contains(l, "python") }) {
				t.Errorf("the program is linked with %v (%v)", libraries, err)
			}
		}
		useService(t, dir, program)
	})
	t.Run("without cgo", func(t *testing.T) {
		runGo(t, dir, append(env, "CGO_ENABLED=0"), "build", "-o", program, ".")
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, program)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || !strings.Contains(string(out), "needs cgo") {
			t.Errorf("%v, and the output is %q", err, out)
		}
	})
}

// useService runs the service and sends it requests.
func useService(t *testing.T, dir, program string) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program)
	cmd.Dir = dir
	var errs bytes.Buffer
	cmd.Stderr = &errs
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	defer func() {
		stdin.Close()
		stopped := lines.Scan() && lines.Text() == "stopped"
		if err := cmd.Wait(); err != nil || !stopped {
			t.Errorf("the service ended with %v; stopped: %t\n%s", err, stopped, &errs)
		}
	}()
	if !lines.Scan() {
		t.Fatal("the service has printed no address")
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	for path, want := range map[string]string{"/hello": "Python /hello", "/go": "Go"} {
		resp, err := client.Get("http://" + lines.Text() + path)
		if err != nil {
			t.Error(err)
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || string(body) != want {
			t.Errorf("GET %s: %s %q (%v), want %q", path, resp.Status, body, err, want)
		}
	}
}

// writeProxy makes a module proxy that has this module alone, in one version,
// and returns its folder.
func writeProxy(t *testing.T) string {
	t.Helper()
	gomod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, modulePath, "@v", name) }
	writeFile(t, file("list"), testVersion+"\n")
	writeFile(t, file(testVersion+".info"), fmt.Sprintf(`{"Version": %q, "Time": %q}`, testVersion, time.Now().UTC().Format(time.RFC3339)))
	writeFile(t, file(testVersion+".mod"), string(gomod))
	out, err := os.Create(file(testVersion + ".zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	archive := zip.NewWriter(out)
	for _, name := range moduleFiles(t) {
		data, err := os.ReadFile(filepath.FromSlash(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed, and that is not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		w, err := archive.Create(modulePath + "@" + testVersion + "/" + name)
		if err == nil {
			_, err = w.Write(data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// moduleFiles lists the module's files: what git knows or would add, without
// the modules in folders below, which a module's zip never holds.
func moduleFiles(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	names := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	var nested []string
	for _, name := range names {
		if path.Base(name) == "go.mod" && name != "go.mod" {
			nested = append(nested, path.Dir(name)+"/")
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		return slices.ContainsFunc(nested, func(dir string) bool { return strings.HasPrefix(name, dir) })
	})
	if !slices.Contains(names, "go.mod") || !slices.Contains(names, "internal/cpython/bootstrap.py") {
		t.Fatalf("git lists no module: %q", names)
	}
	return names
}

// runGo runs a go command and returns its standard output.
func runGo(t *testing.T, dir string, env []string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s%s", strings.Join(args, " "), err, out, &errs)
	}
	return string(out)
}
