"""Configuration: precedence, origins and errors."""

from __future__ import annotations

import json
import pwd
from pathlib import Path

import pytest

from pinnace import config
from pinnace.errors import ConfigurationError
from pinnace.reference import parse


def load(directory: Path, **environment: str) -> config.Settings:
    home = directory / "home"
    return config.load({"XDG_CONFIG_HOME": str(home), **environment}, directory=str(directory))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_every_key_has_a_default(tmp_path: Path) -> None:
    assert set(load(tmp_path).origins.values()) == {"default"}


def test_later_sources_override_earlier_ones(tmp_path: Path) -> None:
    write(tmp_path / "pinnace.toml", "tag_ttl = 1\nconnections = 1\nstall_timeout = 1\nconnect_timeout = 1\n")
    write(tmp_path / "pinnace.d" / "10.toml", "connections = 2\nstall_timeout = 2\nconnect_timeout = 2\n")
    write(tmp_path / "pinnace.d" / "20.toml", "stall_timeout = 3\nconnect_timeout = 3\n")
    write(tmp_path / "home" / "pinnace" / "pinnace.toml", "connect_timeout = 4\n")
    settings = load(tmp_path, PINNACE_TAG_TTL="5")
    names = ("tag_ttl", "connections", "stall_timeout", "connect_timeout")
    assert [settings[name] for name in names] == [5, 2, 3, 4]


def test_the_origin_of_each_value_is_known(tmp_path: Path) -> None:
    write(tmp_path / "pinnace.toml", "tag_ttl = 1\n")
    settings = load(tmp_path, PINNACE_WRITABLE="yes")
    assert settings.origins["tag_ttl"] == str(tmp_path / "pinnace.toml")
    assert settings.origins["writable"] == "PINNACE_WRITABLE"


def test_an_unknown_key_is_an_error_that_names_the_nearest_one(tmp_path: Path) -> None:
    write(tmp_path / "pinnace.toml", "tag_tl = 1\n")
    with pytest.raises(ConfigurationError, match=r"unknown key tag_tl .*did you mean tag_ttl\?"):
        load(tmp_path)


@pytest.mark.parametrize(
    "line", ['tag_ttl = "soon"', "tag_ttl = -1", "writable = 1", 'overlay = "zfs"', 'store = "relative"']
)
def test_an_impossible_value_is_an_error_that_names_key_and_file(tmp_path: Path, line: str) -> None:
    write(tmp_path / "pinnace.toml", line)
    with pytest.raises(ConfigurationError, match=rf"{line.split()[0]} = .* is not possible.*pinnace\.toml"):
        load(tmp_path)


def test_a_file_that_is_no_toml_is_an_error(tmp_path: Path) -> None:
    for content in (b"what?", b'squashfuse = "\xff"'):
        (tmp_path / "pinnace.toml").write_bytes(content)
        with pytest.raises(ConfigurationError, match="not valid TOML"):
            load(tmp_path)


def test_sizes_may_have_units(tmp_path: Path) -> None:
    write(tmp_path / "pinnace.toml", 'writable_size = "2G"\n')
    assert load(tmp_path)["writable_size"] == 2 << 30


def test_each_registry_has_its_own_rules(tmp_path: Path) -> None:
    write(tmp_path / "pinnace.toml", '[registries."lab:5000"]\nplain_http = true\n')
    settings = load(tmp_path)
    assert settings.registry("lab:5000").plain_http
    assert not settings.registry("nvcr.io").plain_http


@pytest.mark.parametrize("name", ["docker.io", "index.docker.io", "registry-1.docker.io", "Docker.IO"])
def test_rules_for_docker_hub_hold_under_each_of_its_names(name: str, tmp_path: Path) -> None:
    write(tmp_path / "pinnace.toml", f'[registries."{name}"]\nca = "/ca"\n')
    assert load(tmp_path).registry(parse("debian").registry).ca == "/ca"


def test_registries_that_are_no_table_are_an_error(tmp_path: Path) -> None:
    write(tmp_path / "pinnace.toml", "registries = 1\n")
    with pytest.raises(ConfigurationError, match="registries is not a table"):
        load(tmp_path)


def test_the_store_is_the_users_own_unless_set(tmp_path: Path) -> None:
    assert load(tmp_path, XDG_CACHE_HOME="/c")["store"] == "/c/pinnace"
    assert load(tmp_path, HOME="/h", XDG_CACHE_HOME="c")["store"] == "/h/.cache/pinnace"


def test_a_home_that_is_no_absolute_path_is_the_accounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = pwd.struct_passwd(("ada", "x", 1, 1, "", "/home/ada", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: account)
    assert load(tmp_path, HOME="h")["store"] == "/home/ada/.cache/pinnace"


def test_nothing_is_kept_in_the_working_directory_of_a_user_without_a_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    with pytest.raises(ConfigurationError, match="no home directory"):
        load(tmp_path)
    assert load(tmp_path, PINNACE_STORE="/s")["store"] == "/s"


def test_only_the_administrators_files_allow_commands_for_passwords(tmp_path: Path) -> None:
    write(tmp_path / "pinnace.d" / "10.toml", "credential_commands = true\n")
    assert load(tmp_path)["credential_commands"]
    with pytest.raises(ConfigurationError, match="credential_commands is the administrator's to set"):
        load(tmp_path, PINNACE_CREDENTIAL_COMMANDS="true")
    write(tmp_path / "home" / "pinnace" / "pinnace.toml", "credential_commands = true\n")
    with pytest.raises(ConfigurationError, match="administrator's to set"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), (90, 90), ("90s", 90), ("5m", 300), ("12h", 43200), ("30d", 2592000), ("1w", 604800)],
)
def test_times_have_units(tmp_path: Path, text: object, seconds: int) -> None:
    write(tmp_path / "pinnace.toml", f"gc_max_age = {json.dumps(text)}\n")
    assert load(tmp_path)["gc_max_age"] == seconds


@pytest.mark.parametrize("text", ["", "d", "1.5h", "-1", "1 fortnight", "٣d"])
def test_what_is_no_time_is_refused(tmp_path: Path, text: str) -> None:
    write(tmp_path / "pinnace.toml", f"gc_max_age = {json.dumps(text)}\n")
    with pytest.raises(ConfigurationError, match="a time such as 3600, 12h or 30d is expected"):
        load(tmp_path)


@pytest.mark.parametrize(("text", "kept"), [("80%", "80%"), ("200G", str(200 << 30)), (4096, "4096")])
def test_a_low_water_mark_is_a_part_or_a_size(tmp_path: Path, text: object, kept: str) -> None:
    write(tmp_path / "pinnace.toml", f"gc_low_water = {json.dumps(text)}\n")
    assert load(tmp_path)["gc_low_water"] == kept


@pytest.mark.parametrize("text", ["101%", "%", "-1%", "much"])
def test_what_is_no_part_is_refused(tmp_path: Path, text: str) -> None:
    write(tmp_path / "pinnace.toml", f"gc_low_water = {json.dumps(text)}\n")
    with pytest.raises(ConfigurationError, match="expected"):
        load(tmp_path)
