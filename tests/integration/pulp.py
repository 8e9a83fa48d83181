"""A registry that shares no code with docker-registry: Pulp, in Python, on PostgreSQL.

Its API gives tokens and manifests; layers are redirected to its content server. Both speak https here.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from integration.certificates import Authority
from integration.registry import free_port, run
from pinnace import locks

VENV = Path(__file__).parents[2] / "build" / "pulp"
PASSWORD = "secret"
_NOBODY = 65534


def installed() -> Path:
    """The directory of Pulp's programs, which are installed if they are not there."""
    with locks.held(f"{VENV}.lock"):
        if not (VENV / "complete").exists():
            shutil.rmtree(VENV, ignore_errors=True)
            run(sys.executable, "-m", "venv", str(VENV))
            run(f"{VENV}/bin/pip", "install", "--quiet", "pulp-container >= 2.20, < 3")
            (VENV / "complete").touch()
    return VENV / "bin"


class Relay:
    """A TCP port in front of ``target``; its next connections end after as many bytes as ``cuts`` has."""

    def __init__(self, target: int) -> None:
        self.cuts: list[int] = []
        #: Connections that were cut.
        self.cut = 0
        self._target = target
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                for pair in ((client, server, None), (server, client, self.cuts)):
                    threading.Thread(target=self._copy, args=pair, daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, cuts: list[int] | None) -> None:
        left = cuts.pop(0) if cuts else None
        with suppress(OSError):
            while data := source.recv(16 << 10):
                target.sendall(data if left is None else data[:left])
                if left is not None:
                    left -= len(data)
                    if left <= 0:
                        self.cut += 1
                        break
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        self._socket.close()


class Pulp:
    """A running Pulp with its files below ``directory``; ``admin`` may push and pull everything."""

    def __init__(self, directory: Path, authority: Authority, database: str) -> None:
        self.directory = directory
        self.host = f"127.0.0.1:{free_port()}"
        content = free_port()
        #: What layers come through.
        self.relay = Relay(content)
        self.content_host = f"127.0.0.1:{self.relay.port}"
        self.authority = authority
        self._programs = installed()
        self._environment = {
            **os.environ,
            "PULP_SETTINGS": str(directory / "settings.py"),
            "HOME": str(directory),
        }
        self._write_settings(database)
        self._manage("migrate", "--noinput")
        self._manage("reset-admin-password", "--password", PASSWORD)
        log = ["--access-logfile", str(directory / "content.log"), "--access-logformat", "%r %s"]
        self._processes = [
            self._start("pulpcore-api", self.host),
            self._start("pulpcore-content", f"127.0.0.1:{content}", *log),
        ]
        try:
            for host in (self.host, f"127.0.0.1:{content}"):
                self._wait(host)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Pulp:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def push(self, layout: Path, tag: str, name: str, *options: str) -> str:
        """Push ``tag`` of an OCI layout as ``name``; gives the reference to pull."""
        certificates = self.directory / "certificates"
        certificates.mkdir(exist_ok=True)
        shutil.copy(self.authority.ca, certificates / "ca.crt")
        access = ["--dest-creds", f"admin:{PASSWORD}", "--dest-cert-dir", str(certificates)]
        run("skopeo", "copy", "-q", *access, *options, f"oci:{layout}:{tag}", f"docker://{self.host}/{name}")
        return f"{self.host}/{name}"

    def make_private(self, name: str) -> None:
        """Let nobody but ``admin`` pull from the repository ``name``."""
        place = "/pulp/api/v3/distributions/container/container/"
        found = self._ask("GET", f"{place}?name={name}")["results"][0]["pulp_href"]
        self._ask("PATCH", found, {"private": True})
        while not self._ask("GET", found)["private"]:
            time.sleep(0.1)

    def layer_answers(self) -> list[str]:
        """Requests for layers, each with the answer's status."""
        return [
            line for line in (self.directory / "content.log").read_text().splitlines() if "/blobs/" in line
        ]

    def stop(self) -> None:
        for process in self._processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.relay.stop()

    def _write_settings(self, database: str) -> None:
        place = self.directory
        for name in ("media", "assets", "tmp"):
            (place / name).mkdir()
        key = [
            "openssl",
            "ecparam",
            "-genkey",
            "-name",
            "prime256v1",
            "-noout",
            "-out",
            f"{place}/private.pem",
        ]
        run(*key)
        run("openssl", "ec", "-in", f"{place}/private.pem", "-pubout", "-out", f"{place}/public.pem")
        (place / "key").write_bytes(base64.urlsafe_b64encode(os.urandom(32)))
        values: dict[str, object] = {
            "SECRET_KEY": "secret",
            "DATABASES": {
                "default": {
                    "ENGINE": "django.db.backends.postgresql",
                    "NAME": "postgres",
                    "USER": "pulp",
                    "HOST": database,
                }
            },
            "DB_ENCRYPTION_KEY": f"{place}/key",
            "DEPLOY_ROOT": str(place),
            "MEDIA_ROOT": f"{place}/media",
            "STATIC_ROOT": f"{place}/assets",
            "WORKING_DIRECTORY": f"{place}/tmp",
            "FILE_UPLOAD_TEMP_DIR": f"{place}/tmp",
            "CONTENT_ORIGIN": f"https://{self.content_host}",
            "TOKEN_SERVER": f"https://{self.host}/token/",
            "TOKEN_SIGNATURE_ALGORITHM": "ES256",
            "PUBLIC_KEY_PATH": f"{place}/public.pem",
            "PRIVATE_KEY_PATH": f"{place}/private.pem",
            "CACHE_ENABLED": False,
            "ANALYTICS": False,
        }
        (place / "settings.py").write_text("".join(f"{name} = {value!r}\n" for name, value in values.items()))
        server = str(self.authority.server)
        (place / "gunicorn.conf.py").write_text(f"certfile = keyfile = {server!r}\n")

    def _manage(self, *arguments: str) -> None:
        command = [str(self._programs / "pulpcore-manager"), *arguments]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def _start(self, program: str, address: str, *options: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(self._programs / program), "--bind", address, *options],
            env=self._environment,
            cwd=self.directory,
            stdout=(self.directory / f"{program}.log").open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _wait(self, host: str) -> None:
        address, port = host.split(":")
        while True:
            with suppress(OSError):
                socket.create_connection((address, int(port))).close()
                return
            for process in self._processes:
                assert process.poll() is None, (self.directory / "pulpcore-api.log").read_text()
            time.sleep(0.1)

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        password = base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
        request = urllib.request.Request(
            f"https://{self.host}{path}",
            data=json.dumps(body).encode() if body else None,
            method=method,
            headers={"Authorization": f"Basic {password}", "Content-Type": "application/json"},
        )
        context = ssl.create_default_context(cafile=str(self.authority.ca))
        with urllib.request.urlopen(request, context=context) as answer:
            return json.load(answer)


@contextmanager
def postgres() -> Iterator[str]:
    """The directory of a database server's socket; the server refuses to run as root, so nobody does it."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    as_nobody: dict[str, Any] = {}
    if os.geteuid() == 0:
        as_nobody = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
    with tempfile.TemporaryDirectory(prefix="pinnace-postgres-") as place:
        if as_nobody:
            os.chown(place, _NOBODY, _NOBODY)
        make = [f"{programs}/initdb", "-D", f"{place}/data", "-U", "pulp", "--auth=trust", "--no-sync"]
        done = subprocess.run(
            [*make, "-E", "UTF8", "--locale=C"], capture_output=True, text=True, **as_nobody
        )
        assert done.returncode == 0, done.stderr
        serve = [f"{programs}/postgres", "-D", f"{place}/data", "-k", place, "-c", "listen_addresses="]
        quick = ["-c", "fsync=off", "-c", "synchronous_commit=off"]
        server = subprocess.Popen([*serve, *quick], stderr=subprocess.DEVNULL, cwd=place, **as_nobody)
        try:
            while subprocess.run([f"{programs}/pg_isready", "-q", "-h", place]).returncode != 0:
                assert server.poll() is None
                time.sleep(0.1)
            yield place
        finally:
            server.send_signal(signal.SIGINT)  # does not wait for clients
            server.wait()
