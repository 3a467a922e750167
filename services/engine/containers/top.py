"""``docker top``: ps(1) of the host, its lines reduced to the container's processes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

from services.engine.containers.announce import announce
from services.engine.containers.services import Services
from services.engine.containers.transitions import check_task
from services.engine.containers.values import go_quote
from services.protocol.api.containers import TopReply
from services.protocol.errors import InvalidParameter, SystemError_
from services.protocol.verbs.containers import TopArgs

#: A column may be renamed, but not into the one that is searched for.
_SPACE = re.compile(r"[\t\n\f\r ]+")
_RENAMED_PID = re.compile(r"\s+([^\s]*)=\s*(PID[^\s]*)")


async def top(services: Services, args: TopArgs) -> TopReply:
    """Raises ``Conflict`` when it does not run, ``InvalidParameter`` for ps's arguments."""
    ps_args = args.ps_args or "-ef"
    check_ps_args(ps_args)
    entry = services.registry.get(args.ref)
    check_task(entry.state, entry.id)
    pids = set(await services.shims.pids(entry.id))
    words = ps_args.split(" ")
    wanted = "-q" + ",".join(str(pid) for pid in sorted(pids))
    status, output, _ = await _ps([*words, wanted])
    if status:
        # Some options (such as f) do not go together with -q.
        status, output, errors = await _ps(words)
        if status:
            reason = errors.partition("\n")[0] or f"exit status {status}"
            raise SystemError_(f"ps: {reason}")
    announce(services, entry, "top")
    return parse(output, pids)


def check_ps_args(text: str) -> None:
    if "\0" in text:
        raise InvalidParameter("ps: invalid argument")
    for match in _RENAMED_PID.finditer(text):
        if match[1] != "pid":
            raise SystemError_(f'specifying "{match[1]}={match[2]}" is not allowed')


async def _ps(arguments: Sequence[str]) -> tuple[int, str, str]:
    try:
        process = await asyncio.create_subprocess_exec(
            "ps", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except FileNotFoundError as error:
        raise SystemError_('exec: "ps": executable file not found in $PATH (Debian: procps)') from error
    try:
        output, errors = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        raise
    return process.returncode or 0, output.decode(errors="replace"), errors.decode(errors="replace")


def parse(output: str, pids: set[int]) -> TopReply:
    """Header and the lines of *pids*; the last column may hold spaces."""
    lines = output.split("\n")  # a command line may hold what Python takes for the end of a line
    titles = _fields(lines[0])
    if "PID" not in titles:
        raise SystemError_("Couldn't find PID field in ps output")
    at = titles.index("PID")
    processes = []
    preceded = False
    for line in lines[1:]:
        fields = _fields(line)
        if not fields:
            continue
        if fields[at] == "-":
            # A line of a thread, which belongs to the process above it.
            if preceded:
                processes.append(_columns(fields, len(titles)))
            continue
        preceded = _is_one_of(fields[at], pids)
        if preceded:
            processes.append(_columns(fields, len(titles)))
    return TopReply(titles=titles, processes=processes)


def _fields(line: str) -> list[str]:
    """By white space of ASCII alone."""
    return [field for field in _SPACE.split(line) if field]


def _is_one_of(text: str, pids: set[int]) -> bool:
    if not (text.isascii() and text.isdigit()):
        raise SystemError_(f"Unexpected pid '{text}': strconv.Atoi: parsing {go_quote(text)}: invalid syntax")
    return int(text) in pids


def _columns(fields: list[str], count: int) -> list[str]:
    return [*fields[: count - 1], " ".join(fields[count - 1 :])]
