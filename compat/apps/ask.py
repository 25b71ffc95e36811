"""Puts requests to an application through the test client of its framework:

    python ask.py flask_app <requests >responses

The module's function ask knows that client. Both sides are JSON, bodies in
base64."""

import importlib
import json
import sys
from base64 import b64decode, b64encode

ask = importlib.import_module(sys.argv[1]).ask
responses = []
for request in json.load(sys.stdin):
    status, headers, body = ask(
        request["prefix"], request["method"], request["target"], request["headers"] or {}, b64decode(request["body"] or "")
    )
    responses.append({"status": status, "headers": list(headers), "body": b64encode(body).decode()})
json.dump(responses, sys.stdout)
