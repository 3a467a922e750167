"""``X-Registry-Auth``: credentials as clients send them, kept for one operation and never logged."""

from __future__ import annotations

import base64
import binascii

import msgspec

from reexec.distribution.model import Credentials


class AuthConfig(msgspec.Struct, frozen=True):
    """The document of ``X-Registry-Auth`` and of ``POST /auth``."""

    username: str = ""
    password: str = ""
    auth: str = ""
    serveraddress: str = ""
    identitytoken: str = ""
    registrytoken: str = ""

    def credentials(self) -> Credentials:
        return Credentials(self.username, self.password, self.identitytoken, self.registrytoken)


def decode(header: str) -> Credentials:
    """What cannot be read is no credentials, as in dockerd: old clients send all kinds of things."""
    return decode_config(header).credentials()


def decode_config(header: str) -> AuthConfig:
    try:
        data = base64.b64decode(header + "=" * (-len(header) % 4), altchars=b"-_")
        return msgspec.json.decode(data, type=AuthConfig) if data else AuthConfig()
    except (binascii.Error, msgspec.MsgspecError, ValueError):
        return AuthConfig()
