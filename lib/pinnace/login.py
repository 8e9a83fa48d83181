"""``pinnace login`` and ``logout``: show credentials to a registry, and keep what it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pinnace import reference as references
from pinnace.config import Settings
from pinnace.credentials import Keyring, keyrings, names, saved
from pinnace.credentials.files import Surroundings
from pinnace.errors import PinnaceError, UsageError
from pinnace.registry import connect
from pinnace.secret import Credential, Secret

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Kept:
    """What came of a login or logout. ``asked``: the registry wanted to see the password."""

    registry: str
    file: str
    asked: bool = True
    changed: bool = True
    #: Where else credentials for the registry are, in words.
    other: str | None = None


@dataclass(frozen=True)
class Check:
    """What a registry says about one image; ``error`` if it does not let it be read."""

    registry: str
    credentials: str
    digest: str | None = None
    error: PinnaceError | None = None


def login(host: str, username: str, password: Secret, settings: Settings) -> Kept:
    """Keep a password for ``host`` once the registry has taken it. Raises RegistryError if it has not."""
    registry = _registry(host)
    if not username or ":" in username:
        raise UsageError("a user name has no colon and is not empty")  # RFC 7617
    given = _Given(Credential("what was typed", username, password))
    # Its mirrors, which others may run, get nothing to see.
    asked = connect(registry, settings, lambda name: given if name == registry else None).verify()
    surroundings = Surroundings(settings.environment)
    saved.save(surroundings, registry, username, password)
    return Kept(names.canonical(registry), surroundings.shown(saved.path(surroundings)), asked)


def logout(host: str, settings: Settings) -> Kept:
    """Forget what ``login`` has kept for ``host``."""
    registry = _registry(host)
    surroundings = Surroundings(settings.environment)
    changed = saved.remove(surroundings, registry)
    rest = Keyring(registry, settings=settings, environment=settings.environment).find()
    return Kept(
        names.canonical(registry),
        surroundings.shown(saved.path(surroundings)),
        changed=changed,
        other=rest.who if rest else None,
    )


def check(text: str, settings: Settings, warn: Warn) -> Check:
    """Ask for the image ``text`` as a pull would, and say what was shown for it."""
    reference = references.parse(text)
    keyring = keyrings(reference, settings, warn)
    client = connect(reference.registry, settings, keyring)
    digest, error = None, None
    try:
        digest = client.manifest(reference).digest
    except PinnaceError as caught:
        error = caught
    shown = client.credential(reference.repository)
    credentials = (
        shown.who if shown else f"none (looked in {', '.join(keyring(reference.registry).places())})"
    )
    return Check(names.canonical(reference.registry), credentials, digest, error)


class _Given:
    """A keyring of the one credential that is to be tried."""

    def __init__(self, credential: Credential) -> None:
        self.user: str | None = credential.username
        self._credential = credential

    def find(self, repository: str, realm: str) -> Credential | None:
        return self._credential

    def places(self) -> list[str]:
        return []


def _registry(host: str) -> str:
    """The registry that ``host`` means, however it is spelled. Raises UsageError."""
    try:
        return references.parse(f"{names.of_key(host)}#name/name").registry
    except PinnaceError:
        raise UsageError(f"{host!r} is no registry", hint="HOST or HOST:PORT is expected") from None
