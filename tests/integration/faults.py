"""A registry that misbehaves as it is told: OCI distribution 1.1 from memory, on a loopback port.

A test fills it with images and gives it faults. A fault is a function from a request and the
honest reply to the reply that is sent, so that faults can be put together:

    front.on("blobs/", cut(1000), times=2)
    front.on("manifests/", status(429, {"Retry-After": "1"}), method="HEAD")
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from integration.faulty_server import Reply, Request, Server, handler

OCI = "application/vnd.oci.image"
MANIFEST = f"{OCI}.manifest.v1+json"
INDEX = f"{OCI}.index.v1+json"
GZIP = f"{OCI}.layer.v1.tar+gzip"


Fault = Callable[[Request, Reply], Reply]


@dataclass
class _Rule:
    method: str
    pattern: str
    fault: Fault
    times: float
    skip: int = 0


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def status(code: int, headers: dict[str, str] | None = None, body: bytes = b"{}") -> Fault:
    return lambda request, reply: Reply(code, headers or {}, body)


def cut(after: int) -> Fault:
    return lambda request, reply: replace(reply, cut=after)


def stall(after: int) -> Fault:
    return lambda request, reply: replace(reply, stall=after)


def drip(seconds: float) -> Fault:
    return lambda request, reply: replace(reply, drip=seconds)


def endless(what: str) -> Fault:
    """A byte of the "head" now and then, or of a "chunk"'s length."""
    return lambda request, reply: replace(reply, endless=what)


def limited(rate: float) -> Fault:
    return lambda request, reply: replace(reply, rate=rate)


def body(change: Callable[[bytes], bytes]) -> Fault:
    """Another content with the honest one's headers, but for its length."""
    return lambda request, reply: replace(reply, body=change(reply.body))


def chunked(request: Request, reply: Reply) -> Reply:
    return replace(reply, chunked=True)


def unbounded(request: Request, reply: Reply) -> Reply:
    return replace(reply, unbounded=True)


def without(*names: str) -> Fault:
    def fault(request: Request, reply: Reply) -> Reply:
        return replace(reply, headers={k: v for k, v in reply.headers.items() if k not in names})

    return fault


def header(name: str, value: str) -> Fault:
    return lambda request, reply: replace(reply, headers={**reply.headers, name: value})


def redirect(target: str, code: int = 307) -> Fault:
    """To ``target``, in which ``{path}`` is the request's."""
    return lambda request, reply: Reply(code, {"Location": target.format(path=request.path)})


def all_of(*faults: Fault) -> Fault:
    def fault(request: Request, reply: Reply) -> Reply:
        for each in faults:
            reply = each(request, reply)
        return reply

    return fault


def image_parts(layers: list[tuple[bytes, bytes, str]], /, **changes: Any) -> tuple[bytes, bytes]:
    """Configuration and manifest of an image made of (blob, tar, media type)."""
    rootfs = {"type": "layers", "diff_ids": [digest_of(tar) for _, tar, _ in layers]}
    configuration = {
        "os": "linux",
        "architecture": "amd64",
        "config": {},
        "rootfs": rootfs,
        **changes.pop("configuration", {}),
    }
    config = json.dumps(configuration).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": f"{OCI}.config.v1+json", "digest": digest_of(config), "size": len(config)},
        "layers": [
            {"mediaType": kind, "digest": digest_of(blob), "size": len(blob)} for blob, _, kind in layers
        ],
        **changes,
    }
    return config, json.dumps(manifest).encode()


class Front:
    """The registry. ``tls`` is a server's certificate with its key in one file, and the CA of its clients."""

    def __init__(self, tls: tuple[Path, Path | None] | None = None) -> None:
        self.blobs: dict[str, bytes] = {}
        #: By (repository, tag or digest): content and media type.
        self.manifests: dict[tuple[str, str], tuple[bytes, str]] = {}
        self.seen: list[Request] = []
        #: Bytes of blobs' bodies that left.
        self.sent = 0
        #: Connections that were accepted, and the most that were open at a time.
        self.connections = self.open = self.most_open = 0
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._server = Server(("127.0.0.1", 0), handler(self))
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls[0])
            if tls[1] is not None:
                context.load_verify_locations(tls[1])
                context.verify_mode = ssl.CERT_REQUIRED
            self._server.context = context
        self.scheme = "https" if tls else "http"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Front:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        port: int = self._server.server_address[1]
        return port

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"

    def stop(self) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    def on(self, pattern: str, fault: Fault, *, times: float = 1, skip: int = 0, method: str = "GET") -> None:
        """Use ``fault`` for ``times`` requests whose path holds ``pattern``, after the first ``skip``."""
        self._rules.append(_Rule(method, pattern, fault, times, skip))

    def forget_faults(self) -> None:
        self._rules.clear()

    def put(self, name: str, tag: str, layers: list[tuple[bytes, bytes, str]]) -> str:
        """Add an image; gives its manifest's digest."""
        config, manifest = image_parts(layers)
        self.add_blobs(config, *(blob for blob, _, _ in layers))
        return self.put_manifest(name, tag, manifest)

    def add_blobs(self, *contents: bytes) -> None:
        self.blobs.update((digest_of(content), content) for content in contents)

    def put_manifest(self, name: str, tag: str, content: bytes, media_type: str = MANIFEST) -> str:
        digest = digest_of(content)
        self.manifests[name, tag] = self.manifests[name, digest] = content, media_type
        return digest

    def paths(self, part: str = "", method: str = "GET") -> list[str]:
        return [seen.path for seen in self.seen if part in seen.path and seen.method == method]

    # Used by the handler

    def reply(self, request: Request) -> Reply:
        with self._lock:
            self.seen.append(request)
            reply = self._honest(request)
            for rule in self._rules:
                if rule.times <= 0 or rule.pattern not in request.path or request.method != rule.method:
                    continue
                if rule.skip > 0:
                    rule.skip -= 1
                    continue
                rule.times -= 1
                reply = rule.fault(request, reply)
                break
            return reply

    def _honest(self, request: Request) -> Reply:
        path = request.path.partition("?")[0]
        if path == "/v2/":
            return Reply(body=b"{}")
        if found := re.fullmatch(r"/v2/(.+)/tags/list", path):
            tags = [tag for name, tag in self.manifests if name == found[1] and ":" not in tag]
            return Reply(body=json.dumps({"name": found[1], "tags": tags}).encode()) if tags else _NOT_FOUND
        if found := re.fullmatch(r"/v2/(.+)/manifests/([^/]+)", path):
            known = self.manifests.get((found[1], found[2]))
            if known is None:
                return _NOT_FOUND
            said = {"Content-Type": known[1], "Docker-Content-Digest": digest_of(known[0])}
            return Reply(200, said, known[0])
        if found := re.search(r"(sha256:[0-9a-f]{64})$", path):
            return self._blob(request, found[1])
        return _NOT_FOUND

    def _blob(self, request: Request, digest: str) -> Reply:
        content = self.blobs.get(digest)
        if content is None:
            return _NOT_FOUND
        said = {"Accept-Ranges": "bytes", "ETag": f'"{digest}"', "Docker-Content-Digest": digest}
        wanted = request.range(len(content))
        if wanted is None or request.headers.get("if-range", said["ETag"]) != said["ETag"]:
            return Reply(200, said, content)
        start, end = wanted
        if start >= len(content):
            return Reply(416, {**said, "Content-Range": f"bytes */{len(content)}"})
        said["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        return Reply(206, said, content[start:end])

    def transmitted(self, request: Request, count: int) -> None:
        with self._lock:
            self.sent += count if "/blobs/" in request.path or "/data/" in request.path else 0

    def opened(self, change: int) -> None:
        with self._lock:
            self.connections += max(change, 0)
            self.open += change
            self.most_open = max(self.most_open, self.open)

    def wait_for_the_end(self, connection: socket.socket) -> None:
        """Return once the client has gone or the server stops."""
        connection.settimeout(0.05)
        while not self._over.is_set():
            try:
                if not connection.recv(1):
                    return
            except TimeoutError:
                continue
            except OSError:
                return

    def pause(self, seconds: float) -> None:
        self._over.wait(seconds)


_NOT_FOUND = Reply(404, {}, b'{"errors": [{"code": "NAME_UNKNOWN"}]}')


def packed(tar: bytes) -> tuple[bytes, bytes, str]:
    """A layer in gzip: (blob, tar, media type)."""
    return gzip.compress(tar, 1, mtime=0), tar, GZIP
