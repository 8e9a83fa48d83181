"""What users mistype for an image reference, and what they may have meant. Loaded when it is needed."""

from __future__ import annotations

import os
import re

#: Names that end so are files.
FILE_SUFFIXES = (".sqsh", ".squashfs", ".sqfs", ".sif", ".img", ".tar", ".tar.gz", ".tgz", ".tar.zst")
_SOURCES = ("oci:", "oci-archive:", "docker-archive:", "tar:", "dir:", "sqsh:")
_HOST = re.compile(
    r"(?:(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}|[0-9]{1,3}(?:\.[0-9]{1,3}){3}|localhost(?=:))(?::[0-9]{2,5})?",
    re.IGNORECASE,
)
_HEX = re.compile(r"[0-9a-fA-F]{64}")

#: Pages that show an image, and the reference that each means.
_PAGES = (
    (r"hub\.docker\.com/_/([^/]+)", r"\1"),
    (r"hub\.docker\.com/(?:r|repository/docker)/([^/]+/[^/]+)", r"\1"),
    (r"quay\.io/repository/([^/]+/[^/]+)", r"quay.io/\1"),
    (r"catalog\.ngc\.nvidia\.com/orgs/([^/]+)/containers/([^/]+)", r"nvcr.io/\1/\2"),
    (r"catalog\.ngc\.nvidia\.com/orgs/([^/]+)/teams/([^/]+)/containers/([^/]+)", r"nvcr.io/\1/\2/\3"),
    (r"github\.com/(?:orgs/)?([^/]+)(?:/[^/]+)?/pkgs/container/([^/]+)", r"ghcr.io/\1/\2"),
    (r"gallery\.ecr\.aws/([^/]+/[^/]+)", r"public.ecr.aws/\1"),
)


def scheme(text: str) -> str:
    """The hint for a reference with a scheme other than docker://."""
    name, _, rest = text.partition("://")
    if name == "podman":
        return f"podman:// is not supported yet: `podman save {rest} | pinnace pull docker-archive:-`"
    if name == "dockerd":
        return f"dockerd:// is not supported yet: `docker save {rest} | pinnace pull docker-archive:-`"
    if name in ("http", "https"):
        return f"a URL is no reference: write {_of_page(rest)}"
    return "only docker:// is a known scheme"


def _of_page(address: str) -> str:
    address = address.partition("?")[0].partition("#")[0].rstrip("/")
    for pattern, meaning in _PAGES:
        match = re.match(pattern, address)
        if match:
            return match.expand(meaning)
    return address.replace("/v2/", "/", 1) or "REGISTRY/IMAGE"


def whole(text: str) -> str | None:
    """The hint for a text that reads like a Docker Hub image, but most likely is none."""
    if text.endswith(FILE_SUFFIXES) and os.path.isfile(text):
        return f"to use the file, write ./{text}"
    if "#" in text or "@" in text:
        return None
    first, separator, _ = text.partition("/")
    if not separator and _HOST.fullmatch(text):
        if text.endswith(FILE_SUFFIXES):
            return f"there is no such file here, and a file's path begins with ./ or /: write ./{text}"
        return _only_registry(text)
    if first.startswith(_SOURCES):
        return f"`pinnace pull {text}` takes the image out of the file; use the name that it prints"
    return None


def _only_registry(text: str) -> str:
    return (
        "this is a registry without an image; in a line of #SBATCH a # ends the value: "
        f"write {text}/IMAGE, or {text}\\#IMAGE"
    )


def invalid(text: str, reason: str) -> str:
    """The hint for what is no reference: ``reason``, or something better."""
    if (text.endswith(FILE_SUFFIXES) or "/" in text) and os.path.isfile(text):
        return f"to use the file, write ./{text}"
    return whole(text) or reason


def digest(tail: str) -> str | None:
    """The hint for what stands behind an @ and is a digest but for its spelling."""
    if _HEX.fullmatch(tail):
        return f"a digest names its algorithm: write @sha256:{tail.lower()}"
    algorithm, _, value = tail.partition(":")
    if algorithm.lower() == "sha256" and _HEX.fullmatch(value):
        return f"a digest is in lower case: write @sha256:{value.lower()}"
    return None


def at_docker_hub(repository: str, tag: str | None) -> str | None:
    """The hint after Docker Hub has refused an image that may not have been meant to be there."""
    first, separator, rest = repository.partition("/")
    if first == "library":
        if f"{rest}:" in _SOURCES:
            return f"Docker Hub was asked; `pinnace pull {rest}:PATH` imports from a file"
        if tag and tag.isdigit() and 1024 <= int(tag) <= 65535:
            return (
                f"Docker Hub was asked for {rest} with the tag {tag}; if {rest}:{tag} is a registry, an "
                f"image is missing (in a line of #SBATCH write \\#, or /)"
            )
        if rest.endswith(FILE_SUFFIXES):
            return f"Docker Hub was asked; a file's path begins with ./ or /: write ./{rest}"
        return None
    if separator:
        return f"Docker Hub was asked; if {first} is a registry, write {first}#{rest}"
    return None
