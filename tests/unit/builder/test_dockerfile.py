"""Dockerfile text to checked instructions: lines, words, JSON forms, refusals, round trips."""

from __future__ import annotations

import pytest

from services.engine.dockerfile.heredocs import Heredoc
from services.engine.dockerfile.instructions import Instruction, program, single
from services.engine.dockerfile.parser import Dockerfile, parse
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
        ('FROM a\nLABEL a=1 b"', r'Syntax error - can\'t find = in "b\\""'),
        ("FROM a\nSHELL x", "SHELL requires the arguments to be in JSON form"),
        ("FROM a\nUSER a b\nRUN --nope x", "line 3: unknown flag: --nope"),
        ("FROM a\nONBUILD ONBUILD RUN x", "Chaining ONBUILD"),
        ("FROM a\nHEALTHCHECK --interval=1 CMD x", 'missing unit in duration "1"'),
        ("FROM a\nHEALTHCHECK --interval=1x CMD x", 'unknown unit "x" in duration "1x"'),
        ("FROM a\nHEALTHCHECK --interval=.s CMD x", 'invalid duration ".s"'),
        ("FROM a\nHEALTHCHECK --interval=-1s CMD x", 'Interval "interval" cannot be less than 1ms'),
        ("FROM a\nHEALTHCHECK BAD", 'Unknown type "BAD" in HEALTHCHECK'),
        ("FROM a\nHEALTHCHECK bad", 'Unknown type "BAD" in HEALTHCHECK'),
        ("FROM a\nHEALTHCHECK --retries=1_0 CMD a", 'strconv.ParseInt: parsing "1_0": invalid syntax'),
        ("FROM a\nHEALTHCHECK --retries=3000000000 CMD a", 'parsing "3000000000": value out of range'),
        ('FROM a\nRUN ["a", 1]', "failed to parse Dockerfile: when using JSON array syntax, arrays must be"),
        (
            'FROM a\nCOPY [["a"], "b"]',
            "failed to parse Dockerfile: when using JSON array syntax, arrays must be",
        ),
        ("FROM a\nONBUILD ENV x", "failed to parse Dockerfile: ENV must have two arguments"),
        ("FROM a\nCOPY", "line 2: COPY requires at least two arguments, but only one was provided"),
        ("FROM a\nADD --nope a", "line 2: ADD requires at least two arguments"),
        (
            f"FROM a\nRUN {'x' * 65532}",
            "failed to parse Dockerfile: dockerfile line greater than max allowed size",
        ),
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


def test_what_is_no_mistake() -> None:
    longest = "x" * 65531
    text = f'RUN {longest}\nRUN ["a"\nRUN [NaN]\nRUN {"[" * 60000}\n'
    text += "HEALTHCHECK --nope NONE\nSTOPSIGNAL --nope 9\n"
    assert [step.is_json for step in steps(text)] == [False] * 6


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
        ("${a", "unsupported modifier (\ufffd) in substitution"),
        ("${a!", "unsupported modifier (!) in substitution"),
        ("${a:-${b!", "syntax error: missing '}'"),
        ("${a:-${b!}", "unsupported modifier (!) in substitution"),
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
