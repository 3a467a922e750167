"""Dockerfile text to checked instructions: lines, words, JSON forms, refusals, round trips."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.engine.dockerfile.heredocs import Heredoc
from services.engine.dockerfile.instructions import NAMES, Instruction, program, single
from services.engine.dockerfile.parser import Dockerfile, parse, parse_line
from services.engine.dockerfile.words import expand
from services.protocol.errors import InvalidParameter
from tests.unit.builder.printing import write


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


def test_heredocs() -> None:
    run, user, copy = steps(
        "RUN <<EOF\nFROM nowhere\n# no comment \\\n\nEOF\nUSER u\n"
        'COPY --chown=1 <<-\'A b <<"B" 3<<C /d\n\ta\nB\r\nc\r\nC\n'
    )
    assert (run.args, user.name) == (("<<EOF",), "user")
    assert run.node.heredocs == (Heredoc("EOF", content="FROM nowhere\n# no comment \\\n\n"),)
    assert user.node.line == 7
    assert [one.name for one in copy.node.heredocs] == ["B", "C"]
    assert [one.expand for one in copy.node.heredocs] == [False, True]
    assert [one.data for one in copy.node.heredocs] == ["\ta\n", "c\r\n"]


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("RUN cat <<A >f <<-B", ["A", "B"]),
        ("RUN cat <<A;cat << 'B C'", ["A", "B C"]),
        ("RUN cat 3<<A <&3", ["A"]),
        ("RUN cat <<\\A", ["A"]),
        ("RUN cat <<$A", ["$A"]),
        ("RUN cat <<<A; echo '<<B' \"<<C\" \\<<D x<<E $((1 << 2)) <<", []),
        ('RUN ["cat", "<<A"]', []),
        ("RUN --mount=target=/<<A cat", []),
        ("ONBUILD RUN <<A", ["A"]),
        ("ONBUILD ONBUILD RUN <<A", []),
        ("ADD <<A <<-B /c", ["A", "B"]),
        ('COPY ["<<A", "/c"]', []),
        ("ENV a=<<A", []),
    ],
)
def test_where_heredocs_begin(line: str, names: list[str]) -> None:
    (node,) = read(line + "".join(f"\n{name}" for name in names)).nodes
    assert [one.name for one in node.heredocs] == names


def test_tabs_of_a_heredoc() -> None:
    (run,) = steps("RUN <<-EOF\n\t\ta\n\t b\n c\n\t\tEOF\n")
    assert run.node.heredocs[0].data == "a\n b\n c\n"
    assert run.node.heredocs[0].chomp and not run.args[0].startswith("\t")


def test_trigger_with_a_heredoc_is_one_instruction() -> None:
    trigger = single("COPY <<A <<B /c\na\nA\nb\nB")
    assert [one.content for one in trigger.node.heredocs] == ["a\n", "b\n"]
    for broken in ("COPY <<A /c\na", "COPY <<A /c\na\nA\nRUN b"):
        with pytest.raises(InvalidParameter):
            single(broken)
    assert single("LABEL a='b\nc'").args == ("a", "'b\nc'")


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
        ("FROM a\nRUN <<EOF\nx", "failed to parse Dockerfile: unterminated heredoc"),
        ("FROM a\nCOPY b <<EOF\nEOF", "line 2: COPY cannot accept a heredoc as a destination"),
        ("FROM a\nCOPY --chomd=1 b c", r"line 2: unknown flag: --chomd \(did you mean chmod\?\)"),
        ("FROM a\nUSER --x=1 b", "line 2: unknown flag: --x"),
        ("FROM a\nCOPY --link=maybe b c", "line 2: expecting boolean value for flag --link, not: maybe"),
        ("FROM a\nCOPY --link= b c", "line 2: missing a value on flag: --link"),
        ("FROM a\nCOPY --chown b c", "line 2: missing a value on flag: --chown"),
        ("FROM a\nRUN --network=x b", 'line 2: invalid network mode "x"'),
        ("FROM a\nRUN --mount=from=$a,target=/x b", "line 2: 'from' doesn't support variable expansion"),
        ("FROM a\nRUN a \\\n# c\n b\nRUN c\nADD d", "line 6: ADD requires at least two arguments"),
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
        ("${a?e}${path:?e}", "x/usr/lib/x.tar.gz"),
        ("${empty?e}${empty-d}${no-d}${no+s}${empty+s}", "ds"),
        ("$12$1a", "a"),
        ("${no:-'a b'}${no:-\"${a}\"}", "a bx"),
        ("${path##*'/'}", "x.tar.gz"),
        ("${path/lib/${a}}|${path//\\//-}", "/usr/x/x.tar.gz|-usr-lib-x.tar.gz"),
        ('"${a}\\$a\\\\\\n"', "x$a\\\\n"),
        ("${no:-${no2:-${a}}}", "x"),
        ("${path:#*/}", "usr/lib/x.tar.gz"),
    ],
)
def test_expansion(word: str, value: str) -> None:
    assert expand(word, VARIABLES) == value


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("${a", "syntax error: missing '}'"),
        ("${a:", "syntax error: missing '}'"),
        ("${a:-b", "syntax error: missing '}'"),
        ("${", "syntax error: missing '}'"),
        ("${}", "syntax error: bad substitution"),
        ("${:-x}", "syntax error: bad substitution"),
        ("'a", "unexpected end of statement while looking for matching single-quote"),
        ('"a', "unexpected end of statement while looking for matching double-quote"),
        ("${a:z}", "unsupported modifier (:z) in substitution"),
        ("${a!b}", "unsupported modifier (!) in substitution"),
        ("${no:?must be set}", "no: must be set"),
        ("${no?}", "no: is not allowed to be unset"),
        ("${empty:?}", "empty: is not allowed to be empty"),
        ("${a#\\q}", "invalid pattern (\\q) in substitution: invalid escape '\\q'"),
        ("${a/b}", "syntax error: missing '/' in ${}"),
        ("${a/b/c", "syntax error: missing '}'"),
    ],
)
def test_broken_expansion(word: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        expand(word, VARIABLES)
    shown = word.replace("\\", "\\\\").replace('"', '\\"')
    assert str(caught.value) == f'failed to process "{shown}": {message}'


def test_expansion_of_a_heredoc_leaves_quotes() -> None:
    assert expand("'$a' \"${a}\" \\$a", VARIABLES, quotes=False) == "'x' \"x\" $a"


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


@given(st.text())
def test_no_text_makes_the_parser_fail_otherwise(text: str) -> None:
    try:
        program(read(text).nodes)
    except InvalidParameter:
        pass
