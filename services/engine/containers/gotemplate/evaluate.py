"""A parsed template applied to a value, as ``text/template``'s ``exec.go`` does it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from services.engine.containers.gotemplate.functions import ANY, FUNCTIONS, CallError, Function, truth
from services.engine.containers.gotemplate.lexer import TemplateError
from services.engine.containers.gotemplate.parser import Command, Node, parse
from services.engine.containers.gotemplate.values import Struct, Value, printable, type_name
from services.protocol.errors import Unimplemented

_MISSING: Final = object()
#: Characters that functions may make of a template: some double their text, one after the other.
_MAX_TEXT = 1 << 16
_UNICODE_ERRORS = re.compile("[\udc80-\udcff]")


def expand(name: str, template: str, data: Struct) -> str:
    """*template* with the fields of *data*.

    Raises ``ValueError`` with Go's text (``template: NAME:LINE: ...``), and ``Unimplemented`` for
    control structures, variables and numbers with a fraction. The text is valid Unicode.
    """
    try:
        pieces = parse(template, FUNCTIONS)
    except TemplateError as error:
        line = template.count("\n", 0, error.at) + 1
        raise ValueError(f"template: {name}:{line}: {error}") from None
    evaluator = _Evaluator(data)
    try:
        found = "".join(_bounded(map(evaluator.write, pieces), _MAX_TEXT + len(template)))
    except TemplateError as error:
        before = template[: error.at]
        column = len(before[before.rfind("\n") + 1 :].encode(errors="replace"))
        place = f"{name}:{before.count(chr(10)) + 1}:{column}"
        shown = evaluator.context
        raise ValueError(f'template: {place}: executing "{name}" at <{shown}>: {error}') from None
    return _UNICODE_ERRORS.sub("\ufffd", found)


def _bounded(pieces: Iterable[str], rest: int) -> Iterator[str]:
    for piece in pieces:
        rest -= len(piece)
        if rest < 0:
            raise _too_long()
        yield piece


def _too_long() -> Unimplemented:
    return Unimplemented(f"more than {_MAX_TEXT} characters are not supported in this template")


class _Evaluator:
    """*context* is the text of the operand that an error is about; its offset is ``_offset``."""

    def __init__(self, data: Struct) -> None:
        self._data = data
        self.context = ""
        self._offset = 0

    def _at(self, shown: str, offset: int) -> None:
        self.context, self._offset = shown, offset

    def _error(self, message: str) -> TemplateError:
        return TemplateError(message, self._offset)

    def write(self, piece: str | Node) -> str:
        return piece if isinstance(piece, str) else printable(self._pipeline(piece))

    def _pipeline(self, pipe: Node) -> Value:
        self._at(pipe.text, pipe.at)
        value: Value | object = _MISSING
        for command in pipe.commands:
            value = self._command(command, value)
        return value  # type: ignore[return-value]  # a pipe has a command

    def _command(self, command: Command, final: Value | object) -> Value:
        first, *rest = command.arguments
        match first.kind:
            case "field" | "chain" | "function":
                return self._invoke(first, rest, final, str(command), command.at)
            case "pipe":
                self._refuse_arguments(first, rest, final)
                return self._pipeline(first)
        self._at(first.text, first.at)
        self._refuse_arguments(first, rest, final)
        if first.kind == "nil":
            raise self._error("nil is not a command")
        return self._data if first.kind == "dot" else first.value

    def _refuse_arguments(self, first: Node, rest: Sequence[Node], final: Value | object) -> None:
        if rest or final is not _MISSING:
            raise self._error(f"can't give argument to non-function {first.text}")

    def _invoke(
        self, node: Node, arguments: Sequence[Node], final: Value | object, shown: str, offset: int
    ) -> Value:
        """A function or fields, of which the last may be a method; *shown* at *offset* is the whole call."""
        self._at(node.text, node.at)
        if node.kind == "function":
            function = FUNCTIONS[node.text]
            self._check_count(node.text, function, len(arguments) + (final is not _MISSING))
            if node.text in ("and", "or"):
                return self._shortcut(node.text == "or", arguments, final)
            return self._call(node.text, function, arguments, final, (shown, offset))
        receiver: Value = self._data
        if node.inner is not None:
            if node.inner.kind == "nil":
                raise self._error(f"indirection through explicit nil in {node.text}")
            receiver = self._argument(ANY, node.inner)
        for name in node.names[:-1]:
            receiver = self._field(receiver, name, [], _MISSING, (node.text, node.at))
        return self._field(receiver, node.names[-1], arguments, final, (shown, offset))

    def _field(
        self,
        receiver: Value,
        name: str,
        arguments: Sequence[Node],
        final: Value | object,
        call: tuple[str, int],
    ) -> Value:
        given = bool(arguments) or final is not _MISSING
        if receiver is None:
            return None
        if isinstance(receiver, Struct):
            if (method := receiver.methods.get(name)) is not None:
                self._check_count(name, method, len(arguments) + (final is not _MISSING))
                return self._call(name, method, arguments, final, call)
            if name in receiver.fields:
                if given:
                    raise self._error(f"{name} has arguments but cannot be invoked as function")
                return receiver.fields[name]
            if receiver.printed:
                raise Unimplemented(f"the methods of {receiver.type_name} are not supported in this template")
        if isinstance(receiver, dict):
            if given:
                raise self._error(f"{name} is not a method but has arguments")
            return receiver.get(name)
        raise self._error(f"can't evaluate field {name} in type {type_name(receiver)}")

    def _check_count(self, name: str, function: Function, given: int) -> None:
        wanted = len(function.types)
        if given < wanted or (given > wanted and not function.more):
            least = "at least " if function.more else ""
            raise self._error(f"wrong number of args for {name}: want {least}{wanted} got {given}")

    def _shortcut(self, until: bool, arguments: Sequence[Node], final: Value | object) -> Value:
        value: Value = None
        for argument in arguments:
            value = self._argument(ANY, argument)
            if truth(value) is until:
                return value
        return value if final is _MISSING else final  # type: ignore[return-value]  # not the sentinel

    def _call(
        self,
        name: str,
        function: Function,
        arguments: Sequence[Node],
        final: Value | object,
        call: tuple[str, int],
    ) -> Value:
        types = [*function.types, *[function.more] * (len(arguments) + 1)]
        values = [self._argument(wanted, node) for wanted, node in zip(types, arguments, strict=False)]
        if final is not _MISSING:
            values.append(self._checked(final, types[len(values)]))  # type: ignore[arg-type]
        try:
            if name == "call" and function is FUNCTIONS["call"]:
                raise CallError(_not_callable(arguments, values[0]))
            result: Value = function.call(*values)
        except CallError as error:
            self._at(*call)
            raise self._error(f"error calling {name}: {error}") from None
        if isinstance(result, str) and len(result) > _MAX_TEXT:
            raise _too_long()
        return result

    def _argument(self, wanted: str, node: Node) -> Value:
        self._at(node.text, node.at)
        match node.kind:
            case "dot":
                return self._checked(self._data, wanted)
            case "pipe":
                return self._checked(self._pipeline(node), wanted)
            case "field" | "chain" | "function":
                return self._checked(self._invoke(node, [], _MISSING, node.text, node.at), wanted)
            case "nil":
                if wanted in ("string", "int"):
                    raise self._error(f"cannot assign nil to {wanted}")
                return self._checked(None, wanted)
        return self._constant(node, wanted)

    def _constant(self, node: Node, wanted: str) -> Value:
        if wanted in (ANY, type_name(node.value)):
            return node.value
        if wanted in ("string", "int"):
            kind = "integer" if wanted == "int" else wanted
            raise self._error(f"expected {kind}; found {node.text}")
        raise self._error(f"can't handle {node.text} for arg of type {wanted}")

    def _checked(self, value: Value, wanted: str) -> Value:
        if wanted in (ANY, type_name(value)):
            return value
        if value is not None:
            raise self._error(f"wrong type for value; expected {wanted}; got {type_name(value)}")
        if wanted in ("string", "int"):
            raise self._error(f"invalid value; expected {wanted}")
        return [] if wanted == "[]string" else None


def _not_callable(arguments: Sequence[Node], value: Value) -> str:
    """No value of a template is a function."""
    if value is None:
        return "call of nil"
    shown = arguments[0].text if arguments else type_name(value)
    return f"non-function {shown} of type {type_name(value)}"
