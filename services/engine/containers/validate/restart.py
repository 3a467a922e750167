"""Restart policies."""

from __future__ import annotations

from services.protocol.api.containers import HostConfig, RestartPolicy
from services.protocol.errors import InvalidParameter

ON_FAILURE = "on-failure"
_WITHOUT_COUNT = ("no", "always", "unless-stopped")


def check_policy(policy: RestartPolicy) -> None:
    """moby ``ValidateRestartPolicy``; an empty name without a count is no policy."""
    prefix = "invalid restart policy: "
    count = policy.maximum_retry_count
    if policy.name in _WITHOUT_COUNT:
        if count:
            negative = " and cannot be negative" if count < 0 else ""
            raise InvalidParameter(
                f"{prefix}maximum retry count can only be used with '{ON_FAILURE}'{negative}"
            )
    elif policy.name == ON_FAILURE:
        if count < 0:
            raise InvalidParameter(f"{prefix}maximum retry count cannot be negative")
    elif policy.name:
        raise InvalidParameter(
            f"{prefix}unknown policy '{policy.name}'; "
            "use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )


def is_none(policy: RestartPolicy | None) -> bool:
    return policy is None or policy.name in ("", "no")


def check_auto_remove(host: HostConfig) -> None:
    if host.auto_remove and not is_none(host.restart_policy):
        raise InvalidParameter("can't create 'AutoRemove' container with restart policy")
