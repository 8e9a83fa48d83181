"""`pinnace store verify`, `repair`, `export` and `import` as commands: statuses, pipes, deaths."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from integration import sound
from integration.registry import Layout, run
from integration.site import StoreSite
from integration.trees import directory, entry, layer
from pinnace import supply
from pinnace.store import output

_COMMAND = [sys.executable, "-c", "import sys; from pinnace.cli import main; sys.exit(main())"]


class Site(StoreSite):
    def __init__(self, base: Path) -> None:
        base.mkdir(exist_ok=True)
        super().__init__(base, None)  # type: ignore[arg-type]

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        environment = {**os.environ, **self.environment, "PYTHONPATH": str(Path(supply.__file__).parents[1])}
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen([*_COMMAND, *arguments], env=environment, **options)

    def command(self, *arguments: str, **options: Any) -> tuple[int, str, str]:
        """Exit status, output and errors."""
        process = self.start(*arguments, **options)
        output, errors = process.communicate()
        return process.returncode, output.decode(), errors.decode()

    def fails(self, *arguments: str) -> str:
        """The one line of an error."""
        status, output, errors = self.command(*arguments, stdin=subprocess.DEVNULL)
        assert status in (1, 2) and output == "" and errors.count("\n") == 1, errors
        return errors

    def is_sound(self) -> bool:
        return self.command("store", "verify")[0] == 0 and sound.faults(self.root) == []


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    base = tmp_path_factory.mktemp("image")
    made = Layout(base / "layout")
    contents = [directory("./"), *(entry(f"f{n}", content=os.urandom(2 << 20)) for n in range(4))]
    (base / "0.tar").write_bytes(layer(contents))
    made.add_layer(base / "0.tar")
    (base / "1.tar").write_bytes(layer([entry("top", content=b"top")]))
    made.add_layer(base / "1.tar")
    made.configure("--config.env", "A=1", "--config.cmd", "/bin/sh")
    return made


@pytest.fixture
def site(tmp_path: Path, layout: Layout) -> Site:
    """A store with lab/tool:1."""
    made = Site(tmp_path / "site")
    assert made.command("pull", "--name", "lab/tool:1", f"oci:{layout.path}")[0] == 0
    return made


@pytest.fixture
def target(tmp_path: Path) -> Site:
    return Site(tmp_path / "target")


def damage(path: str) -> None:
    content = bytearray(Path(path).read_bytes())
    content[3000] ^= 0xFF
    Path(path).write_bytes(content)


def test_a_good_store_is_verified_and_repaired_in_silence(site: Site) -> None:
    for words in (("verify",), ("verify", "lab/tool:1"), ("verify", "--quick"), ("repair",)):
        assert site.command("store", *words) == (0, "", "")


def test_damage_is_told_and_the_status_is_1_until_it_is_repaired(site: Site) -> None:
    image = site.store.images()[0]
    damage(image.path)
    status, output, _ = site.command("store", "verify")
    line, summary = output.splitlines()
    assert status == 1 and line.startswith(f"DAMAGED image {image.digest}: its bytes are not")
    assert summary == "1 damaged; `pinnace store repair` mends or removes them"
    assert json.loads(site.command("store", "verify", "--json", "lab/tool:1")[1])[0]["kind"] == "image"
    status, output, _ = site.command("store", "repair")
    assert status == 0 and output.endswith(": built anew from its layers\n")
    assert site.is_sound()


def test_an_image_that_is_not_there_cannot_be_verified_or_exported(site: Site, tmp_path: Path) -> None:
    for words in (("verify", "lab/no:1"), ("export", "lab/no:1", f"{tmp_path}/x.sqsh")):
        assert "docker.io/lab/no:1 is not in the store" in site.fails("store", *words)


def test_a_store_that_may_not_be_written_is_verified_and_not_repaired(site: Site) -> None:
    run("mount", "--bind", "-o", "ro", str(site.root), str(site.root))
    try:
        assert site.command("store", "verify") == (0, "", "")
        assert "owner and mode" in site.fails("store", "repair")
    finally:
        run("umount", str(site.root))


def test_an_image_goes_through_a_pipe_from_store_to_store(site: Site, target: Site) -> None:
    sender = site.start("store", "export", "--format", "tar", "lab/tool:1", "-")
    status, output, errors = target.command("store", "import", "-", stdin=sender.stdout)
    assert sender.wait() == 0 and status == 0, errors
    assert output == f"docker.io/lab/tool:1@{site.store.images()[0].digest}\n"
    assert sound.objects(site.root) == sound.objects(target.root) and target.is_sound()


def test_an_archive_is_a_file_of_the_users(site: Site, target: Site, tmp_path: Path) -> None:
    file = tmp_path / "images.tar"
    assert site.command("store", "export", "lab/tool:1", str(file), umask=0o027) == (0, "", "")
    assert file.stat().st_mode & 0o777 == 0o640 and tarfile.is_tarfile(file)
    assert "exists; --force replaces it" in site.fails("store", "export", "lab/tool:1", str(file))
    assert site.command("store", "export", "-f", "lab/tool:1", str(file))[0] == 0
    assert target.command("store", "import", str(file), "x/y:2")[1].startswith("docker.io/x/y:2@")


def test_a_squashfs_file_is_exported_as_a_pull_writes_it(site: Site, layout: Layout, tmp_path: Path) -> None:
    pulled, exported = tmp_path / "pulled.sqsh", tmp_path / "out"
    site.command("pull", "-o", str(pulled), "--name", "lab/tool:1", f"oci:{layout.path}")
    exported.mkdir()
    assert site.command("store", "export", "lab/tool:1", str(exported)) == (0, "", "")
    assert (exported / "lab+tool+1.sqsh").read_bytes() == pulled.read_bytes()
    with (tmp_path / "piped.sqsh").open("wb") as stream:
        assert site.start("store", "export", "lab/tool:1", "-", stdout=stream.fileno()).wait() == 0
    assert (tmp_path / "piped.sqsh").read_bytes() == pulled.read_bytes() and site.leftovers() == []
    assert site.command("store", "import", str(pulled), "again:1")[1].startswith("docker.io/library/again:1@")


def test_a_file_needs_no_path_to_be_imported(site: Site, target: Site, tmp_path: Path) -> None:
    site.command("store", "export", "lab/tool:1", f"{tmp_path}/tool.sqsh")
    status, output, _ = target.command("store", "import", "-q", "tool.sqsh", cwd=tmp_path)
    assert (status, output) == (0, "") and target.store.images()[0].reference == "localhost/tool:latest"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("export", "lab/tool:1"), "Missing argument"),
        (("export", "lab/tool:1", "lab/tool:1", "x.sqsh"), "is to hold several images"),
        (("export", "lab/tool:1", "/no/such/x.tar"), "there is no directory /no/such"),
        (("export", "--format", "tar", "lab/tool:1", "/"), "/ is a directory"),
        (("import", "/no/such.tar"), "cannot read /no/such.tar"),
        (("import", "/etc/passwd"), "is neither a tar archive nor a squashfs file"),
        (("import", "-"), "standard input is malformed: it holds no image"),
        (("import", "/etc/passwd", "a@sha256:" + "0" * 64), "holds a digest"),
    ],
)
def test_wrong_uses_are_one_clear_line(words: tuple[str, ...], message: str, site: Site) -> None:
    assert message in site.fails("store", *words) and site.leftovers() == []


def test_an_export_without_room_leaves_no_file(site: Site, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=2m", "none", str(small))
    try:
        for name in ("x.tar", "x.sqsh"):
            assert "o space left" in site.fails("store", "export", "lab/tool:1", f"{small}/{name}")
            assert list(small.iterdir()) == []
    finally:
        run("umount", str(small))
    with Path("/dev/full").open("wb") as full:
        process = site.start("store", "export", "--format", "tar", "lab/tool:1", "-", stdout=full.fileno())
        assert b"cannot write to standard output: No space left" in process.communicate()[1]
        assert process.returncode == 1


def test_a_reader_that_goes_away_needs_no_words(site: Site) -> None:
    process = site.start("store", "export", "--format", "tar", "lab/tool:1", "-")
    assert process.stdout is not None
    process.stdout.read(1000)
    process.stdout.close()
    assert process.wait() != 0 and process.stderr is not None and process.stderr.read() == b""


def test_two_imports_at_once_make_one_image(site: Site, target: Site, tmp_path: Path) -> None:
    site.command("store", "export", "lab/tool:1", f"{tmp_path}/x.tar")
    running = [target.start("store", "import", f"{tmp_path}/x.tar") for _ in range(3)]
    outputs = {process.communicate()[0] for process in running}
    assert len(outputs) == 1 and all(process.returncode == 0 for process in running)
    assert sound.objects(site.root) == sound.objects(target.root)
    assert target.leftovers() == [] and target.is_sound()


def test_what_a_killed_export_left_goes_with_the_next_and_what_is_being_written_stays(
    site: Site, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / ".pinnace-killed").write_bytes(b"half")
    with output.unfinished(str(out)) as running:
        assert site.command("store", "export", "lab/tool:1", str(out / "x.sqsh"))[0] == 0
        assert {path.name for path in out.iterdir()} == {"x.sqsh", Path(running).name}
    assert [path.name for path in out.iterdir()] == ["x.sqsh"]
