// Package hosttest tests the library in a program that already runs a CPython
// of its own through cgo, as one that uses a binding such as cpy3 or go-python
// does. It is a module of its own because its program is linked to a libpython:
// "make test-host" says to which.
package hosttest
