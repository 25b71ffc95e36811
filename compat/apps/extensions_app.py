from importlib import import_module


def application(environ, start_response):
    """Says what becomes of importing the module that the path names."""
    try:
        import_module(environ["PATH_INFO"].strip("/"))
        answer = "loaded"
    except ImportError as error:
        answer = str(error)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer.encode()]
