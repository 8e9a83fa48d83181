"""An image's squashfs file from its layers'.

The layers' headers are read once to find what the image consists of, then their bodies are
read again and the winning ones written, in one stream through tar2sqfs. Splicing will take
this over with the same interface: it copies the compressed blocks instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pinnace.layers import tar, tree
from pinnace.layers.squash import Format, SquashWriter, squash_reader
from pinnace.layers.tree import LayerTree, Node


def assemble(layer_files: Sequence[str], target: str, form: Format) -> None:
    """Write ``target`` from ``layer_files``, the bottom first; the same files give the same bytes.

    Raises ImageError if the layers don't fit together or cannot be read, StoreError if
    ``target`` cannot be written. After an error there is no ``target``.
    """
    root = tree.merge([_read(path, number) for number, path in enumerate(layer_files)])
    paths: dict[Node, list[bytes]] = {}
    for path, node in tree.walk(root):
        if not node.is_directory:
            paths.setdefault(node, []).append(path)
    with SquashWriter(target, form) as writer:
        writer.add(replace(root.entry, path=b"."))
        for path, node in tree.walk(root):
            if node.is_directory:
                writer.add(replace(node.entry, path=path))
        bodies: list[dict[bytes, list[bytes]]] = [{} for _ in layer_files]
        for node, own in paths.items():
            if node.entry.size:
                bodies[node.layer][node.entry.path] = own
            else:
                writer.add(replace(node.entry, path=own[0]))
                _add_links(writer, node, own)
        by_place = {(node.layer, node.entry.path): node for node in paths}
        for number, file in enumerate(layer_files):
            if bodies[number]:
                _copy_bodies(file, number, bodies[number], by_place, writer)


def _read(path: str, number: int) -> LayerTree:
    with squash_reader(path) as stream:
        return tree.read(stream, number, path)


def _copy_bodies(
    path: str,
    number: int,
    wanted: dict[bytes, list[bytes]],
    nodes: dict[tuple[int, bytes], Node],
    writer: SquashWriter,
) -> None:
    """Write the files of one layer that the image has, each with its other names after it."""
    with squash_reader(path) as stream:
        for entry in tar.entries(stream, path):
            length = entry.size + tar.padding(entry.size)
            own = wanted.get(entry.path) if entry.kind == tar.FILE else None
            if own is None:
                stream.skip(length)
                continue
            writer.write(tar.header(replace(entry, path=own[0])))
            for piece in stream.pieces(length):
                writer.write(piece)
            _add_links(writer, nodes[number, entry.path], own)


def _add_links(writer: SquashWriter, node: Node, own: list[bytes]) -> None:
    for path in own[1:]:
        # Symbolic links with several names are written as several: tar2sqfs links only files.
        if node.entry.kind == tar.SYMLINK:
            writer.add(replace(node.entry, path=path))
        else:
            writer.add(tar.Entry(path, tar.LINK, link=own[0]))
