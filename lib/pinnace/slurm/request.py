"""What the shim asks for on a node: the request of docs/protocol.md, read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pinnace import fields
from pinnace.errors import PinnaceError
from pinnace.tuples import NamedTuple

PROTOCOL = "1"

_TEXTS = ("protocol", "image", "workdir", "backend", "working-directory")
_CHOICES = ("remap-root", "mount-home", "writable", "entrypoint", "entrypoint-log")
_NUMBERS = ("job-id", "step-id", "node-tasks")
_LISTS = ("mounts", "unshare", "preserved", "environment")
_NAMESPACES = frozenset(("net", "ipc", "uts"))


class Request(NamedTuple):
    """One step's container on one node. ``None``: the user did not say."""

    image: str
    directory: str
    job_id: int = 0
    step_id: int = 0
    node_tasks: int = 1
    workdir: str | None = None
    backend: str | None = None
    remap_root: bool | None = None
    mount_home: bool | None = None
    writable: bool | None = None
    entrypoint: bool | None = None
    entrypoint_log: bool | None = None
    mounts: Sequence[str] = ()
    unshare: Sequence[str] = ()
    #: Names of ``--container-env``.
    preserved: Sequence[str] = ()
    environment: Mapping[str, str] = {}


def parse(message: bytes) -> Request:
    """The request in ``message``. Raises PinnaceError if any of it is not as the protocol says."""
    single: dict[str, str] = {}
    lists: dict[str, list[str]] = {name: [] for name in _LISTS}
    for key, raw in fields.decode(message):
        value = raw.decode("utf-8", "surrogateescape")
        if key in lists:
            lists[key].append(value)
        elif key in single or key not in (*_TEXTS, *_CHOICES, *_NUMBERS):
            raise _malformed(f"{key} is not expected")
        elif "\0" in value:
            raise _malformed(f"{key} holds a NUL byte")
        else:
            single[key] = value
    if single.get("protocol") != PROTOCOL:
        raise _malformed(f"protocol {single.get('protocol', 'unknown')} instead of {PROTOCOL}")
    if not single.get("image"):
        raise _malformed("no image is named")
    if not single.get("working-directory", "").startswith("/"):
        raise _malformed("the working directory is not absolute")
    if not _NAMESPACES.issuperset(lists["unshare"]):
        raise _malformed("unshare names an unknown namespace")
    return Request(
        image=single["image"],
        directory=single["working-directory"],
        job_id=_number(single, "job-id"),
        step_id=_number(single, "step-id"),
        node_tasks=_number(single, "node-tasks"),
        workdir=single.get("workdir"),
        backend=single.get("backend"),
        remap_root=_choice(single, "remap-root"),
        mount_home=_choice(single, "mount-home"),
        writable=_choice(single, "writable"),
        entrypoint=_choice(single, "entrypoint"),
        entrypoint_log=_choice(single, "entrypoint-log"),
        mounts=lists["mounts"],
        unshare=lists["unshare"],
        preserved=lists["preserved"],
        environment=_environment(lists["environment"]),
    )


def _number(values: dict[str, str], key: str) -> int:
    text = values.get(key, "")
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise _malformed(f"{key} is not a number")
    return int(text)


def _choice(values: dict[str, str], key: str) -> bool | None:
    text = values.get(key)
    if text not in (None, "0", "1"):
        raise _malformed(f"{key} is neither 0 nor 1")
    return None if text is None else text == "1"


def _environment(entries: list[str]) -> dict[str, str]:
    """The job's variables; as in execve(2) an entry may be anything, and one without a name is none."""
    pairs = (entry.partition("=") for entry in entries if "\0" not in entry)
    return {name: value for name, separator, value in pairs if name and separator}


def _malformed(what: str) -> PinnaceError:
    return PinnaceError(
        f"the Slurm plugin's request is not understood: {what}",
        hint="plugin and pinnace command must be of the same version",
        identifier="protocol",
    )
