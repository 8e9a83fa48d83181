"""Arguments of the plugin in plugstack.conf, as sites have them for pyxis."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import images
from cluster.cluster import Cluster
from cluster.squash import squash, squash_tree


@pytest.fixture(scope="module")
def site() -> Iterator[Cluster]:
    """A cluster with what pyxis's users write there."""
    arguments = (
        "runtime_path=/run/pyxis execute_entrypoint=1 container_scope=job sbatch_support=0 use_squashfuse=1"
    )
    with Cluster(nodes=1, plugin_arguments=arguments) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def image(site: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny image with a script for an entry point."""
    plain, tree = site.directory / "plain.sqsh", tmp_path_factory.mktemp("image") / "tree"
    squash(images.tiny(), plain)
    subprocess.run(["unsquashfs", "-q", "-n", "-d", str(tree), str(plain)], check=True, capture_output=True)
    (tree / "etc" / "rc").write_text('export FROM_ENTRY=entered\nexec "$@"\n')
    (tree / "etc" / "environment").write_text("PATH=/bin\n")
    return squash_tree(tree, site.directory / "script.sqsh")


def test_execute_entrypoint_decides_unless_the_user_says(site: Cluster, image: Path) -> None:
    def entered(*options: str, **variables: str) -> str:
        words = [f"--container-image={image}", *options, "sh", "-c", "echo ${FROM_ENTRY-no}"]
        return site.srun(words, env=variables, timeout=120).stdout

    assert entered() == "entered\n"
    assert entered("--no-container-entrypoint") == "no\n"
    assert entered(PYXIS_CONTAINER_ENTRYPOINT="0") == "no\n"
    assert site.leftovers() == []


def test_without_sbatch_support_only_srun_knows_the_options(site: Cluster, image: Path) -> None:
    for command in (
        ["sbatch", f"--container-image={image}", "--wrap=true"],
        ["salloc", "--container-image=x"],
    ):
        refused = site.run(command)
        assert refused.returncode != 0 and "unrecognized option '--container-image" in refused.stderr


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("execute_entrypoint=maybe", "execute_entrypoint=maybe in plugstack.conf: 0 or 1 is expected"),
        ("container_scope=node", "container_scope=node in plugstack.conf: job or global is expected"),
        ("importer=/opt/importer", "importer=/opt/importer in plugstack.conf: programs that import"),
        ("no_such=1", "unknown argument no_such=1 in plugstack.conf; known are launcher=PATH"),
    ],
)
def test_one_that_is_not_possible_is_named_and_nothing_starts(
    site: Cluster, argument: str, expected: str
) -> None:
    file = site.directory / "slurm" / "plugstack.conf"
    right = file.read_text()
    file.write_text(f"{right.rstrip()} {argument}\n")
    try:
        refused = site.run(["srun", "true"])
    finally:
        file.write_text(right)
    assert refused.returncode != 0
    assert [line for line in refused.stderr.splitlines() if f"pinnace: {expected}" in line]
