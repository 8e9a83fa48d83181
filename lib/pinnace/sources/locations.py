"""Where an image is to come from: what users write for files, with skopeo's names of transports.

    oci:DIR[:TAG|@DIGEST]         an OCI image layout (image-spec, image-layout.md)
    oci-archive:FILE[:TAG]        the same in a tar archive
    docker-archive:FILE[:NAME]    what `docker save` and `podman save` write
    tar:FILE  dir:PATH            a root file system
    sqsh:FILE                     a squashfs file

FILE may be ``-`` for standard input, but for a squashfs file. What starts with a dot or a slash, or
is ``-``, is a file whose kind its content tells. (containers-transports(5) describes the originals.)
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from pinnace.errors import ImageError

#: The transports of files, and whether what follows the path names one of several images.
TRANSPORTS = {
    "oci": True, "oci-archive": True, "docker-archive": True, "tar": False, "dir": False, "sqsh": False,
}  # fmt: skip
STDIN = "-"
_DIGEST = re.compile(r"@(sha256:[0-9a-f]{64})$")
#: What is cut off a file's name to get the image's.
_SUFFIXES = re.compile(r"(\.(tar|tgz|oci|docker|sqsh|squashfs|sqfs|gz|zst|zstd|tzst|img))+$", re.IGNORECASE)


class Location(NamedTuple):
    """``transport`` is empty if the content has to tell. ``image`` is a tag, digest or name, or empty."""

    transport: str
    path: str
    image: str = ""

    def __str__(self) -> str:
        separator = ":" if self.image and not _DIGEST.match("@" + self.image) else "@"
        text = f"{self.transport}:{self.path}" if self.transport else self.path
        return f"{text}{separator}{self.image}" if self.image else text


def parse(text: str) -> Location | None:
    """The file that ``text`` means; None if it is the reference of an image in a registry."""
    if text == STDIN or text.startswith((".", "/")):
        return Location("", text)
    transport, separator, rest = text.partition(":")
    if not separator or transport not in TRANSPORTS or rest.startswith("//"):
        return None
    if not rest:
        raise ImageError(f"{text} names no file", hint=f"write {transport}:PATH", identifier="no-such-file")
    if not TRANSPORTS[transport]:
        return Location(transport, rest)
    return _with_image(transport, rest)


def _with_image(transport: str, rest: str) -> Location:
    """Split the path from what follows: at the first place where the path exists."""
    if os.path.lexists(rest):
        return Location(transport, rest)
    digest = _DIGEST.search(rest)
    if digest:
        return Location(transport, rest[: digest.start()], digest[1])
    first: Location | None = None
    for place, letter in enumerate(rest):
        if letter == ":" and place:
            split = Location(transport, rest[:place], rest[place + 1 :])
            first = first or split
            if os.path.lexists(split.path):
                return split
    return first or Location(transport, rest)


def default_name(path: str) -> str:
    """The reference of what a file without names of its own holds: ``localhost/`` and the file's name."""
    base = os.path.basename(os.path.abspath(path)) if path != STDIN else "stdin"
    name = re.sub(r"[^a-z0-9]+", "-", _SUFFIXES.sub("", base).lower()).strip("-")
    return f"localhost/{name or 'image'}:latest"
