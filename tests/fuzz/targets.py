"""What is fuzzed. A target runs one input; only PinnaceError may come out of it."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from fuzz import layers, mutations, squash, tars
from fuzz.guard import files, limited
from fuzz.mutations import Plain
from pinnace import digest, fields, reference
from pinnace.credentials import docker, enroot, helper, names
from pinnace.credentials.files import Question, Surroundings
from pinnace.errors import PinnaceError, StoreError, report
from pinnace.registry import authorization, ranges, tokens
from pinnace.registry.transport import is_web_address
from pinnace.slurm import request
from pinnace.sources import local, locations, manifests, platforms
from pinnace.sources.archive import File
from pinnace.store.images import Image, Layer, Resolution

#: Bytes of an error's line.
_LONGEST = 20_000
_DIGEST = "sha256:" + "0" * 64
_PLATFORM = "linux/amd64"


def _crossed(one: bytes, other: bytes, rng: Random) -> bytes:
    return one[: rng.randrange(len(one) + 1)] + other[rng.randrange(len(other) + 1) :]


def _changed(data: bytes, rng: Random, change: Plain) -> bytes:
    return change(data)


@dataclass(frozen=True)
class Target:
    """``mutate`` and ``cross`` make new inputs; ``largest`` is the most bytes of one."""

    read: Callable[[bytes], None]
    mutate: Callable[[bytes, Random, Plain], bytes] = _changed
    cross: Callable[[bytes, bytes, Random], bytes] = _crossed
    largest: int = 4096

    def run(self, data: bytes, seconds: float = 1.0) -> PinnaceError | None:
        """Read ``data`` within the limits. Gives the error that a user would see; raises any other."""
        try:
            with limited(seconds):
                self.read(data)
        except PinnaceError as error:
            _check(error)
            return error
        return None


def _check(error: PinnaceError) -> None:
    line = report(error)
    line.encode()
    assert line.isprintable() and len(line) <= _LONGEST, len(line)
    json.dumps(error.as_dict())


def _any(*readers: Callable[[], object]) -> None:
    """Have all ``readers`` read. Raises PinnaceError if each of them does."""
    errors = []
    for reader in readers:
        try:
            reader()
        except PinnaceError as error:
            _check(error)
            errors.append(error)
    if len(errors) == len(readers):
        raise errors[-1]


# Manifests and archives of images


@dataclass(frozen=True)
class _Raw:
    content: bytes
    media_type: str = ""
    digest: str = _DIGEST


def _manifest(data: bytes) -> None:
    raw = _Raw(data)
    _any(
        lambda: manifests.is_index(raw, "image"),
        lambda: manifests.select(manifests.parse_index(raw, "image"), _PLATFORM, "image"),
        lambda: manifests.parse_manifest(raw, "image"),
        lambda: _configuration(data),
    )


def _configuration(data: bytes) -> None:
    configuration = manifests.parse_configuration(data, "image")
    platforms.matches(configuration.platform, _PLATFORM)
    assert all(map(digest.is_digest, configuration.diff_ids))
    json.dumps(configuration.config).encode()


def _archive(data: bytes) -> None:
    if data.startswith(b"hsqs"):
        return  # read by another program
    with files(data) as (path,), _closed():
        location = locations.Location("", path)
        source = local.open_source(location, "/nonexistent", lambda text: None)
        local.reference_of(location, source)
        image = source.resolve(reference.parse("localhost/a:1"), _PLATFORM)
        for layer in image.layers:
            for _ in source.open(image, layer):
                pass


def _record(data: bytes) -> None:
    """A record in a store that is shared, or in an archive of one."""

    def read(kind: Any, *arguments: str) -> None:
        try:
            record = kind.from_json(data, *arguments)
        except (KeyError, TypeError, ValueError):
            raise StoreError("it is no record") from None
        assert kind.from_json(record.to_json(), *arguments).to_json() == record.to_json()

    _any(lambda: read(Image, "i"), lambda: read(Layer), lambda: read(Resolution))


@contextlib.contextmanager
def _closed() -> Iterator[None]:
    """Files stay open as long as the process that reads an archive; a fuzzer reads millions."""
    opened: list[int] = []

    class Closed(File):
        def __init__(self, descriptor: int, name: str) -> None:
            opened.append(descriptor)
            super().__init__(descriptor, name)

    usual, local.File = File, Closed  # type: ignore
    try:
        yield
    finally:
        local.File = usual  # type: ignore
        for descriptor in opened:
            os.close(descriptor)


# What users, jobs and registries write


def _text(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    realm = authorization.parse_challenge(text).parameters.get("realm", text)
    if is_web_address(realm):
        names.without_port(tokens.Service(realm).host)
    ranges.first_byte(206, {"Content-Range": text}, 100)
    ranges.length({"Content-Length": text})
    names.of_key(text)
    _any(lambda: _reference(text), lambda: platforms.parse(text), lambda: locations.parse(text))


def _reference(text: str) -> None:
    found = reference.parse(text)
    assert reference.parse(str(found)) == found
    for part in (found.registry, found.repository, found.tag or ""):
        assert ".." not in part.split("/") and not part.startswith("/") and "\0" not in part
    names.scopes(found.registry, found.repository)
    assert names.without_port(found.registry)


def _request(data: bytes) -> None:
    request.parse(data)
    assert fields.encode(fields.decode(data)) == data


def _credentials(data: bytes) -> None:
    question = Question("h.io", "a/b", None, "auth.h.io")
    with files(data) as (path,), _no_helpers():
        surroundings = Surroundings({"HOME": "/nonexistent", "SECRET": "x"})
        _any(
            lambda: docker.find(path, question, surroundings),
            lambda: _enroot(path, question, surroundings),
        )


def _enroot(path: str, question: Question, surroundings: Surroundings) -> Any:
    usual, enroot.path = enroot.path, lambda _: path  # type: ignore[assignment]
    try:
        return enroot.find(question, surroundings)
    finally:
        enroot.path = usual


@contextlib.contextmanager
def _no_helpers() -> Iterator[None]:
    """Credential helpers are other programs; their answers are another input."""

    def ask(name: str, *_: object) -> None:
        with contextlib.suppress(helper.HelperError):
            helper._parsed(name, "helper")
        raise helper.HelperError("there are none here")

    usual, helper.ask = helper.ask, ask  # type: ignore[assignment]
    try:
        yield
    finally:
        helper.ask = usual


# How inputs are changed

_OCI = "application/vnd.oci.image."
_WORDS = (
    "schemaVersion", "mediaType", "config", "layers", "manifests", "digest", "size", "platform", "os",
    "architecture", "variant", "annotations", "artifactType", "rootfs", "diff_ids", "Env", "Entrypoint",
    "Cmd", "WorkingDir", "User", "A=b", "/", "linux", "amd64", "v3", _DIGEST, _OCI + "manifest.v1+json",
    _OCI + "index.v1+json", _OCI + "config.v1+json", _OCI + "layer.v1.tar+gzip",
    "application/vnd.cncf.helm.x", "Config", "Layers", "RepoTags", "layer.tar", "config.json", "a:1",
    "unknown",
)  # fmt: skip
_SECRETS = (
    "auths", "auth", "h.io", "https://h.io/v1/", "credHelpers", "credsStore", "identitytoken",
    "registrytoken", "username", "password", "YTpi", "<token>", "h.io/a", "pass",
)  # fmt: skip
_TOKENS = (
    b"docker://", b"#", b"@", b":", b"/", b"sha256:" + b"0" * 64, b"localhost", b"docker.io", b"[::1]",
    b":5000", b"library", b".sqsh", b"oci:", b"-", b"..", b"Bearer realm=", b'"', b",", b"bytes 0-1/",
    b"\\", b"latest", b"https://", b"hub.docker.com/_/", b"linux/arm64/v8", b"99999", b"\xff", b"\n", b"[",
)  # fmt: skip
_LINES = (
    b"machine h.io login a password b\n", b"machine auth.h.io login $oauthtoken password $SECRET\n",
    b"default", b"password ${SECRET}", b"$(x)", b"#", b"account", b"macdef x\n", b"\r", b"\x0b",
    b"\xe2\x80\xa8", b"{", b"$",
)  # fmt: skip


def _json(data: bytes, rng: Random, change: Plain) -> bytes:
    return mutations.json_text(data, rng, change, _WORDS)


def _archived(data: bytes, rng: Random, change: Plain) -> bytes:
    return tars.mutated(data, rng, change, _WORDS)


def _inserted(tokens: tuple[bytes, ...]) -> Callable[[bytes, Random, Plain], bytes]:
    def mutate(data: bytes, rng: Random, change: Plain) -> bytes:
        place = rng.randrange(len(data) + 1)
        end = place + rng.choice((0, 0, 1, 4, 20))
        return change(data) if rng.random() < 0.4 else data[:place] + rng.choice(tokens) + data[end:]

    return mutate


def _secrets(data: bytes, rng: Random, change: Plain) -> bytes:
    if not data.lstrip().startswith(b"{"):
        return _inserted(_LINES)(data, rng, change)

    def encoded(text: bytes) -> bytes:
        try:
            return base64.b64encode(change(base64.b64decode(text, validate=True)))
        except (binascii.Error, ValueError):
            return change(text)

    return mutations.json_text(data, rng, encoded, _SECRETS)


def _fields(data: bytes, rng: Random, change: Plain) -> bytes:
    try:
        found = list(fields.decode(data))
    except PinnaceError:
        return change(data)
    if not found or rng.random() < 0.2:
        return change(data)
    place = rng.randrange(len(found))
    key, value = found[place]
    what = rng.randrange(4)
    if what == 0:
        found[place] = (key, change(value))
    elif what == 1:
        found[place] = (key, b"%d" % mutations.number(rng, 4) * rng.choice((1, 1, 600)))
    elif what == 2:
        found.append(found[place])
    else:
        del found[place]
    return fields.encode(found)


TARGETS = {
    "layer": Target(layers.layer, tars.mutated, tars.crossed, 16 << 10),
    "image": Target(layers.image, squash.mutated, squash.crossed, 64 << 10),
    "foreign": Target(layers.foreign, squash.mutated, squash.crossed, 64 << 10),
    "unpack": Target(layers.unpack, squash.mutated, squash.crossed, 64 << 10),
    "compression": Target(layers.compression, largest=16 << 10),
    "manifest": Target(_manifest, _json, largest=8 << 10),
    "record": Target(_record, _json, largest=8 << 10),
    "archive": Target(_archive, _archived, tars.crossed, 32 << 10),
    "text": Target(_text, _inserted(_TOKENS), largest=1024),
    "request": Target(_request, _fields, largest=16 << 10),
    "credentials": Target(_credentials, _secrets, largest=4096),
}
