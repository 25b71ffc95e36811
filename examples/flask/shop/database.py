"""The orders, in an SQLite file."""

import sqlite3

from flask import current_app, g

SCHEMA = """
    CREATE TABLE IF NOT EXISTS orders (
        id INTEGER PRIMARY KEY,
        customer TEXT NOT NULL,
        created TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
    );
    CREATE TABLE IF NOT EXISTS items (
        order_id INTEGER NOT NULL REFERENCES orders (id),
        sku TEXT NOT NULL,
        quantity INTEGER NOT NULL,
        cents INTEGER NOT NULL
    );
    CREATE INDEX IF NOT EXISTS items_by_order ON items (order_id);
"""

SELECT = """
    SELECT orders.id, customer, created, sum(quantity * cents) AS total_cents
    FROM orders JOIN items ON items.order_id = orders.id
"""


def register(app):
    app.teardown_appcontext(_close)
    with app.app_context(), connection() as c:
        c.executescript("BEGIN IMMEDIATE;" + SCHEMA)


def connection():
    """The request's connection. Entered with "with", it is a transaction."""
    if "connection" not in g:
        g.connection = sqlite3.connect(
            current_app.config["DATABASE"], timeout=10, isolation_level="IMMEDIATE"
        )
        g.connection.row_factory = sqlite3.Row
    return g.connection


def _close(_exception):
    c = g.pop("connection", None)
    if c is not None:
        c.close()


def latest(limit, customer=None):
    where, values = "", [limit]
    if customer is not None:
        where, values = "WHERE customer = ?", [customer, limit]
    rows = connection().execute(
        f"{SELECT} {where} GROUP BY orders.id ORDER BY orders.id DESC LIMIT ?", values
    )
    return [dict(row) for row in rows]


def get(order_id):
    """An order with its items, or None."""
    row = connection().execute(
        f"{SELECT} WHERE orders.id = ? GROUP BY orders.id", (order_id,)
    ).fetchone()
    if row is None:
        return None
    items = connection().execute(
        "SELECT sku, quantity, cents FROM items WHERE order_id = ? ORDER BY rowid", (order_id,)
    )
    return {**row, "items": [dict(item) for item in items]}


def add(customer, items):
    """Stores an order and returns its number."""
    with connection() as c:
        order_id = c.execute("INSERT INTO orders (customer) VALUES (?)", (customer,)).lastrowid
        c.executemany(
            "INSERT INTO items VALUES (?, ?, ?, ?)",
            [(order_id, item["sku"], item["quantity"], item["cents"]) for item in items],
        )
    return order_id
