from urllib.parse import quote

import falcon

from shared import FILE, described, lines


class Index:
    def on_get(self, req, resp):
        resp.text = "hello from " + req.root_path + "/"

    on_head = on_get


class Item:
    def on_get(self, req, resp, name):
        resp.media = {"name": name, "url": quote(f"{req.root_path}/item/{name}", safe="/&")}


class Query:
    def on_get(self, req, resp):
        resp.media = {"q": req.get_param_as_list("q")}


class Form:
    def on_post(self, req, resp):
        media = req.get_media()
        resp.media = {"name": media["name"], "tags": media["tag"], "empty": media["empty"]}


class Cookies:
    def on_get(self, req, resp):
        resp.media = req.cookies
        resp.set_cookie("seen", "yes", secure=False, http_only=True)
        resp.set_cookie("theme", "dark-blue", secure=False, same_site="Lax")


class Upload:
    def on_post(self, req, resp):
        got = {}
        for part in req.get_media():
            if part.name == "title":
                got["title"] = part.text
            else:
                got["name"], got["data"] = part.filename, part.stream.read()
        resp.media = described(**got)


class Stream:
    def on_get(self, req, resp):
        resp.content_type = falcon.MEDIA_TEXT
        resp.stream = lines(req.get_param("fifo"))


class Moved:
    def on_get(self, req, resp):
        raise falcon.HTTPFound(req.prefix + "/item/7")


class Raises:
    def on_get(self, req, resp):
        raise ValueError("a secret of the application")


application = falcon.App()
application.req_options.keep_blank_qs_values = True
for template, resource in {
    "/": Index(),
    "/item/{name}": Item(),
    "/query": Query(),
    "/form": Form(),
    "/cookies": Cookies(),
    "/upload": Upload(),
    "/stream": Stream(),
    "/redirect": Moved(),
    "/raises": Raises(),
}.items():
    application.add_route(template, resource)
application.add_static_route("/download", "/", downloadable=True, fallback_filename=FILE)


def ask(prefix, method, target, headers, body):
    # Its simulate_request shows one cookie of several.
    from falcon import testing

    path, _, query = target.partition("?")
    environ = testing.create_environ(
        path, query_string=query, method=method, headers=headers, body=body, root_path=prefix, host="localhost"
    )
    start = testing.StartResponseMock()
    data = b"".join(testing.closed_wsgi_iterable(application(environ, start)))
    return int(start.status.split()[0]), start.headers, data
