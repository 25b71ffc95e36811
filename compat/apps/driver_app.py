import psycopg2


def application(environ, start_response):
    try:
        psycopg2.connect(host="127.0.0.1", port=1, connect_timeout=5)
    except psycopg2.OperationalError as error:
        answer = str(error)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer.encode()]
