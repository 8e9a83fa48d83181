"""Pulls of a real image of several layers from a registry on this machine, split by stage."""

from __future__ import annotations

import json
from typing import Any

from bench import images
from bench.measure import Measurement, Series, collected
from bench.report import SUMMARY, Report, Table, reason, series_of, summary, target
from bench.site import Site

_COLD = "pinnace pull, cold"
_REFRESH = "pinnace pull, tag unchanged"
_SIBLING = "pinnace pull, small layer on top new"
_MEBIBYTE = 1 << 20
_ALONE = ("download", "decompress alone", "tar2sqfs alone")


def measure(site: Site, rounds: int) -> Report:
    reference = site.registry.push(images.large(), "large:1")
    sibling = site.registry.push(images.sibling(), "large:2")
    subjects = _subjects(site, reference, sibling)
    watched = site.time(_watched(site, reference), 1, warm_up=False)[_COLD]
    split, whole = [], []
    for _ in range(rounds):
        split.append(_stages(site, reference))
        whole.append(site.time(subjects, 1, warm_up=False))
    stages = collected([_totals(values) for values in split])
    measured = {name: Measurement.joined([entry[name] for entry in whole]) for name in subjects}
    tables = [_stage_table(split, stages, measured[_COLD]), _whole_table(measured, watched, split[0])]
    return Report(tables, {**stages, **series_of(measured)})


def _subjects(site: Site, reference: str, sibling: str) -> dict[str, dict[str, Any]]:
    peers = site.directory("peers")
    remote = f"docker://{reference.replace('#', '/')}"
    layout, unpacked = peers / "layout", peers / "unpacked"
    storage = site.directory("podman")  # podman takes no path of more than 50 characters
    copy = ["skopeo", "--insecure-policy", "copy", "--quiet", "--src-tls-verify=false", remote]
    site.run(*copy, f"oci:{layout}:latest")
    podman = [
        "podman",
        "--root",
        f"{storage}/root",
        "--runroot",
        f"{storage}/run",
        "--cgroup-manager=cgroupfs",
    ]
    kept = _store(site, "kept")
    site.run("pinnace", "pull", "-q", reference, env=kept)
    return {
        _COLD: _cold(site, reference),
        _REFRESH: {"command": ["pinnace", "pull", "-q", reference], "environment": kept},
        _SIBLING: {
            "command": ["pinnace", "pull", "-q", sibling],
            "before": ["sh", "-c", f"pinnace rm -q '{sibling}' 2>/dev/null"],
            "environment": kept,
        },
        "skopeo copy (download only)": {
            "command": [*copy, f"dir:{peers}/dir"],
            "before": ["rm", "-rf", f"{peers}/dir"],
        },
        "umoci unpack (no download)": {
            "command": ["umoci", "unpack", "--rootless", "--image", f"{layout}:latest", str(unpacked)],
            "before": ["sh", "-c", f"chmod -R u+rwX {unpacked}; rm -rf {unpacked}"],
        },
        "podman pull": {
            "command": [*podman, "pull", "--quiet", "--tls-verify=false", remote],
            "before": ["sh", "-c", f"chmod -R u+rwX {storage}; rm -rf {storage}/*"],
        },
        "ch-image pull": {
            "command": ["ch-image", "--tls-no-verify", "--no-cache", "pull", reference.replace("#", "/")],
            "before": ["sh", "-c", f"chmod -R u+rwX {peers}/ch; rm -rf {peers}/ch"],
            "environment": {"CH_IMAGE_STORAGE": f"{peers}/ch"},
        },
    }


def _cold(site: Site, reference: str) -> dict[str, Any]:
    store = _store(site, "cold")
    return {
        "command": ["pinnace", "pull", "-q", reference],
        "before": ["rm", "-rf", store["PINNACE_STORE"]],
        "environment": store,
    }


def _watched(site: Site, reference: str) -> dict[str, dict[str, Any]]:
    return {_COLD: {**_cold(site, reference), "watch": True}}


def _store(site: Site, name: str) -> dict[str, str]:
    return {"PINNACE_STORE": str(site.home / "stores" / name)}


def _stages(site: Site, reference: str) -> dict[str, Any]:
    place = site.directory("stages")
    script = [site.python, "-I", site.script("stages.py"), site.library, reference, str(place)]
    found: dict[str, Any] = json.loads(site.run(*script))
    return found


def _totals(split: dict[str, Any]) -> dict[str, float]:
    totals = {name: float(sum(layers)) for name, layers in split["stages"].items()}
    totals["all stages, one after the other"] = totals["download … tar2sqfs"] + totals["assembly"]
    return totals


def _stage_table(split: list[dict[str, Any]], totals: dict[str, Series], whole: Measurement) -> Table:
    sizes = split[0]["layers"]
    layers = [f"layer {number}" for number in range(1, len(sizes) + 1)]
    columns = ["stage, s", *SUMMARY, *layers]
    table = Table(f"Stages of a pull, {len(split)} rounds, one layer after the other", columns)
    for name, series in totals.items():
        by_layer = split[0]["stages"].get(name, [])
        medians = [
            f"{Series(tuple(found['stages'][name][number] for found in split)).median:.2f}"
            for number in range(len(by_layer))
        ]
        table.add(name, *_seconds(series), *(medians if len(medians) == len(sizes) else []))
    shown = "; ".join(f"{packed / _MEBIBYTE:.1f} / {plain / _MEBIBYTE:.1f}" for packed, plain in sizes)
    table.notes.append(f"layers, MiB compressed / as tar: {shown}")
    slowest = max(_ALONE, key=lambda name: totals[name].median)
    if whole.series:
        value = whole.series.ratio(totals[slowest])
        table.notes.append(f"{_COLD}: {target(value, 1.3, f'x the slowest single stage, {slowest}')}")
    return table


def _whole_table(measured: dict[str, Measurement], watched: Measurement, split: dict[str, Any]) -> Table:
    table = Table("Whole pulls, and other tools", ["s", *SUMMARY, "x cold pull"])
    cold = measured[_COLD].series
    for name, entry in measured.items():
        if entry.series is None:
            table.add(name, reason(entry))
            continue
        table.add(name, *_seconds(entry.series), f"{entry.series.ratio(cold):.2f} x" if cold else "")
    if watched.memory:
        limit = 200.0  # and 1 KiB for each inode, which a table of stages does not count
        peak = target(watched.memory["all"] / _MEBIBYTE, limit, "MiB + 1 KiB per inode")
        table.notes.append(f"memory of a cold pull, largest sum of all its processes: {peak}")
    total = sum(packed for packed, _ in split["layers"]) / _MEBIBYTE
    table.notes.append(f"{total:.0f} MiB compressed, from docker-registry over the loopback interface")
    return table


def _seconds(series: Series) -> list[str]:
    return [f"{value:.2f}" for value in summary(series)]
