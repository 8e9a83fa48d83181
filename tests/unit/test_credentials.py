"""Where credentials come from: each source, which of them wins, and what malformed ones say."""

from __future__ import annotations

import base64
import copy
import json
import os
import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest

from eyes import Eyes
from pinnace import config
from pinnace.credentials import dumps, find, names, saved
from pinnace.credentials.files import Surroundings
from pinnace.credentials.keyring import Keyring
from pinnace.errors import CredentialError
from pinnace.secret import Credential, Secret

CANARY = "c4n4ry-s3cr3t"
HUB = "registry-1.docker.io"


class User:
    """A home directory, its variables and what the user was told."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.bin = home / "bin"
        self.environment = {"HOME": str(home), "PATH": f"relative:{self.bin}:/usr/bin:/bin"}
        self.commands = False
        self.told: list[str] = []

    def find(self, host: str = "h.io", user: str | None = None, **options: str) -> Credential | None:
        settings = config.load(self.environment, directory=str(self.home))
        settings.values["credential_commands"] = self.commands
        return find(
            host, user, settings=settings, environment=self.environment, warn=self.told.append, **options
        )

    def password(self, host: str = "h.io", user: str | None = None, **options: str) -> str | None:
        found = self.find(host, user, **options)
        return found.password.reveal() if found is not None and found.password is not None else None

    def refused(self, host: str = "h.io", **options: str) -> str:
        with pytest.raises(CredentialError) as caught:
            self.find(host, **options)
        lines = "".join(traceback.format_exception(caught.type, caught.value, caught.tb))
        assert CANARY not in lines + json.dumps(caught.value.as_dict())
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def write(self, path: str, content: object, mode: int = 0o600) -> Path:
        file = self.home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        file.chmod(mode)
        return file

    def docker(self, content: object, mode: int = 0o600) -> Path:
        return self.write(".docker/config.json", content, mode)

    def enroot(self, content: str, mode: int = 0o600) -> Path:
        return self.write(".config/enroot/.credentials", content, mode)

    def helper(self, name: str, script: str) -> None:
        self.write(f"bin/docker-credential-{name}", f"#!/bin/sh\n{script}\n", 0o700)


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User(tmp_path)


def auth(username: str = "ada", password: str = CANARY) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}


def auths(*hosts: str, **options: Any) -> dict[str, Any]:
    return {"auths": {host: auth(**options) for host in hosts}}


# Secrets


def test_a_secret_shows_itself_to_nobody_but_who_asks() -> None:
    secret = Secret(CANARY)
    credential = Credential("f", "ada", secret)
    assert CANARY not in f"{secret!r} {secret} {secret:>30} {credential!r} {credential} {credential.who}"
    assert secret.reveal() == CANARY
    for keep in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            keep(secret)
    with pytest.raises(TypeError):
        json.dumps(secret)
    with pytest.raises(TypeError):
        hash(secret)
    assert secret == Secret(CANARY) and secret != Secret("x") and secret != CANARY
    assert not Secret("")


def test_no_core_is_dumped_while_secrets_are_held() -> None:
    import ctypes
    import resource

    before = resource.getrlimit(resource.RLIMIT_CORE)
    dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
    with dumps.forbidden():
        assert resource.getrlimit(resource.RLIMIT_CORE) == (0, before[1])
        assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 0
    assert resource.getrlimit(resource.RLIMIT_CORE) == before
    assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == dumpable


# Names


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("https://index.docker.io/v1/", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("docker.io/library/x", "docker.io/library/x"),
        ("https://h.io/v2/", "h.io"),
        ("http://H.io:5000", "h.io:5000"),
        ("h.io/v1/", "h.io"),
        ("h.io/ns/repository", "h.io/ns/repository"),
    ],
)
def test_every_spelling_of_a_registry_means_it(key: str, meant: str) -> None:
    assert names.of_key(key) == meant


@pytest.mark.parametrize(
    ("host", "name"), [("h.io", "h.io"), ("H.io:5000", "h.io"), ("[::1]:5000", "::1"), ("h]", "h]"), ("", "")]
)
def test_any_host_has_a_name_without_port(host: str, name: str) -> None:
    assert names.without_port(host) == name


# The environment


def test_the_environment_gives_a_password_for_one_registry(user: User) -> None:
    user.environment.update(PINNACE_REGISTRY="h.io", PINNACE_USERNAME="ci", PINNACE_PASSWORD=CANARY)
    user.docker(auths("h.io", password="other"))
    assert user.password() == CANARY
    assert user.password(user="ada") == "other"
    assert user.password("i.io") is None


@pytest.mark.parametrize("missing", ["PINNACE_REGISTRY", "PINNACE_USERNAME"])
def test_a_password_in_the_environment_needs_its_registry_and_user(user: User, missing: str) -> None:
    user.environment.update(PINNACE_REGISTRY="h.io", PINNACE_USERNAME="ci", PINNACE_PASSWORD=CANARY)
    del user.environment[missing]
    assert f"PINNACE_PASSWORD is set without {missing}" in user.refused()


# Files of Docker and podman


def test_dockers_file_is_read(user: User) -> None:
    user.docker(auths("h.io"))
    found = user.find()
    assert found == Credential("~/.docker/config.json", "ada", Secret(CANARY))
    assert user.find("i.io") is None
    assert user.told == []


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "docker.io", "registry-1.docker.io"])
def test_docker_hub_has_many_names(user: User, key: str) -> None:
    user.docker(auths(key))
    assert user.password(HUB, repository="library/debian") == CANARY
    assert user.password("docker.io") == CANARY


def test_the_longest_key_that_holds_the_repository_counts(user: User) -> None:
    content = {
        "auths": {
            "h.io": auth(password="host"),
            "h.io/a": auth(password="namespace"),
            "h.io/a/b/c": auth(password="repository"),
            "h.io/a/bb": auth(password="neighbour"),
        }
    }
    user.write(".config/containers/auth.json", content)
    assert user.password(repository="a/b/c") == "repository"
    assert user.password(repository="a/b") == "namespace"
    assert user.password(repository="ab") == "host"
    assert user.password() == "host"


def test_a_repositorys_key_is_not_taken_for_another(user: User) -> None:
    user.write(".config/containers/auth.json", auths("h.io/a"))
    assert user.find(repository="b") is None
    assert user.find() is None


def test_a_user_in_the_reference_must_be_the_sources(user: User) -> None:
    user.docker(auths("h.io", username="ben", password="bens"))
    user.enroot(f"machine h.io login ada password {CANARY}\n")
    assert user.password(user="ada") == CANARY
    assert user.password() == "bens"
    assert user.find(user="eve") is None


def test_user_name_and_password_may_stand_by_themselves(user: User) -> None:
    user.docker({"auths": {"h.io": {"username": "ada", "password": CANARY}}})
    assert user.password() == CANARY


def test_tokens_of_dockers_file(user: User) -> None:
    user.docker({"auths": {"h.io": {**auth("<token>", ""), "identitytoken": CANARY}}})
    assert user.find() == Credential("~/.docker/config.json", identity_token=Secret(CANARY))
    user.docker({"auths": {"h.io": {"registrytoken": CANARY}}})
    assert user.find() == Credential("~/.docker/config.json", registry_token=Secret(CANARY))


def test_passwords_may_hold_colons_and_any_letter(user: User) -> None:
    user.docker(auths("h.io", password="a:b ü\0\0"))
    assert user.password() == "a:b ü"


def test_an_empty_file_or_entry_is_no_credential(user: User) -> None:
    user.docker("")
    assert user.find() is None
    user.docker({"auths": {"h.io": {}, "https://index.docker.io/v1/access-token": {}}})
    assert user.find() is None and user.find(HUB) is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{\n"auths": {"h.io": {"auth": "' + CANARY, "it is not valid JSON (line 2)"),
        (f'["{CANARY}"]', "a JSON object is expected"),
        ({"auths": [CANARY]}, "auths is no object"),
        ({"auths": {"h.io": CANARY}}, "auths.h.io is no object"),
        ({"auths": {"h.io": {"auth": CANARY + "!"}}}, "auths.h.io.auth is not the base64 of USER:PASSWORD"),
        ({"auths": {"h.io": {"auth": base64.b64encode(CANARY.encode()).decode()}}}, "USER:PASSWORD"),
        ({"auths": {"h.io": {"auth": {"x": CANARY}}}}, "auths.h.io.auth is no text"),
        ({"auths": {"h.io": {"identitytoken": CANARY + "\r\nX: y"}}}, "auths.h.io.identitytoken is no token"),
        ({"auths": {"h.io": {"registrytoken": CANARY + "\n"}}}, "auths.h.io.registrytoken is no token"),
        ({"credHelpers": [CANARY]}, "credHelpers is no object"),
        ({"credsStore": 1}, "the name of a credential helper is no text"),
        ("[" * 100000, "nested too deeply"),
    ],
)
def test_a_malformed_file_is_one_error_without_its_content(
    user: User, content: object, expected: str
) -> None:
    user.docker(content)
    message = user.refused()
    assert "~/.docker/config.json" in message and expected in message


def test_what_is_no_text_file_is_an_error(user: User) -> None:
    user.docker("").write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in user.refused()
    user.docker("").write_bytes(b" " * (2 << 20))
    assert "larger than" in user.refused()
    (user.home / ".docker/config.json").unlink()
    os.mkfifo(user.home / ".docker/config.json")
    assert "no regular file" in user.refused()


def test_an_unrelated_malformed_entry_does_not_matter(user: User) -> None:
    user.docker({"auths": {"i.io": {"auth": "!"}, "h.io": auth()}})
    assert user.password() == CANARY


def test_a_file_that_others_may_read_is_told_with_the_cure(user: User) -> None:
    user.docker(auths("h.io"), 0o644)
    assert user.password() == CANARY
    (line,) = user.told
    assert "others may read ~/.docker/config.json" in line and "chmod 600 ~/.docker/config.json" in line
    user.told.clear()
    assert user.find("i.io") is None
    assert user.told == []


def test_a_file_that_may_not_be_read_is_passed_over_aloud(user: User, ordinary_eyes: Eyes) -> None:
    user.docker(auths("h.io"), 0)
    with ordinary_eyes():
        assert user.find() is None
    assert "cannot read ~/.docker/config.json" in user.told[0]


# Helpers


def test_a_helper_is_asked_for_its_host(user: User) -> None:
    user.helper("vault", f'read s; echo "{{\\"Username\\": \\"$1-$s\\", \\"Secret\\": \\"{CANARY}\\"}}"')
    user.docker({"credHelpers": {"h.io": "vault"}, **auths("h.io", password="file")})
    source = "docker-credential-vault (~/.docker/config.json)"
    assert user.find() == Credential(source, "get-h.io", Secret(CANARY))
    user.docker({"credsStore": "vault"})
    found = user.find(HUB)
    assert found is not None and found.username == "get-https://index.docker.io/v1/"


def test_a_hosts_helper_comes_before_the_one_for_all(user: User) -> None:
    for name in ("one", "all"):
        user.helper(name, f'echo \'{{"Username": "{name}", "Secret": "s"}}\'')
    user.docker({"credHelpers": {"h.io": "one"}, "credsStore": "all"})
    assert [getattr(user.find(host), "username", "") for host in ("h.io", "i.io")] == ["one", "all"]


def test_a_helpers_token_user_means_an_identity_token(user: User) -> None:
    user.helper("vault", f'echo \'{{"Username": "<token>", "Secret": "{CANARY}"}}\'')
    user.docker({"credsStore": "vault"})
    found = user.find()
    assert found is not None and found.identity_token == Secret(CANARY) and not found.username


def test_a_helper_that_has_nothing_is_followed_by_the_file(user: User) -> None:
    user.helper("vault", "echo 'credentials not found in native keychain'; exit 1")
    user.docker({"credsStore": "vault", **auths("h.io")})
    assert user.password() == CANARY
    assert user.told == []


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (f"echo {CANARY}; echo {CANARY} >&2; exit 3", "failed with status 3; `echo h.io | docker-cred"),
        (f"echo {CANARY}", "not the helpers' JSON"),
        (f'echo \'{{"Username": "{CANARY}"}}\'', "not the helpers' JSON"),
        ('echo \'{"Username": "u", "Secret": ""}\'', "without user name or secret"),
        ("kill -9 $$", "failed with status -9"),
    ],
)
def test_a_helper_that_fails_is_told_and_passed_over(user: User, script: str, expected: str) -> None:
    user.helper("vault", script)
    user.docker({"credHelpers": {"h.io": "vault"}, **auths("h.io", password="file")})
    assert user.password() == "file"
    (line,) = user.told
    assert "docker-credential-vault" in line and expected in line and CANARY not in line


def test_a_helper_that_is_not_installed_is_told(user: User) -> None:
    user.docker({"credsStore": "desktop", **auths("h.io")})
    assert user.password() == CANARY
    assert "docker-credential-desktop, which ~/.docker/config.json names, is not installed" in user.told[0]


@pytest.mark.parametrize("name", ["../x", "a/b", "-x", ".", "a b"])
def test_a_helpers_name_is_no_path(user: User, name: str) -> None:
    user.docker({"credsStore": name})
    assert user.find() is None
    assert "cannot be one" in user.told[0]


def test_a_helper_is_never_taken_from_the_working_directory(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    user.write("relative/docker-credential-near", "#!/bin/sh\necho x\n", 0o700)
    monkeypatch.chdir(user.home)
    user.docker({"credsStore": "near"})
    assert user.find() is None
    assert "is not installed" in user.told[0]


def test_a_helper_does_not_get_the_password_of_the_environment(user: User) -> None:
    user.environment.update(PINNACE_REGISTRY="x.io", PINNACE_USERNAME="ci", PINNACE_PASSWORD=CANARY)
    user.environment["LD_PRELOAD"] = "/x.so"
    user.helper("vault", f'env >{user.home}/seen; echo \'{{"Username": "u", "Secret": "s"}}\'')
    user.docker({"credsStore": "vault"})
    assert user.find() is not None
    seen = (user.home / "seen").read_text()
    assert CANARY not in seen and "LD_PRELOAD" not in seen and f"HOME={user.home}" in seen


# enroot


def test_enroots_file_is_read(user: User) -> None:
    user.enroot(f"# mine\nmachine h.io login ada password {CANARY}\n  machine i.io login b password c\n")
    assert user.find() == Credential("~/.config/enroot/.credentials", "ada", Secret(CANARY))
    assert user.password("h.io:5005") == CANARY


@pytest.mark.parametrize("rest", [" account x", " # mine", "\t"])
def test_what_follows_a_password_is_none_of_it(user: User, rest: str) -> None:
    user.enroot(f"machine h.io login ada password {CANARY}{rest}\n")
    assert user.password() == CANARY


def test_enroots_directory_may_be_elsewhere(user: User) -> None:
    user.environment["ENROOT_CONFIG_PATH"] = str(user.home / "e")
    user.write("e/.credentials", f"machine h.io login ada password {CANARY}\n")
    assert user.password() == CANARY


def test_the_first_line_of_a_machine_gives_the_user(user: User) -> None:
    user.enroot("machine h.io login ada password a\nmachine h.io login ben password b\n")
    assert user.password() == "a"
    assert user.password(user="ben") == "b"


def test_oauthtoken_is_a_name_and_no_variable(user: User) -> None:
    user.enroot(f"machine nvcr.io login $oauthtoken password {CANARY}\n")
    found = user.find("nvcr.io", realm="nvcr.io")
    assert found is not None and found.username == "$oauthtoken"
    assert user.password("nvcr.io", "$oauthtoken") == CANARY


@pytest.mark.parametrize("written", ["$KEY", "${KEY}"])
def test_a_variable_is_expanded_at_the_beginning_alone(user: User, written: str) -> None:
    user.environment["KEY"] = CANARY
    user.enroot(f"machine h.io login ada password {written}\nmachine i.io login ada password a$KEY\n")
    assert user.password() == CANARY
    assert user.password("i.io") == "a$KEY"


def test_a_variable_that_is_not_set_is_named(user: User) -> None:
    user.enroot("\nmachine h.io login ada password $KEY\n")
    message = user.refused()
    assert "the variable KEY is not set (~/.config/enroot/.credentials, line 2)" in message


def test_commands_run_only_if_the_administrator_allows_them(user: User) -> None:
    user.enroot(f"machine h.io login ada password $(echo '{CANARY}')\n")
    message = user.refused()
    assert "not allowed" in message and "credential_commands" in message
    user.commands = True
    assert user.password() == CANARY


def test_a_command_gets_no_input_and_its_text_is_in_no_argument(user: User) -> None:
    user.commands = True
    user.enroot("machine h.io login a password $(cat; tr '\\0' ' ' </proc/$$/cmdline; : " + CANARY + ")\n")
    assert CANARY not in str(user.password())


@pytest.mark.parametrize("command", ["false", "true", f"echo {CANARY} >&2; exit 1"])
def test_a_command_that_fails_is_one_error(user: User, command: str) -> None:
    user.commands = True
    user.enroot(f"machine h.io login a password $({command})\n")
    assert "the command for the password failed (~/.config/enroot/.credentials, line 1)" in user.refused()


@pytest.mark.parametrize(
    "line",
    [
        f"machine h.io password {CANARY}",
        f"machine h.io login a {CANARY}",
        CANARY,
        "machine h.io login a password",
    ],
)
def test_a_malformed_line_is_named_by_its_number(user: User, line: str) -> None:
    user.enroot(f"# one\n{line}\n")
    assert "line 2 is not `machine HOST login USER password SECRET`" in user.refused()


def test_docker_hubs_token_service_is_its_machine_too(user: User) -> None:
    user.enroot(f"machine auth.docker.io login ada password {CANARY}\n")
    assert user.password(HUB, realm="auth.docker.io") == CANARY
    assert user.password(HUB) == CANARY


def test_a_token_service_above_the_registry_is_its_machine_too(user: User) -> None:
    user.enroot(f"machine gitlab.example.org login ada password {CANARY}\n")
    assert user.password("registry.gitlab.example.org:5050", realm="gitlab.example.org") == CANARY
    assert user.find("registry.gitlab.example.org:5050") is None


@pytest.mark.parametrize("realm", ["victim.io", "auth.docker.io", "io", "evil.io.victim.io"])
def test_a_registry_cannot_ask_for_the_credentials_of_another(user: User, realm: str) -> None:
    user.enroot("".join(f"machine {name} login a password {CANARY}\n" for name in ("victim.io", "io", realm)))
    assert user.find("evil.io", realm=realm) is None
    assert user.find("evil.io", "a", realm=realm) is None


# Precedence


def test_sources_are_asked_in_the_order_that_is_documented(user: User) -> None:
    user.environment.update(
        REGISTRY_AUTH_FILE=str(user.home / "a.json"), XDG_RUNTIME_DIR=str(user.home / "run")
    )
    user.environment.update(PINNACE_REGISTRY="h.io", PINNACE_USERNAME="ci", PINNACE_PASSWORD="0")
    files = [
        ".config/pinnace/auth.json",
        "a.json",
        "run/containers/auth.json",
        ".config/containers/auth.json",
        ".docker/config.json",
    ]
    for number, file in enumerate(files, 1):
        user.write(file, auths("h.io", password=str(number)))
    user.enroot("machine h.io login ada password 6\n")
    found = [user.password()]
    del user.environment["PINNACE_PASSWORD"]
    for file in files:
        found.append(user.password())
        (user.home / file).unlink()
    assert [*found, user.password()] == list("0123456")
    settings = config.load(user.environment)
    places = Keyring("h.io", settings=settings, environment=user.environment).places()
    assert places == [*(f"~/{file}" for file in files), "~/.config/enroot/.credentials"]


def test_docker_config_may_be_elsewhere(user: User) -> None:
    user.environment["DOCKER_CONFIG"] = str(user.home / "d")
    user.write("d/config.json", auths("h.io"))
    assert user.password() == CANARY


def test_a_user_without_variables_has_a_home(user: User) -> None:
    assert Surroundings({}).home


# Pinnace's own file


def test_login_keeps_a_password_where_only_its_owner_reads_it(user: User) -> None:
    surroundings = Surroundings(user.environment)
    before = os.umask(0)
    try:
        saved.save(surroundings, HUB, "ada", Secret(CANARY))
        saved.save(surroundings, "h.io", "ben", Secret("b:c"))
    finally:
        os.umask(before)
    file = user.home / ".config/pinnace/auth.json"
    assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700
    assert list(json.loads(file.read_text())["auths"]) == ["https://index.docker.io/v1/", "h.io"]
    assert user.password(HUB) == CANARY and user.password() == "b:c"
    assert [path.name for path in file.parent.iterdir()] == ["auth.json"]


def test_logout_forgets_every_spelling_of_one_registry(user: User) -> None:
    user.write(".config/pinnace/auth.json", auths("docker.io", "https://index.docker.io/v1/", "h.io"))
    surroundings = Surroundings(user.environment)
    assert saved.remove(surroundings, HUB)
    assert not saved.remove(surroundings, HUB)
    assert user.password() == CANARY and user.find(HUB) is None


def test_logout_of_nothing_makes_nothing(user: User) -> None:
    assert not saved.remove(Surroundings(user.environment), "h.io")
    assert not (user.home / ".config").exists()


def test_login_keeps_what_else_is_in_the_file_and_follows_the_users_own_link(user: User) -> None:
    real = user.write("dotfiles/auth.json", {"credHelpers": {"x.io": "x"}, **auths("h.io")})
    (user.home / "dotfiles").chmod(0o700)
    link = user.home / ".config/pinnace/auth.json"
    link.parent.mkdir(parents=True)
    link.symlink_to(real)
    saved.save(Surroundings(user.environment), "i.io", "ada", Secret("s"))
    assert link.is_symlink()
    assert set(json.loads(real.read_text())["auths"]) == {"h.io", "i.io"}
    assert json.loads(real.read_text())["credHelpers"] == {"x.io": "x"}


def test_login_writes_nowhere_that_others_may_change(user: User) -> None:
    directory = user.home / ".config/pinnace"
    directory.mkdir(parents=True)
    directory.chmod(0o777)
    with pytest.raises(CredentialError, match="others may change"):
        saved.save(Surroundings(user.environment), "h.io", "ada", Secret(CANARY))
    assert list(directory.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a link that is another's")
def test_login_follows_no_link_of_another_user(user: User) -> None:
    link = user.home / ".config/pinnace/auth.json"
    link.parent.mkdir(parents=True, mode=0o700)
    link.symlink_to(user.home / "elsewhere")
    os.lchown(link, 12345, 12345)
    with pytest.raises(CredentialError, match="another user's symbolic link"):
        saved.save(Surroundings(user.environment), "h.io", "ada", Secret(CANARY))
    assert not (user.home / "elsewhere").exists()


def test_login_does_not_overwrite_a_file_that_it_does_not_understand(user: User) -> None:
    file = user.write(".config/pinnace/auth.json", f"what {CANARY}")
    with pytest.raises(CredentialError, match="not valid JSON"):
        saved.save(Surroundings(user.environment), "h.io", "ada", Secret("s"))
    assert file.read_text() == f"what {CANARY}"
