"""A small shop: a JSON API for orders and a page that lists them."""

import os

from flask import Flask

from . import database, errors, orders, pages


def create_app(database_file=None):
    """Makes the application. Every interpreter makes one of its own, so what
    they share (the orders) is in a database, not in memory."""
    app = Flask(__name__)
    app.config["DATABASE"] = database_file or os.environ["SHOP_DATABASE"]
    app.json.sort_keys = False
    app.register_blueprint(pages.blueprint)
    app.register_blueprint(orders.blueprint, url_prefix="/api/orders")
    errors.register(app)
    database.register(app)
    return app
