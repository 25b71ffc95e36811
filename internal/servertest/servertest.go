// Package servertest runs the servers of others, such as nginx and uWSGI, for tests.
package servertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-a2d07992/wsgi/internal/testenv"
)

// patience is how long a test waits for what should happen at once.
const patience = 30 * time.Second

// Program finds a program by one of its names. Where there is none the test is
// skipped, but fails on CI. The package, for the message, is Debian's.
func Program(t testing.TB, pkg string, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
		if path, err := exec.LookPath("/usr/sbin/" + name); err == nil {
			return path
		}
	}
	testenv.Missing(t, "there is no %s: install Debian's package %s", names[0], pkg)
	return ""
}

// Start runs a program until the test's end. It is taken to be up when address
// can be connected to. What it wrote is shown if the test fails.
func Start(t testing.TB, network, address string, path string, args ...string) {
	t.Helper()
	var output Buffer
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		select {
		case <-done:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			<-done
		}
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(path), output.String())
		}
	})
	deadline := time.After(patience)
	for {
		if c, err := net.Dial(network, address); err == nil {
			_ = c.Close()
			return
		}
		select {
		case <-done:
			t.Fatalf("%s ended:\n%s", path, output.String())
		case <-deadline:
			t.Fatalf("%s doesn't listen at %s:\n%s", path, address, output.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// FreeAddress is one of TCP's at which a program can listen.
func FreeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// SocketPath is one at which a program can listen on a Unix socket. It is short,
// which a test's own folder may not be.
func SocketPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

const nginxConfig = `
daemon off;
worker_processes 1;
pid DIR/pid;
error_log stderr notice;
events { worker_connections 256; }
http {
	access_log off;
	client_body_temp_path DIR/body;
	proxy_temp_path DIR/proxy;
	fastcgi_temp_path DIR/fastcgi;
	uwsgi_temp_path DIR/uwsgi;
	scgi_temp_path DIR/scgi;
	HTTP
}
`

// Nginx runs nginx until the test's end and returns the URL at which it listens.
// http is what its configuration has in http { }; in it, LISTEN stands for the
// address.
func Nginx(t testing.TB, http string) string {
	t.Helper()
	path := Program(t, "nginx-light", "nginx")
	dir, address := t.TempDir(), FreeAddress(t)
	config := strings.NewReplacer("DIR", dir, "HTTP", strings.ReplaceAll(http, "LISTEN", address)).Replace(nginxConfig)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	// As root, nginx would run its workers as another user, who can't write here.
	globals := ""
	if os.Getuid() == 0 {
		globals = "user root;"
	}
	Start(t, "tcp", address, path, "-p", dir, "-e", "stderr", "-c", file, "-g", globals)
	return "http://" + address
}

// Certificate makes a certificate for the host, a name or an address, and returns
// the files that hold it and its key.
func Certificate(t testing.TB, host string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: der},
		"key.pem":  {Type: "PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
}

// UWSGIParams are what every nginx has in its file uwsgi_params.
const UWSGIParams = `
	uwsgi_param QUERY_STRING    $query_string;
	uwsgi_param REQUEST_METHOD  $request_method;
	uwsgi_param CONTENT_TYPE    $content_type;
	uwsgi_param CONTENT_LENGTH  $content_length;
	uwsgi_param REQUEST_URI     $request_uri;
	uwsgi_param PATH_INFO       $document_uri;
	uwsgi_param DOCUMENT_ROOT   $document_root;
	uwsgi_param SERVER_PROTOCOL $server_protocol;
	uwsgi_param REQUEST_SCHEME  $scheme;
	uwsgi_param HTTPS           $https if_not_empty;
	uwsgi_param REMOTE_ADDR     $remote_addr;
	uwsgi_param REMOTE_PORT     $remote_port;
	uwsgi_param SERVER_PORT     $server_port;
	uwsgi_param SERVER_NAME     $server_name;
`

// A Buffer is what a program has written, or a server logged. Its zero value is empty.
type Buffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
