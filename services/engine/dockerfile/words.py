"""Expansion of ``$name`` and ``${name...}`` in a word; quotes and escapes go (buildkit ``shell/lex.go``)."""

from __future__ import annotations

from collections.abc import Mapping

from services.engine.containers.values import go_quote
from services.engine.dockerfile.globs import replace, strip_prefix, strip_suffix
from services.protocol.errors import InvalidParameter

_SPECIAL = "@*#?-$!0"
_NO_BRACE = "syntax error: missing '}'"
_REPLACEMENT = "\ufffd"


class _Lexer:
    """With *raw* escapes stay what they are; without *quotes* these mean nothing."""

    def __init__(self, text: str, env: Mapping[str, str], escape: str, *, quotes: bool) -> None:
        self._text = text
        self._at = 0
        self._env = env
        self._escape = escape
        self._quotes = quotes
        self._raw = False

    def run(self, stop: str = "", *, raw: bool = False) -> str:
        """Expand up to the character *stop* (consumed) or the end."""
        before, self._raw = self._raw, raw
        result = ""
        while self._at < len(self._text):
            if stop and self._text[self._at] == stop:
                self._at += 1
                self._raw = before
                return result
            result += self._part()
        if stop:
            raise InvalidParameter(f"unexpected end of statement while looking for matching {stop}")
        return result

    def _next(self) -> str:
        """The character at hand, behind which it goes on; "" at the end."""
        char = self._text[self._at : self._at + 1]
        self._at += 1
        return char

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _part(self) -> str:
        char = self._peek()
        if self._quotes and char == "'":
            return self._single()
        if self._quotes and char == '"':
            return self._double()
        if char == "$":
            return self._dollar()
        self._at += 1
        if char == self._escape:
            return (char if self._raw else "") + self._next()
        return char

    def _single(self) -> str:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            self._at = len(self._text)
            raise InvalidParameter("unexpected end of statement while looking for matching single-quote")
        result = self._text[self._at + 1 : end]
        self._at = end + 1
        return result

    def _double(self) -> str:
        self._at += 1
        result = ""
        while char := self._peek():
            if char == "$":
                result += self._dollar()
                continue
            self._at += 1
            if char == '"':
                return result
            if char == self._escape:
                after = self._peek()
                if after in ('"', "$", self._escape):
                    char = (char if self._raw else "") + self._next()
                elif not after:
                    break
            result += char
        raise InvalidParameter("unexpected end of statement while looking for matching double-quote")

    def _dollar(self) -> str:
        self._at += 1
        if self._peek() == "{":
            self._at += 1
            return self._braces()
        name = self._name()
        return self._env.get(name, "") if name else "$"

    def _name(self) -> str:
        start = self._at
        if self._peek().isdigit():
            while self._peek().isdigit():
                self._at += 1
        elif self._peek() and self._peek() in _SPECIAL:
            self._at += 1
        else:
            while self._peek().isalnum() or self._peek() == "_":
                self._at += 1
        return self._text[start : self._at]

    def _braces(self) -> str:
        if not self._peek():
            raise InvalidParameter(_NO_BRACE)
        if self._peek() in "{}:":
            raise InvalidParameter("syntax error: bad substitution")
        name = self._name()
        operator = self._next()
        value = self._env.get(name)
        if operator == "}":
            return value or ""
        colon = operator == ":"
        if colon:
            operator = self._next()
        if not colon and operator == "/":
            return self._replaced(value or "")
        if not colon and (not operator or operator not in "-+?#%"):
            # Told at once, before what follows is looked at; Go makes U+FFFD of the end of the text.
            raise InvalidParameter(f"unsupported modifier ({operator or _REPLACEMENT}) in substitution")
        word = self._word("}", _NO_BRACE, raw=operator in "#%")
        if operator in "-+?":
            return _choose(operator, name, value, word, null_is_unset=colon)
        if operator in "#%":
            longest = word.startswith(operator)
            strip = strip_prefix if operator == "#" else strip_suffix
            return strip(value or "", word[longest:], longest=longest)
        raise InvalidParameter(f"unsupported modifier (:{operator}) in substitution")

    def _replaced(self, value: str) -> str:
        """``${x/pattern/replacement}``, with two slashes everywhere."""
        everywhere = self._peek() == "/"
        self._at += everywhere
        pattern = self._word("/", "syntax error: missing '/' in ${}", raw=True)
        return replace(value, pattern, self._word("}", _NO_BRACE, raw=True), everywhere=everywhere)

    def _word(self, stop: str, missing: str, *, raw: bool) -> str:
        try:
            return self.run(stop, raw=raw)
        except InvalidParameter:
            if self._at < len(self._text):
                raise
            raise InvalidParameter(missing) from None


def _choose(operator: str, name: str, value: str | None, word: str, *, null_is_unset: bool) -> str:
    unset = value is None or (null_is_unset and not value)
    if operator == "-":
        return word if unset else value or ""
    if operator == "+":
        return "" if unset else word
    if unset:
        why = "unset" if value is None else "empty"
        raise InvalidParameter(f"{name}: {word or f'is not allowed to be {why}'}")
    return value or ""


def expand(word: str, env: Mapping[str, str], escape: str = "\\", *, quotes: bool = True) -> str:
    """*word* expanded to one word. Raises ``InvalidParameter`` ("failed to process ...")."""
    try:
        return _Lexer(word, env, escape, quotes=quotes).run()
    except InvalidParameter as error:
        raise InvalidParameter(f"failed to process {go_quote(word)}: {error}") from None


def expand_words(word: str, env: Mapping[str, str], escape: str = "\\") -> list[str]:
    """*word* expanded and split at white space (``EXPOSE $PORTS``)."""
    return expand(word, env, escape).split()
