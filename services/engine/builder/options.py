"""What a build is asked for: what is refused before anything is done, and what options mean."""

from __future__ import annotations

from collections.abc import Mapping

from services.engine.images.references import Reference, parse, parse_repository
from services.engine.registry import platforms
from services.protocol.errors import InvalidParameter, SystemError_
from services.protocol.verbs.builder import BuildArgs

#: The build argument that makes images reproducible (reproducible-builds.org): no need to declare it.
EPOCH = "SOURCE_DATE_EPOCH"


def check(args: BuildArgs, *, experimental: bool) -> list[Reference]:
    """The tags. Raises ``InvalidParameter``, and ``SystemError_`` for a tag that cannot be."""
    if args.isolation.lower() not in ("", "default"):
        raise InvalidParameter(f'unsupported isolation: "{args.isolation}"')
    if args.security_opt:
        raise InvalidParameter("security options are not supported on linux")
    if args.squash and not experimental:
        raise InvalidParameter("squash is only supported with experimental mode")
    if args.platform:
        platforms.parse(args.platform)
    newest(args.build_args)
    named = [tag for tag in args.tags if tag]
    try:
        if any(parse(tag).digest for tag in named):
            raise InvalidParameter("build tag cannot contain a digest")
        tags = [parse_repository(tag, "").with_default_tag() for tag in named]
    except InvalidParameter as error:
        raise SystemError_(str(error)) from None  # dockerd's status
    return list(dict.fromkeys(tags))


def newest(arguments: Mapping[str, str | None]) -> int | None:
    """Unix seconds of the newest time that an image may show: that of its making, of its files."""
    text = arguments.get(EPOCH)
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise InvalidParameter(f"invalid {EPOCH}: {text}")
    return int(text)
