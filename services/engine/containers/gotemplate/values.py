"""What a template computes with, and how Go's ``fmt`` prints it (``%v``, ``Printf``, ``Sprint``).

A Go value is ``str`` (bytes that are not UTF-8 are surrogates), ``int``, ``bool``, ``list[str]``,
``dict[str, str]``, ``None`` (nil, and no value) or a :class:`Struct`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.engine.containers.values import go_quote
from services.protocol.errors import Unimplemented

if TYPE_CHECKING:
    from services.engine.containers.gotemplate.functions import Function

_DIRECTIVE = re.compile(r"%([-+# 0]*)(\d*)(?:\.(\d*))?(.?)", re.DOTALL)
_BASES = {"v": "d", "d": "d", "b": "b", "x": "x", "X": "X", "o": "o"}


@dataclass
class Struct:
    """A Go struct, or with *pointer* the address of one. *printed* and *encoded* are ``%v`` and JSON of
    one that prints itself (a time)."""

    type_name: str
    fields: dict[str, Value] = field(default_factory=dict)
    methods: dict[str, Function] = field(default_factory=dict)
    pointer: bool = False
    printed: str = ""
    encoded: str = ""


Value = str | int | bool | list[str] | dict[str, str] | Struct | None
Print = Callable[["Value"], str]


def type_name(value: Value) -> str:
    match value:
        case None:
            return "<nil>"
        case bool():
            return "bool"
        case int():
            return "int"
        case str():
            return "string"
        case list():
            return "[]string"
        case dict():
            return "map[string]string"
    return f"*{value.type_name}" if value.pointer else value.type_name


def show(value: Value, one: Print = str) -> str:
    """``%v``; *one* prints what lists and maps hold."""
    match value:
        case None:
            return "<nil>"
        case bool():
            return "true" if value else "false"
        case list():
            return f"[{' '.join(map(one, value))}]"
        case dict():
            return f"map[{' '.join(f'{one(key)}:{one(value[key])}' for key in sorted(value))}]"
        case Struct():
            shown = value.printed or f"{{{' '.join(map(show, value.fields.values()))}}}"
            return "&" + shown if value.pointer else shown
    return str(value)


def printable(value: Value) -> str:
    """As a template writes it out."""
    if value is None:
        return "<no value>"
    return show(value).removeprefix("&") if isinstance(value, Struct) else show(value)


def sprint(values: Sequence[Value], show: Print = show) -> str:
    """``fmt.Sprint``: spaces between two neighbours of which none is a string."""
    found = ""
    for index, value in enumerate(values):
        if index and not isinstance(value, str) and not isinstance(values[index - 1], str):
            found += " "
        found += show(value)
    return found


def encode(value: Value) -> str:
    """``encoding/json`` without escapes for HTML."""
    if isinstance(value, Struct):
        pairs = (f"{encode(name)}:{encode(item)}" for name, item in value.fields.items())
        return value.encoded or f"{{{','.join(pairs)}}}"
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    text = text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return re.sub("[\udc80-\udcff]", "\ufffd", text)


def sprintf(template: str, values: Sequence[Value]) -> str:
    """``fmt.Sprintf`` without explicit argument indexes, ``*`` and ``#``."""
    used = 0

    def directive(match: re.Match[str]) -> str:
        nonlocal used
        flags, width, precision, verb = match.groups()
        if verb in ("[", "*") or "#" in flags or "*" in match[0]:
            raise Unimplemented(f"printf: {match[0]} is not supported in this template")
        if not verb:
            return "%!(NOVERB)"
        if verb == "%":
            return "%"
        if used == len(values):
            return f"%!{verb}(MISSING)"
        used += 1
        # Go refuses widths of more than a million; nobody's log should hold such.
        if max(int(width or 0), int(precision or 0)) > 1000:
            raise Unimplemented(f"printf: the width of {match[0]} is not supported in this template")
        value = values[used - 1]
        if "+" in flags and not isinstance(value, int | None):
            raise Unimplemented(f"printf: {match[0]} of {type_name(value)} is not supported in this template")
        digits = None if precision is None else int(precision or 0)
        return _format(value, verb, flags, int(width or 0), digits)

    text = _DIRECTIVE.sub(directive, template)
    if used < len(values):
        extra = ", ".join(_typed(value) for value in values[used:])
        text += f"%!(EXTRA {extra})"
    return text


def _typed(value: Value) -> str:
    return "<nil>" if value is None else f"{type_name(value)}={show(value)}"


def _format(value: Value, verb: str, flags: str, width: int, precision: int | None) -> str:
    if isinstance(value, list | dict) and verb != "T":
        return show(value, lambda item: _format(item, verb, flags, width, precision))
    text = _verb(value, verb, flags, precision)
    if text is None:
        return f"%!{verb}({_typed(value)})"
    if "-" in flags:
        return text.ljust(width)
    if "0" in flags and type_name(value) == "int" and precision is None and verb in _BASES:
        sign = " " if text.startswith(" ") else ""
        return sign + text[len(sign) :].zfill(width - len(sign))
    return text.rjust(width)


def _verb(value: Value, verb: str, flags: str, precision: int | None) -> str | None:
    """One value, not padded; ``None`` for a verb that its type does not have."""
    if verb == "T":
        return type_name(value)
    if isinstance(value, bool):
        return show(value) if verb in "tv" else None
    if isinstance(value, int):
        return _integer(value, verb, flags, precision)
    if isinstance(value, str):
        return _string(value, verb, flags, precision)
    if verb == "v" or (isinstance(value, Struct) and verb == "s"):
        return show(value)
    if value is not None:
        raise Unimplemented(f"printf: %{verb} of {type_name(value)} is not supported in this template")
    return None


def _string(value: str, verb: str, flags: str, precision: int | None) -> str | None:
    if verb in "xX":
        data = value.encode(errors="surrogateescape")[:precision]
        digits = data.hex(" ") if " " in flags else data.hex()
        return digits.upper() if verb == "X" else digits
    if verb not in "svq":
        return None
    return go_quote(value[:precision]) if verb == "q" else value[:precision]


def _integer(value: int, verb: str, flags: str, precision: int | None) -> str | None:
    if verb in _BASES:
        digits = format(abs(value), _BASES[verb]).rjust(precision or 0, "0")
        digits = "" if precision == 0 and value == 0 else digits
        sign = "-" if value < 0 else "+" if "+" in flags else " " if " " in flags else ""
        return sign + digits
    character = chr(value) if 0 <= value <= 0x10FFFF and not 0xD800 <= value < 0xE000 else "\ufffd"
    match verb:
        case "c":
            return character
        case "q":
            escaped = go_quote(character)[1:-1]
            return "'" + {"'": "\\'", '\\"': '"'}.get(escaped, escaped) + "'"
        case "U":
            return f"U+{value:04X}" if value >= 0 else None
    return None
