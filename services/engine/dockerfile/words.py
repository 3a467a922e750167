"""Expansion of ``$name`` and ``${name...}`` in a word; quotes and escapes go (buildkit ``shell/lex.go``)."""

from __future__ import annotations

from collections.abc import Mapping

from services.engine.dockerfile.globs import replace, strip_prefix, strip_suffix
from services.protocol.errors import InvalidParameter

_SPECIAL = "@*#?-$!0"


class _Lexer:
    def __init__(self, text: str, env: Mapping[str, str], escape: str) -> None:
        self._text = text
        self._at = 0
        self._env = env
        self._escape = escape

    def run(self, stop: str = "") -> str:
        """Expand up to the character *stop* (consumed) or the end."""
        result = ""
        while self._at < len(self._text):
            char = self._text[self._at]
            if stop and char == stop:
                self._at += 1
                return result
            result += self._part(char)
        if stop:
            raise InvalidParameter(f"unexpected end of statement while looking for matching {stop}")
        return result

    def _part(self, char: str) -> str:
        if char == "'":
            return self._single()
        if char == '"':
            return self._double()
        if char == "$":
            return self._dollar()
        self._at += 1
        if char == self._escape:
            if self._at == len(self._text):
                return ""
            char = self._text[self._at]
            self._at += 1
        return char

    def _single(self) -> str:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise InvalidParameter("unexpected end of statement while looking for matching single-quote")
        result = self._text[self._at + 1 : end]
        self._at = end + 1
        return result

    def _double(self) -> str:
        self._at += 1
        result = ""
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == '"':
                self._at += 1
                return result
            if char == "$":
                result += self._dollar()
                continue
            self._at += 1
            if char == self._escape and self._at < len(self._text):
                after = self._text[self._at]
                if after in ('"', "$", self._escape):
                    char = after
                else:
                    char += after
                self._at += 1
            result += char
        raise InvalidParameter("unexpected end of statement while looking for matching double-quote")

    def _dollar(self) -> str:
        self._at += 1
        if self._text[self._at : self._at + 1] == "{":
            self._at += 1
            return self._braces()
        name = self._name()
        return self._env.get(name, "") if name else "$"

    def _name(self) -> str:
        start = self._at
        if self._text[start : start + 1] in tuple(_SPECIAL) or self._text[start : start + 1].isdigit():
            self._at += 1
            return self._text[start : self._at]
        while self._at < len(self._text) and (self._text[self._at].isalnum() or self._text[self._at] == "_"):
            self._at += 1
        return self._text[start : self._at]

    def _braces(self) -> str:
        name = self._name()
        if self._at == len(self._text):
            raise InvalidParameter("unexpected end of statement while looking for matching }")
        if not name:
            raise InvalidParameter(
                "bad substitution" if self._text[self._at] == "}" else "syntax error: bad substitution"
            )
        char = self._text[self._at]
        self._at += 1
        value = self._env.get(name)
        if char == "}":
            return value or ""
        colon = char == ":"
        if colon:
            char = self._text[self._at : self._at + 1]
            self._at += 1
        unset = value is None or (colon and not value)
        if char in ("-", "+", "?"):
            word = self.run("}")
            return _choose(char, name, value or "", word, unset=unset)
        if char in ("#", "%", "/") and not colon:
            return self._trimmed(char, value or "")
        raise InvalidParameter(f"unsupported modifier ({char}) in substitution")

    def _trimmed(self, operator: str, value: str) -> str:
        """``${x#p}``, ``${x##p}``, ``${x%p}``, ``${x%%p}``, ``${x/p/r}``, ``${x//p/r}``, glob patterns."""
        longest = self._text.startswith(operator, self._at)
        self._at += longest
        if operator == "/":
            pattern = self._raw("/")
            return replace(value, pattern, self.run("}"), everywhere=longest)
        strip = strip_prefix if operator == "#" else strip_suffix
        return strip(value, self._raw("}"), longest=longest)

    def _raw(self, stop: str) -> str:
        """Up to *stop* (consumed), variables expanded, escapes kept as backslashes for the pattern."""
        result = ""
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == stop:
                self._at += 1
                return result
            if char == "$":
                result += self._dollar()
            elif char == self._escape and self._at + 1 < len(self._text):
                result += "\\" + self._text[self._at + 1]
                self._at += 2
            else:
                result += char
                self._at += 1
        raise InvalidParameter(f"unexpected end of statement while looking for matching {stop}")


def _choose(operator: str, name: str, value: str, word: str, *, unset: bool) -> str:
    if operator == "-":
        return word if unset else value
    if operator == "+":
        return "" if unset else word
    if unset:
        raise InvalidParameter(f"{name}: {word or 'parameter is not set'}")
    return value


def expand(word: str, env: Mapping[str, str], escape: str = "\\") -> str:
    """*word* expanded to one word. Raises ``InvalidParameter`` ("failed to process ...")."""
    try:
        return _Lexer(word, env, escape).run()
    except InvalidParameter as error:
        raise InvalidParameter(f'failed to process "{_quoted(word)}": {error}') from None


def _quoted(word: str) -> str:
    return word.replace("\\", "\\\\").replace('"', '\\"')


def expand_words(word: str, env: Mapping[str, str], escape: str = "\\") -> list[str]:
    """*word* expanded and split at white space (``EXPOSE $PORTS``)."""
    return expand(word, env, escape).split()
