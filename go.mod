module github.com/seed-a2d07992/wsgi

go 1.26

require golang.org/x/sync v0.21.0
