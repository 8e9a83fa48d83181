"""Garbage collection: what goes, what stays, and what it never touches."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from pinnace import locks
from pinnace.errors import StoreError
from pinnace.layers import Format
from pinnace.reference import parse
from pinnace.store import Image, Store, collection, leases, pins
from pinnace.store.build import Workspace, workspace
from pinnace.store.images import BUILD_FORMAT, Resolution
from pinnace.store.leases import Lease, job_name
from pinnace.store.listing import entries
from pinnace.store.retention import Policy, Queue, Report, low_water
from pinnace.store.stack import StackedStore
from pinnace.store.verification import verify

AMD = "linux/amd64"
DAY = 86400.0
EVERYTHING = Policy(max_age=0)
KIB = 1024


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def nobody() -> None:
    """Slurm cannot be asked."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    store = Store(str(tmp_path / "store"))
    with workspace(store, Format()):
        pass
    return store


def add(store: Store, number: int, *layers: int, idle: float = 0, size: int = 64 * KIB) -> Image:
    """An image of layers of ``size`` bytes each, last used ``idle`` seconds ago; its tag is its number."""
    image = Image(
        digest(number), store.image_path(digest(number)), {}, AMD, size, tuple(map(digest, layers)), "", 1.0
    )
    used = time.time() - idle
    for path in (image.path, *map(store.layer_path, image.layers)):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(os.urandom(size))
        Path(path).with_suffix(".json").write_text("{}")
        os.utime(path, (used, used))
    Path(store.record_path(image.digest)).write_bytes(image.to_json())
    name(store, f"h.io/a:{number}", number)
    return image


def name(store: Store, text: str, number: int) -> Path:
    path = Path(store.resolution_path(parse(text), AMD))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(Resolution(digest(number), digest(number), 1000.0, AMD, text).to_json())
    return path


def collect(store: Store, policy: Policy = EVERYTHING, **options: object) -> Report:
    return collection.collect(store, policy, nobody, **options)  # type: ignore[arg-type]


def kept(store: Store) -> list[int]:
    """The numbers of the images that are there."""
    return sorted(int(image.digest[7:], 16) for image in store.images())


def files(store: Store) -> list[str]:
    return sorted(str(path.relative_to(store.root)) for path in Path(store.root).rglob("*") if path.is_file())


@pytest.fixture
def place(store: Store) -> Iterator[Workspace]:
    """A pull that is going on."""
    with workspace(store, Format()) as place:
        yield place


# What goes


def test_images_that_were_not_used_for_long_go_with_all_that_belongs_to_them(store: Store) -> None:
    add(store, 1, 11, 12, idle=31 * DAY)
    add(store, 2, 12, 13, idle=29 * DAY)
    report = collect(store, Policy(max_age=30 * DAY))
    assert kept(store) == [2]
    assert [image.digest for image in report.images] == [digest(1)]
    assert [image.reason for image in report.images] == ["age"]
    layers = [path for path in files(store) if path.startswith("layers") and path.endswith(".sqsh")]
    assert layers == [f"layers/sha256/{number:064x}.sqsh" for number in (12, 13)]
    assert report.references == ["h.io/a:1"] and report.layers == 1
    assert [resolution.reference for resolution in store.resolutions()] == ["h.io/a:2"]


def test_nothing_is_left_of_a_store_that_nobody_uses(store: Store) -> None:
    add(store, 1, 11)
    collect(store)
    assert files(store) == ["store.json"]


def test_without_limits_no_image_goes(store: Store) -> None:
    add(store, 1, 11, idle=1000 * DAY)
    assert collect(store, Policy()).images == [] and kept(store) == [1]


def test_beyond_the_quota_the_longest_unused_go_until_the_low_water_mark(store: Store) -> None:
    for number in range(1, 9):
        add(store, number, 10 + number, idle=number * DAY)  # 128 KiB each, and a few for records
    report = collect(store, Policy(quota=1100 * KIB, low_water=650 * KIB))
    assert kept(store) == [1, 2, 3, 4]
    assert [image.reason for image in report.images] == ["quota"] * 4
    assert report.before > 1100 * KIB and report.after <= 650 * KIB and not report.is_over


def test_below_the_quota_nothing_goes(store: Store) -> None:
    add(store, 1, 11)
    assert collect(store, Policy(quota=1 << 30, low_water=0)).images == []


def test_a_layer_that_others_have_frees_nothing_for_the_quota(store: Store) -> None:
    add(store, 1, 9, idle=3 * DAY, size=256 * KIB)
    add(store, 2, 9, idle=2 * DAY, size=256 * KIB)
    add(store, 3, 9, idle=1 * DAY, size=256 * KIB)
    report = collect(store, Policy(quota=1000 * KIB, low_water=600 * KIB))
    assert kept(store) == [3] and [image.freed // (256 * KIB) for image in report.images] == [1, 1]


def test_what_no_image_has_goes_before_images_for_the_quota(store: Store) -> None:
    add(store, 1, 11, idle=DAY)
    gone = add(store, 2, 12, size=512 * KIB)
    os.unlink(gone.path)
    Path(store.record_path(gone.digest)).unlink()
    assert collect(store, Policy(quota=400 * KIB, low_water=300 * KIB)).images == []
    assert kept(store) == [1]


def test_images_that_no_tag_leads_to_go_if_asked_for(store: Store) -> None:
    add(store, 1, 11)
    add(store, 2, 12)
    name(store, "h.io/a:1", 2)
    assert collect(store, Policy()).images == []
    report = collect(store, Policy(unreachable=True))
    assert kept(store) == [2] and report.images[0].reason == "unreachable"


def test_an_image_without_a_record_goes_at_any_age(store: Store) -> None:
    image = add(store, 1, 11)
    Path(store.record_path(image.digest)).unlink()
    report = collect(store, Policy())
    assert files(store) == ["store.json"] and report.images[0].reason == "damaged"


def test_a_record_without_its_image_goes_at_any_age(store: Store) -> None:
    os.unlink(add(store, 1, 11).path)
    collect(store, Policy())
    assert files(store) == ["store.json"]


def test_an_image_that_is_named_meanwhile_is_not_unreachable(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(name(store, "h.io/a:1", add(store, 1, 11) and 1)).unlink()
    real = leases.alone

    def alone(path: str, directory: int | None = None) -> AbstractContextManager[bool]:
        name(store, "h.io/a:later", 1)
        return real(path, directory)

    monkeypatch.setattr(leases, "alone", alone)
    collect(store, Policy(unreachable=True))
    assert kept(store) == [1]


def test_a_time_that_is_to_come_was_a_wrong_clocks(store: Store) -> None:
    image = add(store, 1, 11, idle=31 * DAY)
    os.utime(image.path, (os.stat(image.path).st_atime, time.time() + 1000 * DAY))
    collect(store, Policy(max_age=30 * DAY))
    assert kept(store) == []


def test_while_a_store_below_is_not_there_references_stay(store: Store, tmp_path: Path) -> None:
    path = name(store, "h.io/a:1", 1)
    known = StackedStore(store, [str(tmp_path / "not mounted")], warn=lambda text: None)
    collect(store, known=known)
    assert path.exists()
    collect(store)
    assert not path.exists()


def test_what_dead_processes_have_left_goes(store: Store) -> None:
    (Path(store.root, "tmp", "pinnace-dead")).mkdir()
    (Path(store.root, "tmp", "pinnace-dead", "half")).write_bytes(b"1")
    Path(store.lock_path("layer", digest(1))).touch()
    Path(store.layer_record_path(digest(5))).parent.mkdir(parents=True)
    Path(store.layer_record_path(digest(5))).write_text("{}")
    collect(store, Policy())
    assert files(store) == ["store.json"]


# What stays


def test_an_image_in_use_stays_and_goes_afterwards(store: Store) -> None:
    image = add(store, 1, 11, idle=DAY)
    with Lease() as lease:
        assert lease.take(image)
        assert collect(store).kept == {digest(1): "in use"}
        assert kept(store) == [1] and Path(store.layer_path(digest(11))).exists()
    collect(store)
    assert kept(store) == []


def test_a_quota_that_cannot_hold_is_told(store: Store) -> None:
    image = add(store, 1, 11)
    with Lease() as lease:
        assert lease.take(image)
        report = collect(store, Policy(quota=1, low_water=0))
    assert report.is_over and report.kept == {digest(1): "in use"}


def test_an_image_that_is_being_made_stays(store: Store) -> None:
    image = add(store, 1, 11)
    Path(store.record_path(image.digest)).unlink()
    with locks.held(store.lock_path("image", image.digest)):
        collect(store)
    assert Path(image.path).exists()


def test_layers_of_a_pull_stay_though_no_image_has_them(store: Store, place: Workspace) -> None:
    held = place.add_layer(digest(11), lambda target: Path(target).write_bytes(b"1") and None, nobody)
    collect(store)
    assert Path(held).exists() and Path(store.layer_path(digest(11))).exists()
    place.remove()
    collect(store)
    assert not Path(store.layer_path(digest(11))).exists()


def test_layers_of_a_pull_stay_where_files_have_one_name_alone(
    store: Store, place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    held = place.add_layer(digest(11), lambda target: Path(target).write_bytes(b"1") and None, nobody)
    collect(store)
    assert Path(held).exists() and held == store.layer_path(digest(11))


def test_a_pinned_image_stays_until_it_is_unpinned(store: Store) -> None:
    add(store, 1, 11, idle=1000 * DAY)
    pins.pin(store, digest(1), "h.io/a:1", Format())
    assert collect(store, Policy(max_age=0, quota=0, unreachable=True)).kept == {digest(1): "pinned"}
    assert pins.unpin(store, digest(1))
    collect(store)
    assert kept(store) == []


def test_an_image_of_another_versions_format_stays_with_its_layers(store: Store) -> None:
    image = add(store, 1, 11, idle=1000 * DAY)
    record = Path(store.record_path(image.digest))
    record.write_text(json.dumps({**json.loads(record.read_text()), "format": BUILD_FORMAT + 1}))
    collect(store)
    assert record.exists() and Path(image.path).exists() and Path(store.layer_path(digest(11))).exists()


def test_a_layer_that_an_image_has_by_now_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image's record appears after the collection has looked at all images."""
    late = add(store, 1, 11)
    record = Path(store.record_path(late.digest))
    content = record.read_bytes()
    record.unlink()
    hidden = Path(late.path).rename(Path(store.root) / "hidden")
    usages = collection.account

    def publish(opened: object) -> object:
        if hidden.exists():
            hidden.rename(late.path)
            record.write_bytes(content)
        return usages(opened)  # type: ignore[arg-type]

    monkeypatch.setattr(collection, "account", publish)
    collect(store)
    assert kept(store) == [1] and Path(store.layer_path(digest(11))).exists()


def test_an_image_that_is_used_while_the_collection_runs_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = add(store, 1, 11, idle=DAY)

    def use(opened: object) -> object:
        with Lease() as lease:
            lease.take(image)
        return usages(opened)  # type: ignore[arg-type]

    usages = collection.account
    monkeypatch.setattr(collection, "account", use)
    collect(store, Policy(max_age=DAY / 2))
    assert kept(store) == [1]


def test_a_collection_beside_another_does_nothing_and_says_so(store: Store) -> None:
    add(store, 1, 11)
    with locks.held(os.path.join(store.root, "locks", "collection")):
        assert collect(store).busy
    assert kept(store) == [1]


def test_a_dry_run_tells_the_same_and_changes_nothing(store: Store) -> None:
    add(store, 1, 11, 12, idle=2 * DAY)
    add(store, 2, 12, idle=DAY)
    add(store, 3, 13)
    os.unlink(store.image_path(digest(3)))
    Path(store.root, "tmp", "pinnace-dead").mkdir()
    before = files(store)
    policy = Policy(max_age=1.5 * DAY)
    told = collect(store, policy, dry_run=True)
    assert files(store) == before and Path(store.root, "tmp", "pinnace-dead").exists()
    done = collect(store, policy)
    for report in (told, done):
        for image in report.images:
            image.idle = 0
    assert (told.images, told.layers, told.references) == (done.images, done.layers, done.references)


# Jobs


def left_by_job(store: Store, job: int, cluster: str = "blue", age: float = 0) -> Path:
    with Lease(job_name(job, cluster)) as lease:
        assert lease.take(add(store, 1, 11, idle=DAY))
    path = Path(store.root, "leases", f"{1:064x}-{job}-{cluster}")
    os.utime(path, (time.time() - age, time.time() - age))
    os.utime(store.image_path(digest(1)), (1000, 1000))
    return path


def test_an_image_stays_while_its_job_is_in_the_queue(store: Store) -> None:
    path = left_by_job(store, 7, age=365 * DAY)
    report = collection.collect(store, EVERYTHING, lambda: Queue("blue", frozenset({7, 8})))
    assert kept(store) == [1] and path.exists() and report.kept == {digest(1): "job 7"}


def test_an_image_goes_when_its_job_has_ended(store: Store) -> None:
    path = left_by_job(store, 7)
    report = collection.collect(store, EVERYTHING, lambda: Queue("blue", frozenset({8})))
    assert kept(store) == [] and not path.exists() and report.job_leases == 1


@pytest.mark.parametrize("queue", [None, Queue("green", frozenset())])
@pytest.mark.parametrize(("age", "stays"), [(6 * DAY, [1]), (8 * DAY, [])])
def test_a_job_that_cannot_be_asked_for_counts_for_a_week(
    store: Store, queue: Queue | None, age: float, stays: list[int]
) -> None:
    left_by_job(store, 7, age=age)
    collection.collect(store, EVERYTHING, lambda: queue)
    assert kept(store) == stays


@pytest.mark.skipif(os.geteuid() != 0, reason="to own files for others needs root")
@pytest.mark.parametrize(("complete", "stays"), [(True, []), (False, [1])])
def test_a_job_of_another_that_slurm_may_not_show_counts(
    store: Store, complete: bool, stays: list[int]
) -> None:
    os.chown(left_by_job(store, 7), 12345, 12345)
    collection.collect(store, EVERYTHING, lambda: Queue("blue", frozenset(), complete))
    assert kept(store) == stays


def test_slurm_is_not_asked_if_no_job_has_left_a_lease(store: Store) -> None:
    def never() -> Queue | None:
        raise AssertionError

    collection.collect(store, EVERYTHING, never)


def test_a_lease_that_is_left_while_slurm_is_asked_counts(store: Store) -> None:
    left_by_job(store, 6)

    def answer() -> Queue:
        left_by_job(store, 7)
        return Queue("blue", frozenset())

    collection.collect(store, EVERYTHING, answer)
    assert kept(store) == [1]


def test_a_lease_from_the_future_counts_for_nothing_without_slurm(store: Store) -> None:
    left_by_job(store, 7, age=-365 * DAY)
    collect(store)
    assert kept(store) == []


def test_a_lease_that_a_further_step_renews_meanwhile_counts(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = left_by_job(store, 7, age=365 * DAY)
    real = leases.alone

    def alone(name: str, directory: int | None = None) -> AbstractContextManager[bool]:
        os.utime(path)
        return real(name, directory)

    monkeypatch.setattr(leases, "alone", alone)
    collect(store)
    assert kept(store) == [1] and path.exists()


# What is never touched


def test_files_that_are_not_the_stores_stay(store: Store) -> None:
    add(store, 1, 11)
    strangers = ["README", "images/sha256/notes.txt", "images/sha256/x.sqsh", "layers/sha256/x.json"]
    strangers += ["images/other/file", "leases/notes", f"leases/{1:064x}-x", "references/notes.txt"]
    for stranger in strangers:
        path = Path(store.root, stranger)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    collect(store)
    assert files(store) == sorted([*strangers, "store.json"])


@pytest.mark.parametrize(
    "text", ["[" * 200_000, "9" * 400, "NaN", "null", "[]", '{"layers": 1}', '{"format": 2}']
)
@pytest.mark.parametrize("change", [None, "created_at", "size", "layers", "format", "origin"])
def test_nothing_that_is_in_a_record_hinders_a_collection(
    store: Store, text: str, change: str | None
) -> None:
    add(store, 1, 11)
    hostile = Path(add(store, 2, 12).path).with_suffix(".json")
    if change is not None:
        record = {**json.loads(hostile.read_text()), change: "HERE"}
        text = json.dumps(record).replace('"HERE"', text)
    for path in (hostile, name(store, "h.io/a:2", 2), Path(pins.path(store, digest(2)))):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    collect(store)
    assert 1 not in kept(store)


@pytest.mark.parametrize("part", ["images", "images/sha256", "layers/sha256", "references", "tmp", "locks"])
def test_a_link_in_the_place_of_a_directory_is_not_followed(store: Store, part: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim" / "sub"
    victim.mkdir(parents=True)
    (victim / f"{1:064x}.sqsh").write_text("mine")
    path = Path(store.root, part)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        path.rmdir()
    path.symlink_to(tmp_path / "victim", target_is_directory=True)
    with pytest.raises(StoreError, match="nothing was touched"):
        collect(store)
    assert [entry.name for entry in victim.iterdir()] == [f"{1:064x}.sqsh"]


def test_what_users_put_among_leases_neither_stops_a_collection_nor_counts(store: Store) -> None:
    add(store, 1, 11, idle=DAY)
    place = os.path.join(store.root, "leases")
    os.mkdir(place)
    Path(place, "mine").write_bytes(bytes(1024 * KIB))
    before = os.open(place, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=before)
        below = os.open("d", os.O_RDONLY, dir_fd=before)
        os.close(before)
        before = below
    os.close(before)
    report = collect(store, Policy(quota=512 * KIB))
    subprocess.run(["rm", "-r", place], check=True)  # pytest could not
    assert kept(store) == [1] and not report.is_over


def test_a_link_that_takes_the_place_of_a_directory_meanwhile_is_not_followed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = name(store, "h.io/a:1", 1)
    moved = mine.parents[2]
    aside = tmp_path / "victim"

    @contextmanager
    def held(path: str) -> Iterator[None]:
        if path == store.references_lock:
            moved.rename(aside)
            moved.symlink_to(aside, target_is_directory=True)
        with real(path):
            yield

    real = locks.held
    monkeypatch.setattr(locks, "held", held)
    with pytest.raises(StoreError, match="nothing was touched"):
        collect(store)
    assert (aside / mine.relative_to(moved)).exists()


def test_links_among_the_files_are_not_followed(store: Store, tmp_path: Path) -> None:
    add(store, 1, 11)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    Path(store.image_path(digest(2))).symlink_to(victim)
    Path(store.layer_path(digest(3))).symlink_to(victim)
    Path(store.root, "references", "dir").symlink_to(tmp_path, target_is_directory=True)
    collect(store)
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("look", [collect, entries, lambda store: list(verify(store))])
def test_a_store_that_cannot_be_read_is_one_clear_error(
    look: Callable[[Store], object], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot read .*: Not a directory"):
        look(Store(str(tmp_path / "file")))


@pytest.mark.parametrize("found", [None, "", "[]", '{"format": 999}', "\x00"])
def test_a_directory_that_is_no_store_is_refused(found: str | None, tmp_path: Path) -> None:
    path = tmp_path / "images" / "sha256" / f"{1:064x}.sqsh"
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    if found is not None:
        (tmp_path / "store.json").write_text(found)
    with pytest.raises(StoreError, match=r"not a store of this version of Pinnace.*nothing was touched"):
        collect(Store(str(tmp_path)))
    assert path.exists()


def test_a_store_that_is_being_made_is_left_alone(tmp_path: Path) -> None:
    for part in ("tmp/pinnace-abc", "locks", "probes"):
        (tmp_path / part).mkdir(parents=True)
    assert collect(Store(str(tmp_path))).images == [] and (tmp_path / "tmp" / "pinnace-abc").exists()


@pytest.mark.parametrize("exists", [True, False])
def test_where_there_is_nothing_yet_nothing_is_done(exists: bool, tmp_path: Path) -> None:
    root = tmp_path / "store"
    if exists:
        root.mkdir()
    assert collect(Store(str(root))).images == []
    assert list(tmp_path.rglob("*")) == ([root] if exists else [])


@pytest.mark.skipif(os.geteuid() != 0, reason="to own files for others needs root")
def test_root_does_not_clean_up_for_a_user_who_could_lead_it_astray(store: Store) -> None:
    os.chown(store.root, 12345, 12345)
    with pytest.raises(StoreError, match=r"belongs to another user.*as the store's owner"):
        collect(store)


def test_an_exclusive_lock_of_a_stranger_keeps_an_image_and_nothing_else(store: Store) -> None:
    image = add(store, 1, 11)
    add(store, 2, 12)
    with open(image.path, "rb") as stranger:
        fcntl.flock(stranger, fcntl.LOCK_EX)
        collect(store)
    assert kept(store) == [1]


@pytest.mark.parametrize(
    ("share", "expected"), [("80%", 800), ("0%", 0), ("100%", 1000), ("300", 300), ("5000", 1000)]
)
def test_the_low_water_mark_is_a_part_of_the_quota_or_a_size_below_it(share: str, expected: int) -> None:
    assert low_water(share, 1000) == expected
