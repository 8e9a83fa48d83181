"""Random stacks of small layers in which everything happens to a few names again and again."""

from __future__ import annotations

import posixpath
import random
import tarfile

from integration.trees import directory, entry, hardlink, layer

_NAMES = ["a", "b", "c", "d", "lib"]
_TARGETS = ["a", "b", "d/c", "/d", "../b", "/a/lib", "nowhere"]
_SIZES = [0, 10, 5000, 140_000]
_XATTR = "SCHILY.xattr.user."
_EPOCH = 1_000_000_000
#: What may be asked of a layer, as often as it is listed.
_ACTIONS = [
    "file", "file", "file", "directory", "directory", "symlink", "symlink", "fifo",
    "whiteout", "whiteout", "opaque", "recreate", "lower link", "own link",
]  # fmt: skip


def random_layers(seed: int) -> list[bytes]:
    """Layers as tar archives, the bottom first; the same for the same seed.

    A layer has each path once and lists directories before what is in them, as builders do; that
    needs not list a directory of a lower layer, nor one that it reaches by a symbolic link there.
    """
    return _Stack(random.Random(seed)).layers()


class _Stack:
    def __init__(self, choose: random.Random) -> None:
        self._choose = choose
        #: What each path of the image is so far: "d", "f" or a symbolic link's target after "l".
        self._image: dict[str, str] = {}
        #: What the layer in the making lists, by path in the image; and the names that it writes for it.
        self._listed: dict[str, str] = {}
        self._written: dict[str, str] = {}
        #: Links that something in the layer's own paths leads through: they have to stay.
        self._followed: set[str] = set()
        self._entries: list[tuple[tarfile.TarInfo, bytes]] = []
        self._time = _EPOCH

    def layers(self) -> list[bytes]:
        made = []
        for _ in range(self._choose.randint(2, 6)):
            self._entries = [directory("./", 0o755, self._next_time())]
            self._listed, self._followed = {}, set()
            for _ in range(self._choose.randint(1, 14)):
                self._add(self._choose.choice(_ACTIONS))
            made.append(layer(self._entries))
        return made

    def _next_time(self) -> int:
        self._time += 1
        return self._time

    def _add(self, action: str) -> None:
        parent = self._parent()
        written = posixpath.join(parent, self._choose.choice(_NAMES))
        links: set[str] = set()
        path = self._resolved(written, links)
        if path is None or path in self._listed:
            return
        if any(link == path or link.startswith(path + "/") for link in self._followed | links):
            return
        self._followed |= links
        if action in ("whiteout", "opaque", "recreate"):
            self._remove(action, written, path)
        elif action == "own link":
            files = self._files(path, listed=True)
            if files:
                self._list(hardlink(written, self._written[self._choose.choice(files)]), path, "f")
        elif action == "lower link":
            files = self._files(path, listed=False)
            if files:
                self._list(hardlink(written, self._choose.choice(files)), path, "f")
        else:
            self._make(action, written, path)

    def _files(self, path: str, *, listed: bool) -> list[str]:
        """Files that ``path`` can be a link to, those that the layer lists or the others."""
        files = [p for p, kind in self._image.items() if kind == "f" and (p in self._listed) == listed]
        return sorted(p for p in files if p != path and not p.startswith(path + "/"))

    def _make(self, action: str, written: str, path: str) -> None:
        choose, time = self._choose, self._next_time()
        pax = {_XATTR + choose.choice("xy"): "v" * choose.choice([1, 40])} if choose.random() < 0.2 else None
        if action == "directory":
            mode = choose.choice([0o700, 0o755, 0o1777])
            self._list(entry(written, tarfile.DIRTYPE, mode=mode, mtime=time, pax=pax), path, "d")
        elif action == "symlink":
            made = entry(written, tarfile.SYMTYPE, link=choose.choice(_TARGETS), mode=0o777, mtime=time)
            self._list(made, path, "l" + made[0].linkname)
        elif action == "fifo":
            self._list(entry(written, tarfile.FIFOTYPE, mtime=time), path, "p")
        else:
            content = choose.randbytes(choose.choice(_SIZES)) + b"%d" % time
            mode = choose.choice([0o644, 0o755, 0o4755])
            self._list(entry(written, content=content, mode=mode, mtime=time, pax=pax), path, "f")

    def _remove(self, action: str, written: str, path: str) -> None:
        """Whiteouts of what the layer itself lists nothing of, then perhaps something new there."""
        below = [p for p in self._listed if p.startswith(path + "/")]
        if below or path not in self._image:
            return
        parent, name = posixpath.split(written)
        if action == "opaque":
            if self._image[path] == "d":
                self._list(entry(written, tarfile.DIRTYPE, mode=0o711, mtime=self._next_time()), path, "d")
                self._entries.append(entry(posixpath.join(written, ".wh..wh..opq"), mtime=self._time))
                self._forget(path)
            return
        self._entries.append(entry(posixpath.join(parent, f".wh.{name}"), mtime=self._next_time()))
        self._forget(path)
        del self._image[path]
        if action == "recreate":
            self._make(self._choose.choice(["file", "directory", "symlink"]), written, path)
        else:
            self._listed[path] = "w"

    def _list(self, made: tuple[tarfile.TarInfo, bytes], path: str, kind: str) -> None:
        if kind != "d" and any(p.startswith(path + "/") for p in self._listed):
            return
        if kind != "d" or self._image.get(path) != "d":
            self._forget(path)
        self._entries.append(made)
        self._listed[path] = self._image[path] = kind
        self._written[path] = made[0].name

    def _forget(self, path: str) -> None:
        for below in [p for p in self._image if p.startswith(path + "/")]:
            del self._image[below]

    def _parent(self) -> str:
        """A directory as it may be written: by its own path, or by a link of a lower layer."""
        ways = [path for path, kind in self._image.items() if kind == "d"]
        for path, kind in self._image.items():
            # A link of the same layer is followed as well, but not by every builder's reader.
            if kind[0] == "l" and path not in self._listed:
                resolved = self._resolved(path + "/x", set())
                if resolved is not None and posixpath.dirname(resolved) in ("", *ways):
                    ways.append(path)
        return self._choose.choice(["", *sorted(ways)])

    def _resolved(self, written: str, links: set[str]) -> str | None:
        """The path in the image of what is written so; None if it lies below no directory.

        Adds what it leads through to ``links``.
        """
        done: list[str] = []
        todo = list(reversed(posixpath.dirname(written).split("/"))) if "/" in written else []
        followed = 0
        while todo:
            part = todo.pop()
            if part == "..":
                del done[-1:]
                continue
            path = "/".join([*done, part])
            kind = self._image.get(path)
            if kind is None or kind in ("f", "p"):
                return None
            if kind == "d":
                done.append(part)
                continue
            links.add(path)
            followed += 1
            if followed > 20:
                return None
            if kind[1] == "/":
                done = []
            todo += [step for step in reversed(kind[1:].split("/")) if step]
        return "/".join([*done, posixpath.basename(written)])
