"""Where things lie, and reading files that should be private."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pinnace.errors import CredentialError

#: Bytes. Docker's and podman's files have some hundred.
_MAX_SIZE = 1 << 20

Warn = Callable[[str], None]


def _silent(text: str) -> None:
    """Says nothing."""


@dataclass(frozen=True)
class Question:
    """Which credential is wanted. ``realm`` is the host of the token service, once it is known."""

    host: str
    repository: str = ""
    user: str | None = None
    realm: str = ""


@dataclass(frozen=True)
class Surroundings:
    """The user whose credentials are looked for: the variables in force and what is allowed.

    ``warn`` takes lines that a user should see; they hold no secret.
    """

    environment: Mapping[str, str]
    commands: bool = False
    warn: Warn = _silent

    @property
    def home(self) -> str:
        return self.environment.get("HOME") or _home()

    def configuration(self, *parts: str) -> str:
        """A path below the user's configuration directory (XDG base directories)."""
        base = self.environment.get("XDG_CONFIG_HOME", "")
        return os.path.join(base if os.path.isabs(base) else os.path.join(self.home, ".config"), *parts)

    def shown(self, path: str) -> str:
        """``path`` for people: the home directory as ``~``."""
        home = self.home.rstrip("/")
        return f"~{path[len(home) :]}" if home and path.startswith(home + "/") else path

    def warn_if_shared(self, path: str) -> None:
        """Say so if others may read or write ``path``, which holds a secret that is used."""
        try:
            status = Path(path).stat()
        except OSError:
            return
        if status.st_uid == os.geteuid() and status.st_mode & 0o077:
            shown = self.shown(path)
            self.warn(f"warning: others may read {shown}, which holds a password; chmod 600 {shown}")


def read(path: str, surroundings: Surroundings) -> str | None:
    """The text of ``path``, or None if it is not there or may not be read (which is told)."""
    shown = surroundings.shown(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no path"
        surroundings.warn(f"warning: cannot read {shown}: {reason}")
        return None
    with open(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise malformed(shown, "it is no regular file")
        try:
            content = stream.read(_MAX_SIZE + 1)
        except OSError as error:
            surroundings.warn(f"warning: cannot read {shown}: {error.strerror}")
            return None
    if len(content) > _MAX_SIZE:
        raise malformed(shown, f"it is larger than {_MAX_SIZE} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise malformed(shown, "it is not UTF-8 text") from None


def malformed(shown: str, reason: str) -> CredentialError:
    """The error for a credentials file that cannot be used; ``reason`` must not hold its content."""
    return CredentialError(
        f"cannot use the credentials file {shown}: {reason}",
        hint="mend the file, or move it away",
        identifier="malformed-credentials",
    )


def _home() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return "/nonexistent"
