// Package compat holds tests and nothing else: current releases of frameworks,
// and of servers that speak a protocol of their own over WSGI, behind
// wsgi.Handler, with real HTTP and real clients. docs/frameworks.md says what
// they found.
//
// The applications are in the folder apps. They run on the embedded CPython, in
// a virtual environment that the tests make in the user's cache folder from
// requirements.txt.
package compat
