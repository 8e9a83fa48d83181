"""The digest of the image in the container's environment."""

from __future__ import annotations

import inspect

from pinnace.container import build
from pinnace.container.identity import Identity
from pinnace.container.lower import Squashfuse
from pinnace.container.options import Options
from pinnace.container.plan import Plan
from pinnace.container.rootfs import Tools

DIGEST = "sha256:" + "0" * 64
ADA = Identity(1000, 1000, "ada", "users", "/home/ada", "/bin/bash", "Ada", ())
TOOLS = Tools(Squashfuse("/usr/bin/squashfuse_ll"))


def variables(plan: Plan) -> list[str]:
    return [entry[1] for entry in plan.as_data() if entry[0] in ("environment", "default")]


def plans(options: Options) -> list[Plan]:
    descriptors = {
        name: 3 for name in ("socket", "lifeline") if name in inspect.signature(build.step).parameters
    }
    return [build.run(options, ADA, TOOLS), build.step(options, ADA, TOOLS, **descriptors)]


def test_run_and_step_set_it() -> None:
    for plan in plans(Options("/i.sqsh", config={}, digest=DIGEST)):
        assert f"PINNACE_IMAGE_DIGEST={DIGEST}" in variables(plan)


def test_a_users_own_file_has_none() -> None:
    for plan in plans(Options("/i.sqsh")):
        assert not any(variable.startswith("PINNACE_IMAGE_DIGEST") for variable in variables(plan))
