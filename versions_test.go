package wsgi_test

import (
	"strings"
	"testing"

	"github.com/seed-a2d07992/wsgi"
)

// What a version can't do is said where somebody asks for it.

func TestOwnGILBefore313NamesTheModesThatServe(t *testing.T) {
	_, file := writeApp(t, hello)
	got, err := load(t, file, "application", wsgi.WithIsolation(wsgi.OwnGIL))
	if atLeast(t, 13) {
		if err != nil || got != "hello" {
			t.Errorf("%q, %v", got, err)
		}
		return
	}
	if err == nil {
		t.Fatal("it was started")
	}
	for _, want := range []string{"WithIsolation(OwnGIL)", "3.13 or later", "Main", "SharedGIL"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error doesn't say %q: %v", want, err)
		}
	}
}

// TestAutoSaysWhyItTakesMain on versions without another choice.
func TestAutoSaysWhyItTakesMain(t *testing.T) {
	_, records, _ := newApp(t, hello, wsgi.WithThreads(1))
	const why = "one with its own GIL takes Python 3.13 or later"
	if told := len(records.With(why)) == 1; told == atLeast(t, 13) {
		t.Errorf("logged: %v", records.All())
	}
}

// TestRestartsWarnBefore314, since memory stays behind there; in the main
// interpreter nothing is ended, and nothing to be warned of.
func TestRestartsWarnBefore314(t *testing.T) {
	isolations(t, func(t *testing.T, mode wsgi.Isolation) {
		opts := append(oneWorker, wsgi.WithIsolation(mode))
		first, _, _ := startApp(t, hello, opts...)
		shutdown(t, first)
		_, records, _ := newApp(t, hello, opts...)
		wanted := mode != wsgi.Main && !atLeast(t, 14)
		if warned := len(records.With(remains)) == 1; warned != wanted {
			t.Errorf("logged: %v", records.All())
		}
	})
}
