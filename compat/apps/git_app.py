import os

from dulwich.server import FileSystemBackend
from dulwich.web import make_wsgi_chain


class Backend(FileSystemBackend):
    """The repositories in a folder. PATH_INFO begins with a slash, and the
    backend takes such a path for one from the file system's root."""

    def open_repository(self, path):
        return super().open_repository(os.fsdecode(path).lstrip("/"))


application = make_wsgi_chain(Backend(os.environ["COMPAT_REPOSITORIES"]))
