"""Images for the tests, made from this machine's own package sources and kept in build/images."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from cluster import oci
from cluster.requirements import REPOSITORY

_KEPT = REPOSITORY / "build" / "images"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HELLO = b"#!/bin/sh\necho hello from the second layer\n"
_DIRECTORIES = ("bin", "etc", "tmp", "proc", "sys", "dev")
_APPLETS = (
    "cat chmod chown cp date df dirname echo env false find grep head hostname id kill ln ls mkdir mktemp mv "
    "nproc printf ps pwd readlink rm rmdir sed sh sleep sort stat tail test timeout touch true tty uname "
    "unlink wc whoami"
)


def debian() -> Path:
    """The layout of a Debian (or Ubuntu) base system with a second layer that adds and deletes a file."""
    sources = _package_sources()
    return _kept("debian", sources, lambda layout: _make_debian(layout, sources))


def tiny() -> Path:
    """The layout of an image of one static busybox: made and pulled in no time."""
    return _kept("tiny", _APPLETS, _make_tiny)


def _kept(name: str, recipe: str, make: Callable[[Path], None]) -> Path:
    """The layout that ``make`` has made from ``recipe`` at this or an earlier time."""
    own_text = Path(__file__).read_text() + Path(oci.__file__).read_text()
    key = hashlib.sha256((own_text + recipe).encode()).hexdigest()[:12]
    layout = _KEPT / f"{name}-{key}"
    if not layout.exists():
        _KEPT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_KEPT) as directory:
            partial = Path(directory) / "layout"
            make(partial)
            partial.rename(layout)
    return layout


def _package_sources() -> str:
    """This system's suite and where it comes from, as lines for mmdebstrap, whichever way apt was told."""
    release = _os_release()
    columns = "$(ORIGIN) $(RELEASE) $(REPO_URI) $(COMPONENT)"
    listing = ["apt-get", "indextargets", "--format", columns, "Created-By: Packages"]
    shown = subprocess.run(listing, check=True, capture_output=True, text=True).stdout
    lines = []
    for line in shown.splitlines():
        origin, _, rest = line.partition(" ")
        if origin.lower() == release["ID"] and rest.split()[0] == release["VERSION_CODENAME"]:
            suite, address, component = rest.split()
            lines.append(f"deb {address} {suite} {component}")
    return "\n".join([release["VERSION_CODENAME"], *sorted(set(lines))]) + "\n"


def _os_release() -> dict[str, str]:
    lines = Path("/etc/os-release").read_text().splitlines()
    return {name: value.strip('"') for name, _, value in (line.partition("=") for line in lines)}


def _make_debian(layout: Path, sources: str) -> None:
    suite, _, lines = sources.partition("\n")
    base = layout.with_name("base.tar")
    # A frozen mirror of packages is as good as today's for an image that only tests will see.
    command = ["mmdebstrap", "--quiet", "--variant=minbase", '--aptopt=Acquire::Check-Valid-Until "false"']
    command += ["--aptopt=APT::Install-Recommends false", suite, str(base), *(["-"] if lines else [])]
    subprocess.run(command, input=lines, text=True, check=True)
    changes: dict[str, oci.Content] = {
        "usr/local/bin/hello": _HELLO,
        "etc/.wh.issue.net": b"",
        "srv/link": "../etc",
    }
    second = oci.tar(changes, executable=["usr/local/bin/hello"])
    oci.write_layout(layout, [base, second], {"Env": [_PATH, "LANG=C.UTF-8"], "Cmd": ["/bin/sh"]})
    base.unlink()


def _make_tiny(layout: Path) -> None:
    layer: dict[str, oci.Content] = dict.fromkeys(_DIRECTORIES)
    layer["bin/busybox"] = _static_busybox()
    layer.update({f"bin/{applet}": "busybox" for applet in _APPLETS.split()})
    layer["etc/os-release"] = b'PRETTY_NAME="Tiny"\n'
    contents = oci.tar(layer, executable=["bin/busybox"])
    oci.write_layout(layout, [contents], {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"]})


def _static_busybox() -> bytes:
    """The program from Debian's package, which is not installed: it would replace the machine's busybox."""
    with tempfile.TemporaryDirectory() as directory:
        if os.geteuid() == 0:
            shutil.chown(directory, "_apt")  # apt downloads as this user and complains if it cannot
        subprocess.run(["apt-get", "-qq", "download", "busybox-static"], cwd=directory, check=True)
        package = next(Path(directory).glob("*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(package), f"{directory}/root"], check=True)
        return next(Path(directory, "root").glob("**/bin/busybox")).read_bytes()
