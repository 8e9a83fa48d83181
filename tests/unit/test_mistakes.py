"""What users mistype for a reference, and what they are told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pinnace import mistakes, policies, reference
from pinnace.errors import PinnaceError, RegistryError

HEX = "0123456789abcdef" * 4


def said(text: str) -> str:
    with pytest.raises(PinnaceError) as caught:
        reference.parse(text)
    assert str(caught.value).startswith(f"Invalid image reference: {text}; ")
    assert caught.value.exit_code == 1 and caught.value.identifier == "reference"
    return str(caught.value)


@pytest.mark.parametrize("name", ["image.sqsh", "my.squashfs", "dir/image.sqsh"])
def test_a_file_that_is_there_is_recognised(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    assert f"write ./{name}" in said(name)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("image.sqsh", "there is no such file here, and a file's path begins with ./ or /"),
        ("nvcr.io", r"write nvcr.io/IMAGE, or nvcr.io\#IMAGE"),
        ("docker://nvcr.io", r"nvcr.io\#IMAGE"),
        ("registry.example.org:5000", "this is a registry without an image"),
        ("10.1.2.3", "this is a registry without an image"),
        ("10.1.2.3:5000", "this is a registry without an image"),
        ("localhost:5000", "in a line of #SBATCH a # ends the value"),
        ("Ubuntu:22.04", "image names are lower case: write ubuntu"),
        ("nvcr.io#nvidia/PyTorch", "write nvidia/pytorch"),
        (f"ubuntu@sha256:{HEX[:-1]}", "64 lower-case hexadecimal digits, not 63"),
        (f"ubuntu@{HEX}", f"write @sha256:{HEX}"),
        (f"ubuntu@sha256:{HEX.upper()}", f"a digest is in lower case: write @sha256:{HEX}"),
        (f"ubuntu@SHA256:{HEX}", "a digest is in lower case"),
        ("podman://fedora:40", "`podman save fedora:40 | pinnace pull docker-archive:-`"),
        ("dockerd://a/b", "dockerd:// is not supported yet"),
        ("oras://a/b", "only docker:// is a known scheme"),
        ("https://nvcr.io/nvidia/cuda:12", "a URL is no reference: write nvcr.io/nvidia/cuda:12"),
        ("https://hub.docker.com/_/ubuntu?tab=tags", "write ubuntu"),
        ("https://hub.docker.com/r/rocm/pytorch/tags", "write rocm/pytorch"),
        ("https://quay.io/repository/a/b?tab=info", "write quay.io/a/b"),
        ("https://catalog.ngc.nvidia.com/orgs/nvidia/containers/pytorch", "write nvcr.io/nvidia/pytorch"),
        ("https://catalog.ngc.nvidia.com/orgs/a/teams/b/containers/c/tags", "write nvcr.io/a/b/c"),
        ("https://github.com/orgs/o/packages", "write github.com/orgs/o/packages"),
        ("https://github.com/o/r/pkgs/container/c", "write ghcr.io/o/c"),
        ("oci:./layout:v1", "`pinnace pull oci:./layout:v1`"),
        ("docker-archive:x/y.tar", "`pinnace pull docker-archive:x/y.tar`"),
    ],
)
def test_the_hint_says_what_to_write(text: str, hint: str) -> None:
    assert hint in said(text)


@pytest.mark.parametrize(
    "text",
    ["ubuntu:24.04", "amazonlinux:2023", "reg:5443", "python3.11:1", "nvcr.io#a", "nvcr.io/a", "oci:latest",
     "docker.io/library/nvcr.io", "x.y@ubuntu", "tool-1.2", "a/b.sqsh"],
)  # fmt: skip
def test_what_may_be_meant_is_not_refused(text: str) -> None:
    parsed = reference.parse(text)
    assert reference.parse(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("myhost/tool", "if myhost is a registry, write myhost#tool"),
        ("myhost/a/b:1", "write myhost#a/b"),
        ("reg:5443", r"if reg:5443 is a registry, an image is missing (in a line of #SBATCH write \#, or /)"),
        ("oci:latest", "`pinnace pull oci:PATH`"),
        ("ubuntu:24.04", None),
    ],
)
def test_what_docker_hub_refuses_may_have_been_meant_otherwise(text: str, hint: str | None) -> None:
    parsed = reference.parse(text)
    found = mistakes.at_docker_hub(parsed.repository, parsed.tag)
    assert found is None if hint is None else hint in str(found)
    error = policies.suggesting(RegistryError("no", hint="old", identifier="registry-unreachable"), parsed)
    assert str(error).endswith("old") and (hint is None or hint in str(error))


@pytest.mark.parametrize("text", ["ubuntu:24.04", "nvcr.io#nvidia/cuda:12", f"a/b@sha256:{HEX}"])
def test_a_plain_reference_does_not_load_the_hints(text: str) -> None:
    script = f"import sys; from pinnace import reference; reference.parse({text!r}); print(*sys.modules)"
    library = str(Path(reference.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-S", "-c", script], env={"PYTHONPATH": library}, capture_output=True, text=True
    )
    assert "pinnace.reference" in done.stdout and "pinnace.mistakes" not in done.stdout
