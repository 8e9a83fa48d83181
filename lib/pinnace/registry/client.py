"""A registry and its mirrors: manifests and blobs, with every byte checked against its digest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from pinnace.errors import RegistryError
from pinnace.registry import retry
from pinnace.registry.authorization import Keyring
from pinnace.registry.blobs import Tuning
from pinnace.registry.connections import new_session
from pinnace.registry.deliveries import Delivery, read
from pinnace.registry.endpoint import MANIFEST_TYPES, MAX_MANIFEST, Endpoint, RawManifest
from pinnace.registry.transport import Timeouts, Transport

if TYPE_CHECKING:
    from pinnace.config import Settings
    from pinnace.reference import Reference
    from pinnace.secret import Credential

_T = TypeVar("_T")


class RegistryClient:
    """Reads from one registry, by its mirrors first. Blobs may be read by several threads at the same time.

    A mirror that cannot be asked, lacks what is asked for or gives something else is passed over; ``note``
    is told of the last.
    """

    def __init__(
        self,
        transport: Transport,
        keyring: Keyring | None = None,
        *,
        mirrors: Sequence[Endpoint] = (),
        tuning: Tuning | None = None,
        note: Callable[[str], None] | None = None,
    ) -> None:
        self._note = note or (lambda text: None)
        self._registry = Endpoint(transport, keyring, tuning=tuning)
        self._endpoints = (*mirrors, self._registry)

    @property
    def host(self) -> str:
        return self._registry.host

    def credential(self, repository: str = "") -> Credential | None:
        """What was shown to the registry for reading ``repository``, or to it as a whole."""
        return self._registry.credential(repository)

    def verify(self) -> bool:
        """Show the credentials to the registry itself; whether it asked for them. Raises RegistryError."""
        return self._registry.verify()

    def manifest_digest(self, reference: Reference) -> str | None:
        """What ``reference`` is now, by a request without a body; None if no registry says.

        Raises RegistryError if the registry cannot be asked.
        """

        def ask(endpoint: Endpoint) -> str | None:
            found = endpoint.manifest_digest(reference)
            if found is None and endpoint is not self._registry:
                raise RegistryError(f"{endpoint.host} does not know {reference}")
            return found

        return self._first(ask)

    def manifest(self, reference: Reference) -> RawManifest:
        """The manifest or index that ``reference`` names.

        Raises RegistryError if it is not there, too large or not what its digest says.
        """
        return self._first(lambda endpoint: endpoint.manifest(reference))

    def blob(self, repository: str, digest: str, size: int) -> Iterator[bytes]:
        """The bytes of a blob, in pieces; a broken transfer goes on where it broke.

        Raises RegistryError if it is not there, is not ``size`` bytes long or has another digest.
        Until the last piece has arrived without an error nothing of it may be trusted.
        """
        return Delivery(self._endpoints, repository, digest, size)

    def read(self, repository: str, digest: str, size: int, use: Callable[[Iterator[bytes]], _T]) -> _T:
        """What ``use`` makes of a blob's bytes; called again with the next address's if they are wrong.

        Raises what ``blob`` raises, of the registry itself, and what ``use`` does.
        """
        return read(self._endpoints, repository, digest, size, use, self._note)

    def _first(self, ask: Callable[[Endpoint], _T]) -> _T:
        """What the first endpoint that can answer does; the registry's own error if none can."""
        for mirror in self._endpoints[:-1]:
            try:
                return ask(mirror)
            except RegistryError:
                continue
        return ask(self._registry)


def connect(
    host: str,
    settings: Settings,
    keyring: Callable[[str], Keyring | None] | None = None,
    note: Callable[[str], None] | None = None,
) -> RegistryClient:
    """A client for ``host`` as ``settings`` say; ``keyring`` gives the credentials of a host.

    ``note`` takes what an administrator should know, such as a mirror that gives wrong bytes.
    Raises RegistryError if a certificate cannot be used.
    """
    session = new_session(settings.registry, max(1, settings["connections_per_host"]))
    timeouts = Timeouts(settings["connect_timeout"], settings["stall_timeout"])
    policy = retry.Policy(retries=settings["retries"])
    tuning = Tuning(part=settings["part_size"])

    def transport(name: str, scheme: str | None = None) -> Transport:
        return Transport(
            name,
            rules=settings.registry(name),
            scheme=scheme,
            timeouts=timeouts,
            policy=policy,
            session=session,
        )

    def mirror(address: str) -> Endpoint:
        parts = urlsplit(address if "://" in address else f"//{address}")
        return Endpoint(
            transport(parts.netloc, parts.scheme or None),
            keyring(parts.netloc) if keyring else None,
            prefix=parts.path,
            tuning=tuning,
        )

    mirrors = [mirror(address) for address in settings.registry(host).mirrors]
    own = keyring(host) if keyring else None
    return RegistryClient(transport(host), own, mirrors=mirrors, tuning=tuning, note=note)


__all__ = ["MANIFEST_TYPES", "MAX_MANIFEST", "RawManifest", "RegistryClient", "connect"]
