"""docker-registry on the cluster's login host; every host finds it at its own 127.0.0.1:5000."""

from __future__ import annotations

import re
from pathlib import Path

from cluster.cluster import REGISTRY, Cluster, wait_until

_CONFIGURATION = """\
version: 0.1
log: {{level: error}}
storage:
  filesystem: {{rootdirectory: {directory}/registry}}
  delete: {{enabled: true}}
http: {{addr: "0.0.0.0:5000"}}
"""
_REQUEST = re.compile(r'"((?:GET|HEAD|PUT|POST|PATCH|DELETE) \S+) HTTP/')


class Registry:
    """A registry that holds what push() has put into it."""

    address = REGISTRY

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        # Not beside the logs that are shown with a failed test: every push fills its errors with
        # questions for blobs that are not there yet.
        self._log = cluster.directory / "registry.log"

    def start(self) -> None:
        configuration = self._cluster.directory / "registry.yml"
        configuration.write_text(_CONFIGURATION.format(directory=self._cluster.directory))
        background = f'exec setsid "$@" >{self._log} 2>{self._log}.errors </dev/null &'
        serve = ["docker-registry", "serve", str(configuration)]
        self._cluster.login.run(["sh", "-c", background, "sh", *serve])
        probe = ["bash", "-c", f": </dev/tcp/{REGISTRY.replace(':', '/')}"]
        wait_until(
            lambda: self._cluster.login.run(probe, check=False).returncode == 0, what="the registry to listen"
        )
        self._cluster.note_state()

    def push(self, layout: Path, name: str) -> str:
        """Copy the only image of an OCI layout to ``name`` (repository:tag); returns its reference.

        As it is: digests, media types and compression of the layout are those of the registry.
        """
        command = ["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]
        words = [*command, f"oci:{layout}", f"docker://{REGISTRY}/{name}"]
        self._cluster.login.run(words, machine_files=True)
        return f"{REGISTRY}#{name}"

    def requests(self) -> list[str]:
        """All requests so far, such as ``GET /v2/debian/manifests/12``, of all hosts."""
        return _REQUEST.findall(self._log.read_text())
