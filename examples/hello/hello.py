"""A WSGI application of the standard library alone."""

import sys
from html import escape

PAGE = """<!DOCTYPE html>
<title>Hello</title>
<h1>Hello, {name}!</h1>
<p>This is Python {version} in a Go program. <a href="/go">This is Go.</a></p>
"""


def application(environ, start_response):
    # PEP 3333: paths are bytes, shown one character each.
    path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
    page = PAGE.format(
        name=escape(path.strip("/") or "world"),
        version="%d.%d.%d" % sys.version_info[:3],
    )
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return [page.encode()]
