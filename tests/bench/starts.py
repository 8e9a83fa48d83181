"""Starts of a cached image: side by side with other tools, phase by phase, and as a step of a job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench import phases, steps
from bench.measure import Measurement
from bench.report import SUMMARY, Report, Table, ratio, series_of, target, timing
from bench.site import Site
from cluster import images
from cluster.users import ADA

_BARE = "/bin/true, bare"
_PYTHON = "python3 -I -S -c pass"
_BWRAP = "bubblewrap, tree"
_CH_RUN = "ch-run, squashfs file"
_PINNACE = "pinnace run REFERENCE"
_PODMAN = ["podman", "--cgroup-manager=cgroupfs", "run", "--rm", "--network=none", "--rootfs"]


def measure(site: Site, rounds: int) -> Report:
    reference = site.registry.push(images.debian(), "debian:12")
    site.run("pinnace", "pull", "-q", reference)
    squashfs = site.squashfs_of(reference)
    starts = site.time(_subjects(site, reference, squashfs), rounds)
    parts = phases.Phases(site, reference)
    inside = parts.measure(rounds)
    step = steps.measure(site, reference, rounds)
    tables = [_table(starts, rounds), *parts.tables(inside), steps.table(step)]
    return Report(tables, series_of({**starts, **inside, **step}))


def _subjects(site: Site, reference: str, squashfs: str) -> dict[str, dict[str, Any]]:
    tree = str(site.directory("trees") / "debian")
    site.run("unsquashfs", "-quiet", "-no-progress", "-dest", tree, squashfs)
    mountpoint = str(site.directory("mountpoint"))
    bundle = _bundle(site, tree)
    commands = {
        _BARE: ["/bin/true"],
        _PYTHON: [site.python, "-I", "-S", "-c", "pass"],
        _BWRAP: ["bwrap", "--unshare-user", "--bind", tree, "/", "--dev", "/dev", "--proc", "/proc", "true"],
        "ch-run, tree": ["ch-run", tree, "--", "true"],
        _CH_RUN: ["ch-run", "--mount", mountpoint, squashfs, "--", "true"],
        "crun, tree": ["crun", "--root", str(bundle / "state"), "run", "--bundle", str(bundle), "bench"],
        "podman, tree": [*_PODMAN, tree, "true"],
        "pinnace run PATH.sqsh": ["pinnace", "run", squashfs, "true"],
        _PINNACE: ["pinnace", "run", reference, "true"],
    }
    subjects: dict[str, dict[str, Any]] = {name: {"command": words} for name, words in commands.items()}
    for overlay in ("kernel", "fuse-overlayfs"):
        for name, image in (("PATH.sqsh", squashfs), ("REFERENCE", reference)):
            subjects[f"pinnace run {name}, overlay = {overlay}"] = {
                "command": ["pinnace", "run", image, "true"],
                "environment": {"PINNACE_OVERLAY": overlay},
            }
    return subjects


def _bundle(site: Site, tree: str) -> Path:
    """A bundle for crun with the user's own id alone, as he has no others."""
    directory = site.directory("bundle")
    configuration = directory / "config.json"
    try:
        site.run("crun", "spec", "--rootless", cwd=str(directory))
    except (RuntimeError, OSError):
        return directory  # the attempt to run it will say why
    document = json.loads(configuration.read_text())
    document["root"]["path"] = tree
    document["process"]["terminal"] = False
    document["process"]["args"] = ["true"]
    for ids, own in (("uidMappings", ADA.uid), ("gidMappings", ADA.gid)):
        document["linux"][ids] = [{"containerID": 0, "hostID": own, "size": 1}]
    configuration.write_text(json.dumps(document))
    return directory


def _table(measured: dict[str, Measurement], rounds: int) -> Table:
    base, bwrap = measured[_CH_RUN].series, measured[_BWRAP].series
    columns = ["start of `true`, ms", *SUMMARY, "x ch-run", "x bubblewrap"]
    table = Table(f"Start of a cached image, {rounds} rounds", columns)
    for name, entry in measured.items():
        ratios = [ratio(entry.series, base), ratio(entry.series, bwrap)] if entry.series else []
        table.add(name, *timing(entry), *ratios)
    table.notes.append(
        "ch-run is compared on the same squashfs file, bubblewrap on the same tree, unpacked; "
        "ratios are medians of the rounds' ratios; spread: interquartile range"
    )
    ours = measured[_PINNACE].series
    if ours and base:
        verdicts = [target(ours.ratio(base), limit, "x ch-run") for limit in (8, 4)]
        table.notes.append(f"{_PINNACE}: {'; '.join(verdicts)}")
    return table
