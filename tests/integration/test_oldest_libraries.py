"""The oldest requests and urllib3 that setup.cfg allows reach registries as the newest do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
FILES = ["tests/integration/test_registry_behaviours.py", "tests/integration/test_registry_connections.py"]
#: Of these tests, those about what takes other ways there: bodies, timeouts, certificates.
SELECTED = "chunk or stalls_in or middle or drips or client_certificate or another_name or with_tls or slowly"
VERSIONS = "import requests, urllib3; print(requests.__version__, urllib3.__version__)"


def test_the_same_tests_pass_with_the_oldest_libraries(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "build" / "oldest")}

    def python(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments], cwd=REPOSITORY, env=environment, capture_output=True, text=True
        )

    versions = python("-c", VERSIONS).stdout
    assert versions.startswith("2.25.") and " 1.26." in versions, "run tests/prepare"
    tests = python(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path}", "-k", SELECTED, *FILES
    )
    assert tests.returncode == 0, tests.stdout
