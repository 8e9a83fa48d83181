"""One registry as it is: requests with authorization, what its answers mean."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pinnace import digest as digests
from pinnace.errors import RegistryError
from pinnace.registry import retry
from pinnace.registry.authorization import Authorizer, Keyring
from pinnace.registry.blobs import Overlong, Truncated, Tuning, fetch
from pinnace.registry.bodies import Interrupted, whole
from pinnace.registry.transport import Transport, discard, same_origin

if TYPE_CHECKING:
    import requests

    from pinnace.reference import Reference
    from pinnace.secret import Credential, Secret

#: All types are named in each request: docker-registry 2.8 answers 404 without the OCI ones.
MANIFEST_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
#: Bytes. The specification asks registries to take 4 MiB.
MAX_MANIFEST = 8 << 20
#: The identifiers of errors about bytes that are not what their digest says, or too few.
DAMAGED, TRUNCATED = "digest-mismatch", "truncated-blob"
#: Answers to a request for a blob or a part of it: there it is, or there is no such part.
_BLOB = frozenset((200, 206, 416))


@dataclass(frozen=True)
class RawManifest:
    """A manifest as the registry sent it; ``digest`` is computed from ``content``."""

    content: bytes
    media_type: str
    digest: str


class Endpoint:
    """Reads from one registry, whose repositories' names begin with ``prefix``. Threads may share it."""

    def __init__(
        self,
        transport: Transport,
        keyring: Keyring | None = None,
        *,
        prefix: str = "",
        tuning: Tuning | None = None,
    ) -> None:
        self._transport = transport
        self.authorizer = Authorizer(transport, keyring)
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._tuning = replace(
            tuning or Tuning(),
            stall=transport.timeouts.stall,
            policy=transport.policy,
            pause=transport.pause,
        )

    @property
    def host(self) -> str:
        return self._transport.host

    def credential(self, repository: str = "") -> Credential | None:
        """What was shown for reading ``repository``, or to the registry as a whole."""
        return self.authorizer.credential(repository and self._prefix + repository)

    def verify(self) -> bool:
        """Show the credentials to the registry as a whole; whether it asked for them.

        Raises RegistryError if it does not take them.
        """
        with self._get("", "", {}) as response:
            self._check_status(response, "", "its API")
        return self.credential() is not None

    def manifest_digest(self, reference: Reference) -> str | None:
        """What ``reference`` is now, by a request without a body; None if the registry does not say.

        Raises RegistryError if it cannot be asked.
        """
        response = self._get(
            reference.repository,
            f"manifests/{reference.target}",
            {"Accept": ", ".join(MANIFEST_TYPES)},
            method="HEAD",
        )
        with response:
            said = response.headers.get("Docker-Content-Digest")
            return said if response.status_code == 200 and digests.is_digest(said) else None

    def manifest(self, reference: Reference) -> RawManifest:
        """The manifest or index that ``reference`` names.

        Raises RegistryError if it is not there, too large or not what its digest says.
        """
        attempts = retry.Attempts(self._transport.policy)
        while True:
            try:
                return self._manifest(reference)
            except Interrupted as error:
                if not attempts.failed(0):
                    raise RegistryError(
                        f"registry {self.host} broke off the manifest of {reference}",
                        context=str(error),
                        hint="try again later",
                        identifier="registry-unreachable",
                    ) from None
                self._transport.pause(attempts.delay(0.5))

    def _manifest(self, reference: Reference) -> RawManifest:
        headers = {"Accept": ", ".join(MANIFEST_TYPES)}
        with self._get(reference.repository, f"manifests/{reference.target}", headers) as response:
            if response.status_code == 404:
                raise self._not_found(reference)
            self._check_status(response, reference.repository, f"manifest of {reference}")
            content = whole(response, MAX_MANIFEST + 1, self._tuning.stall)
        if len(content) > MAX_MANIFEST:
            raise RegistryError(
                f"the manifest of {reference} is larger than {MAX_MANIFEST} bytes",
                hint="build the image with fewer annotations",
                identifier="manifest-too-large",
            )
        digest = digests.of_bytes(content)
        said = response.headers.get("Docker-Content-Digest", "")
        expected = reference.digest or (said if digests.is_digest(said) else digest)
        if digest != expected:
            raise RegistryError(
                f"the manifest of {reference} is damaged: {digest} arrived instead of {expected}",
                context=f"from {self.host}",
                hint="try again; if it stays, the registry's copy is damaged: push the image anew",
                identifier=DAMAGED,
            )
        return RawManifest(
            content, response.headers.get("Content-Type", "").partition(";")[0].strip(), digest
        )

    def pieces(self, repository: str, digest: str, size: int, start: int = 0) -> Iterator[bytes]:
        """The bytes of a blob from ``start`` on, unchecked. Raises RegistryError if they don't come."""

        #: The object store's address that the registry has redirected to, good for a while.
        location: str | None = None

        def ask(headers: dict[str, str]) -> requests.Response:
            nonlocal location
            if location is not None:
                with suppress(RegistryError):
                    response = self._transport.get(location, headers=headers)
                    if response.status_code in _BLOB:
                        return response
                    discard(response)
                location = None  # it has expired: the registry knows another
            response = self._get(repository, f"blobs/{digest}", headers)
            if response.status_code in _BLOB:
                if not same_origin(response.url, self._transport.base):
                    location = response.url
                return response
            with response:
                if response.status_code == 404:
                    raise RegistryError(
                        f"registry {self.host} has no blob {digest} of {repository}",
                        hint="the image is incomplete there: push it anew",
                        identifier="missing-blob",
                    )
                self._check_status(response, repository, f"blob {digest}")
            raise AssertionError  # 206 and 200 alone pass the check

        try:
            yield from fetch(ask, start, size, self._tuning, time.monotonic)
        except Truncated as error:
            raise RegistryError(
                f"blob {digest} of {self.host}/{repository} is truncated",
                context=f"{error.received} of {size} bytes arrived, then {error}",
                hint="try again; if it stays, the registry's copy is damaged: push the image anew",
                identifier=TRUNCATED,
            ) from None
        except Overlong:
            raise damaged(self.host, repository, digest, f"it is longer than {size} bytes") from None

    def _get(
        self, repository: str, what: str, headers: dict[str, str], method: str = "GET"
    ) -> requests.Response:
        repository = repository and self._prefix + repository
        url = f"/v2/{repository}/{what}" if repository else "/v2/"
        for _ in range(2):
            known = self.authorizer.header(repository)
            response = self._transport.get(url, headers=_authorized(headers, known), method=method)
            challenge = response.headers.get("WWW-Authenticate", "")
            if response.status_code != 401 or not challenge:
                return response
            discard(response)
            if not same_origin(response.url, self._transport.base):
                # Who was redirected to has no say in where the registry's credentials go.
                raise self.authorizer.refused(repository)
            # Without a token yet, or with one that has expired.
            self.authorizer.answer(repository, challenge, known)
        return self._transport.get(
            url, headers=_authorized(headers, self.authorizer.header(repository)), method=method
        )

    def _check_status(self, response: requests.Response, repository: str, what: str) -> None:
        status = response.status_code
        if status in (200, 206):
            return
        if status == 401:
            raise self.authorizer.refused(repository and self._prefix + repository)
        if status == 403:
            credential = self.credential(repository)
            raise RegistryError(
                f"registry {self.host} forbids reading {repository} (403 Forbidden)",
                context=f"asked as {credential.who}" if credential else None,
                hint="ask its owner for access, or check the image's name",
                identifier="registry-forbidden",
            )
        if status == 429:
            asked = retry.retry_after(response.headers.get("Retry-After"), time.time())
            limit = retry.rate_limit(response.headers)
            raise RegistryError(
                f"registry {self.host} answers too many requests (429)",
                context=limit,
                hint=f"wait {asked:.0f} s, or log in for a higher limit"
                if asked
                else "wait, or log in for a higher limit",
                identifier="registry-rate-limit",
            )
        hint = None
        if status == 400 and self._transport.base.startswith("http:"):
            hint = f'if it speaks https, set plain_http = false in [registries."{self.host}"] of pinnace.toml'
        raise RegistryError(
            f"registry {self.host} answered {status} {response.reason or ''}".rstrip() + f" for the {what}",
            hint="try again later" if status >= 500 or status in retry.TRANSIENT else hint,
            identifier="registry-unavailable" if status >= 500 or status in retry.TRANSIENT else None,
        )

    def _not_found(self, reference: Reference) -> RegistryError:
        """Which part of ``reference`` is wrong: registries answer 404 for each."""
        tags = self._tags(reference.repository)
        if tags is None:
            return RegistryError(
                f"registry {self.host} has no image {reference.repository}",
                hint="check the image's name",
                identifier="unknown-image",
            )
        import difflib

        near = difflib.get_close_matches(reference.target, tags, 3, 0.5) or sorted(tags)[:3]
        kind = "digest" if reference.digest else "tag"
        return RegistryError(
            f"image {reference.repository} in registry {self.host} has no {kind} {reference.target}",
            hint=f"there are the tags {', '.join(near)}" if near else f"check the {kind}",
            identifier=f"unknown-{kind}",
        )

    def _tags(self, repository: str) -> list[str] | None:
        """The repository's tags, or None if the registry knows no such repository or has none for us."""
        try:
            with self._get(repository, "tags/list?n=1000", {}) as response:
                if response.status_code != 200:
                    return None
                tags: Any = json.loads(whole(response, MAX_MANIFEST, self._tuning.stall))["tags"]
        except (RegistryError, Interrupted, ValueError, KeyError, TypeError, RecursionError):
            return None
        return [tag for tag in tags if isinstance(tag, str)] if tags and isinstance(tags, list) else None


def damaged(host: str, repository: str, digest: str, how: str) -> RegistryError:
    """The error for a blob that is not what its digest says."""
    return RegistryError(
        f"blob {digest} of {host}/{repository} is damaged: {how}",
        hint="try again; if it stays, the registry's copy is damaged: push the image anew",
        identifier=DAMAGED,
    )


def _authorized(headers: dict[str, str], value: Secret | None) -> dict[str, str]:
    return {**headers, "Authorization": value.reveal()} if value else headers
