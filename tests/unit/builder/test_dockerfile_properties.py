"""Dockerfiles that nobody wrote: what is printed parses to the same, and nothing fails in its own way."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.engine.dockerfile.instructions import NAMES, program
from services.engine.dockerfile.mountflags import check_mount, parse_mount
from services.engine.dockerfile.parser import parse_line
from services.engine.dockerfile.words import expand
from services.protocol.errors import InvalidParameter
from tests.unit.builder.printing import write
from tests.unit.builder.test_dockerfile import VARIABLES, read

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1)
NAME = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,8}", fullmatch=True)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$") + '"'


@given(st.dictionaries(NAME, TEXT, min_size=1))
def test_pairs_round_trip(pairs: dict[str, str]) -> None:
    node = parse_line("ENV " + " ".join(f"{name}={quoted(text)}" for name, text in pairs.items()), 1, "\\")
    words = [expand(word, {}) for word in node.args]
    assert dict(zip(words[::2], words[1::2], strict=True)) == pairs


@given(st.lists(TEXT, min_size=1))
def test_json_forms_round_trip(words: list[str]) -> None:
    for name in ("RUN", "CMD", "ENTRYPOINT", "VOLUME"):
        node = parse_line(f"{name} {json.dumps(words)}", 1, "\\")
        assert node.is_json and list(node.args) == words


@given(
    st.lists(st.sampled_from(["RUN a", "USER b", "LABEL c=d", "WORKDIR /e", "EXPOSE 1"]), min_size=1),
    st.data(),
)
def test_files_round_trip(lines: list[str], data: st.DataObject) -> None:
    """What is between instructions (comments, empty lines, indentation, line ends) changes nothing."""
    noise = st.sampled_from(["", "\n", "# c\n", "  \n\n", "#\r\n"])
    end = data.draw(st.sampled_from(["\n", "\r\n"]))
    text = "".join(data.draw(noise) + "  " + line + end for line in ["FROM x", *lines])
    assert [node.original.strip() for node in read(text).nodes] == ["FROM x", *lines]


#: Characters that mean something somewhere, and some that do not.
_ODD = "ab1 $\"'\\`<>-=[],#{}:;\t\r\x85\u2003\ufeff"
_WORDS = st.text(st.sampled_from(_ODD), max_size=12)
_NAMED = st.sampled_from([*NAMES, *map(str.upper, NAMES), "oNbuild", "NOSUCH", "\ufeff"])
_FLAGS = st.sampled_from(
    ["", "", "--chown=1", "--mount=a,b='c d'", '--x="y\\"z"', "--", "--a\\ b", "-- --c", '--"\r"']
)
_HEREDOCS = ["RUN <<EOF", "<<EOF /d", "<<-'EOF' <<\"E F\" /d", "cat <<EOF >f; cat <<A", "COPY << A /x"]
_FORMS = st.one_of(
    _WORDS,
    st.lists(_WORDS, max_size=3).map(json.dumps),
    st.lists(st.tuples(NAME, _WORDS), max_size=3).map(lambda all: " ".join(f"{a}={b!r}" for a, b in all)),
    st.sampled_from([*_HEREDOCS, "CMD", 'CMD ["a"]']),
)
_BODIES = st.lists(
    st.sampled_from(["EOF", "\tEOF", "A", "E F", "text", "# c", "\\", "EOF\r", "", "RUN x \\"]), max_size=5
)
_LINES = st.builds(
    lambda name, flags, form, body: "\n".join([f"{name} {flags} {form}", *body]),
    _NAMED, _FLAGS, _FORMS, _BODIES,
)  # fmt: skip


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(["", "# escape=`\n", "# escape=\\\n", "\ufeff"]), st.lists(_LINES, max_size=4))
def test_printed_files_parse_to_the_same(head: str, lines: list[str]) -> None:
    try:
        first = read(head + "\n".join(lines))
    except InvalidParameter:
        return
    second = read(write(first))
    assert (second.escape, len(second.nodes)) == (first.escape, len(first.nodes))
    for one, other in zip(first.nodes, second.nodes, strict=True):
        assert replace(other, line=one.line, original=one.original) == one


@settings(deadline=None)
@given(st.one_of(st.text(), st.lists(_LINES, max_size=4).map("\n".join)))
def test_no_text_makes_the_parser_fail_otherwise(text: str) -> None:
    try:
        program(read("FROM x\n" + text).nodes)
    except InvalidParameter:
        pass


@settings(deadline=None)
@given(st.text(st.sampled_from("ab12$${}{}:-+?#%/\\'\"*` ")), st.booleans(), st.sampled_from("\\`"))
def test_no_word_makes_the_expansion_fail_otherwise(word: str, quotes: bool, escape: str) -> None:
    try:
        expand(word, VARIABLES, escape, quotes=quotes)
    except InvalidParameter:
        pass


@given(st.text(st.sampled_from('abtypeidsource,=,="1$ \r')))
def test_no_mount_makes_the_parser_fail_otherwise(text: str) -> None:
    try:
        check_mount(text)
        parse_mount(text, lambda word: word)
    except InvalidParameter:
        pass
