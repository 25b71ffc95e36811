"""What all the applications need. The routes, and what each answers, are the
same in all of them; routes_test.go asks for it."""

import os
from hashlib import sha256

SECRET = "not a secret"

# The file of /download.
FILE = os.environ.get("COMPAT_FILE", __file__)


def lines(fifo):
    """The body of /stream: its second line comes when somebody has opened the
    named pipe for writing."""
    yield b"first\n"
    with open(fifo, "rb") as pipe:
        pipe.read()
    yield b"last\n"


def described(title, name, data):
    """The answer of /upload."""
    return {"title": title, "name": name, "size": len(data), "sha256": sha256(data).hexdigest()}


def ask_webtest(application, prefix, method, target, headers, body):
    """Asks through WebTest, the test client of frameworks that have none."""
    from webtest import TestApp

    response = TestApp(application).request(
        target,
        base_url="http://localhost" + prefix,
        environ={"SERVER_PROTOCOL": "HTTP/1.1"},
        method=method,
        headers={**headers, "Host": "localhost"},
        body=body,
        expect_errors=True,
    )
    return response.status_code, response.headerlist, response.body
