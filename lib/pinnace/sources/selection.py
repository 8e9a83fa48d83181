"""From a manifest or an index to the image for one platform, wherever both are kept."""

from __future__ import annotations

from collections.abc import Callable

from pinnace.errors import ImageError
from pinnace.reference import Reference
from pinnace.sources import LayerBlob, SourceImage, manifests, platforms
from pinnace.sources.manifests import Descriptor, RawManifest

#: Indexes within indexes that are followed.
_MAX_DEPTH = 3


def image(
    raw: RawManifest,
    reference: Reference,
    platform: str,
    manifest_of: Callable[[Descriptor], RawManifest],
    configuration_of: Callable[[Descriptor], bytes],
) -> SourceImage:
    """The image for ``platform`` that ``raw`` is or offers.

    ``manifest_of`` and ``configuration_of`` fetch what a descriptor points to, digest checked.
    Raises ImageError if there is none, or if it is no image at all.
    """
    name = str(reference)
    source_digest = raw.digest
    for _ in range(_MAX_DEPTH):
        if not manifests.is_index(raw, name):
            break
        raw = manifest_of(manifests.select(manifests.parse_index(raw, name), platform, name))
    else:
        raise ImageError(f"{name} is an index in an index in an index", identifier="malformed-manifest")
    manifest = manifests.parse_manifest(raw, name)
    if manifest.config.size > manifests.MAX_CONFIG:
        raise ImageError(f"the configuration of {name} is larger than {manifests.MAX_CONFIG} bytes")
    configuration = manifests.parse_configuration(configuration_of(manifest.config), name)
    if not platforms.matches(configuration.platform, platform):
        raise manifests.other_platform(name, platform, [configuration.platform])
    if len(configuration.diff_ids) != len(manifest.layers):
        raise ImageError(
            f"{name} has {len(manifest.layers)} layers, its configuration {len(configuration.diff_ids)}",
            identifier="malformed-manifest",
        )
    layers = tuple(
        LayerBlob(layer.digest, layer.size, diff_id, layer.media_type)
        for layer, diff_id in zip(manifest.layers, configuration.diff_ids)
    )
    return SourceImage(reference, raw.digest, source_digest, platform, configuration.config, layers)
