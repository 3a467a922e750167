"""Dockerfile text to checked instructions: lines, words, JSON forms, refusals, round trips."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.engine.dockerfile.instructions import Instruction, program
from services.engine.dockerfile.parser import Dockerfile, parse, parse_line
from services.engine.dockerfile.words import expand
from services.protocol.errors import InvalidParameter


def read(text: str) -> Dockerfile:
    return parse(text, "Dockerfile")


def steps(text: str) -> list[Instruction]:
    (stage,) = program(read("FROM x\n" + text).nodes).stages
    return stage.instructions


def test_continuation_comments_and_crlf() -> None:
    (run,) = steps("RUN a \\\r\n# comment\r\n  b \\\r\n  c\r\n")
    assert run.args == ("a   b   c",)
    assert run.node.line == 2


def test_byte_order_mark_and_directives() -> None:
    dockerfile = read("\ufeff# syntax=docker/dockerfile:1\n# escape=`\nFROM x\nRUN a `\nb\n")
    assert dockerfile.escape == "`"
    assert [node.args for node in dockerfile.nodes] == [("x",), ("a b",)]
    assert read("# a comment first\n# escape=`\nFROM x\n").escape == "\\"


def test_empty_lines_in_a_continuation_are_warned_of() -> None:
    assert "Empty continuation line found in: RUN a b" in read("FROM x\nRUN a \\\n\nb\n").warnings[0]
    assert not read("FROM x\nRUN a \\\n").warnings


def test_heredocs_are_read_past() -> None:
    first, second = steps("RUN <<EOF\nFROM nowhere\nEOF\nUSER u\n")
    assert (first.args, second.name) == (("<<EOF",), "user")
    with pytest.raises(InvalidParameter, match="unterminated heredoc"):
        read("FROM x\nRUN <<EOF\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "failed to parse Dockerfile: file with no instructions"),
        (
            "# escape=x\nFROM a",
            "failed to parse Dockerfile: invalid escape token 'x' does not match ` or \\\\",
        ),
        ("# escape=`\n# escape=`\nFROM a", "only one escape parser directive can be used"),
        ("FROM a\nRUNN x", r"line 2: unknown instruction: RUNN \(did you mean RUN\?\)"),
        ("FROM a\n\nCOPY x", "line 3: COPY requires at least two arguments, but only one was provided"),
        ("FROM a b", "line 1: FROM requires either one or three arguments"),
        ("FROM a AS 1x", 'invalid name for build stage: "1x"'),
        ("RUN x", "no build stage in current context"),
        ("FROM a\nENV x", "ENV must have two arguments"),
        ("FROM a\nLABEL a=1 b", 'Syntax error - can\'t find = in "b"'),
        ("FROM a\nSHELL x", "SHELL requires the arguments to be in JSON form"),
        ("FROM a\nUSER a b\nRUN --nope x", "line 3: unknown flag: --nope"),
        ("FROM a\nONBUILD ONBUILD RUN x", "Chaining ONBUILD"),
        ("FROM a\nHEALTHCHECK --interval=1 CMD x", "invalid duration"),
        ("FROM a\nHEALTHCHECK BAD", 'Unknown type "BAD" in HEALTHCHECK'),
        ('FROM a\nVOLUME [""]', "VOLUME specified can not be an empty string"),
    ],
)
def test_refusals_name_the_line(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        program(read(text).nodes)


def test_flags_end_at_the_first_other_word() -> None:
    (copy,) = steps('COPY --from="a b" --chown=u:g a --b /c\n')
    assert (copy.flag("from"), copy.flag("chown"), copy.args) == ("a b", "u:g", ("a", "--b", "/c"))


VARIABLES = {"a": "x", "path": "/usr/lib/x.tar.gz", "empty": ""}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("$a-${a}", "x-x"),
        ("'$a'\"$a\"\\$a", "$ax$a"),
        ("${no:-d}${empty:-e}${empty-f}", "de"),
        ("${a:+s}${empty:+t}${no+u}", "s"),
        ("${no:-${a}y}", "xy"),
        ("${path#*/}|${path##*/}", "usr/lib/x.tar.gz|x.tar.gz"),
        ("${path%.*}|${path%%.*}", "/usr/lib/x.tar|/usr/lib/x"),
        ("${path/\\//_}", "_usr/lib/x.tar.gz"),
        ("$$a|$", "a|$"),
        ("${path//?/$a}", "x" * 17),
        ("${path#\\*}", "/usr/lib/x.tar.gz"),
        ("a\\", "a"),
    ],
)
def test_expansion(word: str, value: str) -> None:
    assert expand(word, VARIABLES) == value


@pytest.mark.parametrize("word", ["${a", "'a", '"a', "${}", "${a:z}", "${no:?must be set}"])
def test_broken_expansion(word: str) -> None:
    with pytest.raises(InvalidParameter, match="^failed to process "):
        expand(word, VARIABLES)


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


@given(st.text())
def test_no_text_makes_the_parser_fail_otherwise(text: str) -> None:
    try:
        program(read(text).nodes)
    except InvalidParameter:
        pass
