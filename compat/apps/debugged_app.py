from werkzeug.debug import DebuggedApplication
from werkzeug.wrappers import Request, Response


@Request.application
def fails(request):
    if request.path == "/works":
        return Response("works")
    known_to_the_frame = 6
    raise ValueError(f"it fails with {known_to_the_frame}")


application = DebuggedApplication(fails, evalex=True)
