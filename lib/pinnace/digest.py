"""Content digests in their written form, ``sha256:`` and 64 lower-case hexadecimal digits."""

from __future__ import annotations

PREFIX = "sha256:"
HEX_LENGTH = 64
_HEX = frozenset("0123456789abcdef")


def is_digest(text: object) -> bool:
    """Whether ``text`` is a complete, well-formed SHA-256 digest."""
    return isinstance(text, str) and text.startswith(PREFIX) and is_hex(text[len(PREFIX) :])


def is_hex(text: str) -> bool:
    """Whether ``text`` is the hexadecimal half of a digest."""
    return len(text) == HEX_LENGTH and _HEX.issuperset(text)


def hex_of(digest: str) -> str:
    """The hexadecimal half, as used in file names."""
    return digest[len(PREFIX) :]


def short(digest: str) -> str:
    """Twelve digits: enough for people."""
    return digest[len(PREFIX) : len(PREFIX) + 12]


def of_bytes(content: bytes) -> str:
    """The digest of ``content``."""
    import hashlib  # loads OpenSSL: keep it off the launch path

    return PREFIX + hashlib.sha256(content).hexdigest()


def of_file(path: str) -> str:
    """The digest of the file at ``path``. Raises OSError."""
    import hashlib

    from pinnace import unnoticed

    state = hashlib.sha256()
    with open(path, "rb", buffering=0, opener=unnoticed.opener) as stream:
        while block := stream.read(1 << 20):
            state.update(block)
    return PREFIX + state.hexdigest()
