"""Private images in jobs: the user's own files are read on the node, and nothing of them is seen."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.cluster import Cluster, wait_until
from cluster.registry import Registry
from cluster.users import ADA, BEN, User

CANARY = "c4n4ry-s3cr3t"
HOST = "127.0.0.1:5001"
#: bcrypt of CANARY.
_HTPASSWD = "ada:$2b$04$Afua1mrmpbnHNRCEIbmYYelPJjg9wITUJ9pz9KX7A1HzUL/21nJz.\n"
_AUTH = base64.b64encode(f"ada:{CANARY}".encode()).decode()
_CONFIGURATION = """\
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {directory}/registry}}}}
auth: {{htpasswd: {{realm: test, path: {directory}/htpasswd}}}}
http: {{addr: "{host}"}}
"""


@pytest.fixture(scope="module")
def private(cluster: Cluster, registry: Registry, tiny_image: str) -> Iterator[str]:
    """The tiny image in a registry that wants a password; it runs on the first node and knows that one."""
    directory, node = cluster.directory, cluster.nodes[0]
    (directory / "htpasswd").write_text(_HTPASSWD)
    configuration = directory / "private.yml"
    configuration.write_text(_CONFIGURATION.format(directory=directory, host=HOST))
    log = directory / "private.log"
    background = f'echo $$; exec setsid "$@" >{log} 2>&1 </dev/null &'
    serve = ["docker-registry", "serve", str(configuration)]
    node.run(["sh", "-c", background, "sh", *serve])
    probe = ["bash", "-c", f": </dev/tcp/{HOST.replace(':', '/')}"]
    wait_until(lambda: node.run(probe, check=False).returncode == 0, what="the private registry to listen")
    cluster.note_state()
    yield f"{HOST}#{tiny_image.partition('#')[2]}"
    for number, command in cluster.node_processes(node).items():
        if str(configuration) in command:
            os.kill(number, 15)
    wait_until(lambda: node.run(probe, check=False).returncode != 0, what="the private registry to end")
    cluster.note_state()


@pytest.fixture(autouse=True)
def nothing_left(cluster: Cluster) -> Iterator[None]:
    yield
    for user in (ADA, BEN):
        for name in (".docker", ".config", ".cache"):
            cluster.run(["rm", "-rf", str(cluster.home(user) / name)], user=user, check=True)
    assert cluster.leftovers() == []


def write(cluster: Cluster, name: str, text: str, user: User = ADA) -> None:
    """A private file in a user's home."""
    script = f"umask 077; mkdir -p {os.path.dirname(name)}; cat >{name}"
    cluster.run(["sh", "-c", script], user=user, input=text, check=True)


def docker(cluster: Cluster, auth: str = _AUTH, user: User = ADA) -> None:
    write(cluster, ".docker/config.json", json.dumps({"auths": {HOST: {"auth": auth}}}), user)


def srun(
    cluster: Cluster, image: str, *options: str, user: User = ADA, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    words = ["-w", cluster.nodes[0].name, *options, f"--container-image={image}", "echo", "in"]
    done = cluster.srun(words, user=user, env=env, timeout=120)
    assert CANARY not in done.stdout + done.stderr and _AUTH not in done.stdout + done.stderr
    return done


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if "pinnace: error: " in line]


def test_a_job_pulls_with_dockers_file(cluster: Cluster, private: str) -> None:
    docker(cluster)
    done = srun(cluster, private, env={"PINNACE_DEBUG": "1"})
    assert (done.returncode, done.stdout) == (0, "in\n"), done.stderr


def test_a_job_pulls_with_enroots_file_and_a_variable_of_its_own(cluster: Cluster, private: str) -> None:
    write(cluster, ".config/enroot/.credentials", "machine 127.0.0.1 login ada password $REGISTRY_KEY\n")
    assert srun(cluster, private, env={"REGISTRY_KEY": CANARY}).returncode == 0
    cluster.run(["rm", "-rf", ".cache"], check=True)
    failed = srun(cluster, private)
    assert failed.returncode == 1
    (line,) = errors(failed)
    assert "the variable REGISTRY_KEY is not set (~/.config/enroot/.credentials, line 1)" in line


def test_enroots_commands_are_for_the_administrator_to_allow(cluster: Cluster, private: str) -> None:
    write(cluster, ".config/enroot/.credentials", f"machine 127.0.0.1 login ada password $(echo {CANARY})\n")
    (line,) = errors(srun(cluster, private))
    assert "commands for passwords are not allowed here" in line


def test_a_wrong_password_is_one_line(cluster: Cluster, private: str) -> None:
    docker(cluster, base64.b64encode(b"ada:wrong").decode())
    done = srun(cluster, private, "-n2")
    assert done.returncode == 1
    (line,) = errors(done)
    assert "rejects user ada from ~/.docker/config.json" in line


def test_another_user_has_no_part_in_it(cluster: Cluster, private: str) -> None:
    docker(cluster)
    assert srun(cluster, private).returncode == 0
    done = srun(cluster, private, user=BEN)
    assert done.returncode == 1
    (line,) = errors(done)
    assert f"no credentials for {HOST} in ~/.config/pinnace/auth.json" in line


def test_a_password_in_a_jobs_environment_is_not_taken(cluster: Cluster, private: str) -> None:
    given = {"PINNACE_REGISTRY": HOST, "PINNACE_USERNAME": "ada", "PINNACE_PASSWORD": CANARY}
    done = srun(cluster, private, env=given)
    assert done.returncode == 1
    assert "does not let anonymous users read" in errors(done)[0]


def test_no_process_or_file_on_the_node_shows_the_password(cluster: Cluster, private: str) -> None:
    docker(cluster)
    shown: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            for number, command in cluster.node_processes(cluster.nodes[0]).items():
                for name in ("cmdline", "environ"):
                    try:
                        content = Path(f"/proc/{number}/{name}").read_bytes()
                    except OSError:
                        continue
                    if CANARY.encode() in content or _AUTH.encode() in content:
                        shown.add(f"{name} of {command}")
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        assert srun(cluster, private).returncode == 0
    finally:
        over.set()
        watcher.join()
    assert shown == set()
    put = {str(cluster.home() / ".docker/config.json")}
    found = subprocess.run(
        ["grep", "-rlaF", "-e", CANARY, "-e", _AUTH, str(cluster.directory)], capture_output=True, text=True
    )
    assert set(found.stdout.splitlines()) == put
