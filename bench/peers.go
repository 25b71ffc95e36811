package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
)

// Each peer is set up as its documentation advises for this many cores.

func bind(addr string) string {
	if strings.Contains(addr, "/") {
		return "unix:" + addr
	}
	return addr
}

func (b *bench) gunicornSync(app, addr string) *target {
	return b.new("gunicorn sync", []string{b.bin("gunicorn"), "--workers", strconv.Itoa(b.cores), "--bind", bind(addr), "--log-level", "warning", app + ":application"}).on(addr)
}

// gunicornThreads has as many threads in each worker as are asked for.
func (b *bench) gunicornThreads(threads int) func(app, addr string) *target {
	return func(app, addr string) *target {
		return b.new("gunicorn gthread", []string{b.bin("gunicorn"), "--worker-class", "gthread", "--workers", strconv.Itoa(b.cores),
			"--threads", strconv.Itoa(threads), "--bind", bind(addr), "--log-level", "warning", app + ":application"}).on(addr)
	}
}

func (b *bench) granian(app, addr string) *target {
	command := []string{b.bin("granian"), "--interface", "wsgi", "--workers", strconv.Itoa(b.cores), "--log-level", "error"}
	if strings.Contains(addr, "/") {
		command = append(command, "--uds", addr)
	} else {
		host, port, _ := net.SplitHostPort(addr)
		command = append(command, "--host", host, "--port", port)
	}
	return b.new("Granian", append(command, app+":application")).on(addr)
}

func (b *bench) waitress(app, addr string) *target {
	listen := "--listen=" + addr
	if strings.Contains(addr, "/") {
		listen = "--unix-socket=" + addr
	}
	return b.new("waitress", []string{b.bin("waitress-serve"), listen, "--threads", strconv.Itoa(4 * b.cores), app + ":application"}).on(addr)
}

func (b *bench) caddysnake(app, addr string) *target {
	return b.new("caddysnake", []string{b.bin("caddysnake"), "--server-type", "wsgi", "--app", app + ":application", "--listen", addr,
		"--workers", strconv.Itoa(b.cores), "--python-path", b.bin("python"), "--working-dir", b.apps}).on(addr)
}

func (b *bench) pyvoy(app, addr string) *target {
	host, port, _ := net.SplitHostPort(addr)
	return b.new("pyvoy", []string{b.bin("pyvoy"), "--interface", "wsgi", "--address", host, "--port", port, "--log-level", "error",
		app + ":application"}).on(addr)
}

// uwsgi is Debian's, which runs Debian's Python: PyPI's does not compile on the
// Python that the others have. Its http-socket closes the connection after each
// answer and doesn't say so; its HTTP router would keep it, and is slower by a
// tenth, as each request crosses one process more.
func (b *bench) uwsgi(app, addr string) *target {
	if _, err := exec.LookPath("uwsgi"); err != nil {
		return &target{Name: "uWSGI", err: err}
	}
	return b.new("uWSGI", []string{"uwsgi", "--plugin", "python3", "--http-socket", addr, "--add-header", "Connection: close", "--master", "--processes", strconv.Itoa(b.cores),
		"--disable-logging", "--need-app", "--die-on-term", "--listen", "100", "--chdir", b.apps, "--virtualenv", b.venv + "-system",
		"--module", app + ":application"}).on(addr)
}

// bjoern and fastwsgi are compiled on Debian's Python: the other has no headers.
// Neither starts processes, so their scripts fork.
func (b *bench) bjoern(app, addr string) *target   { return b.forking("bjoern", app, addr) }
func (b *bench) fastwsgi(app, addr string) *target { return b.forking("fastwsgi", app, addr) }

func (b *bench) forking(name, app, addr string) *target {
	python := b.venv + "-system/bin/python"
	if err := exec.Command(python, "-c", "import "+name).Run(); err != nil {
		return &target{Name: name, err: fmt.Errorf("not installed in %s-system: %w", b.venv, err)}
	}
	host, port, _ := net.SplitHostPort(addr)
	return b.new(name, []string{python, filepath.Join(b.apps, "forking.py"), name, app, host, port, strconv.Itoa(b.cores)}).on(addr)
}

// modWSGI is Debian's Apache with mod_wsgi, which runs Debian's Python: embedded in
// Apache's processes, or in processes of mod_wsgi's own.
func (b *bench) modWSGI(daemon bool) func(app, addr string) *target {
	return func(app, addr string) *target {
		name := "mod_wsgi, embedded"
		if daemon {
			name = "mod_wsgi, daemon"
		}
		const modules = "/usr/lib/apache2/modules"
		if _, err := os.Stat(modules + "/mod_wsgi.so"); err != nil {
			return &target{Name: name, err: err}
		}
		dir := filepath.Join(b.dir, "apache"+strconv.Itoa(b.port))
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return &target{Name: name, err: err}
		}
		var config strings.Builder
		err := apache.Execute(&config, map[string]any{
			"Modules": modules, "Dir": dir, "Addr": addr, "Cores": b.cores, "Workers": 64 * b.cores, "Daemon": daemon,
			"Home": b.venv + "-system", "Apps": b.apps, "App": app,
		})
		file := filepath.Join(dir, "httpd.conf")
		if err = errors.Join(err, os.WriteFile(file, []byte(config.String()), 0o644)); err != nil {
			return &target{Name: name, err: err}
		}
		return b.new(name, []string{"apache2", "-f", file, "-DFOREGROUND"}).on(addr)
	}
}

var apache = template.Must(template.New("httpd.conf").Parse(`ServerRoot {{.Dir}}
ServerName localhost
PidFile {{.Dir}}/pid
ErrorLog {{.Dir}}/error.log
LoadModule mpm_event_module {{.Modules}}/mod_mpm_event.so
LoadModule authz_core_module {{.Modules}}/mod_authz_core.so
LoadModule wsgi_module {{.Modules}}/mod_wsgi.so
Listen {{.Addr}}
User www-data
Group www-data
StartServers {{.Cores}}
ServerLimit {{.Cores}}
ThreadsPerChild 64
MaxRequestWorkers {{.Workers}}
MinSpareThreads 1
MaxSpareThreads 1000
KeepAlive On
MaxKeepAliveRequests 0
WSGISocketPrefix {{.Dir}}/wsgi
{{if .Daemon -}}
WSGIRestrictEmbedded On
WSGIDaemonProcess bench processes={{.Cores}} threads=4 python-home={{.Home}} python-path={{.Apps}}
WSGIProcessGroup bench
{{else -}}
WSGIPythonHome {{.Home}}
WSGIPythonPath {{.Apps}}
{{end -}}
WSGIApplicationGroup %{GLOBAL}
WSGIScriptAlias / {{.Apps}}/{{.App}}.py
<Location />
Require all granted
</Location>
`))
