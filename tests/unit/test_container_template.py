"""Plans with gaps: what one start fills in."""

from __future__ import annotations

import pytest

from pinnace.container.plan import Plan
from pinnace.container.template import Start, complete
from pinnace.phases import Phases


@pytest.mark.parametrize(
    ("gap", "start", "filled"),
    [
        (("lease",), Start(lease=7), [["lease", "7"]]),
        (("lease",), Start(), []),
        (("pass-default", "TERM"), Start(host={"TERM": "xterm", "X": "y"}), [["default", "TERM=xterm"]]),
        (("pass-default", "TERM"), Start(), []),
        (
            ("requested-environment",),
            Start(environment=(("A", "1"), ("A", "2"))),
            [["environment", "A=1"], ["environment", "A=2"]],
        ),
        (("script", "/etc/rc"), Start(words=("a", "b c")), [["script", "/etc/rc", "a", "b c"]]),
        (("command", "/entry", "serve"), Start(words=("id",)), [["command", "id"]]),
        (("command", "/entry", "serve"), Start(), [["command", "/entry", "serve"]]),
        (
            ("expand", "bind", "/s/${A}/${_b1}", "/d", "read-only"),
            Start(host={"A": "a b", "_b1": "${A}"}),
            [["bind", "/s/a b/${A}", "/d", "read-only"]],
        ),
        (("hooks-begin", "A=1", "B"), Start(host={"C": "2"}), [["hooks-begin", "A=1", "B"]]),
        (("hooks-begin", "A=1", "B", ""), Start(host={"C": "2"}), [["hooks-begin", "A=1", "B", "", "C=2"]]),
        (("expand", "environment", "X=${A}$A${1}${"), Start(), [["environment", "X=$A${1}${"]]),
        (("pivot",), Start(lease=7, words=("id",)), [["pivot"]]),
    ],
)
def test_a_gap_is_filled(gap: tuple[str, ...], start: Start, filled: list[list[str]]) -> None:
    template = Plan()
    template.add(*gap)
    assert complete(template, start).as_data() == filled


def test_timings_begin_with_the_process_and_name_each_phase() -> None:
    template = Plan()
    template.add("timings")
    phases = Phases()
    phases.end("python")
    phases.end("image")
    ((name, *words),) = complete(template, Start(phases=phases)).as_data()
    times = list(map(int, words[1::2]))
    assert (name, words[::2]) == ("timings", ["", "python", "image"]) and times == sorted(times)


def test_a_template_stays_as_it_is() -> None:
    template = Plan()
    template.add("command", "/entry")
    complete(template, Start(words=("id",)))
    assert template.as_data() == [["command", "/entry"]]
