"""The options of COPY and ADD, checked. Texts are buildkit's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from reexec.helpers.modes import parse_mode
from reexec.helpers.patterns import Exclusions
from services.engine.builder.git import is_git
from services.engine.builder.output import BuildFailed
from services.engine.dockerfile.instructions import Instruction
from services.engine.dockerfile.settings import Expand

URLS = ("http://", "https://")
#: Algorithm -> hexadecimal digits.
_DIGESTS = {"sha256": 64, "sha384": 96, "sha512": 128}
_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True)
class Options:
    """``owner`` is "user[:group]", ``mode`` as in :mod:`reexec.helpers.modes`; "" where not given.
    ``checksum`` is what the one URL (or commit) must have. ``unpack`` None: files yes, downloads no."""

    owner: str = ""
    mode: str = ""
    checksum: str = ""
    excludes: tuple[str, ...] = ()
    link: bool = False
    parents: bool = False
    keep_git_dir: bool = False
    unpack: bool | None = None

    @property
    def words(self) -> str:
        """As the history has them, with a space behind; what the sources' checksums say is left out."""
        words = [f"--chown={self.owner}"] if self.owner else []
        words += [f"--chmod={self.mode}"] if self.mode else []
        words += ["--link"] if self.link else []
        words += ["--parents"] if self.parents else []
        words += [f"--exclude={pattern}" for pattern in self.excludes]
        words += [] if self.unpack is None else [f"--unpack={str(self.unpack).lower()}"]
        return "".join(f"{word} " for word in words)


def read_options(step: Instruction, expand: Expand, sources: Sequence[str]) -> Options:
    """*sources* are those that are no here-documents. Raises :class:`BuildFailed` and
    ``InvalidParameter``."""
    options = Options(
        owner=expand(step.flag("chown")),
        mode=expand(step.flag("chmod")),
        checksum=expand(step.flag("checksum")),
        excludes=tuple(expand(pattern) for pattern in step.flags.get("exclude", ())),
        link=step.flag("link") == "true",
        parents=step.flag("parents") == "true",
        keep_git_dir=step.flag("keep-git-dir") == "true",
        unpack=step.flag("unpack") == "true" if "unpack" in step.flags else None,
    )
    if options.mode:
        parse_mode(options.mode)
    Exclusions(options.excludes)
    if options.checksum:
        _check_checksum(options.checksum, sources)
    return options


def _check_checksum(text: str, sources: Sequence[str]) -> None:
    if len(sources) != 1:
        raise BuildFailed("checksum can't be specified for multiple sources")
    if is_git(sources[0]):
        if not _HEX.fullmatch(text):
            raise BuildFailed(f"invalid checksum {text}: expected the hexadecimal id of a commit")
        return
    if not sources[0].startswith(URLS):
        raise BuildFailed("checksum can't be specified for non-HTTP(S) sources")
    algorithm, colon, digits = text.partition(":")
    if not colon or not digits:
        raise BuildFailed("invalid checksum digest format")
    if algorithm not in _DIGESTS:
        raise BuildFailed("unsupported digest algorithm")
    if not _HEX.fullmatch(digits):
        raise BuildFailed("invalid checksum digest format")
    if len(digits) != _DIGESTS[algorithm]:
        raise BuildFailed("invalid checksum digest length")
