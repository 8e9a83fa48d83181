"""Squashfs files for the tests, made by tools that are not ours."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path


def squash(layout: Path, target: Path) -> Path:
    """The image of an OCI layout as a squashfs file; its layers must not delete anything."""
    blobs = layout / "blobs" / "sha256"

    def blob(descriptor: dict[str, str]) -> Path:
        return blobs / descriptor["digest"].partition(":")[2]

    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads(blob(index["manifests"][0]).read_text())
    with tempfile.TemporaryDirectory(dir=target.parent) as tree:
        for layer in manifest["layers"]:
            subprocess.run(["tar", "-xzf", str(blob(layer)), "-C", tree], check=True)
        Path(tree).chmod(0o755)
        return squash_tree(Path(tree), target)


def squash_tree(tree: Path, target: Path) -> Path:
    """The squashfs file of a directory; all files belong to root."""
    command = ["mksquashfs", str(tree), str(target), "-all-root", "-noappend", "-quiet", "-no-progress"]
    subprocess.run([*command, "-comp", "zstd", "-Xcompression-level", "1"], check=True, capture_output=True)
    target.chmod(0o644)
    return target
