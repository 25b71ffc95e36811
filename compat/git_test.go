package compat

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/seed-a2d07992/wsgi"
	"github.com/seed-a2d07992/wsgi/internal/testenv"
)

// A gitClient runs git with a configuration of its own.
type gitClient struct {
	t    *testing.T
	home string
}

// run runs git in a folder and returns what it prints.
func (g *gitClient) run(dir string, args ...string) string {
	g.t.Helper()
	cmd := exec.CommandContext(g.t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+g.home, "XDG_CONFIG_HOME="+g.home, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.org", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.org")
	out, err := cmd.CombinedOutput()
	if err != nil {
		g.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit writes files of 2 MiB that don't compress, and commits them.
func (g *gitClient) commit(dir, message string, files int, seed byte) {
	g.t.Helper()
	for i := range files {
		name := filepath.Join(dir, fmt.Sprintf("%02d.bin", i))
		if err := os.WriteFile(name, noise(2<<20, seed+byte(i)), 0o644); err != nil {
			g.t.Fatal(err)
		}
	}
	g.run(dir, "add", "--all")
	g.run(dir, "commit", "--quiet", "--message", message)
}

// needGit skips the test where there is no git, but on CI fails it.
func needGit(t *testing.T) *gitClient {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		testenv.Missing(t, "%v", err)
	}
	g := &gitClient{t, t.TempDir()}
	// Random bytes are not worth compressing, and nothing is to run behind our back.
	config := "[core]\n\tcompression = 0\n\tbigFileThreshold = 1m\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n[init]\n\tdefaultBranch = main\n"
	if err := os.WriteFile(filepath.Join(g.home, ".gitconfig"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return g
}

// A bodyLog notes in which forms the requests' bodies came.
type bodyLog struct {
	mu            sync.Mutex
	chunked, gzip int
}

func (b *bodyLog) wrap(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		if r.ContentLength < 0 {
			b.chunked++
		}
		if r.Header.Get("Content-Encoding") == "gzip" {
			b.gzip++
		}
		b.mu.Unlock()
		h.ServeHTTP(w, r)
	})
}

// TestGit has git itself push a large repository to dulwich, and clone and fetch
// it again, at the root and under a prefix. Dulwich has extension modules, and
// does without them where an interpreter refuses them.
func TestGit(t *testing.T) {
	for _, mode := range []wsgi.Isolation{wsgi.OwnGIL, wsgi.Main} {
		t.Run(mode.String(), func(t *testing.T) { testGit(t, mode) })
	}
}

func testGit(t *testing.T, mode wsgi.Isolation) {
	g := needGit(t)
	repositories, work := t.TempDir(), t.TempDir()
	opts := []wsgi.Option{wsgi.WithEnv(map[string]string{"COMPAT_REPOSITORIES": repositories})}
	if mode == wsgi.Main {
		opts = append(opts, wsgi.WithIsolation(mode))
	}
	app, records := newApp(t, "git_app", "application", opts...)
	if got := app.Stats().Isolation; got != mode {
		t.Errorf("it runs under %v", got)
	}
	if said := records.take(); (mode == wsgi.OwnGIL) != strings.Contains(said, "loaded although an extension module refused") {
		t.Errorf("its start has logged %q", said)
	}
	var bodies bodyLog
	mux := http.NewServeMux()
	mux.Handle("/", bodies.wrap(app))
	mux.Handle("/git/", bodies.wrap(http.StripPrefix("/git", app)))
	root := serve(t, mux).URL + "/project.git"
	prefixed := strings.Replace(root, "/project", "/git/project", 1)

	bare, first := filepath.Join(repositories, "project.git"), filepath.Join(work, "first")
	g.run(work, "init", "--quiet", "--bare", bare)
	g.run(work, "init", "--quiet", first)
	g.commit(first, "one", 20, 1)
	g.commit(first, "two", 6, 100)
	for i := range 40 {
		g.run(first, "branch", fmt.Sprintf("branch-%d", i), "HEAD~1")
	}
	// same fails the test unless a folder has what the first one has.
	same := func(dir string) {
		t.Helper()
		if got, want := g.run(dir, "rev-parse", "HEAD", "HEAD^{tree}"), g.run(first, "rev-parse", "HEAD", "HEAD^{tree}"); got != want {
			t.Errorf("%s is at %s, want %s", dir, got, want)
		}
		if changed := g.run(dir, "status", "--porcelain"); changed != "" {
			t.Errorf("%s differs: %s", dir, changed)
		}
	}

	t.Run("push", func(t *testing.T) {
		g := &gitClient{t, g.home}
		g.run(first, "push", "--quiet", "--all", prefixed)
		g.run(bare, "fsck", "--full", "--strict")
	})
	if t.Failed() {
		return
	}
	second := filepath.Join(work, "second")
	t.Run("clone", func(t *testing.T) {
		g := &gitClient{t, g.home}
		g.run(work, "clone", "--quiet", root, second)
		same(second)
	})
	t.Run("shallow clone", func(t *testing.T) {
		g := &gitClient{t, g.home}
		shallow := filepath.Join(work, "shallow")
		g.run(work, "clone", "--quiet", "--depth", "1", prefixed, shallow)
		same(shallow)
		if count := g.run(shallow, "rev-list", "--count", "HEAD"); count != "1" {
			t.Errorf("it has %s commits", count)
		}
		g.run(shallow, "fetch", "--quiet", "--unshallow")
		if count := g.run(shallow, "rev-list", "--count", "HEAD"); count != "2" {
			t.Errorf("unshallowed it has %s commits", count)
		}
	})
	t.Run("fetch", func(t *testing.T) {
		g := &gitClient{t, g.home}
		g.commit(first, "three", 1, 200)
		g.run(first, "-c", "http.postBuffer=65536", "push", "--quiet", root, "main")
		g.run(second, "pull", "--quiet")
		same(second)
	})
	if bodies.chunked < 2 || bodies.gzip == 0 {
		t.Errorf("%d of the bodies came in chunks, %d compressed", bodies.chunked, bodies.gzip)
	}
	if said := records.take(); said != "" {
		t.Errorf("logged: %s", said)
	}
}
