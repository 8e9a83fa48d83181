"""The sources in their order.

1. ``PINNACE_PASSWORD`` with ``PINNACE_REGISTRY`` and ``PINNACE_USERNAME``
2. Pinnace's own file: ``pinnace login``
3. ``REGISTRY_AUTH_FILE``
4. podman: ``$XDG_RUNTIME_DIR/containers/auth.json``, ``~/.config/containers/auth.json``
5. Docker: ``$DOCKER_CONFIG/config.json``, by default in ``~/.docker``, and its helpers
6. enroot: ``$ENROOT_CONFIG_PATH/.credentials``

The first that has something for the registry, and for the user if the reference names one, counts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

from pinnace.config import Settings
from pinnace.credentials import docker, enroot, saved, variables
from pinnace.credentials.files import Question, Surroundings
from pinnace.reference import Reference
from pinnace.secret import Credential

Warn = Callable[[str], None]


def find(
    host: str,
    user: str | None = None,
    *,
    settings: Settings,
    environment: Mapping[str, str],
    repository: str = "",
    realm: str = "",
    warn: Warn | None = None,
) -> Credential | None:
    """The credential for ``host`` (and for ``user``, if given) of the first source that has one.

    ``realm`` is the host of its token service, if known; ``warn`` takes lines for the user.
    Raises CredentialError if a source that is asked is malformed.
    """
    keyring = Keyring(host, user, settings=settings, environment=environment, warn=warn)
    return keyring.find(repository, realm)


def keyrings(reference: Reference, settings: Settings, warn: Warn | None = None) -> Callable[[str], Keyring]:
    """A keyring for each host that ``reference`` may be read from; its user is its registry's alone."""

    def keyring(host: str) -> Keyring:
        user = reference.user if host == reference.registry else None
        return Keyring(host, user, settings=settings, environment=settings.environment, warn=warn)

    return keyring


class Keyring:
    """Looks up what one registry asks for, in the name of one user."""

    def __init__(
        self,
        host: str,
        user: str | None = None,
        *,
        settings: Settings,
        environment: Mapping[str, str],
        warn: Warn | None = None,
    ) -> None:
        self.host = host
        self.user = user
        self._told: set[str] = set()
        self._warn = warn
        allowed = bool(settings["credential_commands"])
        self._surroundings = Surroundings(environment, allowed, self._tell)

    def find(self, repository: str = "", realm: str = "") -> Credential | None:
        """What to show for reading ``repository``. Raises CredentialError if a source is malformed."""
        question = Question(self.host, repository, self.user, realm)
        credential = variables.find(question, self._surroundings)
        for path in self._files():
            if credential is not None:
                return credential
            credential = docker.find(path, question, self._surroundings)
        return credential or enroot.find(question, self._surroundings)

    def places(self) -> list[str]:
        """Where credentials are looked for, for people."""
        files = [*self._files(), enroot.path(self._surroundings)]
        return [self._surroundings.shown(path) for path in files]

    def _files(self) -> Iterator[str]:
        environment = self._surroundings.environment
        yield saved.path(self._surroundings)
        if file := environment.get("REGISTRY_AUTH_FILE"):
            yield file
        runtime = environment.get("XDG_RUNTIME_DIR") or ""
        # containers-auth.json(5): where there is no session.
        fallback = f"/run/containers/{os.geteuid()}/auth.json"
        yield os.path.join(runtime, "containers", "auth.json") if runtime else fallback
        yield self._surroundings.configuration("containers", "auth.json")
        directory = environment.get("DOCKER_CONFIG") or os.path.join(self._surroundings.home, ".docker")
        yield os.path.join(directory, "config.json")

    def _tell(self, text: str) -> None:
        """Pass on each warning once."""
        if self._warn is not None and text not in self._told:
            self._told.add(text)
            self._warn(text)
