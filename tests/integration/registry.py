"""A real registry on this machine, and images made by programs that are not ours."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path


class Registry:
    """docker-registry on a free loopback port, its files below ``directory``."""

    def __init__(self, directory: Path, tls: tuple[Path, Path] | None = None) -> None:
        self.files = directory / "registry"
        self.scheme = "https" if tls else "http"
        secured = f", tls: {{certificate: {tls[0]}, key: {tls[1]}}}" if tls else ""
        self.log = directory / "registry.log"
        self.port = free_port()
        configuration = directory / "registry.yml"
        configuration.write_text(
            f"version: 0.1\nlog: {{level: warn}}\n"
            f"storage: {{filesystem: {{rootdirectory: {self.files}}}, delete: {{enabled: true}}}}\n"
            f"http: {{addr: '127.0.0.1:{self.port}'{secured}}}\n"
        )
        self.process = subprocess.Popen(
            ["docker-registry", "serve", str(configuration)],
            stdout=self.log.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._wait()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait()

    def push(self, layout: Path, tag: str, name: str, *options: str) -> str:
        """Push ``tag`` of an OCI layout as ``name``; gives the reference to pull."""
        run(
            "skopeo",
            "copy",
            "-q",
            "--dest-tls-verify=false",
            *options,
            f"oci:{layout}:{tag}",
            f"docker://{self.host}/{name}",
        )
        return f"{self.host}/{name}"

    def put_manifest(self, name: str, tag: str, content: bytes, media_type: str) -> None:
        """Push a manifest as it is."""
        request = urllib.request.Request(
            f"http://{self.host}/v2/{name}/manifests/{tag}",
            data=content,
            method="PUT",
            headers={"Content-Type": media_type},
        )
        urllib.request.urlopen(request).close()

    def put_blob(self, name: str, content: bytes) -> dict[str, object]:
        """Push a blob; gives digest and size for a descriptor."""
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        start = urllib.request.Request(f"http://{self.host}/v2/{name}/blobs/uploads/", method="POST")
        with urllib.request.urlopen(start) as answer:
            location = answer.headers["Location"]
        separator = "&" if "?" in location else "?"
        request = urllib.request.Request(
            f"{location}{separator}digest={digest}",
            data=content,
            method="PUT",
            headers={"Content-Type": "application/octet-stream"},
        )
        urllib.request.urlopen(request).close()
        return {"digest": digest, "size": len(content)}

    def blob_file(self, digest: str) -> Path:
        """Where the registry keeps a blob: tests damage it there."""
        value = digest.partition(":")[2]
        return self.files / "docker/registry/v2/blobs/sha256" / value[:2] / value / "data"

    def manifest(self, name: str, tag: str) -> dict[str, object]:
        """A manifest as the registry gives it to a plain client."""
        request = urllib.request.Request(
            f"http://{self.host}/v2/{name}/manifests/{tag}",
            headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
        )
        with urllib.request.urlopen(request) as answer:
            found: dict[str, object] = json.load(answer)
            return found

    def _wait(self) -> None:
        for _ in range(200):
            try:
                context = ssl._create_unverified_context() if self.scheme == "https" else None
                urllib.request.urlopen(f"{self.scheme}://{self.host}/v2/", context=context).close()
                return
            except OSError:
                if self.process.poll() is not None:
                    raise RuntimeError(self.log.read_text()) from None
                time.sleep(0.05)
        raise RuntimeError("docker-registry does not answer")


class Layout:
    """An OCI layout that umoci fills layer by layer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        run("umoci", "init", "--layout", str(path))
        run("umoci", "new", "--image", f"{path}:latest")

    def add_layer(self, tar: Path) -> None:
        run("umoci", "raw", "add-layer", "--image", f"{self.path}:latest", str(tar))

    def configure(self, *options: str) -> None:
        run("umoci", "config", "--image", f"{self.path}:latest", *options)

    def unpack(self, target: Path) -> Path:
        """The tree that umoci makes of the image."""
        run("umoci", "raw", "unpack", "--image", f"{self.path}:latest", str(target))
        return target


def run(*command: str) -> str:
    """Run a program that must succeed; gives its output."""
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, f"{' '.join(command)}: {result.stderr}"
    return result.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
