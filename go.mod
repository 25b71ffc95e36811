module github.com/seed-a2d07992/wsgi

go 1.26
