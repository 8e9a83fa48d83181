"""Secrets, and what a user proves to a registry with them.

A ``Secret`` shows itself to nobody but who asks by name: not in a repr, a format, an error's
arguments, a pickle. Only ``registry.authorization`` and what writes a credentials file ask.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import NoReturn


class Secret:
    """A text that must not be shown."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the wire or a private file."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(*(one._text.encode("utf-8", "surrogatepass") for one in (self, other)))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, form: str) -> str:
        return repr(self)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("secrets are not pickled or copied")


@dataclass(frozen=True)
class Credential:
    """What one source has for one registry. ``source`` names file or helper, for people.

    One of three: ``username`` and ``password``; ``identity_token``, which is exchanged for
    short-lived ones (OAuth2 refresh token); ``registry_token``, which is sent as it is.
    """

    source: str
    username: str = ""
    password: Secret | None = None
    identity_token: Secret | None = None
    registry_token: Secret | None = None

    @property
    def who(self) -> str:
        """Whose it is and where it is from, for messages."""
        if self.username:
            return f"user {self.username} from {self.source}"
        return f"a token from {self.source}"
