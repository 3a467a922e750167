"""Text to nodes: the grammar of ``text/template/parse`` without its control structures and variables."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from services.engine.containers.gotemplate.lexer import Kind, TemplateError, Token, tokens
from services.engine.containers.values import go_quote
from services.protocol.errors import Unimplemented

_OPERANDS = frozenset(
    {Kind.BOOL, Kind.CHARACTER, Kind.DOT, Kind.FIELD, Kind.NAME, Kind.NUMBER}
    | {Kind.RAW, Kind.STRING, Kind.VARIABLE, Kind.LEFT}
)
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))|[^\\]+")
_ESCAPES = dict(zip("abfnrtv\\", "\a\b\f\n\r\t\v\\", strict=True))


@dataclass
class Node:
    """One operand. *text* is how errors show it, *at* its offset; *value* that of a constant.

    *kind* is ``constant``, ``nil``, ``dot``, ``field`` (of dot; with *names*), ``function``,
    ``chain`` (*names* of *inner*) or ``pipe`` (*commands*).
    """

    kind: str
    text: str
    at: int
    value: str | int | bool = ""
    names: list[str] = field(default_factory=list)
    inner: Node | None = None
    commands: list[Command] = field(default_factory=list)


@dataclass
class Command:
    arguments: list[Node]
    at: int

    def __str__(self) -> str:
        return " ".join(f"({node.text})" if node.kind == "pipe" else node.text for node in self.arguments)


def parse(text: str, functions: Collection[str]) -> list[str | Node]:
    """Pieces of text and the pipelines between them; raises ``TemplateError`` and ``Unimplemented``."""
    return list(_Parser(text, functions).pieces())


class _Parser:
    def __init__(self, text: str, functions: Collection[str]) -> None:
        self._tokens = tokens(text)
        self._functions = functions
        self._back: list[Token] = []

    def _next(self) -> Token:
        return self._back.pop() if self._back else next(self._tokens)

    def _peek(self) -> Token:
        token = self._next()
        self._back.append(token)
        return token

    def _skip_space(self) -> Token:
        while self._peek().kind is Kind.SPACE:
            self._next()
        return self._peek()

    def pieces(self) -> Iterator[str | Node]:
        while (token := self._next()).kind is not Kind.END:
            if token.kind is Kind.TEXT:
                yield token.text
            else:
                self._refuse_word(self._skip_space())
                yield self._pipeline("command", Kind.CLOSE)

    def _refuse_word(self, token: Token) -> None:
        if token.kind is not Kind.WORD or token.text == "nil":
            return
        if token.text in ("end", "else"):
            raise TemplateError(f"unexpected {{{{{token.text}}}}}", token.at)
        if token.text in ("break", "continue"):
            raise TemplateError(f"{{{{{token.text}}}}} outside {{{{range}}}}", token.at)
        raise Unimplemented(f"{{{{{token.text}}}}} is not supported in this template")

    def _pipeline(self, context: str, end: Kind) -> Node:
        first = self._skip_space()
        commands: list[Command] = []
        while (token := self._skip_space()).kind is not end:
            if token.kind not in _OPERANDS and token.text != "nil":
                raise TemplateError(f"unexpected {token} in {context}", token.at)
            commands.append(self._command())
        self._next()
        if not commands:
            raise TemplateError(f"missing value for {context}", token.at)
        for stage, command in enumerate(commands[1:], 2):
            if command.arguments[0].kind in ("constant", "nil", "dot"):
                raise TemplateError(f"non executable command in pipeline stage {stage}", command.at)
        return Node("pipe", " | ".join(map(str, commands)), first.at, commands=commands)

    def _command(self) -> Command:
        at = self._skip_space().at
        arguments: list[Node] = []
        while True:
            self._skip_space()
            if (node := self._operand()) is not None:
                arguments.append(node)
            token = self._next()
            if token.kind is Kind.SPACE:
                continue
            if token.kind in (Kind.CLOSE, Kind.RIGHT):
                self._back.append(token)
            elif token.kind is not Kind.PIPE:
                raise TemplateError(f"unexpected {token} in operand", token.at)
            return Command(arguments, at)

    def _operand(self) -> Node | None:
        node = self._term()
        if node is None or self._peek().kind is not Kind.FIELD:
            return node
        at, names = self._peek().at, []
        while self._peek().kind is Kind.FIELD:
            names.append(self._next().text[1:])
        shown = f"({node.text})" if node.kind == "pipe" else node.text
        text = ".".join([shown, *names])
        if node.kind == "field" or node.text == "$":
            return Node("field", text, at, names=[*node.names, *names])
        if node.kind in ("constant", "nil", "dot"):
            raise TemplateError(f"unexpected . after term {go_quote(node.text)}", at)
        return Node("chain", text, at, names=names, inner=node)

    def _term(self) -> Node | None:
        token = self._peek()
        if token.kind not in _OPERANDS and token.text != "nil":
            return None
        self._next()
        kind, text, at = token
        match kind:
            case Kind.LEFT:
                return self._pipeline("parenthesized pipeline", Kind.RIGHT)
            case Kind.NAME:
                if text not in self._functions:
                    raise TemplateError(f"function {go_quote(text)} not defined", at)
                return Node("function", text, at)
            case Kind.FIELD:
                return Node("field", text, at, names=[text[1:]])
            case Kind.DOT:
                return Node("dot", text, at)
            case Kind.VARIABLE:
                return self._variable(token)
            case Kind.WORD:
                return Node("nil", text, at)
        return Node("constant", text, at, value=_constant(token))

    def _variable(self, token: Token) -> Node:
        """``$`` is the dot of the whole template; no other variable can have been declared."""
        if token.text == "$":
            return Node("dot", "$", token.at)
        following = self._skip_space()
        if following.text in (":=", "=", ","):
            raise Unimplemented("variables are not supported in this template")
        raise TemplateError(f"undefined variable {go_quote(token.text)}", token.at)


def _constant(token: Token) -> str | int | bool:
    if token.kind is Kind.BOOL:
        return token.text == "true"
    if token.kind is Kind.RAW:
        return token.text[1:-1]
    if token.kind is Kind.NUMBER:
        return _integer(token)
    text = _unquote(token)
    if token.kind is Kind.STRING:
        return text
    if len(text) > 1:
        raise TemplateError(f"malformed character constant: {token.text}", token.at)
    return ord(text)


def _unquote(token: Token) -> str:
    """The text of a string or character constant; bytes that are not UTF-8 become surrogates."""
    content, found = token.text[1:-1], b""
    for match in _ESCAPE.finditer(content):
        code, octal, short, long, letter = match.groups()
        if letter is not None and letter not in _ESCAPES and letter != token.text[0]:
            raise TemplateError("invalid syntax", token.at)
        if code or octal:
            number = int(code, 16) if code else int(octal, 8)
            if number > 255:
                raise TemplateError("invalid syntax", token.at)
            found += bytes([number])
        elif short or long:
            number = int(short or long, 16)
            if number > 0x10FFFF or 0xD800 <= number < 0xE000:
                raise TemplateError("invalid syntax", token.at)
            found += chr(number).encode()
        else:
            found += (_ESCAPES.get(letter, letter) if letter else match[0]).encode(errors="surrogateescape")
    if not content and token.kind is Kind.CHARACTER:
        raise TemplateError("invalid syntax", token.at)
    return found.decode(errors="surrogateescape")


def _integer(token: Token) -> int:
    digits = token.text.lstrip("+-")
    try:
        if digits[:1] == "0" and digits.strip("01234567_") == "":
            number = int(digits.replace("_", "") or "0", 8)
        else:
            number = int(digits, 0)
    except ValueError:
        if digits.strip("0123456789._eEi") == "" and digits.strip("0123456789_"):
            raise Unimplemented(f"the number {token.text} is not an integer: not supported here") from None
        problem = (
            "integer overflow" if digits.strip("0123456789") == "" and digits else "illegal number syntax"
        )
        raise TemplateError(f"{problem}: {go_quote(token.text)}", token.at) from None
    number = -number if token.text[0] == "-" else number
    if not -(1 << 63) <= number < 1 << 63:
        raise TemplateError(f"integer overflow: {go_quote(token.text)}", token.at)
    return number
