module github.com/seed-a2d07992/wsgi/compat

go 1.26

require (
	github.com/seed-a2d07992/wsgi v0.0.0
	github.com/seed-a2d07992/wsgi/embedded v0.0.0
)

require (
	github.com/gobwas/glob v0.2.3 // indirect
	github.com/gofrs/flock v0.13.0 // indirect
	github.com/kluctl/go-embed-python v0.0.0-3.14.6-20260610-1 // indirect
	github.com/sirupsen/logrus v1.9.4 // indirect
	golang.org/x/sync v0.21.0 // indirect
	golang.org/x/sys v0.46.0 // indirect
)

replace (
	github.com/seed-a2d07992/wsgi => ../
	github.com/seed-a2d07992/wsgi/embedded => ../embedded
)
