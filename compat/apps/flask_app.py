import asyncio

from flask import Flask, Response, jsonify, redirect, request, send_file, session, url_for

from shared import FILE, SECRET, described, lines

application = Flask(__name__)
application.secret_key = SECRET


@application.get("/")
def index():
    return "hello from " + url_for("index")


@application.get("/item/<name>")
def item(name):
    return jsonify(name=name, url=url_for("item", name=name))


@application.get("/query")
def query():
    return jsonify(q=request.args.getlist("q"))


@application.post("/form")
def form():
    return jsonify(name=request.form["name"], tags=request.form.getlist("tag"), empty=request.form["empty"])


@application.get("/cookies")
def cookies():
    response = jsonify(request.cookies)
    response.set_cookie("seen", "yes", httponly=True)
    response.set_cookie("theme", "dark-blue", samesite="Lax")
    return response


@application.post("/login")
def login():
    session["user"] = request.form["user"]
    return redirect(url_for("who"))


@application.post("/logout")
def logout():
    session.clear()
    return redirect(url_for("who"))


@application.get("/who")
def who():
    return session.get("user", "nobody")


@application.post("/upload")
def upload():
    file = request.files["file"]
    return jsonify(described(request.form["title"], file.filename, file.read()))


@application.get("/download")
def download():
    return send_file(FILE, mimetype="application/octet-stream", as_attachment=True, download_name="file.bin")


@application.get("/stream")
def stream():
    return Response(lines(request.args["fifo"]), mimetype="text/plain")


@application.get("/redirect")
def moved():
    return redirect(url_for("item", name="7"))


@application.get("/async")
async def later():
    await asyncio.sleep(0.001)
    return "later"


@application.get("/raises")
def raises():
    raise ValueError("a secret of the application")


def ask(prefix, method, target, headers, body):
    client = application.test_client(use_cookies=False)
    response = client.open(target, base_url="http://localhost" + prefix, method=method, headers=headers, data=body)
    return response.status_code, response.headers.items(), response.get_data()
