"""``make demo``: a two-node cluster to look at and to try things on, until ``make demo-down``."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cluster import images
from cluster.cluster import Cluster, sweep
from cluster.registry import Registry
from cluster.users import ADA

DIRECTORY = Path("/var/tmp/pinnace-demo")
_HUB_IMAGE = "docker://docker.io/library/debian:12-slim"
_HUB_TIMEOUT = 5
_JOB = ["grep", "PRETTY_NAME", "/etc/os-release"]

_NEXT = """
The cluster is running. To go on by hand, as the ordinary user {user}:

    {shell}
    srun -N2 -n8 --container-image={image} hostname
    srun --pty --container-image={image} bash
    pinnace images

Its logs are in {directory}/log. `make demo-down` removes all of it.
"""


def up() -> int:
    down()
    cluster = Cluster(nodes=2, directory=DIRECTORY, detached=True)
    with _timed(f"Starting munged, slurmctld and two slurmd, all of it in {DIRECTORY}"):
        cluster.start()
    try:
        registry = Registry(cluster)
        with _timed("Starting a registry"):
            registry.start()
        image = _push_image(registry)
        _write_shell(cluster)
        for state in ("cold: pulled, converted and started", "warm: started"):
            print(f"\n# {state}")
            if _show(cluster, ["srun", "-N2", f"--container-image={image}", *_JOB]) != 0:
                print(f"\nThe job failed. The logs:\n{cluster.logs()}", file=sys.stderr)
                return 1
    except BaseException:
        cluster.stop()
        raise
    shell = DIRECTORY / "shell"
    print(_NEXT.format(user=ADA.name, shell=shell, image=image, directory=DIRECTORY))
    return 0


def down() -> int:
    """Remove the demo, and what killed test runs have left."""
    if (DIRECTORY / "hosts.json").exists():
        Cluster.at(DIRECTORY).stop()
    sweep()
    return 0


def _push_image(registry: Registry) -> str:
    with tempfile.TemporaryDirectory() as directory:
        layout = Path(directory) / "layout"
        with _timed("Looking for debian:12-slim on Docker Hub"):
            from_hub = _copy_from_hub(layout)
        if not from_hub:
            with _timed(
                "Docker Hub cannot be reached: making an image with mmdebstrap, or taking the last one"
            ):
                layout = images.debian()
        with _timed("Pushing the image to the registry"):
            return registry.push(layout, "debian:12")


def _copy_from_hub(layout: Path) -> bool:
    skopeo = ["skopeo", "--insecure-policy"]
    try:
        ask = [*skopeo, "inspect", "--raw", _HUB_IMAGE]
        subprocess.run(ask, capture_output=True, timeout=_HUB_TIMEOUT, check=True)
        subprocess.run(
            [*skopeo, "copy", "--quiet", _HUB_IMAGE, f"oci:{layout}"], capture_output=True, check=True
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        return False
    return True


def _show(cluster: Cluster, command: Sequence[str]) -> int:
    """Run a command as a user of the cluster would, visibly."""
    print(f"{ADA.name}@{cluster.login.name}$ {shlex.join(command)}", flush=True)
    started = time.monotonic()
    done = cluster.run(command, stdout=None, stderr=None, timeout=600)
    print(f"# {time.monotonic() - started:.2f} s")
    return done.returncode


def _write_shell(cluster: Cluster) -> None:
    """A command that enters the cluster: a shell, or the command given as its arguments."""
    variables = [f"{name}={value}" for name, value in cluster.environment(ADA).items()]
    words = [*cluster.login.enter(ADA), "env", "-i", "-C", str(cluster.home(ADA)), *variables]
    shell = cluster.directory / "shell"
    shell.write_text(
        "#!/bin/sh\n"
        f"# Enter the cluster as {ADA.name}; with arguments, run them there.\n"
        '[ $# -gt 0 ] || set -- env PS1="\\\\u@\\\\h\\\\$ " bash --norc\n'
        '[ "$(id -u)" = 0 ] || sudo=sudo\n'
        f'exec $sudo {shlex.join(words)} TERM="${{TERM:-dumb}}" "$@"\n'
    )
    shell.chmod(0o755)


@contextmanager
def _timed(what: str) -> Iterator[None]:
    print(f"{what} …", end=" ", flush=True)
    started = time.monotonic()
    yield
    print(f"{time.monotonic() - started:.1f} s", flush=True)


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("a cluster needs root")
    sys.exit({"up": up, "down": down}[sys.argv[1]]())
