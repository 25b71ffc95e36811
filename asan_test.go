//go:build asan

package wsgi_test

// addressSanitizer says that freed memory isn't used again at once.
const addressSanitizer = true
