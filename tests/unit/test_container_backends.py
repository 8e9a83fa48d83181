"""Which backend and overlay are chosen, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pinnace import config
from pinnace.config import Settings
from pinnace.container import backends
from pinnace.container.backends import Choice, Machine
from pinnace.container.overlay import Layer
from pinnace.errors import HostError

Choose = Callable[..., Choice]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return config.load({"HOME": str(tmp_path)}, directory=str(tmp_path))


@pytest.fixture
def choose(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Choose:
    """The choice on a machine with the given programs and device, which tries out nothing in vain."""

    def choose(
        *programs: str, device: bool = True, fuse: str = "", overlay_refusal: str = "", **asked: str
    ) -> Choice:
        for name in programs:
            (tmp_path / name).touch(mode=0o755)
        if device:
            (tmp_path / "fuse").touch()
        monkeypatch.setattr(backends, "SYSTEM_PATH", str(tmp_path))
        monkeypatch.setattr(backends, "FUSE", str(tmp_path / "fuse"))
        for name, value in asked.items():
            settings.set(name, value, "--" + name)
        return backends.choose(settings, Layer(), Machine(lambda _: fuse, lambda _: overlay_refusal))

    return choose


def test_squashfuse_is_chosen_where_it_can_be_used(choose: Choose) -> None:
    chosen = choose("squashfuse_ll")
    assert chosen.tools.backend.name == "squashfuse" and "can be used" in chosen.backend_reason


@pytest.mark.parametrize(
    ("machine", "reason"),
    [
        ({"device": False}, "is missing"),
        ({"fuse": "no FUSE for you"}, "no FUSE for you"),
    ],
)
def test_else_images_are_unpacked_and_the_reason_is_told(
    choose: Choose, machine: dict[str, object], reason: str
) -> None:
    chosen = choose("squashfuse_ll", **machine)
    assert chosen.tools.backend.name == "unpack" and reason in chosen.backend_reason


def test_without_squashfuse_images_are_unpacked(choose: Choose) -> None:
    chosen = choose()
    assert chosen.tools.backend.name == "unpack" and "is not installed" in chosen.backend_reason


def test_a_backend_that_was_asked_for_is_taken(choose: Choose) -> None:
    chosen = choose("squashfuse_ll", backend="unpack")
    assert chosen.tools.backend.name == "unpack" and "--backend" in chosen.backend_reason


def test_a_backend_that_was_asked_for_and_cannot_work_is_an_error(choose: Choose) -> None:
    with pytest.raises(
        HostError, match=r"squashfuse cannot be used: .* is missing .*--backend.*modprobe fuse"
    ):
        choose("squashfuse_ll", device=False, backend="squashfuse")


def test_what_was_not_there_is_part_of_what_the_choice_rests_on(choose: Choose, settings: Settings) -> None:
    choose(device=False)
    assert {path: state for path, state in settings.basis.files.items() if "squashfuse" in path}
    assert set(settings.basis.files.values()) >= {"absent"}


def test_the_kernel_lays_the_overlay_unless_it_refuses(choose: Choose) -> None:
    assert choose("squashfuse_ll", "fuse-overlayfs").tools.overlay.name == "kernel"
    refused = choose(overlay_refusal="Operation not permitted")
    assert refused.tools.overlay.name == "fuse-overlayfs"
    assert "Operation not permitted" in refused.overlay_reason


def test_an_overlay_that_was_asked_for_is_not_tried_out(choose: Choose, settings: Settings) -> None:
    settings.set("overlay", "kernel", "test")
    assert choose("squashfuse_ll", overlay_refusal="no").tools.overlay.name == "kernel"


def test_no_overlay_at_all_is_an_error_with_its_cure(choose: Choose) -> None:
    with pytest.raises(HostError, match=r"the kernel refuses: no.*install the package fuse-overlayfs"):
        choose("squashfuse_ll", overlay_refusal="no")


def test_the_choice_is_told_in_words(choose: Choose) -> None:
    told = choose("squashfuse_ll").explain()
    assert [line.partition(":")[0] for line in told] == [
        "backend squashfuse",
        "overlay kernel",
        "writable layer",
    ]
