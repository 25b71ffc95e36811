"""Errors as JSON."""

from flask import jsonify
from werkzeug.exceptions import HTTPException


class ValidationError(Exception):
    """What is wrong with a request, by field."""

    def __init__(self, fields):
        super().__init__("the request is not valid")
        self.fields = fields


def register(app):
    @app.errorhandler(HTTPException)
    def http_error(error):
        # Also what an unexpected exception becomes: Flask logs its traceback
        # and hands over a 500.
        response = jsonify(error=error.name, detail=error.description)
        response.status_code = error.code
        for name, value in error.get_headers():
            if name not in ("Content-Type", "Content-Length"):
                response.headers[name] = value  # Allow, Retry-After and the like
        return response

    @app.errorhandler(ValidationError)
    def validation_error(error):
        return jsonify(error=str(error), fields=error.fields), 422
