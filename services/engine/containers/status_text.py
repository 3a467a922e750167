"""``Up 5 minutes (healthy)``: the state of a container in words (moby ``State.String``)."""

from __future__ import annotations

from services.engine.containers.model import ContainerState, Status

_SECOND = 1_000_000_000


def status_text(state: ContainerState, now: int) -> str:
    """*now* is Unix nanoseconds."""
    match state.status:
        case Status.PAUSED:
            return f"Up {ago(now - state.started_at)} (Paused)"
        case Status.RESTARTING:
            return f"Restarting ({state.exit_code}) {ago(now - state.finished_at)} ago"
        case Status.RUNNING:
            up = f"Up {ago(now - state.started_at)}"
            return up if state.health is None else f"{up} ({_health(state.health.status)})"
        case Status.REMOVING:
            return "Removal In Progress"
        case Status.DEAD:
            return "Dead"
        case Status.CREATED:
            return "Created"
        case Status.EXITED:
            return f"Exited ({state.exit_code}) {ago(now - state.finished_at)} ago"


def _health(status: str) -> str:
    return "health: starting" if status == "starting" else status


def ago(nanoseconds: int) -> str:
    """A duration as people say it (``go-units`` ``HumanDuration``)."""
    seconds = nanoseconds // _SECOND
    minutes, hours = seconds // 60, int(seconds / 3600 + 0.5)
    small = (
        (seconds < 1, "Less than a second"),
        (seconds == 1, "1 second"),
        (seconds < 60, f"{seconds} seconds"),
        (minutes == 1, "About a minute"),
        (minutes < 60, f"{minutes} minutes"),
        (hours == 1, "About an hour"),
        (hours < 48, f"{hours} hours"),
        (hours < 24 * 7 * 2, f"{hours // 24} days"),
        (hours < 24 * 30 * 2, f"{hours // 24 // 7} weeks"),
        (hours < 24 * 365 * 2, f"{hours // 24 // 30} months"),
    )
    return next((text for holds, text in small if holds), f"{hours // 24 // 365} years")
