from urllib.parse import quote

from webob import Request, Response
from webob.cookies import SignedCookieProfile
from webob.dec import wsgify
from webob.exc import HTTPFound, HTTPMethodNotAllowed, HTTPNotFound
from webob.static import FileApp

from shared import FILE, SECRET
from webob_views import cookies, form, query, stream, upload

sessions = SignedCookieProfile(SECRET, "compat", "session", httponly=True)


def index(request):
    return Response("hello from " + request.script_name + "/")


def item(request, name):
    return Response(json={"name": name, "url": quote(f"{request.script_name}/item/{name}", safe="/&")})


def login(request):
    response = HTTPFound(location=request.application_url + "/who")
    sessions.bind(request).set_cookies(response, request.POST["user"])
    return response


def logout(request):
    response = HTTPFound(location=request.application_url + "/who")
    sessions.bind(request).set_cookies(response, None)
    return response


def who(request):
    return Response(sessions.bind(request).get_value() or "nobody")


def moved(request):
    return HTTPFound(location=request.application_url + "/item/7")


def raises(request):
    raise ValueError("a secret of the application")


download = FileApp(FILE, content_type="application/octet-stream", content_disposition='attachment; filename="file.bin"')
gets = {"": index, "query": query, "cookies": cookies, "who": who, "stream": stream, "redirect": moved, "raises": raises}
posts = {"form": form, "login": login, "logout": logout, "upload": upload}


@wsgify
def application(request):
    name = request.path_info_pop() or ""
    if name == "item":
        argument = request.path_info_pop()
        if argument and not request.path_info:
            request.script_name = request.script_name.removesuffix("/item/" + argument)
            return item(request, argument)
        raise HTTPNotFound()
    request.script_name = request.script_name.removesuffix("/" + name)
    if request.path_info:
        raise HTTPNotFound()
    if name == "download":
        return download
    if view := gets.get(name):
        allowed = ("GET", "HEAD")
    elif view := posts.get(name):
        allowed = ("POST",)
    else:
        raise HTTPNotFound()
    if request.method not in allowed:
        raise HTTPMethodNotAllowed(headers={"Allow": ", ".join(allowed)})
    return view(request)


def ask(prefix, method, target, headers, body):
    request = Request.blank(target, base_url="http://localhost" + prefix, method=method, headers=headers, body=body)
    response = request.get_response(application)
    return response.status_code, response.headerlist, response.body
