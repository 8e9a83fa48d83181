"""Users on nodes that want one image at the same moment: it is made once a store, whoever dies meanwhile."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import oci
from cluster.cluster import Cluster
from cluster.host import Host, send_signal
from cluster.registry import Registry
from cluster.users import USERS, User
from integration import sound
from torture.processes import finish
from torture.rounds import seeded

LAYERS = 4
Racers = list[tuple[User, Host, "subprocess.Popen[str]"]]


def store_of(cluster: Cluster, user: User) -> Path:
    return cluster.home(user) / ".cache" / "pinnace"


@pytest.fixture(autouse=True)
def nothing_left(cluster: Cluster) -> Iterator[None]:
    for user in USERS:
        shutil.rmtree(store_of(cluster, user), ignore_errors=True)
    yield
    assert cluster.leftovers() == []


@pytest.fixture
def image(registry: Registry, tmp_path: Path) -> str:
    """The name of an image that nobody has had."""
    layers = [oci.tar({f"layer-{number}": os.urandom(1 << 20)}) for number in range(LAYERS)]
    oci.write_layout(tmp_path / "layout", layers, {"Env": ["PATH=/bin"]})
    return registry.push(tmp_path / "layout", f"race:{random.randrange(1 << 40)}")


def everybody(cluster: Cluster, image: str) -> Racers:
    """Every user begins to pull on every node."""
    return [
        (user, node, cluster.popen(["pinnace", "pull", image], user=user, host=node))
        for user in USERS
        for node in cluster.nodes
    ]


def check(cluster: Cluster) -> None:
    """Nothing is wrong in the users' stores or left over there, and all have the same."""
    roots = [store_of(cluster, user) for user in USERS]
    assert [sound.faults(root) for root in roots] == [[]] * len(roots)
    assert [sound.leftovers(root) for root in roots] == [[]] * len(roots)
    assert len({tuple(sound.objects(root).items()) for root in roots}) == 1
    assert len(sound.objects(roots[0])) == LAYERS + 1


@pytest.mark.parametrize("seed", seeded(10, 1))
def test_two_users_on_two_nodes_fetch_and_make_an_image_once_each(
    seed: int, cluster: Cluster, registry: Registry, image: str, tmp_path: Path
) -> None:
    before = len(registry.requests())
    ended = [(user, *finish(process)) for user, _, process in everybody(cluster, image)]
    assert [status for _, status, _, _ in ended] == [0] * len(ended), ended
    for user in USERS:
        said = "".join(said for racer, _, _, said in ended if racer is user)
        assert said.count("imported docker image") == 1
    blobs = Counter(
        line.rpartition(":")[2] for line in registry.requests()[before:] if line.startswith("GET")
    )
    large = [file.name for file in tmp_path.glob("layout/blobs/*/*") if file.stat().st_size > 1 << 19]
    assert [blobs[name] for name in large] == [len(USERS)] * LAYERS
    check(cluster)


@pytest.mark.parametrize("seed", seeded(20, 1))
def test_another_node_takes_over_from_one_that_dies(seed: int, cluster: Cluster, image: str) -> None:
    moments = random.Random(seed)
    racers, dies = everybody(cluster, image), moments.choice(cluster.nodes)
    time.sleep(moments.uniform(0.2, 2))
    for _, node, process in racers:
        if node is dies:
            send_signal(process, signal.SIGKILL)
    for _, node, process in racers:
        status, _, said = finish(process)
        assert status == 0 or node is dies, said
    for user in USERS:  # which removes what a dead one left last
        assert cluster.run(["pinnace", "pull", image], user=user).returncode == 0
    check(cluster)
