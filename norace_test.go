//go:build !race

package wsgi_test

const raceDetector = false
