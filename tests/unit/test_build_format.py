"""What is spliced from given layers, byte for byte."""

from __future__ import annotations

from pathlib import Path

from pinnace import digest
from pinnace.layers import Format, assemble, digest_of
from pinnace.store.images import BUILD_FORMAT

_LAYERS = [str(Path(__file__).parent / "layers" / name) for name in ("base.sqsh", "top.sqsh")]
#: Of the file that each number of the build format makes of the layers. A store's images are verified by
#: splicing them again: whoever changes a byte of what is spliced needs another number.
_DIGESTS = {1: "sha256:d615b79cb4d681e875d6613219b417f0c382b5df5dff7ae796d6574217166ad1"}


def test_a_build_format_stands_for_the_same_bytes_for_ever(tmp_path: Path) -> None:
    image = str(tmp_path / "image.sqsh")
    assemble(_LAYERS, image, Format())
    assert digest.of_file(image) == digest_of(_LAYERS, Format()) == _DIGESTS[BUILD_FORMAT]
