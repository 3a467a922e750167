"""A parsed Dockerfile as text again: what :func:`parse` reads from it is the same."""

from __future__ import annotations

import json

from services.engine.dockerfile.forms import is_json_array
from services.engine.dockerfile.parser import Dockerfile, Node, words

#: White space to the parser, but neither to JSON nor behind an escape that continues a line.
_SPACE = "\u2003"


def write(dockerfile: Dockerfile) -> str:
    # The empty line keeps what follows from being a byte order mark.
    first = "" if dockerfile.escape == "\\" else f"# escape={dockerfile.escape}"
    return "\n".join([first, *(_node(node, dockerfile.escape) for node in dockerfile.nodes)])


def _node(node: Node, escape: str) -> str:
    rest = _arguments(node, escape)
    flags = [_flag(flag) for flag in node.flags] + (["--"] if rest.startswith("--") else [])
    line = " ".join([node.written, *flags, rest]).rstrip(" ")
    lines = [line + _SPACE if line.endswith(escape) else line]
    for heredoc in node.heredocs:
        # One carriage return before the end of the line belongs to that.
        lines.append(heredoc.following + ("\r" if heredoc.name.endswith("\r") else ""))
    return "\n".join(lines)


def _flag(flag: str) -> str:
    body = flag[2:].replace("\\", "\\\\").replace('"', '\\"')
    return f'--"{body}"' if body else '--""'


def _arguments(node: Node, escape: str) -> str:
    if node.is_json and node.name == "healthcheck":
        return f"{node.args[0]} {json.dumps(node.args[1:])}"
    if node.is_json:
        return json.dumps(node.args)
    if node.name in ("env", "label"):
        return _pairs(node.args, escape)
    text = " ".join(node.args)
    return _SPACE.join(node.args) if is_json_array(text) else text


def _pairs(args: tuple[str, ...], escape: str) -> str:
    pairs = [f"{name}={value}" for name, value in zip(args[::2], args[1::2], strict=True)]
    # The old form has one name, and a value of many words.
    return " ".join(pairs) if words(" ".join(pairs), escape) == pairs else " ".join(args)
