"""The page."""

import sys

from flask import Blueprint, render_template

from . import database

blueprint = Blueprint("pages", __name__)


@blueprint.get("/")
def index():
    return render_template(
        "index.html",
        orders=database.latest(10),
        python="%d.%d.%d" % sys.version_info[:3],
    )
