//go:build !asan

package wsgi_test

const addressSanitizer = false
