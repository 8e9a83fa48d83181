"""What a site and its users configure of every container: mounts.d and environ.d, under both fronts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.cluster import Cluster
from cluster.users import ADA

FRONTS = {
    "run": ["pinnace", "run"],
    "step": ["srun", "-wn1", "--container-image"],
}
#: What enroot installs, with a directory of the site.
_SYSTEM = """\
/proc       /proc       none    x-create=dir,rbind,rw,nosuid,nodev,noexec,rslave   0   -1
/sys        /sys        none    x-create=dir,rbind,ro,nosuid,nodev,noexec,rslave   0   -1
/dev        /dev        none    x-create=dir,rbind,rw,nosuid,noexec,rslave         0   -1
tmpfs       /tmp        tmpfs   x-create=dir,rw,nosuid,nodev,mode=755,slave        0   -1
tmpfs       /var/run    tmpfs   x-create=dir,rw,nosuid,nodev,mode=755,slave        0   -1
tmpfs       /var/lock   tmpfs   x-create=dir,rw,nosuid,nodev,mode=755,slave        0   -1
/dev/shm    /dev/shm    none    x-create=dir,bind,rw,nosuid,nodev,noexec,rslave    0   -1
"""
_CONFIG = """\
/etc/hosts       /etc/hosts       none  x-create=file,bind,ro,nosuid,nodev,noexec,private                0  0
/etc/machine-id  /etc/machine-id  none  x-create=file,bind,ro,nosuid,nodev,noexec,private,nofail,silent  0  0
"""


@pytest.fixture(autouse=True)
def nothing_left(cluster: Cluster) -> Iterator[None]:
    yield
    for path in (*(_etc(cluster) / name for name in ("mounts.d", "environ.d")), cluster.home() / ".config"):
        shutil.rmtree(path, ignore_errors=True)
    assert cluster.leftovers() == []


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest) -> list[str]:
    return FRONTS[request.param]


@pytest.fixture
def image(cluster: Cluster, tiny_image: str) -> str:
    """An image that is in the user's store."""
    cluster.run(["pinnace", "pull", "-q", tiny_image], check=True)
    return tiny_image


def _etc(cluster: Cluster) -> Path:
    return cluster.prefix / "etc" / "pinnace"


def site(cluster: Cluster, name: str, text: str) -> None:
    """Write a file of the administrator's."""
    path = _etc(cluster) / name
    path.parent.mkdir(exist_ok=True)
    path.parent.chmod(0o755)
    path.write_text(text)
    path.chmod(0o644)


def own(cluster: Cluster, name: str, text: str) -> None:
    """Write a file of the user's."""
    script = f"mkdir -p .config/pinnace/{Path(name).parent} && cat > .config/pinnace/{name}"
    cluster.run(["sh", "-c", script], input=text, check=True)


def said(cluster: Cluster, front: list[str], image: str, script: str, **environment: str) -> str:
    done = cluster.run([*front, image, "sh", "-c", script], env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_files_that_enroot_installs_change_nothing(
    cluster: Cluster, image: str, front: list[str]
) -> None:
    look = "cut -d' ' -f5 /proc/self/mountinfo | sort | grep -v ^/dev/shm; grep -c . /etc/hosts"
    before = said(cluster, front, image, look)
    site(cluster, "mounts.d/10-system.fstab", _SYSTEM)
    site(cluster, "mounts.d/20-config.fstab", _CONFIG)
    assert said(cluster, front, image, look) == before


def test_mounts_of_site_and_user_come_in_their_order(cluster: Cluster, image: str, front: list[str]) -> None:
    data = cluster.home() / "data"
    cluster.run(["sh", "-c", f"mkdir -p '{data}/ada/a b/sub' && echo mine > '{data}/ada/a b/f'"], check=True)
    site(cluster, "mounts.d/a.fstab", f"{data}/${{USER}}/a\\040b /site none x-create=dir,bind,ro\n")
    site(cluster, "mounts.d/b.fstab", "tmpfs /site/sub size=1M,nofail\n")
    site(cluster, "mounts.d/c.fstab", "tmpfs /gone x-create=dir\nnone /gone none x-detach\n")
    own(
        cluster, "mounts.d/d.fstab", "/etc/passwd\t/own bind,ro,x-create=file\n/no/such /x none bind,nofail\n"
    )
    mounted = "grep -o ' /site/sub \\| /gone ' /proc/mounts"
    try:
        for _ in range(2):  # by Python, then by the kept plan
            look = f"cat /site/f; grep -c ^{ADA.name} /own; {mounted}; echo > /site/f || echo read-only"
            assert said(cluster, front, image, look).splitlines() == ["mine", "1", " /site/sub ", "read-only"]
    finally:
        shutil.rmtree(data)


def test_a_directory_of_the_container_is_mounted_elsewhere_in_it(
    cluster: Cluster, image: str, front: list[str]
) -> None:
    """As enroot's /etc/fstab has volumes: they can be written in a read-only container."""
    site(cluster, "mounts.d/a.fstab", "${ENROOT_ROOTFS}/etc /srv/volume none x-create=dir,bind,rw\n")
    assert said(cluster, front, image, "echo x > /srv/volume/new && cat /etc/new") == "x\n"


def test_variables_are_those_of_each_caller(cluster: Cluster, image: str, front: list[str]) -> None:
    site(cluster, "environ.d/10-a.env", "# all\nMODE=site\nWHO='${WHO}, ${NOT_SET}'\n")
    own(cluster, "environ.d/10-a.env", "MODE=own\n")
    for who in ("one", "two words"):
        assert said(cluster, front, image, "echo $MODE, $WHO.", WHO=who) == f"own, {who}, .\n"


def test_a_variable_that_was_asked_for_wins(cluster: Cluster, image: str) -> None:
    site(cluster, "environ.d/a.env", "MODE=site\n")
    run = cluster.run(["pinnace", "run", "-e", "MODE=asked", image, "sh", "-c", "echo $MODE"], check=True)
    step = cluster.srun(
        [f"--container-image={image}", "--container-env=MODE", "sh", "-c", "echo $MODE"],
        env={"MODE": "asked"},
    )
    assert run.stdout == step.stdout == "asked\n"


def test_a_file_that_changes_counts_at_once(cluster: Cluster, image: str, front: list[str]) -> None:
    look = "echo $MODE"
    assert [said(cluster, front, image, look) for _ in range(2)] == ["\n", "\n"]
    for value in ("first", "other"):
        site(cluster, "environ.d/a.env", f"MODE={value}\n")
        assert [said(cluster, front, image, look) for _ in range(2)] == [f"{value}\n"] * 2
    (_etc(cluster) / "environ.d/a.env").unlink()
    assert said(cluster, front, image, look) == "\n"


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("mounts.d/a.fstab", "\n/src /dst none bind,frob\n", "invalid mount `/src /dst none bind,frob`"),
        ("environ.d/a.env", "A=1\nexport B=2\n", "`export B=2` is no variable"),
        ("mounts.d/a.fstab", "\n/no/such /dst none bind,x-create=dir\n", "cannot mount /no/such"),
        ("mounts.d/a.fstab", "\n${NOT_SET} /dst none bind,x-create=dir\n", "no source is named"),
        ("mounts.d/a.fstab", "\n/usr /../../../new none rbind,ro\n", "cannot mount on /../../../new"),
    ],
)
def test_what_is_wrong_is_one_clear_line(
    cluster: Cluster, image: str, front: list[str], name: str, text: str, line: str
) -> None:
    site(cluster, name, text)
    done = cluster.run([*front, image, "true"], timeout=120)
    assert done.returncode == (125 if front[1] == "run" else 1)
    (said,) = [text for text in done.stderr.splitlines() if text.startswith("pinnace: error: ")]
    assert line in said
    if "cannot mount" not in line and "source" not in line:
        assert f"{name}, line 2" in said
