"""A process that may connect to nothing beyond this machine: an attempt ends it with a word to look for."""

import os
from pathlib import Path

REFUSED = 77
# Read by Python before anything else of a process, and by the Pythons that it starts.
GUARD = f"""
import os, socket, sys

def here(address):
    host = address[0] if isinstance(address, tuple) else address
    return host in ("127.0.0.1", "::1", "localhost", None, "")

def guarded(real):
    def connect(self, address, *rest):
        if self.family == getattr(socket, "AF_UNIX", None) or here(address):
            return real(self, address, *rest)
        refuse(address)
    return connect

def refuse(address):
    sys.stderr.write(f"CONNECTED to {{address}}\\n")
    sys.stderr.flush()
    os._exit({REFUSED})

def look_up(host, *rest, **more):
    return real_look_up(host, *rest, **more) if here(host) else refuse(host)

real_look_up, socket.getaddrinfo = socket.getaddrinfo, look_up
socket.socket.connect = guarded(socket.socket.connect)
socket.socket.connect_ex = guarded(socket.socket.connect_ex)
"""


def environment(site: Path) -> dict[str, str]:
    """The environment of such a process; `site` is an empty folder to keep the guard in."""
    (site / "sitecustomize.py").write_text(GUARD)
    paths = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "COLUMNS": "80"}
