// Command embedded-python prints the path of the Python that package embedded
// carries, unpacking it first where needed:
//
//	export WSGI_PYTHON=$(embedded-python)
//
// With -venv it makes a virtual environment on it, if it isn't there yet, and
// prints the path of the environment's Python:
//
//	embedded-python -venv .build/venv flask==3.1.0
//	embedded-python -venv .build/venv -- -r requirements.txt
//
// What follows are arguments of "pip install"; "--" keeps those that start with
// a dash from being taken for embedded-python's own. See embedded.Python and
// embedded.Venv for what is checked, kept and made anew.
//
// It prints nothing else to standard output. It exits with 1 if it fails, with
// the reason on standard error, and with 2 if it is called wrongly.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/seed-a2d07992/wsgi/embedded"
)

func main() {
	// A second signal ends the program at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	path, err := python(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "embedded-python:", err)
		os.Exit(1)
	}
	fmt.Println(path)
}

func python(ctx context.Context, args []string) (string, error) {
	flags := flag.NewFlagSet("embedded-python", flag.ExitOnError)
	dir := flags.String("dir", "", "unpack Python inside `folder` (default: the user's cache folder)")
	venv := flags.String("venv", "", "make a virtual environment in `folder`")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), "usage: embedded-python [-dir folder] [-venv folder [--] [requirement ...]]\n\n")
		flags.PrintDefaults()
	}
	_ = flags.Parse(args) // exits on error
	if *venv == "" && flags.NArg() > 0 {
		fmt.Fprintln(flags.Output(), "embedded-python: requirements without -venv")
		flags.Usage()
		os.Exit(2)
	}
	switch {
	case *venv != "" && *dir != "":
		return embedded.VenvIn(ctx, *dir, *venv, flags.Args()...)
	case *venv != "":
		return embedded.Venv(ctx, *venv, flags.Args()...)
	case *dir != "":
		return embedded.PythonIn(*dir)
	}
	return embedded.Python()
}
