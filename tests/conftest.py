"""Fixtures that need a cluster: it is started once, when the first test asks for it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import images
from cluster.cluster import Cluster
from cluster.registry import Registry
from eyes import Eyes, ordinary


def pytest_configure() -> None:
    """What was started in the background ignores some signals, and so would every program under test."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def ordinary_eyes(tmp_path: Path) -> Eyes:
    """Look at files below ``tmp_path`` as an ordinary user."""
    return lambda: ordinary(tmp_path)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two nodes with Pinnace installed; every test has to leave them as it has found them."""
    if os.geteuid() != 0:
        pytest.skip("a cluster needs root: make test")
    with Cluster(nodes=2) as running:
        yield running


@pytest.fixture(scope="session")
def registry(cluster: Cluster) -> Registry:
    """A registry that is 127.0.0.1:5000 on every host of the cluster."""
    running = Registry(cluster)
    running.start()
    return running


@pytest.fixture(scope="session")
def debian_image(registry: Registry) -> str:
    """The reference of a real image of two layers: this system's base."""
    return registry.push(images.debian(), "debian:12")


@pytest.fixture(scope="session")
def tiny_image(registry: Registry) -> str:
    """The reference of an image that has little more than a shell."""
    return registry.push(images.tiny(), "tiny:1")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Show the cluster's logs with a test that failed on it."""
    report = yield
    running = getattr(item, "funcargs", {}).get("cluster")
    if isinstance(running, Cluster) and report.failed and Path(running.directory).exists():
        report.sections.append(("cluster", running.logs()))
        running.cancel_all()  # the next test is not to find what this one has left
    return report
