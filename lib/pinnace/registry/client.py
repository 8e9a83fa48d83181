"""Manifests and blobs of one repository's registry, with every byte checked against its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pinnace import digest as digests
from pinnace.errors import RegistryError
from pinnace.registry.authorization import Authorizer, Keyring
from pinnace.registry.transport import ATTEMPTS, Transport, same_origin

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
_CHUNK = 256 << 10


@dataclass(frozen=True)
class RawManifest:
    """A manifest as the registry sent it; ``digest`` is computed from ``content``."""

    content: bytes
    media_type: str
    digest: str


class RegistryClient:
    """Reads from one registry. Blobs may be read by several threads at the same time."""

    def __init__(self, transport: Transport, keyring: Keyring | None = None) -> None:
        self._transport = transport
        self._authorizer = Authorizer(transport, keyring)

    @property
    def host(self) -> str:
        return self._transport.host

    def credential(self, repository: str = "") -> Credential | None:
        """What was shown for reading ``repository``, or to the registry as a whole."""
        return self._authorizer.credential(repository)

    def verify(self) -> bool:
        """Show the credentials to the registry as a whole; whether it asked for them.

        Raises RegistryError if it does not take them.
        """
        with self._get("", "", {}) as response:
            self._check_status(response, "", "its API")
        return self.credential() is not None

    def manifest_digest(self, reference: Reference) -> str | None:
        """What ``reference`` is now, by a request without a body; None if the registry does not say."""
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
        headers = {"Accept": ", ".join(MANIFEST_TYPES)}
        response = self._get(reference.repository, f"manifests/{reference.target}", headers)
        with response:
            if response.status_code == 404:
                raise self._not_found(reference)
            self._check_status(response, reference.repository, f"manifest of {reference}")
            content = b"".join(self._chunks(response, MAX_MANIFEST + 1))
        if len(content) > MAX_MANIFEST:
            raise RegistryError(f"the manifest of {reference} is larger than {MAX_MANIFEST} bytes")
        digest = digests.of_bytes(content)
        said = response.headers.get("Docker-Content-Digest", "")
        expected = reference.digest or (said if digests.is_digest(said) else digest)
        if digest != expected:
            raise RegistryError(
                f"the manifest of {reference} is damaged: {digest} arrived instead of {expected}",
                hint="try again; if it stays, the registry's copy is damaged: push the image anew",
                identifier="digest-mismatch",
            )
        return RawManifest(
            content, response.headers.get("Content-Type", "").partition(";")[0].strip(), digest
        )

    def blob(self, repository: str, digest: str, size: int) -> Iterator[bytes]:
        """The bytes of a blob, in pieces; a broken transfer goes on where it broke.

        Raises RegistryError if it is not there, is not ``size`` bytes long or has another digest.
        Until the last piece has arrived without an error nothing of it may be trusted.
        """
        state = hashlib.sha256()
        received = failures = 0
        while received < size:
            before = received
            for piece in self._blob_from(repository, digest, received, size):
                received += len(piece)
                if received > size:
                    break
                state.update(piece)
                yield piece
            if received > size:
                raise self._damaged(repository, digest, f"it is longer than {size} bytes")
            if received == size:
                break
            failures = failures + 1 if received == before else 1
            if failures >= ATTEMPTS:
                raise RegistryError(
                    f"blob {digest} of {self.host}/{repository} is truncated",
                    context=f"{received} of {size} bytes arrived",
                    hint="try again; if it stays, the registry's copy is damaged: push the image anew",
                    identifier="truncated-blob",
                )
        actual = digests.PREFIX + state.hexdigest()
        if actual != digest:
            raise self._damaged(repository, digest, f"its content has digest {actual}")

    def _blob_from(self, repository: str, digest: str, offset: int, size: int) -> Iterator[bytes]:
        """The rest of a blob from ``offset`` on; ends early without an error if the transfer breaks."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        response = self._get(repository, f"blobs/{digest}", headers)
        with response:
            if response.status_code == 404:
                raise RegistryError(
                    f"registry {self.host} has no blob {digest} of {repository}",
                    hint="the image is incomplete there: push it anew",
                    identifier="missing-blob",
                )
            if offset and response.status_code == 416:
                return  # the registry's copy ends before the size that the manifest says
            self._check_status(response, repository, f"blob {digest}")
            skip = offset if response.status_code == 200 else 0
            for piece in self._chunks(response, size + 1 - (offset - skip), broken_ends=True):
                if skip >= len(piece):
                    skip -= len(piece)
                    continue
                yield piece[skip:]
                skip = 0

    def _chunks(
        self, response: requests.Response, limit: int, *, broken_ends: bool = False
    ) -> Iterator[bytes]:
        from urllib3.exceptions import HTTPError

        while limit > 0:
            try:
                # The raw stream: requests would undo a Content-Encoding, and digests are of what was stored.
                piece = response.raw.read(min(_CHUNK, limit), decode_content=False)
            except (HTTPError, OSError) as error:
                if broken_ends:
                    return
                raise RegistryError(
                    f"registry {self.host} broke off a transfer",
                    context=type(error).__name__,
                    hint="try again",
                ) from None
            if not piece:
                return
            limit -= len(piece)
            yield piece

    def _get(
        self, repository: str, what: str, headers: dict[str, str], method: str = "GET"
    ) -> requests.Response:
        url = f"/v2/{repository}/{what}" if repository else "/v2/"
        known = self._authorizer.header(repository)
        response = self._transport.get(url, headers=_authorized(headers, known), method=method)
        challenge = response.headers.get("WWW-Authenticate", "")
        if response.status_code != 401 or not challenge:
            return response
        response.close()
        if not same_origin(response.url, self._transport.base):
            # Who was redirected to has no say in where the registry's credentials go.
            raise self._authorizer.refused(repository)
        # Without a token yet, or with one that has expired.
        self._authorizer.answer(repository, challenge, known)
        headers = _authorized(headers, self._authorizer.header(repository))
        return self._transport.get(url, headers=headers, method=method)

    def _check_status(self, response: requests.Response, repository: str, what: str) -> None:
        status = response.status_code
        if status in (200, 206):
            return
        if status == 401:
            raise self._authorizer.refused(repository)
        if status == 403:
            credential = self._authorizer.credential(repository)
            raise RegistryError(
                f"registry {self.host} forbids reading {repository} (403 Forbidden)",
                context=f"asked as {credential.who}" if credential else None,
                hint="ask its owner for access, or check the image's name",
                identifier="registry-forbidden",
            )
        if status == 429:
            raise RegistryError(
                f"registry {self.host} answers too many requests (429)",
                hint="wait, or log in for a higher limit",
                identifier="registry-rate-limit",
            )
        raise RegistryError(
            f"registry {self.host} answered {status} {response.reason or ''}".rstrip() + f" for the {what}",
            hint="try again later" if status >= 500 else None,
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
                tags: Any = json.loads(b"".join(self._chunks(response, MAX_MANIFEST)))["tags"]
        except (RegistryError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return [tag for tag in tags if isinstance(tag, str)] if tags and isinstance(tags, list) else None

    def _damaged(self, repository: str, digest: str, how: str) -> RegistryError:
        return RegistryError(
            f"blob {digest} of {self.host}/{repository} is damaged: {how}",
            hint="try again; if it stays, the registry's copy is damaged: push the image anew",
            identifier="digest-mismatch",
        )


def _authorized(headers: dict[str, str], value: Secret | None) -> dict[str, str]:
    return {**headers, "Authorization": value.reveal()} if value else headers
