import json

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.utils import redirect, send_file
from werkzeug.wrappers import Request, Response

from shared import FILE, described, lines


def as_json(value):
    return Response(json.dumps(value), mimetype="application/json")


def index(request, url):
    return Response("hello from " + url.build("index"))


def item(request, url, name):
    return as_json({"name": name, "url": url.build("item", {"name": name})})


def query(request, url):
    return as_json({"q": request.args.getlist("q")})


def form(request, url):
    form = request.form
    return as_json({"name": form["name"], "tags": form.getlist("tag"), "empty": form["empty"]})


def cookies(request, url):
    response = as_json(request.cookies)
    response.set_cookie("seen", "yes", httponly=True)
    response.set_cookie("theme", "dark-blue", samesite="Lax")
    return response


def upload(request, url):
    file = request.files["file"]
    return as_json(described(request.form["title"], file.filename, file.read()))


def download(request, url):
    return send_file(
        FILE, request.environ, mimetype="application/octet-stream", as_attachment=True, download_name="file.bin"
    )


def stream(request, url):
    return Response(lines(request.args["fifo"]), mimetype="text/plain")


def moved(request, url):
    return redirect(url.build("item", {"name": "7"}))


def raises(request, url):
    raise ValueError("a secret of the application")


rules = Map(
    [
        Rule("/", endpoint="index", methods=["GET"]),
        Rule("/item/<name>", endpoint="item", methods=["GET"]),
        Rule("/query", endpoint="query", methods=["GET"]),
        Rule("/form", endpoint="form", methods=["POST"]),
        Rule("/cookies", endpoint="cookies", methods=["GET"]),
        Rule("/upload", endpoint="upload", methods=["POST"]),
        Rule("/download", endpoint="download", methods=["GET"]),
        Rule("/stream", endpoint="stream", methods=["GET"]),
        Rule("/redirect", endpoint="moved", methods=["GET"]),
        Rule("/raises", endpoint="raises", methods=["GET"]),
    ]
)


@Request.application
def application(request):
    url = rules.bind_to_environ(request.environ)
    try:
        endpoint, arguments = url.match()
        return globals()[endpoint](request, url, **arguments)
    except HTTPException as response:
        return response


def ask(prefix, method, target, headers, body):
    from werkzeug.test import Client

    client = Client(application, use_cookies=False)
    response = client.open(target, base_url="http://localhost" + prefix, method=method, headers=headers, data=body)
    return response.status_code, response.headers.items(), response.get_data()
