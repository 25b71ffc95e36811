"""The API."""

from flask import Blueprint, abort, jsonify, request, url_for

from . import database
from .errors import ValidationError

blueprint = Blueprint("orders", __name__)


@blueprint.get("")
def list_orders():
    limit = request.args.get("limit", "20")
    if not limit.isdecimal() or not 1 <= int(limit) <= 100:
        raise ValidationError({"limit": "a number from 1 to 100"})
    return jsonify(orders=database.latest(int(limit), request.args.get("customer")))


@blueprint.get(f"/<int(max={2**63 - 1}):order_id>")
def show_order(order_id):
    order = database.get(order_id)
    if order is None:
        abort(404, f"there is no order {order_id}")
    return jsonify(order)


@blueprint.post("")
def create_order():
    customer, items = validated(request.get_json())
    order_id = database.add(customer, items)
    location = url_for(".show_order", order_id=order_id)
    return jsonify(database.get(order_id)), 201, {"Location": location}


def validated(order):
    """Returns the customer and the items, or says all that is wrong."""
    if not isinstance(order, dict):
        raise ValidationError({"": "an object"})
    fields = {}
    customer = order.get("customer")
    if not is_text(customer):
        fields["customer"] = "a name"
    items = order.get("items")
    if not isinstance(items, list) or not 1 <= len(items) <= 100:
        fields["items"] = "a list of 1 to 100 items"
        items = []
    for i, item in enumerate(items):
        if not isinstance(item, dict):
            fields[f"items[{i}]"] = "an object"
            continue
        if not is_text(item.get("sku")):
            fields[f"items[{i}].sku"] = "an article number"
        for name, least in (("quantity", 1), ("cents", 0)):
            # type, since True is an int too
            if type(item.get(name)) is not int or not least <= item[name] <= 10**6:
                fields[f"items[{i}].{name}"] = f"a whole number from {least} to 1000000"
    if fields:
        raise ValidationError(fields)
    return customer, items


def is_text(value):
    return isinstance(value, str) and value.isprintable() and value.strip() == value != ""
