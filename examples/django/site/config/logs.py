"""Log records of a request go to its wsgi.errors, where the Go program's logger
adds method, URI and client; all others to standard error."""

import logging
import sys


class RequestHandler(logging.Handler):
    def emit(self, record):
        # Django's own records about requests carry the request.
        request = getattr(record, "request", None)
        try:
            stream = request.META["wsgi.errors"] if hasattr(request, "META") else sys.stderr
            stream.write(self.format(record) + "\n")
            stream.flush()
        except Exception:
            self.handleError(record)
