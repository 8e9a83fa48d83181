"""Parts of a body: what to ask for and what an answer holds (RFC 9110, section 14)."""

from __future__ import annotations

import re
from collections.abc import Mapping

_CONTENT_RANGE = re.compile(r"bytes\s+(\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.IGNORECASE)


def request_headers(start: int, end: int | None, etag: str | None) -> dict[str, str]:
    """Ask for the bytes from ``start`` up to before ``end`` (None: all), of the same version as before."""
    if start == 0 and end is None:
        return {}
    headers = {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
    # A weak validator must not be used here (RFC 9110, 13.1.5).
    if etag and not etag.startswith("W/"):
        headers["If-Range"] = etag
    return headers


def first_byte(status: int, headers: Mapping[str, str], size: int) -> int | None:
    """Which byte of ``size`` the body of an answer begins with; None if the answer makes no sense."""
    if status != 206:
        return 0
    found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if found is None or int(found[1]) > int(found[2]) or found[3] not in ("*", str(size)):
        return None
    return int(found[1])


def length(headers: Mapping[str, str]) -> int | None:
    """The body's bytes as announced."""
    if "Transfer-Encoding" in headers:
        return None
    text = headers.get("Content-Length", "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
