import warnings

# Pyramid 2.1 imports it, and setuptools says at each start what it thinks of that.
warnings.filterwarnings("ignore", "pkg_resources is deprecated")

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPFound
from pyramid.response import FileResponse, Response
from pyramid.session import SignedCookieSessionFactory

from shared import FILE, SECRET, ask_webtest
from webob_views import cookies, form, query, stream, upload


def index(request):
    return Response("hello from " + request.route_path("index"))


def item(request):
    name = request.matchdict["name"]
    return Response(json={"name": name, "url": request.route_path("item", name=name)})


def login(request):
    request.session["user"] = request.POST["user"]
    return HTTPFound(request.route_url("who"))


def logout(request):
    request.session.invalidate()
    return HTTPFound(request.route_url("who"))


def who(request):
    return Response(request.session.get("user", "nobody"))


def download(request):
    response = FileResponse(FILE, request, content_type="application/octet-stream")
    response.content_disposition = 'attachment; filename="file.bin"'
    response.conditional_response = True
    return response


def moved(request):
    return HTTPFound(request.route_url("item", name="7"))


def raises(request):
    raise ValueError("a secret of the application")


with Configurator(session_factory=SignedCookieSessionFactory(SECRET)) as config:
    for method, route, pattern, view in [
        ("GET", "index", "/", index),
        ("GET", "item", "/item/{name}", item),
        ("GET", "query", "/query", query),
        ("POST", "form", "/form", form),
        ("GET", "cookies", "/cookies", cookies),
        ("POST", "login", "/login", login),
        ("POST", "logout", "/logout", logout),
        ("GET", "who", "/who", who),
        ("POST", "upload", "/upload", upload),
        ("GET", "download", "/download", download),
        ("GET", "stream", "/stream", stream),
        ("GET", "redirect", "/redirect", moved),
        ("GET", "raises", "/raises", raises),
    ]:
        config.add_route(route, pattern)
        config.add_view(view, route_name=route, request_method=method)
    application = config.make_wsgi_app()


def ask(*request):
    return ask_webtest(application, *request)
