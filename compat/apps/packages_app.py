import os

import pypiserver

application = pypiserver.app(
    roots=[os.environ["COMPAT_PACKAGES"]],
    disable_fallback=True,
    authenticate=["update"],
    auther=lambda user, password: (user, password) == ("ada", "lovelace"),
)
