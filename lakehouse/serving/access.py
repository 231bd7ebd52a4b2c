"""Access to the API: other machines need a key unless --open is given; if a key is set, everybody needs it."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from pathlib import Path

from lakehouse.errors import SettingError
from lakehouse.settings import Settings, load_settings

#: Names of this machine's loopback address. A browser sends the name that it asked for, so that a page elsewhere whose
#: name leads here is told by it.
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

#: WebSocket subprotocols (RFC 6455, 11.3.4): the one that is spoken, and the beginning of one that carries the key in
#: base64url without padding. A page can set no other header of a WebSocket, and a key in a URL would get into logs.
SUBPROTOCOL = "lakehouse"
KEY_SUBPROTOCOL = "lakehouse.key."


def is_loopback(host: str) -> bool:
    """Return True if only this machine can reach the address `host` to listen on."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_allowed(settings: Settings, is_open: bool = False) -> None:
    """Raise SettingError if the API would listen for other machines without a key, unless `is_open` (--open)."""
    if is_open or settings.api_key is not None or is_loopback(settings.serve_host):
        return
    raise SettingError(
        f"the API on {settings.serve_host} without a key, where other machines can reach it",
        "a key, or the word --open",
        "set LAKEHOUSE_API_KEY or --api-key-file FILE, or use 127.0.0.1",
    )


def key_of_file(file: Path) -> str:
    """Read a key from a file whose whole text it is. Raises SettingError if the file has no usable key."""
    try:
        found = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SettingError(f"key file {file}: {reason}", "a file whose text is the key") from None
    load_settings(api_key=found)  # raises for a key that cannot be used
    return found


class KeyCheck:
    """Checks whether a request has the key, in a time that does not depend on how many characters are right."""

    def __init__(self, key: str | None) -> None:
        self._key = None if key is None else key.encode()

    def allows(self, headers: dict[bytes, bytes]) -> bool:
        """Return whether the headers (lowercase names) have the key, or no key is required."""
        if self._key is None:
            return True
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        bearer = token.strip() if scheme.lower() == b"bearer" else b""
        sent = (bearer, headers.get(b"x-api-key", b"").strip(), _of_subprotocols(headers))
        found = [hmac.compare_digest(one, self._key) for one in sent]
        return any(found)


def is_same_origin(headers: dict[bytes, bytes]) -> bool:
    """Return whether a request comes from a page of this server, or from no page at all (RFC 6454)."""
    origin = headers.get(b"origin")
    return origin is None or origin.partition(b"://")[2].lower() == headers.get(b"host", b"").lower()


def _of_subprotocols(headers: dict[bytes, bytes]) -> bytes:
    """Return the key that the subprotocols of a WebSocket carry; empty if none does."""
    for name in headers.get(b"sec-websocket-protocol", b"").decode("latin-1").split(","):
        text = name.strip().removeprefix(KEY_SUBPROTOCOL)
        if text != name.strip():
            try:
                return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            except (binascii.Error, ValueError):
                return b""
    return b""
