"""What a pull makes of each thing that a registry may do: one table.

After each the store is sound, nothing temporary and no lock is left, and an error is one line.
"""

from __future__ import annotations

import gzip
import json
import random
import struct
from collections.abc import Callable
from typing import Any

import pytest
import zstandard

from integration import faults
from integration.faults import GZIP, INDEX, MANIFEST, OCI, Front, all_of, packed
from integration.puller import Puller
from integration.trees import directory, entry, layer
from pinnace import cli

_RANDOM = random.Random(1)
SMALL = layer([directory("./"), directory("etc"), entry("etc/os-release", content=b"NAME=Test\n")])
LARGE = layer([directory("./"), entry("data", content=_RANDOM.randbytes(300_000))])
LAYERS = [packed(SMALL), packed(LARGE)]
BLOB, BLOB_SIZE = faults.digest_of(LAYERS[1][0]), len(LAYERS[1][0])
CONFIG, _ = faults.image_parts(LAYERS)
CONFIG_DIGEST = faults.digest_of(CONFIG)
M, B, C = "/manifests/", BLOB, CONFIG_DIGEST

Prepare = Callable[[Front], Any]
CASES: list[Any] = []


def case(name: str, prepare: Prepare, identifier: str = "", *words: str) -> None:
    """A row of the table: what the registry does, and the error's identifier and words, or success."""
    CASES.append(pytest.param(prepare, identifier, words, id=name))


def fault(pattern: str, what: faults.Fault, times: float = 1, **options: Any) -> Prepare:
    """The usual image with a fault."""

    def prepare(front: Front) -> None:
        front.put("a/b", "1", LAYERS)
        front.on(pattern, what, times=times, **options)

    return prepare


def several(*rules: tuple[str, faults.Fault]) -> Prepare:
    """The usual image with a fault after the other; of those that fit the first is taken."""

    def prepare(front: Front) -> None:
        front.put("a/b", "1", LAYERS)
        for pattern, what in rules:
            front.on(pattern, what)

    return prepare


def image(layers: list[tuple[bytes, bytes, str]]) -> Prepare:
    return lambda front: front.put("a/b", "1", layers)


def manifest(document: Any, kind: str = MANIFEST) -> Prepare:
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    return lambda front: front.put_manifest("a/b", "1", content, kind)


def changed(**changes: Any) -> Prepare:
    """The usual image with other fields in its manifest."""

    def prepare(front: Front) -> None:
        config, content = faults.image_parts(LAYERS, **changes)
        front.add_blobs(config, *(blob for blob, _, _ in LAYERS))
        front.put_manifest("a/b", "1", content)

    return prepare


def nested(depth: int) -> Prepare:
    def prepare(front: Front) -> None:
        digest, kind = front.put("a/b", "inner", LAYERS), MANIFEST
        for number in range(depth):
            platform = {"os": "linux", "architecture": "amd64"}
            offer = {"mediaType": kind, "digest": digest, "size": 1, "platform": platform}
            index = json.dumps({"schemaVersion": 2, "manifests": [offer]}).encode()
            kind = INDEX
            digest = front.put_manifest("a/b", "1" if number == depth - 1 else f"i{number}", index, INDEX)

    return prepare


def index(*offers: dict[str, Any]) -> Prepare:
    return manifest({"schemaVersion": 2, "mediaType": INDEX, "manifests": list(offers)}, INDEX)


def zstd_frames(*parts: bytes) -> bytes:
    return b"".join(zstandard.compress(part) for part in parts)


def blob(content: bytes, tar: bytes = LARGE, kind: str = GZIP) -> Prepare:
    return image([LAYERS[0], (content, tar, kind)])


FOREVER = 10**9
SKIPPABLE = struct.pack("<II", 0x184D2A50, 5) + b"hello"
EMPTY_TAR = bytes(1024)

# Status codes
case("manifest: nothing is wrong", image(LAYERS))
case("manifest: 400", fault(M, faults.status(400), FOREVER), "registry", "400")
case(
    "manifest: 401 without a challenge", fault(M, faults.status(401), FOREVER), "registry-unauthorized", "401"
)
case("manifest: 403", fault(M, faults.status(403), FOREVER), "registry-forbidden", "403", "access")
case("manifest: 404", lambda front: None, "unknown-image", "a/b")
case("manifest: 404 of a tag", lambda f: f.put("a/b", "2", LAYERS), "unknown-tag", "there are the tags 2")
case("manifest: 408 once", fault(M, faults.status(408)))
case("manifest: 410", fault(M, faults.status(410), FOREVER), "registry", "410")
case("manifest: 429 once", fault(M, faults.status(429)))
case("manifest: 429 with Retry-After", fault(M, faults.status(429, {"Retry-After": "7"}), 2))
case(
    "manifest: 429 that asks for an hour",
    fault(M, faults.status(429, {"Retry-After": "3600"}), FOREVER),
    "registry-rate-limit",
    "wait 3600 s",
)
case(
    "manifest: 429 with a used-up limit",
    fault(
        M, faults.status(429, {"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "0;w=21600"}), FOREVER
    ),
    "registry-rate-limit",
    "100 in 6 h",
    "log in",
)
case("manifest: 429 for ever", fault(M, faults.status(429), FOREVER), "registry-rate-limit", "429")
case("manifest: 500 once", fault(M, faults.status(500)))
case("manifest: 500 for ever", fault(M, faults.status(500), FOREVER), "registry-unavailable", "500", "later")
case("manifest: 501", fault(M, faults.status(501), FOREVER), "registry-unavailable", "501")
case("manifest: 502 once", fault(M, faults.status(502)))
case(
    "manifest: 503 until a date",
    fault(M, faults.status(503, {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}), 2),
)
case("manifest: 503 with a wait that is none", fault(M, faults.status(503, {"Retry-After": "soon"})))
case("manifest: 504 for ever", fault(M, faults.status(504), FOREVER), "registry-unavailable", "504")
case("manifest: a status that does not exist", fault(M, faults.status(299), FOREVER), "registry", "299")
case("manifest: 302 without a target", fault(M, faults.status(302), FOREVER), "registry", "302")
case("configuration: 404", fault(C, faults.status(404), FOREVER), "missing-blob", C)
case("layer: 404", fault(B, faults.status(404), FOREVER), "missing-blob", B)
case("layer: 403", fault(B, faults.status(403), FOREVER), "registry-forbidden")
case("layer: 401 without a challenge", fault(B, faults.status(401), FOREVER), "registry-unauthorized")
case("layer: 429 once", fault(B, faults.status(429, {"Retry-After": "1"})))
case("layer: 500 three times", fault(B, faults.status(500), 3))
case("layer: 503 for ever", fault(B, faults.status(503), FOREVER), "registry-unavailable", "503")

# Digests
case(
    "manifest: another content than its digest says",
    fault(M, faults.body(lambda content: content + b" "), FOREVER),
    "digest-mismatch",
    "manifest",
)
case(
    "manifest: in an index, another content",
    lambda front: (
        nested(1)(front),
        front.on(M, faults.body(lambda content: content + b" "), skip=1, times=9),
    ),
    "digest-mismatch",
)
case(
    "configuration: another content", fault(C, faults.body(lambda c: c[::-1]), FOREVER), "digest-mismatch", C
)
case("layer: a byte is another", blob(LAYERS[1][0], LARGE[:-1] + b"x"), "digest-mismatch")
case(
    "layer: another layer of the same length",
    lambda front: (
        image([(LARGE, LARGE, f"{OCI}.layer.v1.tar")])(front),
        front.on(faults.digest_of(LARGE), faults.body(lambda c: c[:-1] + b"x"), times=FOREVER),
    ),
    "digest-mismatch",
    faults.digest_of(LARGE),
)
case(
    "layer: a wrong diff ID",
    image([(LAYERS[0][0], b"other", GZIP)]),
    "digest-mismatch",
    faults.digest_of(b"other"),
)
case("layer: a digest that is none", changed(layers=[{"mediaType": GZIP, "digest": "sha256:1", "size": 1}]),
     "malformed-manifest", "sha256:1")  # fmt: skip
case("layer: sha512", changed(layers=[{"mediaType": GZIP, "digest": "sha512:" + "0" * 128, "size": 1}]),
     "malformed-manifest", "sha512")  # fmt: skip

# Headers
case("headers: no digest", fault(M, faults.without("Docker-Content-Digest")))
case("headers: a digest that is none", fault(M, faults.header("Docker-Content-Digest", "x")))
case("headers: no type", fault(M, faults.without("Content-Type"), FOREVER))
case("headers: no ranges and no version", fault(B, faults.without("Accept-Ranges", "ETag"), FOREVER))
case("headers: a type with parameters", fault(M, faults.header("Content-Type", MANIFEST + "; charset=utf-8")))
case("headers: an encoding that was not asked for", fault(B, faults.header("Content-Encoding", "gzip")))

# Bodies
for at in (0, 1, BLOB_SIZE // 2, BLOB_SIZE - 1):
    case(f"layer: reset after {at} bytes", fault(B, faults.cut(at)))
case("layer: reset before the answer", fault(B, faults.cut(-1)))
case("layer: reset before every answer", fault(B, faults.cut(-1), FOREVER), "registry-unreachable", "broke")
case("layer: reset after no byte, each time", fault(B, faults.cut(0), FOREVER), "truncated-blob", "0 of")
case("layer: reset after 20 kB, each time", fault(B, faults.cut(20_000), FOREVER))
case("layer: reset after 10 bytes, each time", fault(B, faults.cut(10), FOREVER), "truncated-blob")
case("configuration: reset once", fault(C, faults.cut(10)))
case("manifest: reset once", fault(M, faults.cut(10)))
case("manifest: reset each time", fault(M, faults.cut(10), FOREVER), "registry-unreachable", "broke off")
case("manifest: reset before every answer", fault(M, faults.cut(-1), FOREVER), "registry-unreachable")
case("layer: shorter than said", fault(B, all_of(faults.body(lambda c: c[:1000]), faults.unbounded), FOREVER),
     "truncated-blob", "bytes arrived")  # fmt: skip
case("layer: shorter in storage", lambda f: (image(LAYERS)(f), f.blobs.update({B: LAYERS[1][0][:1000]})),
     "truncated-blob", "1000 of")  # fmt: skip
case(
    "layer: longer than said", fault(B, faults.body(lambda c: c + b"x"), FOREVER), "digest-mismatch", "longer"
)
case("layer: longer, in chunks", fault(B, all_of(faults.body(lambda c: c + b"x"), faults.chunked), FOREVER),
     "digest-mismatch", "longer")  # fmt: skip
case("layer: in chunks without a length", fault(B, faults.chunked, FOREVER))
case("layer: in chunks, reset once", fault(B, all_of(faults.chunked, faults.cut(100_000))))
case("layer: ends with the connection", fault(B, faults.unbounded, FOREVER))
case("layer: ends too early with the connection",
     fault(B, all_of(faults.body(lambda c: c[:1000]), faults.unbounded)))  # fmt: skip
case("layer: announces too much", fault(B, faults.header("Content-Length", str(BLOB_SIZE + 9)), FOREVER),
     "digest-mismatch", "longer")  # fmt: skip
case("layer: announces no number", fault(B, faults.header("Content-Length", "many")))
case("manifest: in chunks", fault(M, faults.chunked, FOREVER))
case("manifest: cut without a trace", fault(M, all_of(faults.body(lambda c: c[:99]), faults.unbounded,
     faults.without("Docker-Content-Digest")), FOREVER), "malformed-manifest", "not JSON")  # fmt: skip
case("manifest: empty", fault(M, faults.status(200, {}, b""), FOREVER), "malformed-manifest")

# Time
case("manifest: says nothing once", fault(M, faults.stall(-1)))
case("layer: says nothing once", fault(B, faults.stall(-1)))
case("layer: stalls after a byte", fault(B, faults.stall(1)))
case("layer: stalls in the middle", fault(B, faults.stall(BLOB_SIZE // 2)))
case("layer: stalls each time", fault(B, faults.stall(0), FOREVER), "truncated-blob", "no byte within 1 s")
case("layer: drips", fault(B, faults.drip(0.05)))
case("layer: the length of a chunk drips", fault(B, faults.endless("chunk")))
for pattern, name in ((M, "manifest"), (C, "configuration"), (B, "layer")):
    case(f"{name}: the answer's head drips", fault(pattern, faults.endless("head")))
case("manifest: the answer's head drips each time", fault(M, faults.endless("head"), FOREVER),
     "registry-unreachable", "no answer within 1")  # fmt: skip

# Ranges
case(
    "ranges: ignored",
    several((B, faults.cut(100_000)), (B, lambda r, a: faults.Reply(200, {}, LAYERS[1][0]))),
)
case("ranges: begin later", several((B, faults.cut(100_000)),
     (B, faults.header("Content-Range", f"bytes 200000-{BLOB_SIZE - 1}/{BLOB_SIZE}"))))  # fmt: skip
case("ranges: begin earlier", several((B, faults.cut(100_000)), (B, lambda r, a: faults.Reply(206,
     {"Content-Range": f"bytes 50000-{BLOB_SIZE - 1}/{BLOB_SIZE}"}, LAYERS[1][0][50_000:]))))  # fmt: skip
case("ranges: of another size", several((B, faults.cut(100_000)),
     (B, faults.header("Content-Range", f"bytes 100000-{BLOB_SIZE}/{BLOB_SIZE + 1}"))))  # fmt: skip
case("ranges: not told", several((B, faults.cut(100_000)), (B, faults.without("Content-Range"))))
case("ranges: 416", several((B, faults.cut(100_000)), (B, faults.status(416))))
case("ranges: another version", several((B, all_of(faults.header("ETag", '"old"'), faults.cut(100_000)))))
case("ranges: a weak version", several((B, all_of(faults.header("ETag", 'W/"x"'), faults.cut(100_000)))))

# Redirects
for code in (301, 302, 303, 307, 308):
    case(f"redirect: {code}", fault("/v2/", faults.redirect("/data{path}", code), 1, skip=2))
case(
    "redirect: without end", fault(B, faults.redirect("{path}"), FOREVER), "registry-redirect", "without end"
)
case("redirect: to a file", fault(B, faults.redirect("file:///etc/passwd"), FOREVER), "registry-redirect")
case("redirect: to nonsense", fault(B, faults.redirect("http://[x/"), FOREVER), "registry-redirect")
case(
    "redirect: to nobody", fault(B, faults.redirect("http://127.0.0.1:1/x"), FOREVER), "registry-unreachable"
)

# Documents
case("index: in an index", nested(2))
case("index: in an index in an index", nested(3), "malformed-manifest", "index in an index")
case("index: empty", index(), "other-platform", "none")
case("index: of no objects", index(5), "malformed-manifest")  # type: ignore[arg-type]
case("index: attestations only", index({"mediaType": MANIFEST, "digest": C, "size": 1,
     "platform": {"os": "unknown", "architecture": "unknown"}}), "not-an-image", "attestations")  # fmt: skip
case("manifest: schema 1", manifest({"schemaVersion": 1, "fsLayers": []}), "unsupported-manifest", "schema 1")
case("manifest: no JSON", manifest(b"<html>login</html>"), "malformed-manifest", "not JSON")
case("manifest: a list", manifest([]), "malformed-manifest")
case("manifest: deep", manifest(b"[" * 100_000), "malformed-manifest")
case("manifest: 10 MiB", changed(annotations={"x": "x" * (10 << 20)}), "manifest-too-large", "8388608")
case("manifest: of the type of an index", manifest({"schemaVersion": 2, "layers": [], "config": {}}, INDEX),
     "malformed-manifest", "type")  # fmt: skip
case("manifest: index and image", changed(manifests=[]), "malformed-manifest", "at the same time")
case("manifest: a chart", changed(config={"mediaType": "application/vnd.cncf.helm.config.v1+json",
     "digest": CONFIG_DIGEST, "size": len(CONFIG)}), "not-an-image", "helm")  # fmt: skip
case("configuration: no JSON", lambda front: (front.add_blobs(b"x"), changed(config={
     "mediaType": f"{OCI}.config.v1+json", "digest": faults.digest_of(b"x"), "size": 1})(front)),
     "malformed-manifest")  # fmt: skip
case("configuration: another platform", changed(configuration={"architecture": "s390x"}), "other-platform")
case("configuration: more diff IDs than layers", changed(layers=[]), "malformed-manifest", "0 layers")

# Layers
case("layer: not distributable", image([LAYERS[0], (LAYERS[1][0], LARGE,
     f"{OCI}.layer.nondistributable.v1.tar+gzip")]))  # fmt: skip
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
case("layer: foreign", image([(LAYERS[1][0], LARGE, FOREIGN)]), "unsupported-layer", "foreign")
case(
    "layer: of an unknown type",
    image([(LAYERS[0][0], SMALL, "text/plain")]),
    "unsupported-layer",
    "text/plain",
)
case("layer: mislabelled as zstd", blob(LAYERS[1][0], kind=f"{OCI}.layer.v1.tar+zstd"))
case("layers: none", image([]))
case("layers: 127", image([packed(layer([entry(f"f{n}", content=b"x")])) for n in range(127)]))
case("layers: 128", image([packed(layer([entry(f"f{n}", content=b"x")])) for n in range(128)]))
case("layers: the same twice", image([LAYERS[1], LAYERS[0], LAYERS[1]]))
case("layers: an empty one", image([LAYERS[0], packed(EMPTY_TAR)]))
case("layers: only empty ones", image([packed(EMPTY_TAR)] * 2))
case("layers: one of no bytes", image([LAYERS[0], packed(b"")]))
case("layers: one whose blob has no bytes", image([LAYERS[0], (b"", b"", f"{OCI}.layer.v1.tar")]))
case("gzip: garbage after it", blob(LAYERS[1][0] + b"garbage"), "damaged-layer", "decompress")
case("gzip: zeros after it", blob(LAYERS[1][0] + bytes(512)))
case("gzip: several members", blob(gzip.compress(LARGE[:7000]) + gzip.compress(LARGE[7000:])))
case(
    "gzip: an empty member between",
    blob(gzip.compress(LARGE[:7]) + gzip.compress(b"") + gzip.compress(LARGE[7:])),
)
case("gzip: ends early", blob(LAYERS[1][0][:-9]), "damaged-layer")
case("zstd: several frames", blob(zstd_frames(LARGE[:7000], LARGE[7000:])))
case(
    "zstd: skippable frames",
    blob(SKIPPABLE + zstd_frames(LARGE[:7]) + SKIPPABLE + zstd_frames(LARGE[7:]) + SKIPPABLE),
)
case("zstd: garbage after it", blob(zstd_frames(LARGE) + b"garbage"), "damaged-layer")
case("zstd: ends early", blob(zstd_frames(LARGE)[:-9]), "malformed-layer", "ends")


@pytest.mark.parametrize(("prepare", "identifier", "words"), CASES)
def test_behaviour(
    prepare: Prepare,
    identifier: str,
    words: tuple[str, ...],
    puller: Puller,
    front: Front,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare(front)
    seen: list[str] = []
    report = cli.report
    monkeypatch.setattr(cli, "report", lambda error: (seen.append(error.identifier), report(error))[1])
    if not identifier:
        return puller.succeeds(f"{front.host}/a/b:1")
    said = puller.fails(f"{front.host}/a/b:1")
    assert seen == [identifier], said
    assert [word for word in words if word not in said] == [], said


def test_there_are_enough_behaviours() -> None:
    assert len(CASES) >= 60
