"""Runs an application in bjoern or fastwsgi, in several processes on one port.

    python forking.py SERVER APPLICATION HOST PORT PROCESSES
"""

import importlib
import os
import sys

server, app, host, port, processes = sys.argv[1:]
server = importlib.import_module(server)
application = importlib.import_module(app).application
for _ in range(int(processes) - 1):
    if os.fork() == 0:
        break
if server.__name__ == "bjoern":
    server.run(application, host, int(port), reuse_port=True)
else:
    server.run(application, host, int(port))
