"""A WSGI application and its server."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any
from wsgiref.simple_server import make_server


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """The path, the version and where Python lives."""
    start_response("200 OK", [("Content-Type", "application/json")])
    shown = {"path": environ["PATH_INFO"], "version": version("shop"), "prefix": sys.prefix}
    return [json.dumps(shown).encode()]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=5000)
    port = parser.parse_args().port
    server = make_server("", port, application)
    print("running on", port)
    server.serve_forever()
