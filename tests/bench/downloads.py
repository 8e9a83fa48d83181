"""Pulls of an image of 2 GB in 20 layers: against their slowest stage, skopeo and podman; their memory."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from bench import images
from bench.measure import Measurement, Series
from bench.report import SUMMARY, Report, Table, reason, series_of, summary, target
from bench.site import Site

_PULL = "pinnace pull, cold"
_SKOPEO = "skopeo copy (download and verify only)"
_PODMAN = "podman pull"
#: What each stage of a pull begins with, by names in alone.py.
_STAGES = {
    "download": "",
    "verify": "packed",
    "decompress": "packed",
    "diff-ID": "tar",
    "check": "tar",
    "tar2sqfs": "tar",
    "assembly": "sqsh",
}
_MEBIBYTE = 1 << 20
_PROCESSORS = len(os.sched_getaffinity(0))


def measure(site: Site, rounds: int) -> Report:
    reference = site.registry.push(images.many(), "many:1")
    kept = {"PINNACE_STORE": str(site.home / "stores" / "kept")}
    pull = {"command": ["pinnace", "pull", "-q", reference]}
    watched = site.time({_PULL: {**pull, "environment": kept, "watch": True}}, 1, warm_up=False)[_PULL]
    place = str(site.directory("alone"))
    alone = [site.python, "-I", site.script("alone.py"), site.library, reference, place]
    facts = json.loads(site.run(*alone, "prepare", env=kept))
    subjects = _subjects(site, reference, alone, place)
    found: list[dict[str, Measurement]] = []
    for _ in range(rounds):
        # podman with all that it can do needs root.
        peers = site.time(_podman(site, reference), 1, warm_up=False, user=None)
        found.append({**site.time(subjects, 1, warm_up=False), **peers})
    measured = {name: Measurement.joined([entry[name] for entry in found]) for name in found[0]}
    return Report([_table(measured, facts, watched)], series_of(measured))


def _subjects(site: Site, reference: str, alone: list[str], place: str) -> dict[str, dict[str, Any]]:
    server = site.process("docker-registry")
    store, copy = site.home / "stores" / "cold", site.home / "copy"
    skopeo = ["skopeo", "--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"]
    served = {
        _PULL: (["pinnace", "pull", "-q", reference], store),
        _SKOPEO: ([*skopeo, _docker(reference), f"dir:{copy}"], copy),
    }
    subjects: dict[str, dict[str, Any]] = {
        name: {
            "command": command,
            "before": _before(site, str(made)),
            "server": server,
            "environment": {"PINNACE_STORE": str(store)},
        }
        for name, (command, made) in served.items()
    }
    for stage, files in _STAGES.items():
        made = f"{place}/made"
        read = f"cat {place}/*.{files} >/dev/null"
        subjects[stage] = {
            "command": [*alone, stage],
            "before": ["sh", "-c", f"rm -rf {made}; mkdir {made}; {read}"] if files else _before(site, made),
            "server": 0 if files else server,
        }
    return subjects


def _podman(site: Site, reference: str) -> dict[str, dict[str, Any]]:
    storage = f"{site.cluster.directory}/podman"  # podman takes no path of more than 50 characters
    options = ["--root", f"{storage}/root", "--runroot", f"{storage}/run", "--cgroup-manager=cgroupfs"]
    return {
        _PODMAN: {
            "command": ["podman", *options, "pull", "--quiet", "--tls-verify=false", _docker(reference)],
            "before": _before(site, storage),
            "server": site.process("docker-registry"),
        }
    }


def _docker(reference: str) -> str:
    return f"docker://{reference.replace('#', '/')}"


def _before(site: Site, made: str) -> list[str]:
    """Remove what an earlier round has made, and have the registry's files in memory."""
    blobs = f"find {site.cluster.directory}/registry -name data -exec cat {{}} + >/dev/null"
    return ["sh", "-c", f"rm -rf {made}; {blobs}"]


def _table(measured: Mapping[str, Measurement], facts: dict[str, Any], watched: Measurement) -> Table:
    columns = ["s", *SUMMARY, "processor s", "% of the slowest stage", "% of the floor"]
    stages = {name: measured[name] for name in _STAGES}
    slowest = max(stages, key=lambda name: _median(stages[name].series))
    floor = _floor([entry.cpu for entry in stages.values() if entry.cpu])
    table = Table("A pull of many layers, and each of its stages alone", columns)
    for name in (_PULL, *_STAGES, _SKOPEO, _PODMAN):
        entry = measured[name]
        if entry.series is None or entry.cpu is None:
            table.add(name, reason(entry))
            continue
        cells = [f"{value:.2f}" for value in (*summary(entry.series), entry.cpu.median)]
        if name in stages:
            table.add(f"{name} alone", *cells)
        else:
            table.add(
                name, *cells, _percent(entry.series, stages[slowest].series), _percent(entry.series, floor)
            )
    packed, plain = (sum(layer[key] for layer in facts["layers"]) / 1e6 for key in ("packed", "plain"))
    table.notes += [
        f"{len(facts['layers'])} layers, {packed:.0f} MB compressed, {plain:.0f} MB as tar, "
        f"{facts['inodes']} inodes, from docker-registry over the loopback interface; its processor time "
        f"is counted with what downloads",
        f"a pull has {facts['workers']} layers at a time, a stage alone has one after the other; inflated by "
        f"{facts['inflate']}",
        f"floor: the processor seconds of all stages alone, divided by {_PROCESSORS} processors: where "
        f"stages share them no pull can be faster",
    ]
    pull, alone = measured[_PULL].series, stages[slowest].series
    if pull and alone:
        ratio = target(pull.ratio(alone), 1 / 0.9, f"x the slowest stage alone, {slowest} (90 %)")
        table.notes.append(f"{_PULL}: {ratio}")
    table.notes += _memory(watched, facts["inodes"])
    return table


def _memory(watched: Measurement, inodes: int) -> list[str]:
    if not watched.memory:
        return [f"memory: {reason(watched)}"]
    peaks = {name: value / _MEBIBYTE for name, value in watched.memory.items()}
    whole = target(peaks["all"], 200 + inodes / 1024, "MiB (200 + 1 KiB per inode)")
    return [
        f"memory while layers come, largest sum of all processes: {target(peaks['several'], 200, 'MiB')}",
        f"memory of the whole pull, assembly included: {whole}; Python alone: {peaks['first']:.1f} MiB",
    ]


def _floor(parts: list[Series]) -> Series:
    total = parts[0]
    for part in parts[1:]:
        total += part
    return Series(tuple(seconds / _PROCESSORS for seconds in total.values))


def _median(series: Series | None) -> float:
    return series.median if series else 0.0


def _percent(series: Series, base: Series | None) -> str:
    """The throughput of ``series`` as a share of that of ``base``."""
    return f"{100 * base.ratio(series):.0f} %" if base else ""
