"""Registries that want to know who asks: docker-registry's own passwords, and a token service.

All of it is played on loopback in front of a real docker-registry.
"""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from integration.registry import Registry, free_port

USER = "ada"
#: What must be seen nowhere.
CANARY = "c4n4ry-s3cr3t"
IDENTITY = "c4n4ry-1d3nt1ty"
#: bcrypt of CANARY, for docker-registry.
_HTPASSWD = f"{USER}:$2b$04$Afua1mrmpbnHNRCEIbmYYelPJjg9wITUJ9pz9KX7A1HzUL/21nJz."


def basic(user: str = USER, password: str = CANARY) -> str:
    """A user and password as files and headers have them."""
    return base64.b64encode(f"{user}:{password}".encode()).decode()


class PrivateRegistry:
    """docker-registry with passwords, on what another one holds."""

    def __init__(self, directory: Path, registry: Registry) -> None:
        self.host = f"127.0.0.1:{free_port()}"
        (directory / "htpasswd").write_text(_HTPASSWD + "\n")
        configuration = directory / "private.yml"
        configuration.write_text(
            f"version: 0.1\nlog: {{level: warn}}\n"
            f"storage: {{filesystem: {{rootdirectory: {registry.files}}}}}\n"
            f"auth: {{htpasswd: {{realm: test, path: {directory / 'htpasswd'}}}}}\n"
            f"http: {{addr: '{self.host}'}}\n"
        )
        self._process = subprocess.Popen(
            ["docker-registry", "serve", str(configuration)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://{self.host}/v2/").close()
            except urllib.error.HTTPError:
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("docker-registry does not answer")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


@dataclass
class _Token:
    end: float
    scope: str


@dataclass
class Authority:
    """A token service, and a front that wants its tokens before it lets the registry answer.

    A token lives ``lifetime`` seconds, whatever it says. Repositories below ``public`` need no user.
    ``oauth``: whether the service knows identity tokens. ``seen``: method, path and Authorization of
    each request to the service.
    """

    registry: Registry
    lifetime: float = 300
    oauth: bool = True
    delay: float = 0.0
    seen: list[tuple[str, str, str]] = field(default_factory=list)
    tokens: dict[str, _Token] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._service = _serve(_service(self))
        self._front = _serve(_front(self))
        self.host = f"127.0.0.1:{self._front.server_address[1]}"
        self.realm = f"http://127.0.0.1:{self._service.server_address[1]}/token"

    def stop(self) -> None:
        for server in (self._front, self._service):
            server.shutdown()
            server.server_close()

    def issue(self, scope: str) -> str:
        token = secrets.token_hex(8)
        self.tokens[token] = _Token(time.monotonic() + self.lifetime, scope)
        return token

    def admits(self, authorization: str, repository: str) -> bool:
        token = self.tokens.get(authorization.removeprefix("Bearer "))
        if token is None or time.monotonic() > token.end:
            return False
        return not repository or token.scope == f"repository:{repository}:pull"


def _serve(handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class _Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name there
        pass

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _service(authority: Authority) -> type[BaseHTTPRequestHandler]:
    class Service(_Quiet):
        def do_GET(self) -> None:
            given = self.headers.get("Authorization", "")
            authority.seen.append(("GET", self.path, given))
            scope = parse_qs(urlsplit(self.path).query).get("scope", [""])[0]
            known = given in (f"Basic {basic()}", f"Basic {basic('<token>', IDENTITY)}")
            if known or (not given and scope.startswith("repository:public/")):
                self._give("token", scope)
            else:
                self.reply(401)

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            authority.seen.append(("POST", self.path, self.headers.get("Authorization", "")))
            if not authority.oauth:
                self.reply(405)
            elif form["refresh_token"] == [IDENTITY] and form["grant_type"] == ["refresh_token"]:
                self._give("access_token", form.get("scope", [""])[0])
            else:
                self.reply(400)

        def _give(self, name: str, scope: str) -> None:
            self.reply(200, json.dumps({name: authority.issue(scope), "expires_in": 300}).encode())

    return Service


def _front(authority: Authority) -> type[BaseHTTPRequestHandler]:
    class Front(_Quiet):
        def do_GET(self) -> None:
            parts = self.path.removeprefix("/v2/").split("/")
            repository = "/".join(parts[:-2])
            scope = f',scope="repository:{repository}:pull"' if repository else ""
            if authority.admits(self.headers.get("Authorization", ""), repository):
                self._pass_on()
            else:
                self._challenge(scope)

        do_HEAD = do_GET

        def _challenge(self, scope: str) -> None:
            self.reply(401, WWW_Authenticate=f'Bearer realm="{authority.realm}",service="test"{scope}')

        def _pass_on(self) -> None:
            if "/blobs/" in self.path:
                time.sleep(authority.delay)
            names = ("Accept", "Range")
            headers = {name: self.headers[name] for name in names if name in self.headers}
            url = f"http://{authority.registry.host}{self.path}"
            request = urllib.request.Request(url, method=self.command, headers=headers)
            try:
                with urllib.request.urlopen(request) as answer:
                    kept = ("Content-Type", "Docker-Content-Digest", "Content-Range", "Accept-Ranges")
                    more = {name: answer.headers[name] for name in kept if name in answer.headers}
                    self.reply(answer.status, answer.read(), **more)
            except urllib.error.HTTPError as error:
                self.reply(error.code)

    return Front
