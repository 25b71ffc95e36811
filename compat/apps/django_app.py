import asyncio
import logging
from pathlib import Path

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpResponse, HttpResponseRedirect, JsonResponse, StreamingHttpResponse
from django.urls import path, reverse, set_script_prefix
from django.views.decorators.http import require_GET, require_POST, require_safe

from shared import FILE, SECRET, described, lines


class ErrorsHandler(logging.Handler):
    """Without DEBUG, Django's own settings mail errors and log them nowhere."""

    def emit(self, record):
        record.request.environ["wsgi.errors"].write(self.format(record) + "\n")


settings.configure(
    SECRET_KEY=SECRET,
    ALLOWED_HOSTS=["localhost", "127.0.0.1", "shop.example"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    LOGGING={
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"errors": {"()": ErrorsHandler, "level": "ERROR"}},
        "loggers": {"django.request": {"handlers": ["errors"], "propagate": False}},
    },
)


@require_safe
def index(request):
    return HttpResponse("hello from " + reverse("index"))


@require_safe
def item(request, name):
    return JsonResponse({"name": name, "url": reverse("item", args=[name])})


@require_safe
def query(request):
    return JsonResponse({"q": request.GET.getlist("q")})


@require_POST
def form(request):
    return JsonResponse(
        {"name": request.POST["name"], "tags": request.POST.getlist("tag"), "empty": request.POST["empty"]}
    )


@require_safe
def cookies(request):
    response = JsonResponse(request.COOKIES)
    response.set_cookie("seen", "yes", httponly=True)
    response.set_cookie("theme", "dark-blue", samesite="Lax")
    return response


@require_POST
def login(request):
    request.session["user"] = request.POST["user"]
    return HttpResponseRedirect(reverse("who"))


@require_POST
def logout(request):
    request.session.flush()
    return HttpResponseRedirect(reverse("who"))


@require_safe
def who(request):
    return HttpResponse(request.session.get("user", "nobody"))


@require_POST
def upload(request):
    file = request.FILES["file"]
    return JsonResponse(described(request.POST["title"], file.name, file.read()))


@require_safe
def download(request):
    return FileResponse(Path(FILE).open("rb"), as_attachment=True, filename="file.bin", content_type="application/octet-stream")


@require_GET
def stream(request):
    return StreamingHttpResponse(lines(request.GET["fifo"]), content_type="text/plain")


@require_safe
def moved(request):
    return HttpResponseRedirect(reverse("item", args=["7"]))


async def later(request):
    await asyncio.sleep(0.001)
    return HttpResponse("later")


def raises(request):
    raise ValueError("a secret of the application")


urlpatterns = [
    path("", index, name="index"),
    path("item/<str:name>", item, name="item"),
    path("query", query),
    path("form", form),
    path("cookies", cookies),
    path("login", login),
    path("logout", logout),
    path("who", who, name="who"),
    path("upload", upload),
    path("download", download),
    path("stream", stream),
    path("redirect", moved),
    path("async", later),
    path("raises", raises),
]

application = get_wsgi_application()


def ask(prefix, method, target, headers, body):
    from django.test import Client

    set_script_prefix(prefix + "/")  # the client leaves that to the server's side
    content_type = headers.pop("Content-Type", "application/octet-stream")
    response = Client().generic(
        method, target, body, content_type, headers=headers, SCRIPT_NAME=prefix, SERVER_NAME="localhost"
    )
    cookies = [("Set-Cookie", morsel.OutputString()) for morsel in response.cookies.values()]
    return response.status_code, [*response.items(), *cookies], response.getvalue()
