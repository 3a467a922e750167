"""The log option ``tag``; every text here is what dockerd 28.5 answers."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.engine.containers.log_tag import expand_tag
from services.engine.containers.model import Container
from services.protocol.api.containers import Config, HostConfig
from services.protocol.errors import InvalidParameter, Unimplemented

ID = "0123456789ab" + "c" * 52
IMAGE = "sha256:ba22e" + "0" * 59
INFO = (
    f"{ID} /web echo [hi] {IMAGE} busybox 2026-11-22 15:14:46.43416454 +0000 UTC [K=v w] map[a:b] /log docker"
)


def expand(template: str) -> str:
    container = Container(
        id=ID,
        name="web",
        created_at=1795360486_434164540,
        path="echo",
        args=["hi"],
        config=Config(image="busybox", env=["K=v w"], labels={"a": "b"}),
        host_config=HostConfig(),
        image_id=IMAGE,
        image_reference="busybox",
        chain_id="",
        driver="overlay2",
    )
    return expand_tag(template, container, "/log", {"labels": "a"}, {"a": "b"})


FIELDS = [
    ("{{.ID}}/{{ .FullID }}", f"0123456789ab/{ID}"),
    ("{{.Name}} {{.ContainerName}}", "web /web"),
    ("{{.ImageID}} {{.ImageFullID}} {{.ImageName}}", f"sha256:ba22e {IMAGE} busybox"),
    ("{{.Command}}|{{.ContainerEntrypoint}}|{{.ContainerArgs}}", "echo hi|echo|[hi]"),
    ("{{.ContainerEnv}} {{.ContainerLabels}} {{.LogPath}}", "[K=v w] map[a:b] /log"),
    ("{{.ContainerCreated}}", "2026-11-22 15:14:46.43416454 +0000 UTC"),
    ("{{json .ContainerCreated}}", '"2026-11-22T15:14:46.43416454Z"'),
    ("{{.Config.labels}}|{{.Config.no}}|{{.Config.no.more}}", "a|<no value>|<no value>"),
    ('{{index .Config "labels"}}|{{index .Config "no"}}', "a|"),
    ("{{.ExtraAttributes nil}}", "map[a:b]"),
    ("{{(.Config).labels}}|{{$.Name}}", "a|web"),
    ("{{.Hostname}}", socket.gethostname()),
    ("{{.}}", f"{{map[labels:a] {INFO}}}"),
    ("{{print $}}", f"&{{map[labels:a] {INFO}}}"),
    ("{{/* nothing */}}", ""),
]
SYNTAX = [
    ('{{"{{"}}x}}y{', "{{x}}y{"),
    (" a {{- 1 -}} b {{/* c */}} d {{- /* e */ -}} f ", " a1b  df "),
    ("{{- 1}}x{{-1 -}}", "1x-1"),
    ("a{{- .Name -}}\n{{.DaemonName}}", "awebdocker"),
    ("{{.Name\n}}", "web"),
    ("{{.Name|}}", "web"),
    ("{{'a'}} {{'\\n'}} {{'\\''}} {{true}} {{`raw\\n`}}", "97 10 39 true raw\\n"),
    ("{{1_000}} {{07}} {{-3}} {{+3}} {{0b11}} {{0o17}} {{-0x1f}}", "1000 7 -3 3 3 15 -31"),
    (r'{{"\x41\102\u0043\U00000044\"\t"}}', 'ABCD"\t'),
    ('{{"a" | printf "%s-%s" "b"}}', "b-a"),
    ('{{(printf "%d" 0x1F) | upper | len}}', "2"),
    ('{{.Name | printf "%s-%s" .ImageName | upper}}', "BUSYBOX-WEB"),
]
FUNCTIONS = [
    ('{{split "a,b" ","}} {{split "aé" ""}} {{join (split "a,b" ",") "-"}}', "[a b] [a é] a-b"),
    ('{{title "foo bar-baz o\'neil éa ßx_y 1a"}}', "Foo Bar-Baz O'Neil Éa ßx_y 1a"),
    ('{{lower "ABÉİ"}} {{upper "ßé"}}', "abéi ßÉ"),
    ('[{{pad "x" 2 3}}] [{{pad "" 2 3}}]', "[  x   ] []"),
    ('{{truncate "abcdef" 3}} {{truncate "ab" 3}} {{truncate "é" 1}}', "abc ab \ufffd"),
    (
        '{{json "<é>"}} {{json .ContainerArgs}} {{json nil}} {{json .ContainerLabels}}',
        '"<é>" ["hi"] null {"a":"b"}',
    ),
    ('{{json (truncate "é" 1)}}', '"\ufffd"'),
    ('{{len .Name}} {{len .Config}} {{len "é"}}', "3 1 2"),
    ('{{print 1 2 "a" "b" 3}}|{{print nil}}|{{print}}|{{print true false}}', "1 2ab3|<nil>||true false"),
    ('{{print true 1 nil "a" nil}}|{{println 1 "a"}}', "true 1 <nil>a<nil>|1 a\n"),
    ('{{index .ContainerArgs 0}} {{index "abc" 1}}', "hi 98"),
    ('{{slice "abcdef" 1 3}} {{slice .Name 1}} {{slice .ContainerArgs 0 1}}', "bc eb [hi]"),
    ('{{html "<a b=\'c\'>&\\""}}', "&lt;a b=&#39;c&#39;&gt;&amp;&#34;"),
    ('{{html 1 2 "a" nil}}', "1 2a&lt;no value&gt;"),
    ('{{js "a\'b\\"<\\n=é\\u2028"}}', "a\\'b\\\"\\u003C\\u000A\\u003Dé\\u2028"),
    ('{{urlquery "a b&c/é"}} {{urlquery 1 "~*"}}', "a+b%26c%2F%C3%A9 1~%2A"),
    ('{{eq 1 1}} {{eq 1 2 1}} {{ne "a" "b"}} {{eq nil 1}} {{eq nil nil}}', "true true true false true"),
    ('{{lt 1 2}} {{le "a" "a"}} {{gt 1 2}} {{ge 2 1}}', "true true false true"),
    ('{{and 1 0 2}} {{or 0 "" "x"}} {{not 1}} {{or 1 .Nope}}', "0 x false 1"),
    ('{{1 | and 0}} {{"x" | or ""}}', "0 x"),
]
PRINTF = [
    ('{{printf "%5s|%-5s|%05d|%q" "a" "b" 42 "q\\""}}', '    a|b    |00042|"q\\""'),
    (
        '{{printf "%x|%X|% x|%t|%v|%T" "hex" 255 "ab" true .ContainerArgs .Config}}',
        "686578|FF|61 62|true|[hi]|map[string]string",
    ),
    (
        '{{printf "%6.2s|%+d|%c|%U|%08b|%o|%%|% 04d" "abc" 5 65 65 5 8 7}}',
        "    ab|+5|A|U+0041|00000101|10|%| 007",
    ),
    ('{{printf "%d|%z|%s|%t" "s" 1 1 1}}', "%!d(string=s)|%!z(int=1)|%!s(int=1)|%!t(int=1)"),
    ('{{printf "%v %s %d" nil nil nil}}', "<nil> %!s(<nil>) %!d(<nil>)"),
    ('{{printf "%s"}}|{{printf "x" 1}}|{{printf "%"}}', "%!s(MISSING)|x%!(EXTRA int=1)|%!(NOVERB)"),
    ('{{printf "%6v|%-6v|%06d|%+.3d" true nil -42 5}}', "  true|<nil> |-00042|+005"),
    ('{{printf "%d %q" .ContainerArgs .ContainerArgs}}', '[%!d(string=hi)] ["hi"]'),
    ('{{printf "%5.1q|%q" "abc" 65}}', "  \"a\"|'A'"),
]


@pytest.mark.parametrize(("template", "tag"), [*FIELDS, *SYNTAX, *FUNCTIONS, *PRINTF])
def test_tags(template: str, tag: str) -> None:
    assert expand(template) == tag


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{", "unclosed action"),
        ("{{.Name", "unclosed action"),
        ("{{.Name}", "bad character U+007D '}'"),
        ("{{}}", "missing value for command"),
        ("{{ -}}", "missing value for command"),
        ("{{()}}", "missing value for parenthesized pipeline"),
        ("{{foo 1}}", 'function "foo" not defined'),
        ("{{.Name | nope}}", 'function "nope" not defined'),
        ("{{nope}}{{", 'function "nope" not defined'),
        ('{{upper "x" | 1}}', "non executable command in pipeline stage 2"),
        ('{{"abc}}', "unterminated quoted string"),
        ("{{`abc}}", "unterminated raw quoted string"),
        ('{{"a\\q"}}', "invalid syntax"),
        ("{{''}}", "invalid syntax"),
        ("{{'ab'}}", "malformed character constant: 'ab'"),
        ("{{/* abc}}", "unclosed comment"),
        ("{{/* a */ x}}", "comment ends before closing delimiter"),
        ("{{(1}}", "unclosed left paren"),
        ("{{1)}}", "unexpected right paren"),
        ("{{@}}", 'unexpected "@" in command'),
        ("{{.Name @}}", 'unexpected "@" in operand'),
        ("{{.Name := 1}}", 'unexpected ":=" in operand'),
        ("{{|upper}}", 'unexpected "|" in command'),
        ("{{.Name.}}", "unexpected <.> in operand"),
        ("{{upper(.Name)}}", 'unexpected "(" in operand'),
        ('{{"a".Foo}}', 'unexpected . after term "\\"a\\""'),
        ("{{:}}", "expected :="),
        ("{{€}}", "unrecognized character in action: U+20AC '€'"),
        ("{{$x}}", 'undefined variable "$x"'),
        ("x\n{{end}}", "unexpected {{end}}"),
        ("{{else}}", "unexpected {{else}}"),
        ("{{break}}", "{{break}} outside {{range}}"),
        ("{{1x}}", 'bad number syntax: "1x"'),
        ("{{08}}", 'integer overflow: "08"'),
        ("{{-}}", 'illegal number syntax: "-"'),
    ],
)
def test_templates_that_cannot_be_parsed(template: str, text: str) -> None:
    line = template.count("\n") + 1
    with pytest.raises(InvalidParameter) as raised:
        expand(template)
    assert str(raised.value) == f"failed to initialize logging driver: template: log-tag:{line}: {text}"


COMPARED = "incompatible types for comparison: int and string"


@pytest.mark.parametrize(
    ("template", "place", "text"),
    [
        ("é{{.Nope}}", "1:4|.Nope", "can't evaluate field Nope in type *logger.Info"),
        ("{{.Name}}\n{{.Nope}}", "2:2|.Nope", "can't evaluate field Nope in type *logger.Info"),
        ("a{{.Name.Foo}}", "1:8|.Name.Foo", "can't evaluate field Foo in type string"),
        ("{{(.Name).Foo}}", "1:3|.Name", "can't evaluate field Foo in type string"),
        ('{{printf "%d" (len .Nope)}}', "1:19|.Nope", "can't evaluate field Nope in type *logger.Info"),
        ("{{upper 1}}", "1:8|1", "expected string; found 1"),
        ("{{upper nil}}", "1:8|nil", "cannot assign nil to string"),
        ("{{upper}}", "1:2|upper", "wrong number of args for upper: want 1 got 0"),
        ("{{upper .Name .Nope}}", "1:2|upper", "wrong number of args for upper: want 1 got 2"),
        ("{{printf}}", "1:2|printf", "wrong number of args for printf: want at least 1 got 0"),
        ("{{.Name | .ID}}", "1:10|.ID", "wrong number of args for ID: want 0 got 1"),
        (
            "{{.ExtraAttributes}}",
            "1:2|.ExtraAttributes",
            "wrong number of args for ExtraAttributes: want 1 got 0",
        ),
        ("{{.ExtraAttributes 1}}", "1:19|1", "can't handle 1 for arg of type func(string) string"),
        (
            "{{.DaemonName 1}}",
            "1:2|.DaemonName",
            "DaemonName has arguments but cannot be invoked as function",
        ),
        ('{{.Config.tag "x"}}', "1:9|.Config.tag", "tag is not a method but has arguments"),
        ("{{nil}}", "1:2|nil", "nil is not a command"),
        ("{{(nil).Foo}}", "1:3|nil", "nil is not a command"),
        ("{{1 2}}", "1:2|1", "can't give argument to non-function 1"),
        ("{{(1) 2}}", "1:2|(1) 2", "can't give argument to non-function 1"),
        ("{{(1) | upper}}", "1:8|upper", "wrong type for value; expected string; got int"),
        ('{{join .Name ","}}', "1:7|.Name", "wrong type for value; expected []string; got string"),
        ("{{upper .}}", "1:8|.", "wrong type for value; expected string; got *logger.Info"),
        ('{{truncate .Name "a"}}', '1:17|"a"', 'expected integer; found "a"'),
        ("{{len 1}}", "1:2|len 1", "error calling len: len of type int"),
        ("{{len .}}", "1:2|len .", "error calling len: len of type logger.Info"),
        ("{{index nil 1}}", "1:2|index nil 1", "error calling index: index of untyped nil"),
        (
            "{{index .ContainerArgs 5}}",
            "1:2|index .ContainerArgs 5",
            "error calling index: index out of range: 5",
        ),
        (
            "{{index .Config 1}}",
            "1:2|index .Config 1",
            "error calling index: value has type int; should be string",
        ),
        ("{{slice .Name 2 1}}", "1:2|slice .Name 2 1", "error calling slice: invalid slice index: 2 > 1"),
        (
            "{{slice .Name 1 2 3}}",
            "1:2|slice .Name 1 2 3",
            "error calling slice: cannot 3-index slice a string",
        ),
        ('{{eq 1 "a"}}', '1:2|eq 1 "a"', f"error calling eq: {COMPARED}"),
        ('{{lt 1 "a"}}', '1:2|lt 1 "a"', f"error calling lt: {COMPARED}"),
        ("{{eq 1}}", "1:2|eq 1", "error calling eq: missing argument for comparison"),
        ("{{lt true false}}", "1:2|lt true false", "error calling lt: invalid type for comparison"),
        (
            "{{truncate .Name -1}}",
            "1:2|truncate .Name -1",
            "error calling truncate: runtime error: slice bounds out of range [:-1]",
        ),
        ("{{pad .Name -1 1}}", "1:2|pad .Name -1 1", "error calling pad: strings: negative Repeat count"),
        ("{{call .Name}}", "1:2|call .Name", "error calling call: non-function .Name of type string"),
    ],
)
def test_templates_that_fail(template: str, place: str, text: str) -> None:
    """The columns count bytes."""
    where, _, node = place.partition("|")
    with pytest.raises(InvalidParameter) as raised:
        expand(template)
    prefix = (
        f'failed to initialize logging driver: template: log-tag:{where}: executing "log-tag" at <{node}>: '
    )
    assert str(raised.value) == prefix + text


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{{if .Name}}yes{{end}}", "{{if}}"),
        ("{{range .ContainerArgs}}{{.}}{{end}}", "{{range}}"),
        ("{{with .Name}}{{.}}{{end}}", "{{with}}"),
        ('{{define "x"}}a{{end}}', "{{define}}"),
        ('{{template "x"}}', "{{template}}"),
        ('{{block "x" .}}{{end}}', "{{block}}"),
        ("{{$x := 1}}{{$x}}", "variables"),
        ("{{1.5}}", "the number 1.5"),
        ("{{.ContainerCreated.Year}}", "the methods of time.Time"),
        ('{{printf "%[1]s" "a"}}', "printf: %["),
        ('{{printf "%*d" 5 3}}', "printf: %*"),
        ('{{printf "%2000d" 3}}', "printf: the width of %2000d"),
        ("{{" + "(" * 60 + "1" + ")" * 60 + "}}", "more than 50 nested parentheses"),
        ('{{"\\\\"' + "| js" * 60 + "}}", "more than 65536 characters"),
        ("{{.}}" * 2000, "more than 65536 characters"),
    ],
)
def test_what_templates_lack(template: str, name: str) -> None:
    with pytest.raises(Unimplemented) as raised:
        expand(template)
    assert str(raised.value).startswith(f"failed to initialize logging driver: the log option tag: {name}")


@given(st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: "{{" not in text))
@settings(deadline=None)
def test_text_stays_as_it_is(text: str) -> None:
    assert expand(text) == text


@given(
    st.lists(
        st.sampled_from(
            [*"{}()|.-+$ \n\"'`\\1x", "{{", "}}", " -}}", "{{- ", "/*", "*/", "nil", "true", ":="]
        )
        | st.sampled_from([".Name", ".Config", ".ContainerArgs", "$.ID", '"a,b"', "%5s", "08", "1.5"])
        | st.sampled_from(
            [" upper ", " index ", " slice ", " printf ", " eq ", " lt ", " pad ", " json ", "if "]
        )
    ).map("".join)
)
@settings(deadline=None)
def test_any_template_is_expanded_or_refused(template: str) -> None:
    try:
        assert isinstance(expand("{{" + template + "}}"), str)
    except (InvalidParameter, Unimplemented) as error:
        assert "log" in str(error)
