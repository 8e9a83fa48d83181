"""Changes of tar archives, entry by entry, with sizes and checksums made right again."""

from __future__ import annotations

from random import Random

from fuzz.mutations import Plain, json_text, number

BLOCK = 512
#: Where the fields of a header are (POSIX, ustar).
_FIELDS = {
    "path": (0, 100), "mode": (100, 108), "uid": (108, 116), "gid": (116, 124), "size": (124, 136),
    "mtime": (136, 148), "type": (156, 157), "link": (157, 257), "magic": (257, 265), "prefix": (345, 500),
}  # fmt: skip
_TYPES = b"\x000123456755xxgLKSVMDA"
_PARTS = (
    b"a", b"b", b"c", b"d", b"dev", b".", b"..", b"", b".wh.a", b".wh.b", b".wh.", b".wh..", b".wh..wh..opq",
    b".wh..wh.pinnace", b".wh..wh.plnk", b"0", b"index", b"\xff", b"n" * 99, b"n" * 256, b"x/" * 2040,
)  # fmt: skip
_KEYS = (
    b"path", b"linkpath", b"size", b"mtime", b"uid", b"gid", b"SCHILY.xattr.user.a", b"comment",
    b"SCHILY.xattr.security.capability", b"SCHILY.xattr.user.overlay.opaque", b"GNU.sparse.major", b"",
    b"SCHILY.xattr.user.", b"LIBARCHIVE.xattr.user.a", b"hdrcharset",
)  # fmt: skip
_VALUES = (b"", b"0", b"-1", b"1.5", b"9" * 30, b"\xc2\xb2", b"512", b"\0", b"a", b"a/b", b"=\n")

Unit = tuple[bytearray, bytes]


def split(archive: bytes) -> list[Unit]:
    """Headers and what follows each, as far as the headers' sizes can be believed."""
    units = []
    position = 0
    while position + BLOCK <= len(archive):
        header = bytearray(archive[position : position + BLOCK])
        position += BLOCK
        size = _size(header)
        length = min(size + -size % BLOCK, len(archive) - position)
        units.append((header, archive[position : position + length]))
        position += length
    return units


def _size(header: bytearray) -> int:
    try:
        return max(0, int(header[124:136].strip(b" \0") or b"0", 8))
    except ValueError:
        return 0


def joined(units: list[Unit]) -> bytes:
    return b"".join(bytes(header) + body + bytes(-len(body) % BLOCK) for header, body in units)


def mutated(archive: bytes, rng: Random, change: Plain, words: tuple[str, ...] = ()) -> bytes:
    """``archive`` with one or a few entries changed; ``words`` are strings to put into JSON."""
    units = split(archive)
    for _ in range(rng.choice((1, 1, 2, 3))):
        what = rng.randrange(10)
        if not units or what == 0:
            units.insert(rng.randrange(len(units) + 1), _new(rng))
            continue
        texts = [place for place, (_, body) in enumerate(units) if words and body[:1] in (b"{", b"[")]
        place = rng.choice(texts) if texts and rng.random() < 0.4 else rng.randrange(len(units))
        header, body = units[place]
        if place in texts:
            what = 4
        if what == 1:
            units.insert(rng.randrange(len(units) + 1), (bytearray(header), body))
        elif what == 2:
            units.insert(rng.randrange(len(units)), units.pop(place))
        elif what == 3:
            del units[place]
        elif what in (4, 5) and body:
            units[place] = _with_body(header, _body(header, body, rng, change, words), rng)
        elif what == 6:
            units.insert(place, _extension(rng, change))
        else:
            _change_field(header, rng, change, units)
        if place < len(units) and rng.random() < 0.97:
            fix(units[place][0])
    content = joined(units)
    return content if rng.random() < 0.95 else content[: rng.randrange(len(content) + 1)]


def crossed(one: bytes, other: bytes, rng: Random) -> bytes:
    """Entries of both archives."""
    first, second = split(one), split(other)
    start = rng.randrange(len(second) + 1)
    first[rng.randrange(len(first) + 1) :] = second[start : start + rng.randrange(1, 9)]
    return joined(first)


def fix(header: bytearray) -> None:
    """Make the checksum right."""
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)


def _path(rng: Random) -> bytes:
    return b"/".join(
        rng.choice(_PARTS[:10] if rng.random() < 0.7 else _PARTS) for _ in range(rng.randint(1, 3))
    )


def _new(rng: Random, kind: bytes = b"", size: int = 0) -> Unit:
    kind = kind or bytes([rng.choice(_TYPES)])
    header = bytearray(BLOCK)
    header[:100] = _path(rng)[:100].ljust(100, b"\0")
    header[100:156] = b"0000644\0000000000\0000000000\0%011o\0%011o\0" % (size, 1) + bytes(8)
    header[156:157] = kind
    if kind in b"12":
        header[157:257] = _path(rng)[:100].ljust(100, b"\0")
    header[257:265] = b"ustar\00000"
    fix(header)
    return header, b""


def _change_field(header: bytearray, rng: Random, change: Plain, units: list[Unit]) -> None:
    name = rng.choice(("path", "link", "type", "size", *_FIELDS))
    start, end = _FIELDS[name]
    width = end - start
    if name == "type":
        header[start] = rng.choice(_TYPES)
    elif name in ("path", "link", "prefix"):
        other = rng.choice(units)[0]
        known = rng.choice((bytes(other[:100]), bytes(other[157:257])))
        text = rng.choice((known, _path(rng), change(bytes(header[start:end]))))
        header[start:end] = text[:width].ljust(width, b"\0")
    elif name == "magic":
        header[start:end] = rng.choice((b"ustar\00000", b"ustar  \0", bytes(8)))
    elif rng.random() < 0.5:
        header[start:end] = (b"%o" % number(rng, rng.choice((1, 2, 4))))[:width].ljust(width, b"\0")
    elif rng.random() < 0.5:
        header[start:end] = rng.choice((b"\x80", b"\xff")) + number(rng, width - 1).to_bytes(width - 1, "big")
    else:
        header[start:end] = change(bytes(header[start:end]))[:width].ljust(width, b" ")


def _with_body(header: bytearray, body: bytes, rng: Random) -> Unit:
    if rng.random() < 0.95:
        header[124:136] = b"%011o\0" % len(body)
    return header, body


def _body(header: bytearray, body: bytes, rng: Random, change: Plain, words: tuple[str, ...]) -> bytes:
    content = body[: _size(header)]
    if header[156:157] in b"xg" and rng.random() < 0.8:
        return _records(rng, change)
    if words and content[:1] in (b"{", b"["):
        return json_text(content, rng, change, words)
    return change(content)


def _extension(rng: Random, change: Plain) -> Unit:
    """A header that says something of what follows it."""
    kind = rng.choice((b"x", b"x", b"g", b"L", b"K"))
    body = _records(rng, change) if kind in b"xg" else _path(rng) + b"\0"
    return _new(rng, kind, len(body))[0], body


def _records(rng: Random, change: Plain) -> bytes:
    found = b""
    for _ in range(rng.choice((1, 1, 2, 20))):
        value = rng.choice((_path(rng), rng.choice(_VALUES), change(rng.choice(_VALUES))))
        text = b" " + rng.choice(_KEYS) + b"=" + value + b"\n"
        length = len(text) + len(str(len(text)))
        length = len(text) + len(str(length))
        found += (b"%d" % (length if rng.random() < 0.95 else number(rng, 1))) + text
    return found
