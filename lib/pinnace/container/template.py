"""A plan with gaps: what differs between starts that are alike is filled in last.

The gaps are operations that ``pinnace-exec`` does not know. ``complete`` fills them when Python plans a
start, ``libexec/compose.c`` when a kept plan is used again (docs/protocol.md, "Kept plans").
"""

from __future__ import annotations

from collections.abc import Mapping

from pinnace.container.plan import Plan
from pinnace.phases import Phases
from pinnace.tuples import NamedTuple


class Start(NamedTuple):
    """What one start has of its own.

    ``lease`` is the descriptor that keeps the image; ``words`` the command, empty for the image's own;
    ``environment`` what was asked for with ``-e``; ``host`` the caller's variables; ``phases`` what was done
    so far.
    """

    lease: int | None = None
    words: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    host: Mapping[str, str] = {}
    phases: Phases | None = None


def complete(template: Plan, start: Start) -> Plan:
    """The plan of one start."""
    plan = Plan()
    for operation in template.operations:
        name, arguments = operation.name, operation.arguments
        if name == "lease":
            if start.lease is not None:
                plan.add("lease", start.lease)
        elif name == "timings":
            if start.phases is not None:
                plan.add("timings", *start.phases.arguments())
        elif name == "pass-default":
            variable = arguments[0].decode()
            if variable in start.host:
                plan.add("default", f"{variable}={start.host[variable]}")
        elif name == "requested-environment":
            for variable, value in start.environment:
                plan.add("environment", f"{variable}={value}")
        elif name == "expand":
            plan.add(*(_expanded(argument, start.host) for argument in arguments))
        elif name == "hooks-begin" and not arguments[-1]:
            plan.add(name, *arguments, *(f"{variable}={value}" for variable, value in start.host.items()))
        elif name == "script":
            plan.add("script", *arguments, *start.words)
        elif name == "command":
            plan.add("command", *(start.words or arguments))
        else:
            plan.operations.append(operation)
    return plan


def _expanded(argument: bytes, host: Mapping[str, str]) -> str:
    """``argument`` with the caller's values in the place of ``${NAME}``; what is not set is empty."""
    import re

    text = argument.decode("utf-8", "surrogateescape")
    return re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", lambda found: host.get(found[1], ""), text)
