"""A squashfs file that stands alone: an image's tree, and its configuration where enroot looks for it.

enroot writes the variables to ``/etc/environment`` and what to execute to ``/etc/rc``; a file made so
runs under enroot, and under Pinnace where there is no store that knows its configuration.
"""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from typing import Any

from pinnace.layers import Format, assemble, tar
from pinnace.layers.squash import SquashWriter
from pinnace.store import output
from pinnace.store.images import Image


def write(image: Image, path: str, form: Format, *, force: bool) -> None:
    """Write ``path`` from ``image``: complete or not at all. Raises StoreError or ImageError."""
    output.write(lambda temporary: make(image, temporary, form), path, force=force)


def make(image: Image, target: str, form: Format) -> None:
    """Write ``target``, which may be there, from ``image``. Raises OSError, StoreError or ImageError."""
    files = _files(image.config)
    if files:
        _assemble(image.path, files, target, form)
    else:
        output.copy(image.path, target)


def _assemble(image: str, files: dict[bytes, bytes], target: str, form: Format) -> None:
    directory = tempfile.mkdtemp(prefix=f"{os.path.basename(target)}.", dir=os.path.dirname(target))
    try:
        top = os.path.join(directory, "top.sqsh")
        with SquashWriter(top, form) as writer:
            for name, content in files.items():
                writer.add(tar.Entry(name, tar.FILE, 0o644, len(content)), content)
        assemble([image, top], target, form)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _files(config: dict[str, Any]) -> dict[bytes, bytes]:
    """What the configuration is in files."""
    files: dict[bytes, bytes] = {}
    # A value of several lines cannot be said there.
    variables = [item for item in config.get("Env") or () if "\n" not in item]
    if variables:
        files[b"etc/environment"] = _encoded("".join(f"{item}\n" for item in variables))
    entrypoint, command = config.get("Entrypoint") or [], config.get("Cmd") or []
    directory = config.get("WorkingDir") or "/"
    if entrypoint or command or directory != "/":
        files[b"etc/rc"] = _encoded(
            _rc(entrypoint, command or ([] if entrypoint else ["/bin/sh"]), directory)
        )
    return files


def _rc(entrypoint: list[str], command: list[str], directory: str) -> str:
    where, program = shlex.quote(directory), shlex.join(entrypoint)
    return "\n".join(
        (
            f"mkdir -p {where} 2> /dev/null",
            f"cd {where} && unset OLDPWD || exit 1",
            "if [ -s /etc/rc.local ]; then . /etc/rc.local; fi",
            "if [ $# -gt 0 ]; then",
            " ".join(("    exec", *([program] if program else []), '"$@"')),
            "else",
            f"    exec {shlex.join([*entrypoint, *command])}",
            "fi\n",
        )
    )


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
