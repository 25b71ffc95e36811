"""A Flask application that answers with JSON."""

from flask import Flask, jsonify, request

application = Flask(__name__)


@application.get("/")
@application.get("/orders/<int:number>")
def order(number=0):
    return jsonify(order=number, lines=[{"item": i, "price": 9.5 * i} for i in range(5)], client=request.remote_addr)
