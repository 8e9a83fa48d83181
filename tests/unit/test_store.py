"""The store: lookups, time, removal; locks; progress."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from eyes import Eyes
from pinnace import digest, locks, progress
from pinnace.errors import StoreError
from pinnace.layers import Format
from pinnace.reference import Reference, parse
from pinnace.sources import LayerBlob
from pinnace.store import Image, Store
from pinnace.store.build import workspace
from pinnace.store.images import Origin, Resolution

AMD = "linux/amd64"
DIGEST = "sha256:" + "1" * 64
LAYER = "sha256:" + "2" * 64
TAG = parse("h.io/a/b:1")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with one image of one layer; the times of references are 1000."""
    store = Store(str(tmp_path / "store"))
    add(store, DIGEST, (LAYER,))
    name(store, TAG, DIGEST)
    return store


def add(store: Store, digest: str, layers: tuple[str, ...]) -> None:
    for path in (store.image_path(digest), *map(store.layer_path, layers)):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(b"12345")
    image = Image(digest, "", {"Env": ["A=1"]}, AMD, 5, layers, "h.io/a/b:1", 1.0)
    Path(store.record_path(digest)).write_bytes(image.to_json())


def name(store: Store, reference: Reference, digest: str, platform: str = AMD) -> None:
    path = Path(store.resolution_path(reference, platform))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(Resolution(digest, digest, 1000.0, platform, str(reference)).to_json())


def at(monkeypatch: pytest.MonkeyPatch, now: float) -> None:
    monkeypatch.setattr("time.time", lambda: now)


@pytest.mark.parametrize(("now", "found"), [(1000, True), (1059, True), (1060, False), (999, False)])
def test_a_tag_is_valid_for_its_time(
    now: float, found: bool, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(monkeypatch, now)
    assert (store.lookup(TAG, AMD, 60) is not None) is found


def test_a_lookup_gives_path_and_configuration(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, 1000)
    image = store.lookup(TAG, AMD, 60)
    assert image and image.config == {"Env": ["A=1"]} and Path(image.path).read_bytes() == b"12345"


def test_a_digest_is_valid_for_ever_and_under_any_name(store: Store) -> None:
    assert store.lookup(parse(f"other.io/x@{DIGEST}"), AMD, 0) is not None


def test_another_platform_is_another_image(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, 1000)
    assert store.lookup(TAG, "linux/arm64", 60) is None
    assert store.lookup(parse(f"h.io/a/b@{DIGEST}"), "linux/arm64", 60) is None


def test_an_empty_store_has_nothing(tmp_path: Path) -> None:
    assert Store(str(tmp_path / "no")).lookup(TAG, AMD, 60) is None
    assert Store(str(tmp_path / "no")).images() == []


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b"\xff"])
def test_a_damaged_record_counts_as_missing(damage: bytes, store: Store) -> None:
    Path(store.record_path(DIGEST)).write_bytes(damage)
    assert store.image(DIGEST) is None and store.images() == []


def test_a_file_of_another_size_counts_as_missing(store: Store) -> None:
    Path(store.image_path(DIGEST)).write_bytes(b"1")
    assert store.image(DIGEST) is None


def test_a_tag_and_a_repository_of_the_same_name_live_side_by_side(store: Store) -> None:
    name(store, parse("h.io/a/b/1:x"), DIGEST)
    assert len(list(store.resolutions())) == 2


def test_removing_the_last_name_removes_image_and_layers(store: Store) -> None:
    assert store.remove(TAG).freed == 10
    assert store.images() == [] and not Path(store.layer_path(LAYER)).exists()


def test_removing_one_of_two_names_keeps_the_image(store: Store) -> None:
    name(store, parse("h.io/a/b:2"), DIGEST)
    assert store.remove(TAG).image is None
    assert len(store.images()) == 1


def test_layers_of_other_images_are_kept(store: Store) -> None:
    add(store, "sha256:" + "3" * 64, (LAYER,))
    store.remove(TAG)
    assert Path(store.layer_path(LAYER)).exists()


def test_layers_of_a_pull_in_progress_are_kept(store: Store) -> None:
    with workspace(store, Format()) as place:
        assert place.layer(LAYER)
        store.remove(TAG)
        assert Path(store.layer_path(LAYER)).exists()


def test_removing_what_is_not_there_is_an_error(store: Store) -> None:
    with pytest.raises(StoreError, match=r"h\.io/a/b:9 is not in the store"):
        store.remove(parse("h.io/a/b:9"))


def test_a_store_keeps_its_format(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with workspace(store, Format()):
        pass
    with pytest.raises(StoreError, match="block_size = 131072"), workspace(store, Format(block_size=4096)):
        pass
    assert list((tmp_path / "tmp").iterdir()) == list((tmp_path / "locks").iterdir()) == []


def test_a_workspace_removes_what_dead_processes_left_and_nothing_else(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    (tmp_path / "tmp" / "pinnace-dead").mkdir(parents=True)
    with workspace(store, Format()):
        alive = list((tmp_path / "tmp").iterdir())
        with workspace(store, Format()):
            assert set(alive) < set((tmp_path / "tmp").iterdir())
        assert list((tmp_path / "tmp").iterdir()) == alive
        assert (tmp_path / "tmp" / "pinnace-dead") not in alive


def test_a_directory_of_other_things_that_is_made_a_store_keeps_them(tmp_path: Path) -> None:
    for name in ("tmp/thesis", "tmp/tmpabcdefgh", "locks"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "mine").touch()
    with workspace(Store(str(tmp_path)), Format()):
        pass
    assert len(list(tmp_path.rglob("mine"))) == 3


@pytest.mark.parametrize("part", ["tmp", "locks"])
def test_a_link_in_the_place_of_tmp_or_locks_is_not_followed(part: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim" / "pinnace-dead"
    victim.mkdir(parents=True)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / part).symlink_to(victim.parent, target_is_directory=True)
    (victim.parent / "tmp").touch()
    linked = Store(str(tmp_path / "store"))
    with pytest.raises(StoreError, match="no directory; nothing was touched"), workspace(linked, Format()):
        pass
    assert victim.exists() and not list(victim.iterdir()) and (victim.parent / "tmp").exists()


def test_a_link_in_the_place_of_a_workspace_is_not_followed(store: Store, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "mine").touch()
    Path(store.root, "tmp").mkdir(parents=True, exist_ok=True)
    Path(store.root, "tmp", "pinnace-x").symlink_to(victim, target_is_directory=True)
    with workspace(store, Format()):
        pass
    assert [path.name for path in victim.iterdir()] == ["mine"]


def test_a_layer_is_made_once(tmp_path: Path) -> None:
    store, made = Store(str(tmp_path)), []

    def make(target: str) -> None:
        made.append(target)
        Path(target).write_bytes(b"x")

    with workspace(store, Format()) as place:
        for _ in range(2):
            held = place.add_layer(LAYER, make, lambda: None)
        Path(store.layer_path(LAYER)).unlink()
        assert len(made) == 1 and Path(held).read_bytes() == b"x"


def test_a_lock_holds_out_others_tells_them_and_leaves_no_file(tmp_path: Path) -> None:
    path, told, inside, most = str(tmp_path / "l"), [], [0], [0]

    def work() -> None:
        with locks.held(path, waiting=lambda: told.append(1)):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            threading.Event().wait(0.02)
            inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] and told and list(tmp_path.iterdir()) == []


def test_plain_progress_writes_lines_and_seldom_counts() -> None:
    stream = io.StringIO()
    with progress.PlainProgress(stream, interval=0) as display:
        display.message("importing\x1b docker image: x")
        display.started("a", 2048)
        display.advanced("a", 1024)
        display.finished("a")
    first, second = stream.getvalue().splitlines()
    assert first == "pinnace: importing\\x1b docker image: x"
    assert second.startswith("pinnace: 1.0 KiB of 2.0 KiB downloaded, ")


def test_progress_on_a_stream_that_is_gone_is_no_error() -> None:
    stream = io.StringIO()
    display = progress.PlainProgress(stream)
    stream.close()
    display.message("x")


def test_the_terminal_display_takes_every_call() -> None:
    from rich.console import Console

    console = Console(file=io.StringIO(), force_terminal=True)
    with progress.TerminalProgress(console) as display:
        display.message("importing docker image: [x]")
        for layer in ("a", "b"):
            display.started(layer, 10)
            display.advanced(layer, 10)
        display.finished("a")
        display.advanced("a", 10)
    assert "[x]" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("quiet", "kind"), [(True, progress.Progress), (False, progress.PlainProgress)])
def test_what_is_shown_suits_the_stream(quiet: bool, kind: type) -> None:
    assert type(progress.for_stream(io.StringIO(), quiet=quiet)) is kind


def test_a_closed_standard_error_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    assert type(progress.for_stream()) is progress.Progress


def test_image_records_read_back() -> None:
    origin = Origin("registry", DIGEST, "ada", 1000, "node1")
    image = Image(
        DIGEST, "/x", {"Cmd": ["a"]}, AMD, 5, (LAYER,), "r", 1.5, "sha256:x", origin=origin, builder="b"
    )
    assert Image.from_json(image.to_json(), "/x") == image
    assert image._replace(size=6) != image


def test_records_of_other_versions_are_read_as_far_as_they_are_known(store: Store) -> None:
    path = Path(store.record_path(DIGEST))
    document = json.loads(path.read_bytes())
    del document["origin"], document["builder"]
    path.write_text(json.dumps({**document, "of a later version": 1}))
    image = store.image(DIGEST)
    assert image is not None and image.origin == Origin() and image.config == {"Env": ["A=1"]}


@pytest.mark.parametrize(
    "change",
    [{"layers": ["sha256:../../x"]}, {"config": []}, {"layers": [1]}, {"origin": 5}, {"digest": LAYER}],
)
def test_a_record_with_hostile_values_counts_as_missing(change: dict[str, object], store: Store) -> None:
    path = Path(store.record_path(DIGEST))
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **change}))
    assert store.image(DIGEST) is None


def test_a_layer_has_a_record_of_what_it_is_and_was_made_from(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    blob = LayerBlob(DIGEST, 9, LAYER, "application/vnd.oci.image.layer.v1.tar+gzip")
    with workspace(store, Format(block_size=4096)) as place:
        place.add_layer(LAYER, lambda target: Path(target).write_bytes(b"x"), lambda: None, blob)
    layer = store.layer(LAYER)
    assert layer is not None and (layer.source, layer.media_type) == (DIGEST, blob.media_type)
    assert (layer.size, layer.sha256, layer.block_size) == (1, digest.of_bytes(b"x"), 4096)
    assert store.remove_layer(LAYER) == 1 and store.layer(LAYER) is None


def test_the_next_pull_removes_what_dead_processes_left(store: Store) -> None:
    dead = Path(store.root, "tmp", "pinnace-dead")
    dead.mkdir(parents=True)
    (dead / "owner.lock").touch()
    (dead / "half").write_bytes(b"1")
    Path(store.root, "locks").mkdir(exist_ok=True)
    Path(store.lock_path("layer", LAYER)).touch()
    with locks.held(store.lock_path("image", DIGEST)), workspace(store, Format()):
        assert not dead.exists()
        left = {path.name for path in Path(store.root, "locks").iterdir()}
        assert left == {Path(store.lock_path("image", DIGEST)).name}


@pytest.mark.parametrize("found", ["[]", "1", '"x"', "{}", "null"])
def test_a_store_description_that_is_none_is_one_clear_error(found: str, store: Store) -> None:
    Path(store.root, "store.json").write_text(found)
    with pytest.raises(StoreError, match="made with other settings"), workspace(store, Format()):
        pass


@pytest.mark.parametrize(
    ("number", "hint"),
    [(errno.EACCES, "owner and mode"), (errno.EROFS, "owner and mode"), (errno.EIO, "flock")],
)
def test_a_lock_that_cannot_be_had_says_why_and_what_to_do(
    number: int, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, "refused here", "/a/path")

    monkeypatch.setattr("fcntl.flock", refuse)
    for held in (locks.held, locks.held_if_free):
        with pytest.raises(StoreError, match=f"lock: refused here; .*{hint}"), held(str(tmp_path / "lock")):
            pass


def test_a_lock_leaves_no_file(tmp_path: Path) -> None:
    with locks.held(str(tmp_path / "lock")), locks.held_if_free(str(tmp_path / "lock")) as free:
        assert not free
    assert not (tmp_path / "lock").exists()


def test_several_people_share_the_locks_of_a_store_that_all_may_write_to(
    tmp_path: Path, ordinary_eyes: Eyes
) -> None:
    tmp_path.chmod(0o777)
    path = tmp_path / "lock"
    with locks.held(str(path)), ordinary_eyes(), locks.held_if_free(str(path)) as free:
        assert not free
    path.touch(mode=0o644)
    with ordinary_eyes(), locks.held(str(path)):
        assert path.exists()
    assert not path.exists()


def test_who_waits_for_a_lock_says_so_and_gets_the_file_that_is_there_then(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    waits, taken = threading.Event(), []

    def take() -> None:
        with locks.held(path, waiting=waits.set), locks.held_if_free(path) as free:
            taken.append(not free)

    with locks.held(path):
        other = threading.Thread(target=take)
        other.start()
        waits.wait()
    other.join()
    assert taken == [True] and not os.path.exists(path)


def test_a_lock_of_a_process_that_was_killed_is_taken_over(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    script = "import sys; from pinnace import locks\nwith locks.held(sys.argv[1]): print(flush=True); input()"
    environment = {"PYTHONPATH": str(Path(locks.__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", script, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with locks.held(path, waiting=process.kill):
            assert process.wait() != 0


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "lock").symlink_to(victim)
    for held in (locks.held, locks.held_if_free):
        with pytest.raises(StoreError, match="symbolic links; remove the link"), held(str(tmp_path / "lock")):
            pass
    assert victim.read_text() == "mine"


def test_removing_from_a_store_without_a_place_for_locks_is_one_clear_error(store: Store) -> None:
    Path(store.root, "locks").write_text("a file")
    with pytest.raises(StoreError, match="cannot make"):
        store.remove(TAG)


def test_a_new_store_is_its_owners_alone_and_one_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    for root, mode in ((tmp_path / "new", 0o700), (tmp_path / "site", 0o755)):
        if root.name == "site":
            root.mkdir(mode=mode)
        with workspace(Store(str(root)), Format()):
            assert root.stat().st_mode & 0o777 == mode
