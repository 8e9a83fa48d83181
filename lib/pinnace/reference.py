"""Image references: parse, normalise, print.

Two ways of writing are understood and may be mixed freely with ``docker://`` in front:

    [USER@][REGISTRY#]IMAGE[:TAG][@DIGEST]      as enroot and pyxis write it
    [USER@][REGISTRY/]IMAGE[:TAG][@DIGEST]      as Docker writes it

In Docker's way the first part counts as a registry if it holds ``.`` or ``:`` or is
``localhost``. This module is on the launch path: standard library alone.
"""

from __future__ import annotations

import re

from pinnace.errors import ReferenceError  # noqa: A004 - the field's own word
from pinnace.tuples import NamedTuple

DOCKER_HUB = "registry-1.docker.io"
_DOCKER_HUB_NAMES = frozenset(("docker.io", "index.docker.io", DOCKER_HUB))
_SCHEME = "docker://"

_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_USER = re.compile(r"[^\s/#]+")
#: Longest repository name that registries accept (OCI distribution specification).
_MAX_NAME = 255


class Reference(NamedTuple):
    """One image in one registry. ``digest`` wins over ``tag``; at least one of them is set."""

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None
    user: str | None = None

    @property
    def target(self) -> str:
        """What a registry is asked for: the digest, else the tag."""
        return self.digest or self.tag or "latest"

    @property
    def name(self) -> str:
        """Registry and repository without tag and digest, as people write them."""
        if self.registry == DOCKER_HUB:
            return f"docker.io/{self.repository}"
        separator = "/" if _looks_like_registry(self.registry) else "#"
        return f"{self.registry}{separator}{self.repository}"

    def with_digest(self, digest: str) -> Reference:
        """The same image pinned to ``digest``."""
        return self._replace(digest=digest)

    def __str__(self) -> str:
        """The canonical form; ``parse`` reads it back to an equal reference."""
        text = f"{self.user}@{self.name}" if self.user else self.name
        if self.tag:
            text += f":{self.tag}"
        if self.digest:
            text += f"@{self.digest}"
        return text


def is_path(text: str) -> bool:
    """Whether ``text`` names a file rather than an image in a registry."""
    return text.startswith((".", "/"))


def parse(text: str) -> Reference:
    """The reference that ``text`` means. Raises ReferenceError with what is wrong and what to write."""
    rest = text[len(_SCHEME) :] if text.startswith(_SCHEME) else text
    if "://" in rest:
        from pinnace import mistakes

        raise ReferenceError(f"Invalid image reference: {text}", hint=mistakes.scheme(text))
    if _may_be_mistaken(rest):
        from pinnace import mistakes

        hint = mistakes.whole(rest)
        if hint:
            raise ReferenceError(f"Invalid image reference: {text}", hint=hint)
    rest, digest = _split_digest(rest, text)
    user, separator, rest = rest.rpartition("@")
    if ":" in user:
        # Not quoted: references are in job scripts, logs and the store.
        raise ReferenceError(
            "an image reference must not hold a password", hint="`pinnace login` keeps one; write USER@ alone"
        )
    if separator and not _USER.fullmatch(user):
        raise _invalid(text, "the part before @ is no user name")
    registry, rest = _split_registry(rest, text)
    repository, separator, tag = rest.partition(":")
    if separator and not _TAG.fullmatch(tag):
        raise _invalid(text, f"{tag!r} is no tag: letters, digits, '_', '.' and '-', at most 128")
    if registry == DOCKER_HUB and repository and "/" not in repository:
        repository = f"library/{repository}"
    _check_repository(repository, text)
    return Reference(registry, repository, tag or (None if digest else "latest"), digest, user or None)


def _may_be_mistaken(rest: str) -> bool:
    """Whether ``rest`` may be a file or a mere registry, cheaply: most references are none of these."""
    if rest.endswith((".sqsh", ".squashfs")):
        return True
    name = rest.partition(":")[0]
    return ("." in name or name == "localhost") and not any(mark in rest for mark in "/#@")


def _split_digest(rest: str, text: str) -> tuple[str, str | None]:
    head, separator, tail = rest.rpartition("@")
    if separator and _DIGEST.fullmatch(tail):
        return head, tail
    if separator and len(tail) >= 64:
        from pinnace import mistakes

        hint = mistakes.digest(tail)
        if hint:
            raise ReferenceError(f"Invalid image reference: {text}", hint=hint)
    if not separator or not re.match(r"[a-z0-9]+([+._-][a-z0-9]+)*:[0-9A-Za-z]*$", tail):
        return rest, None
    algorithm, _, value = tail.partition(":")
    if algorithm == "sha256":
        raise _invalid(text, f"a sha256 digest has 64 lower-case hexadecimal digits, not {len(value)}")
    if algorithm in ("sha384", "sha512"):
        raise _invalid(text, f"{algorithm} digests are not supported, use the image's sha256 digest")
    return rest, None  # USER@IMAGE:TAG


def _split_registry(rest: str, text: str) -> tuple[str, str]:
    registry, separator, image = rest.rpartition("#")
    if not separator:
        first, separator, image = rest.partition("/")
        if not separator or not _looks_like_registry(first):
            return DOCKER_HUB, rest
        registry = first
    match = _HOST.fullmatch(registry)
    wrong = match is None or ".." in registry or int(match[1] or 1) not in range(1, 65536)
    if wrong or (registry.startswith("[") and not _is_address(registry)):
        raise _invalid(text, f"{registry!r} is no registry host: NAME or NAME:PORT is expected")
    return registry_host(registry), image


def _is_address(host: str) -> bool:
    """Whether the part of ``host`` in brackets is an IPv6 address."""
    import socket  # hardly anybody's registry

    try:
        socket.inet_pton(socket.AF_INET6, host[1:].partition("]")[0])
    except OSError:
        return False
    return True


def registry_host(name: str) -> str:
    """The host that people mean by ``name``."""
    host = name.lower()
    return DOCKER_HUB if host in _DOCKER_HUB_NAMES else host


def _looks_like_registry(part: str) -> bool:
    return "." in part or ":" in part or part == "localhost"


def _check_repository(repository: str, text: str) -> None:
    if not repository:
        raise _invalid(text, "the image name is missing")
    if len(repository) > _MAX_NAME:
        raise _invalid(text, f"the image name is longer than {_MAX_NAME} characters")
    if all(_COMPONENT.fullmatch(part) for part in repository.split("/")):
        return
    if repository.lower() != repository:
        raise _invalid(
            text, f"image names are lower case: write {repository.removeprefix('library/').lower()}"
        )
    raise _invalid(text, "image names consist of a-z, 0-9 and single '.', '_' or '-' between them")


def _invalid(text: str, reason: str) -> ReferenceError:
    if not is_path(text):
        from pinnace import mistakes

        reason = mistakes.invalid(text, reason)
    return ReferenceError(f"Invalid image reference: {text}", hint=reason)
