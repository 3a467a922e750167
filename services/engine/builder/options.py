"""What a build is asked for: what is refused before anything is done, and what options mean."""

from __future__ import annotations

from collections.abc import Mapping

from services.engine.images.references import Reference, parse, parse_repository
from services.protocol.errors import InvalidParameter
from services.protocol.verbs.builder import BuildArgs

#: The build argument that makes images reproducible (reproducible-builds.org): no need to declare it.
EPOCH = "SOURCE_DATE_EPOCH"


def check(args: BuildArgs, *, experimental: bool) -> list[Reference]:
    """The tags. Raises ``InvalidParameter``."""
    if args.isolation not in ("", "default"):
        raise InvalidParameter(f'unsupported isolation: "{args.isolation}"')
    if args.security_opt:
        raise InvalidParameter("security options are not supported on linux")
    if args.squash and not experimental:
        raise InvalidParameter("squash is only supported with experimental mode")
    if args.platform and args.platform.split("/")[0] not in ("linux",):
        raise InvalidParameter(
            f'"{args.platform}": unknown operating system or architecture: invalid argument'
        )
    newest(args.build_args)
    named = [tag for tag in args.tags if tag]
    if any(parse(tag).digest for tag in named):
        raise InvalidParameter("build tag cannot contain a digest")
    tags = [parse_repository(tag, "").with_default_tag() for tag in named]
    return list(dict.fromkeys(tags))


def newest(arguments: Mapping[str, str | None]) -> int | None:
    """Unix seconds of the newest time that an image may show: that of its making, of its files."""
    text = arguments.get(EPOCH)
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise InvalidParameter(f"invalid {EPOCH}: {text}")
    return int(text)
