"""The step entry: what it takes from a job, and how it fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pinnace import fields
from pinnace.slurm import step

_LIBRARY = str(Path(__file__).parents[2] / "lib")
_START = f"import sys; sys.path.insert(0, {_LIBRARY!r}); from pinnace.slurm import step; "


def _run(
    message: bytes, tmp_path: Path, script: str = "sys.exit(step.main())", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the entry in a process of its own, as the plugin does, without a third-party package."""
    file = tmp_path / "request"
    file.write_bytes(message)
    with file.open("rb") as request:
        return subprocess.run(
            [sys.executable, "-IS", "-c", _START + script],
            stdin=request,
            capture_output=True,
            text=True,
            env={"PATH": os.defpath, "HOME": str(tmp_path), **environment},
        )


def _request(tmp_path: Path, **values: str | list[str]) -> bytes:
    first = {"protocol": "1", "image": "./image.sqsh", "working-directory": str(tmp_path)}
    first |= {"job-id": "1", "step-id": "0", "node-tasks": "1"}
    message: list[tuple[str, bytes]] = []
    for name, value in (first | {key.replace("_", "-"): value for key, value in values.items()}).items():
        message += [(name, item.encode()) for item in ([value] if isinstance(value, str) else value)]
    return fields.encode(message)


def test_only_configuration_is_taken_from_the_job() -> None:
    job = {"PINNACE_STORE": "/s", "XDG_CACHE_HOME": "/c", "https_proxy": "p", "NO_PROXY": "n"}
    ignored = {
        "PATH": "/evil",
        "PYTHONPATH": "/evil",
        "LD_PRELOAD": "/evil.so",
        "HOME": "/x",
        "BASH_ENV": "/e",
    }
    assert step.configuration({**job, **ignored, "SSL_CERT_FILE": "/ca"}) == {**job, "SSL_CERT_FILE": "/ca"}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "image.sqsh"),
        ({"image": "/etc/passwd"}, "not a squashfs"),
        ({"image": "UPPER CASE"}, "UPPER CASE"),
        ({"mounts": "nonsense"}, "invalid mount `nonsense`"),
        ({"mounts": "/a:/b:shiny"}, "unknown flag shiny"),
        ({"mounts": "/no/such:/b"}, "mount source path does not exist: /no/such"),
        ({"environment": ["PINNACE_OVERLAY=none"]}, "overlay = 'none'"),
        ({"protocol": "9"}, "same version"),
    ],
)
def test_what_is_wrong_is_one_line_and_status_1(
    tmp_path: Path, values: dict[str, str | list[str]], expected: str
) -> None:
    done = _run(_request(tmp_path, **values), tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("pinnace: error: ") and expected in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_options_are_checked_before_an_image_is_looked_for(tmp_path: Path) -> None:
    done = _run(_request(tmp_path, image="127.0.0.1:1#never/asked", mounts="nonsense"), tmp_path)
    assert "invalid mount" in done.stderr and "127.0.0.1" not in done.stderr


def test_it_is_not_for_people(tmp_path: Path) -> None:
    done = _run(b"", tmp_path)
    assert done.returncode == 1 and "srun --container-image" in done.stderr


def test_a_defect_is_one_line_and_a_trace_only_on_demand(tmp_path: Path) -> None:
    script = "step.parse = lambda message: 1 // 0; sys.exit(step.main())"
    done = _run(_request(tmp_path), tmp_path, script)
    assert done.returncode == 1
    assert done.stderr.startswith("pinnace: error: internal error: ZeroDivisionError")
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" in _run(_request(tmp_path), tmp_path, script, PINNACE_DEBUG="1").stderr


def test_a_terminated_step_ends_with_the_signal_as_its_status(tmp_path: Path) -> None:
    script = "import os; step.parse = lambda message: os.kill(os.getpid(), 15); sys.exit(step.main())"
    done = _run(_request(tmp_path), tmp_path, script)
    assert (done.returncode, done.stderr) == (143, "")


def test_no_third_party_package_and_no_subprocess_is_imported_for_a_local_image(tmp_path: Path) -> None:
    chosen = ["PINNACE_OVERLAY=kernel", "PINNACE_BACKEND=unpack"]  # else the machine is probed once
    request = _request(tmp_path, environment=chosen)
    script = "step.main(); print(*sys.modules)"
    modules = {name.partition(".")[0] for name in _run(request, tmp_path, script).stdout.split()}
    assert "pinnace" in modules
    assert modules.isdisjoint({"click", "requests", "rich", "filelock", "subprocess", "argparse"})
    # A third of what a start through Python would take.
    assert modules.isdisjoint({"dataclasses", "inspect", "typing"})
