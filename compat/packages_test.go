package compat

import (
	"archive/zip"
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-a2d07992/wsgi"
)

// writeWheel writes a package with one file of data, and returns the path.
func writeWheel(t *testing.T, version string, data []byte) string {
	t.Helper()
	const info = "ballast-%s.dist-info/"
	files := []struct {
		name    string
		content []byte
	}{
		{"ballast/__init__.py", nil},
		{"ballast/data.bin", data},
		{fmt.Sprintf(info, version) + "METADATA", []byte("Metadata-Version: 2.1\nName: ballast\nVersion: " + version + "\n")},
		{fmt.Sprintf(info, version) + "WHEEL", []byte("Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")},
	}
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	add := func(name string, content []byte) {
		f, err := w.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
		if err == nil {
			_, err = f.Write(content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var record strings.Builder
	for _, f := range files {
		add(f.name, f.content)
		record.WriteString(f.name + ",,\n")
	}
	name := fmt.Sprintf(info, version) + "RECORD"
	add(name, []byte(record.String()+name+",,\n"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ballast-"+version+"-py3-none-any.whl")
	if err := os.WriteFile(path, buf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPackageIndex has twine upload to pypiserver, and pip install from it, at
// the root and under a prefix.
func TestPackageIndex(t *testing.T) {
	packages := t.TempDir()
	app, records := newApp(t, "packages_app", "application", wsgi.WithEnv(map[string]string{"COMPAT_PACKAGES": packages}))
	if got := app.Stats().Isolation; got != wsgi.OwnGIL {
		t.Errorf("it runs under %v", got)
	}
	mux := http.NewServeMux()
	mux.Handle("/", app)
	mux.Handle("/index/", http.StripPrefix("/index", app))
	url := serve(t, mux).URL
	home := t.TempDir()
	python := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), mustPython(t), args...)
		cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "PIP_CONFIG_FILE="+os.DevNull, "no_proxy=127.0.0.1",
			"PYTHON_KEYRING_BACKEND=keyring.backends.null.Keyring", "TWINE_USERNAME=", "TWINE_PASSWORD=")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	upload := func(base, password, wheel string) (string, error) {
		return python("-m", "twine", "upload", "--non-interactive", "--disable-progress-bar",
			"--repository-url", base, "--username", "ada", "--password", password, wheel)
	}
	for i, prefix := range []string{"", "/index"} {
		t.Run("at "+prefix+"/", func(t *testing.T) {
			base, version := url+prefix+"/", fmt.Sprintf("1.%d", i)
			data := noise(5<<20, byte(50+i))
			wheel := writeWheel(t, version, data)
			if out, err := upload(base, "wrong", wheel); err == nil || !strings.Contains(out, "403") {
				t.Errorf("with a wrong password: %v\n%s", err, out)
			}
			if out, err := upload(base, "lovelace", wheel); err != nil {
				t.Fatalf("twine: %v\n%s", err, out)
			}
			if out, err := upload(base, "lovelace", wheel); err == nil || !strings.Contains(out, "400") {
				t.Errorf("what is there already: %v\n%s", err, out)
			}
			into := t.TempDir()
			if out, err := python("-m", "pip", "install", "--isolated", "--no-input", "--no-cache-dir", "--disable-pip-version-check",
				"--index-url", base+"simple/", "--target", into, "ballast=="+version); err != nil {
				t.Fatalf("pip: %v\n%s", err, out)
			}
			if got, err := os.ReadFile(filepath.Join(into, "ballast", "data.bin")); err != nil || !bytes.Equal(got, data) {
				t.Errorf("of %d bytes came %d, %v", len(data), len(got), err)
			}
			c := newClient(t, url+prefix)
			resp, _ := c.do("GET", "/simple/Ballast/", nil)
			if to, err := resp.Location(); err != nil || to.String() != base+"simple/ballast/" {
				t.Errorf("another spelling of the name leads to %v, %v", to, err)
			}
			c.get(404, "/simple/nothing/")
		})
	}
	if said := records.take(); said != "" {
		t.Errorf("logged: %s", said)
	}
}
