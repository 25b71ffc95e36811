// Package serve is how the servers of the examples run and end.
package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/seed-a2d07992/wsgi"
)

// UntilDone lets the server, in which the application is mounted, serve the listener
// until ctx is done, by TLS where it has a configuration of that. Then it stops the
// server, so that no more requests come, and then the application, which runs
// Python's exit handlers.
func UntilDone(ctx context.Context, server *http.Server, listener net.Listener, app *wsgi.App, out io.Writer) error {
	served := make(chan error, 1)
	go func() {
		if server.TLSConfig != nil {
			served <- server.ServeTLS(listener, "", "")
		} else {
			served <- server.Serve(listener)
		}
	}()
	var err error
	select {
	case err = <-served:
	case <-ctx.Done():
		fmt.Fprintln(out, "Stopping ...")
	}
	patience, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := errors.Join(err, server.Shutdown(patience), app.Shutdown(patience)); err != nil {
		return err
	}
	fmt.Fprintln(out, "Stopped.")
	return nil
}
