"""The workloads that need no framework, one application for each path."""

import time


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [b"Hello, world!\n"]


def spin(environ, start_response):
    """About a millisecond of pure Python."""
    n = 0
    for i in range(20000):
        n += i & 7
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [b"Hello, world!\n"]


def wait(environ, start_response):
    """Ten milliseconds of waiting, as for a database."""
    time.sleep(0.01)
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [b"Hello, world!\n"]


def form(environ, start_response):
    """Parses a form of 16 KiB and answers with the size of one field."""
    from urllib.parse import parse_qs

    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    size = len(parse_qs(body.decode("ascii"))["field"][0])
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [b"%d\n" % size]


def upload(environ, start_response):
    """Counts the body's bytes."""
    read = environ["wsgi.input"].read
    size = 0
    while chunk := read(65536):
        size += len(chunk)
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [b"%d\n" % size]


def download(environ, start_response):
    """Sends as many bytes as the query says, in chunks of 64 KiB."""
    size = int(environ["QUERY_STRING"])
    chunk = bytes(65536)

    def chunks():
        for _ in range(size // len(chunk)):
            yield chunk
        if rest := size % len(chunk):
            yield chunk[:rest]

    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(size))])
    return chunks()


def file(environ, start_response):
    """Sends the file that the environment variable BENCH_FILE names."""
    import os

    f = open(os.environ["BENCH_FILE"], "rb")
    size = os.fstat(f.fileno()).st_size
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(size))])
    return environ["wsgi.file_wrapper"](f, 65536)


ROUTES = {"/": hello} | {"/" + f.__name__: f for f in (hello, spin, wait, form, upload, download, file)}


def application(environ, start_response):
    return ROUTES[environ["PATH_INFO"]](environ, start_response)
