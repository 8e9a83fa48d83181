"""Whether a store is sound: every object what its name and record say, nothing half-made beside them."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

from pinnace.layers import Format, digest_of
from pinnace.store import Store


def leftovers(root: Path) -> list[str]:
    """Temporary files and locks."""
    return [str(path.relative_to(root)) for part in ("tmp", "locks") for path in (root / part).rglob("*")]


def objects(root: Path) -> dict[str, str]:
    """Digests of all squashfs files by their path in the store."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.glob("*/sha256/*.sqsh"))
    }


def faults(root: Path, expected: dict[str, str] | None = None) -> list[str]:
    """What is wrong with the objects in a store; ``expected`` are the digests of objects made undisturbed."""
    found = []
    present = objects(root)
    for path, digest in present.items():
        if expected is not None and expected.get(path, digest) != digest:
            found.append(f"{path} differs from one made undisturbed")
        if subprocess.run(["unsquashfs", "-lc", str(root / path)], capture_output=True).returncode != 0:
            found.append(f"{path} cannot be read")
    for record in root.glob("layers/sha256/*.json"):
        digest = present.get(f"layers/sha256/{record.stem}.sqsh")
        if digest and "sha256:" + digest != json.loads(record.read_bytes())["sha256"]:
            found.append(f"{record.name} tells another digest")
    for record in root.glob("images/sha256/*.json"):
        files = [f"layers/sha256/{layer[7:]}.sqsh" for layer in json.loads(record.read_bytes())["layers"]]
        missing = [file for file in files if file not in present]
        if missing:
            found.append(f"{record.name} has no layers {missing}")
        elif files and digest_of([str(root / file) for file in files], Format())[7:] != present.get(
            f"images/sha256/{record.stem}.sqsh"
        ):
            found.append(f"{record.name} is not what its layers give")
    for name, image in Store(str(root)).listing():
        if not Path(image.path).exists():
            found.append(f"{name} has no image")
    return found
