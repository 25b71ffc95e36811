import os
from urllib.parse import quote

from bottle import Bottle, redirect, request, response, static_file

from shared import FILE, SECRET, ask_webtest, described, lines

application = Bottle()


@application.get("/", name="index")
def index():
    return "hello from " + application.get_url("index")


@application.get("/item/<name>", name="item")
def item(name):
    return {"name": name, "url": quote(application.get_url("item", name=name), safe="/&")}


@application.get("/query")
def query():
    return {"q": request.query.decode().getall("q")}


@application.post("/form")
def form():
    forms = request.forms.decode()
    return {"name": forms["name"], "tags": forms.getall("tag"), "empty": forms["empty"]}


@application.get("/cookies")
def cookies():
    response.set_cookie("seen", "yes", httponly=True)
    response.set_cookie("theme", "dark-blue", samesite="Lax")
    return dict(request.cookies)


@application.post("/login")
def login():
    response.set_cookie("user", request.forms.decode()["user"], secret=SECRET, path="/")
    redirect(application.get_url("who"))


@application.post("/logout")
def logout():
    response.delete_cookie("user", path="/")
    redirect(application.get_url("who"))


@application.get("/who", name="who")
def who():
    return request.get_cookie("user", "nobody", secret=SECRET)


@application.post("/upload")
def upload():
    file = request.files["file"]
    return described(request.forms.decode()["title"], file.raw_filename, file.file.read())


@application.get("/download")
def download():
    root, name = os.path.split(FILE)
    return static_file(name, root, mimetype="application/octet-stream", download="file.bin")


@application.get("/stream")
def stream():
    response.content_type = "text/plain"
    return lines(request.query["fifo"])


@application.get("/redirect")
def moved():
    redirect(application.get_url("item", name="7"))


@application.get("/raises")
def raises():
    raise ValueError("a secret of the application")


def ask(*request):
    return ask_webtest(application, *request)
