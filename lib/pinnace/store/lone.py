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

from pinnace.errors import StoreError
from pinnace.layers import Format, assemble, tar
from pinnace.layers.squash import SquashWriter
from pinnace.store import output
from pinnace.store.images import Image
from pinnace.store.store import Store


def write(image: Image, store: Store, path: str, form: Format, *, force: bool) -> None:
    """Write ``path`` from ``image``: complete or not at all. Raises StoreError or ImageError."""
    files = _files(image.config)
    if not files:
        output.write(lambda temporary: output.copy(image.path, temporary), path, force=force)
        return
    layers = [store.layer_path(layer) for layer in image.layers]
    if not all(map(os.path.exists, layers)):
        raise StoreError(
            f"layers of {image.reference} are gone", hint="pull it again", identifier="not-in-store"
        )
    output.write(lambda temporary: _assemble(layers, files, temporary, form), path, force=force)


def _assemble(layers: list[str], files: dict[bytes, bytes], target: str, form: Format) -> None:
    directory = tempfile.mkdtemp(prefix=f"{os.path.basename(target)}.", dir=os.path.dirname(target))
    try:
        top = os.path.join(directory, "top.sqsh")
        with SquashWriter(top, form) as writer:
            for name, content in files.items():
                writer.add(tar.Entry(name, tar.FILE, 0o644, len(content)), content)
        assemble([*layers, top], target, form)
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
