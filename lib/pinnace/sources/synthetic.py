"""Manifests for what has none: a digest that follows from the contents alone."""

from __future__ import annotations

import json
from typing import Any

from pinnace import digest as digests

_OCI = "application/vnd.oci.image."


def manifest_digest(configuration: bytes, layers: list[tuple[str, int]]) -> str:
    """The digest of the OCI manifest of plain layers, each a diff ID and its bytes, in one fixed spelling."""
    return digests.of_bytes(
        encode(
            {
                "schemaVersion": 2,
                "mediaType": _OCI + "manifest.v1+json",
                "config": _descriptor("config.v1+json", digests.of_bytes(configuration), len(configuration)),
                "layers": [_descriptor("layer.v1.tar", diff_id, size) for diff_id, size in layers],
            }
        )
    )


def configuration(platform: str, config: dict[str, Any], diff_ids: list[str]) -> bytes:
    """An OCI image configuration."""
    os_name, architecture, *variant = platform.split("/")
    document: dict[str, Any] = {
        "architecture": architecture,
        "os": os_name,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    if variant:
        document["variant"] = variant[0]
    return encode(document)


def encode(document: dict[str, Any]) -> bytes:
    """JSON in one fixed spelling."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _descriptor(kind: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": _OCI + kind, "digest": digest, "size": size}
