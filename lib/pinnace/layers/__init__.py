"""Layers: from a compressed tar stream to a squashfs file, and from layers to an image.

    decompression.py   gzip, zstd and plain streams
    windows.py         memory that zstd streams may ask for, shared
    stream.py          reading a stream by exact counts
    tar.py             tar headers, read and written
    names.py           names in layers: which are hostile, which are whiteouts
    policy.py          what a layer keeps of files' attributes
    filter.py          one pass over a layer's entries: checks, and what tar2sqfs cannot take put aside
    squash.py          the programs tar2sqfs and sqfs2tar
    conversion.py      a layer's blob → its squashfs file
    tree.py            a layer's tree, and layers merged bottom to top
    numbering.py       which inodes an image has, and their numbers
    splice.py          compressed blocks copied, metadata written new
    assembly.py        layers' squashfs files → an image's squashfs file
    foreign.py         other programs' squashfs files → layers, by the splice
    unpacking.py       a squashfs file → plain directories

A layer file is squashfs as tar2sqfs writes it, with these conventions: everything belongs to
root; set-user-ID and set-group-ID bits are gone, and of the extended attributes only ``user.*``
is kept, without ``user.overlay.*``; whiteouts stay as the empty files ``.wh.*``; a directory
that the layer does not list itself, but has entries below, has group 1 (``tar.IMPLICIT_GROUP``);
what a squashfs cannot say lies in ``/.wh..wh.pinnace`` (see ``filter``).
"""

from pinnace.layers.assembly import assemble, digest_of
from pinnace.layers.conversion import Limits, convert
from pinnace.layers.squash import Format

__all__ = ["Format", "Limits", "assemble", "convert", "digest_of"]
