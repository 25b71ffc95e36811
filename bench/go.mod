module github.com/seed-a2d07992/wsgi/bench

go 1.26

require github.com/seed-a2d07992/wsgi v0.0.0

require golang.org/x/sync v0.21.0 // indirect

replace (
	github.com/seed-a2d07992/wsgi => ../
	github.com/seed-a2d07992/wsgi/embedded => ../embedded
)
