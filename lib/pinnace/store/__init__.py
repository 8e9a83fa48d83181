"""The image store (specification: the store's layout in docs/architecture.md).

    layers/sha256/<diff ID>.sqsh                one squashfs file a layer
    images/sha256/<manifest digest>.sqsh        one squashfs file an image
    images/sha256/<manifest digest>.json        what is known of it; its presence makes the image complete
    references/<registry>/<repository>/_tags/<tag>/<platform>.json
    references/<registry>/<repository>/_digests/<digest>/<platform>.json
    locks/  tmp/

An object appears only by the rename of a complete, synced file out of ``tmp/``. Importing
this package and looking an image up need the standard library alone: it is on the launch path.
"""

from pinnace.store.images import Image
from pinnace.store.store import Store

__all__ = ["Image", "Store"]
