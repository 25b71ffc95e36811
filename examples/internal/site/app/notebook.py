"""A notebook: notes that are kept in the session, uploads that are counted, a
report to download. All its URLs come from url_for, so it can be mounted anywhere."""

import hashlib
import io

from flask import Flask, jsonify, redirect, render_template_string, request, send_file, session, url_for

application = Flask(__name__, static_folder=None)
application.secret_key = "for an example"

PAGE = """<!doctype html>
<title>Notebook</title>
<link rel="stylesheet" href="{{ request.script_root }}/static/site.css">
<h1>Notebook</h1>
<p>This page is <a href="{{ url_for('index', _external=True) }}">{{ url_for('index', _external=True) }}</a>.</p>
<ul>{% for note in notes %}<li>{{ note }}</li>{% endfor %}</ul>
<form method="post" action="{{ url_for('add') }}"><input name="note"><button>Add</button></form>
"""


@application.before_request
def cookies_of_https():
    application.config["SESSION_COOKIE_SECURE"] = request.is_secure


@application.get("/")
def index():
    return render_template_string(PAGE, notes=session.get("notes", []))


@application.post("/notes")
def add():
    session["notes"] = [*session.get("notes", []), request.form["note"]]
    return redirect(url_for("index"))


@application.post("/upload")
def upload():
    data = request.files["file"].read()
    return jsonify(size=len(data), sha256=hashlib.sha256(data).hexdigest())


@application.get("/report")
def report():
    text = "".join(f"line {i}\n" for i in range(20_000))
    return send_file(io.BytesIO(text.encode()), "text/plain", download_name="report.txt", as_attachment=True, etag="v1", conditional=True)


@application.get("/where")
def where():
    """What the application knows of its place."""
    return jsonify(
        script=request.environ["SCRIPT_NAME"],
        path=request.environ["PATH_INFO"],
        url=request.url,
        link=url_for("add", _external=True),
        client=request.remote_addr,
        user=request.remote_user,
    )


@application.get("/away")
def away():
    return redirect(url_for("where", _external=request.args.get("how") == "whole"))


@application.get("/fail")
def fail():
    raise RuntimeError("a secret")
