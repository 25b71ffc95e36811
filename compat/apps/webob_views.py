"""Views that Pyramid, whose requests and responses are WebOb's, and WebOb itself share."""

from webob import Response

from shared import described, lines


def query(request):
    return Response(json={"q": request.GET.getall("q")})


def form(request):
    post = request.POST
    return Response(json={"name": post["name"], "tags": post.getall("tag"), "empty": post["empty"]})


def cookies(request):
    response = Response(json=dict(request.cookies))
    response.set_cookie("seen", "yes", httponly=True)
    response.set_cookie("theme", "dark-blue", samesite="Lax")
    return response


def upload(request):
    file = request.POST["file"]
    return Response(json=described(request.POST["title"], file.filename, file.file.read()))


def stream(request):
    return Response(app_iter=lines(request.GET["fifo"]), content_type="text/plain")
