"""Pulls that need credentials, from a real registry; and that no secret is left anywhere."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.authority import CANARY, IDENTITY, USER, Authority, PrivateRegistry, basic
from integration.registry import Layout, Registry
from integration.trees import directory, entry, layer
from pinnace import supply

_MAIN = "import sys; from pinnace.cli import main; sys.exit(main())"
#: Secrets as they are and as files and headers have them.
_FORMS = tuple(text.encode() for text in (CANARY, IDENTITY, basic(), basic("<token>", IDENTITY)))


class User:
    """Somebody with a home directory and a store, who calls the command."""

    def __init__(self, home: Path) -> None:
        self.home = home
        (home / "tmp").mkdir()
        self.environment = {
            "HOME": str(home),
            "TMPDIR": str(home / "tmp"),
            "PATH": f"{home / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(Path(supply.__file__).parents[1]),
            "PINNACE_STORE": str(home / "store"),
            "PINNACE_DEBUG": "1",
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", _MAIN, *arguments],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        output, errors = process.communicate(typed)
        assert not shows(output.encode() + errors.encode())
        return subprocess.CompletedProcess(arguments, process.returncode, output, errors)

    def pulls(self, image: str) -> str:
        """Pull ``image``, which must succeed; what was said meanwhile."""
        done = self.run("pull", image)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def fails(self, *arguments: str) -> str:
        """The only line of an error."""
        done = self.run(*arguments)
        assert done.returncode == 1, done.stderr
        (line,) = [line for line in done.stderr.splitlines() if "error" in line]
        return line

    def docker(self, host: str, **entry: str) -> Path:
        file = self.home / ".docker/config.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"auths": {host: entry or {"auth": basic()}}}))
        file.chmod(0o600)
        return file

    def enroot(self, line: str) -> None:
        file = self.home / ".config/enroot/.credentials"
        file.parent.mkdir(parents=True)
        file.write_text(line + "\n")
        file.chmod(0o600)

    def with_secret(self) -> list[str]:
        """Files of the user in which a secret can be read, but for where it was put."""
        put = (".docker/config.json", ".config/enroot/.credentials", ".config/pinnace/auth.json", "bin")
        files = [path for path in self.home.rglob("*") if path.is_file()]
        names = [str(path.relative_to(self.home)) for path in files if shows(path.read_bytes())]
        return [name for name in names if not name.startswith(put)]


def shows(content: bytes) -> bool:
    return any(form in content for form in _FORMS)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    running = Registry(tmp_path_factory.mktemp("registry"))
    layout = Layout(tmp_path_factory.mktemp("image") / "layout")
    for number in range(5):
        tar = layout.path.with_name(f"{number}.tar")
        tar.write_bytes(layer([directory("./"), entry(f"data{number}", content=os.urandom(1 << 20))]))
        layout.add_layer(tar)
    for name in ("team/image:1", "public/image:1"):
        running.push(layout.path, "latest", name)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def private(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRegistry]:
    running = PrivateRegistry(tmp_path_factory.mktemp("private"), registry)
    yield running
    running.stop()


@pytest.fixture
def authority(registry: Registry) -> Iterator[Authority]:
    running = Authority(registry)
    yield running
    running.stop()


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    someone = User(tmp_path)
    yield someone
    assert someone.with_secret() == []


def test_a_registry_with_passwords(user: User, private: PrivateRegistry) -> None:
    user.docker(private.host)
    user.pulls(f"{private.host}/team/image:1")


def test_a_wrong_password_is_one_line_that_names_its_source(user: User, private: PrivateRegistry) -> None:
    user.docker(private.host, auth=basic(password=f"{CANARY}x"))
    line = user.fails("pull", f"{private.host}/team/image:1")
    assert f"registry {private.host} rejects user ada from ~/.docker/config.json for team/image" in line
    assert f"`pinnace login {private.host}`" in line


def test_no_password_is_one_line_that_names_where_it_was_looked_for(
    user: User, private: PrivateRegistry
) -> None:
    line = user.fails("pull", f"{private.host}/team/image:1")
    assert f"no credentials for {private.host} in ~/.config/pinnace/auth.json, " in line
    assert "~/.docker/config.json, ~/.config/enroot/.credentials" in line
    assert f"`pinnace login {private.host}`" in line


def test_enroots_file_knows_no_ports(user: User, private: PrivateRegistry) -> None:
    user.environment["KEY"] = CANARY
    user.enroot("machine 127.0.0.1 login ada password $KEY")
    user.pulls(f"{private.host}#team/image:1")


def test_the_environment_of_continuous_integration(user: User, private: PrivateRegistry) -> None:
    user.environment.update(PINNACE_REGISTRY=private.host, PINNACE_USERNAME=USER, PINNACE_PASSWORD=CANARY)
    user.pulls(f"{private.host}/team/image:1")


def test_a_credential_helper(user: User, private: PrivateRegistry) -> None:
    program = user.home / "bin/docker-credential-test"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho \'{{"Username": "ada", "Secret": "{CANARY}"}}\'\n')
    program.chmod(0o700)
    user.docker(private.host).write_text('{"credsStore": "test"}')
    user.pulls(f"{private.host}/team/image:1")


def test_tokens_for_a_password(user: User, authority: Authority) -> None:
    user.docker(authority.host)
    user.pulls(f"{authority.host}/team/image:1")
    assert {seen[2] for seen in authority.seen} == {f"Basic {basic()}"}
    assert len(authority.seen) == 1  # one token for one repository


def test_a_public_image_needs_no_password(user: User, authority: Authority) -> None:
    user.pulls(f"{authority.host}/public/image:1")
    assert {seen[2] for seen in authority.seen} == {""}


def test_a_rejected_password_for_a_public_image_says_that_none_is_needed(
    user: User, authority: Authority
) -> None:
    user.docker(authority.host, auth=basic(password="wrong"))
    line = user.fails("pull", f"{authority.host}/public/image:1")
    assert "rejects user ada from ~/.docker/config.json" in line
    assert "it can be read without credentials" in line
    assert "anonymous users may not read it either" in user.fails("pull", f"{authority.host}/team/image:1")


@pytest.mark.parametrize("oauth", [True, False])
def test_tokens_for_an_identity_token(user: User, authority: Authority, oauth: bool) -> None:
    authority.oauth = oauth
    user.docker(authority.host, identitytoken=IDENTITY)
    user.pulls(f"{authority.host}/team/image:1")
    assert [seen[0] for seen in authority.seen] == (["POST"] if oauth else ["POST", "GET"])


def test_tokens_that_die_in_the_middle_of_a_pull_are_replaced(user: User, authority: Authority) -> None:
    authority.lifetime, authority.delay = 0.7, 0.5
    user.docker(authority.host)
    user.pulls(f"{authority.host}/team/image:1")
    assert len(authority.seen) >= 2


def test_login_check_and_logout(user: User, authority: Authority) -> None:
    image = f"{authority.host}/team/image:1"
    login = ("login", "--username", USER, "--password-stdin", authority.host)
    refused = user.run(*login, typed="wrong\n")
    assert refused.returncode == 1 and "rejects user ada from what was typed" in refused.stderr
    assert not (user.home / ".config/pinnace").exists()

    done = user.run(*login, typed=f"{CANARY}\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"logged in to {authority.host} as ada (~/.config/pinnace/auth.json)\n"
    assert (user.home / ".config/pinnace/auth.json").stat().st_mode & 0o777 == 0o600

    checked = user.run("login", "--check", image)
    assert checked.returncode == 0, checked.stderr
    assert "credentials: user ada from ~/.config/pinnace/auth.json\n" in checked.stdout
    assert "answer:      may be read, sha256:" in checked.stdout
    user.pulls(image)

    assert user.run("logout", authority.host).stdout.startswith(f"logged out of {authority.host}")
    assert user.run("logout", authority.host).stdout.startswith("there was no login")
    without = user.run("login", "--check", image)
    assert without.returncode == 1
    assert "credentials: none (looked in ~/.config/pinnace/auth.json, " in without.stdout
    assert len(without.stderr.splitlines()) == 1


def test_login_needs_a_terminal_or_standard_input(user: User) -> None:
    done = user.run("login", "--username", USER, "h.io")
    assert done.returncode == 2 and "use --password-stdin" in done.stderr
    done = user.run("login", "--username", USER, "--password-stdin", "h.io")
    assert done.returncode == 2 and "no password on standard input" in done.stderr
    done = user.run("login", "--username", USER, "--password-stdin", "no registry", typed=CANARY)
    assert done.returncode == 2 and "is no registry" in done.stderr


def test_logout_tells_what_else_is_shown(user: User, private: PrivateRegistry) -> None:
    user.docker(private.host)
    done = user.run("logout", private.host)
    assert f"{private.host} is still shown user ada from ~/.docker/config.json" in done.stderr


@pytest.mark.parametrize("source", ["file", "environment"])
def test_no_process_of_a_pull_shows_a_secret(user: User, authority: Authority, source: str) -> None:
    authority.delay = 0.3
    if source == "file":
        user.docker(authority.host)
    else:
        given = {"PINNACE_REGISTRY": authority.host, "PINNACE_USERNAME": USER, "PINNACE_PASSWORD": CANARY}
        user.environment.update(given)
    process = user.start("pull", f"{authority.host}/team/image:1")
    commands: set[str] = set()
    limits: set[str] = set()
    while process.poll() is None:
        for number in descendants(process.pid):
            command, environment = read(number, "cmdline"), read(number, "environ")
            assert not shows(command)
            # The variable that the user has set himself is in the process that he has started, and in
            # its children until they execute another program.
            own = source == "environment" and (number == process.pid or _MAIN.encode() in command)
            assert own or not shows(environment)
            commands.add(os.path.basename(command.split(b"\0")[0].decode()))
        limits.update(line for line in read(process.pid, "limits").decode().splitlines() if "core" in line)
        time.sleep(0.005)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert not shows(output.encode() + errors.encode())
    assert "tar2sqfs" in commands
    assert any(line.split()[4] == "0" for line in limits)


def descendants(process: int) -> list[int]:
    """``process`` and what it has started."""
    found = [process]
    for number in found:
        for task in Path(f"/proc/{number}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found


def read(process: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{process}/{name}").read_bytes()
    except OSError:
        return b""


def test_a_password_is_asked_for_on_a_terminal_and_not_shown(user: User, private: PrivateRegistry) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.execve(sys.executable, [sys.executable, "-c", _MAIN, "login", private.host], user.environment)
    shown = b""
    for question, answer in ((b"Username: ", USER), (b"Password: ", CANARY)):
        while not shown.endswith(question):
            shown += os.read(terminal, 1)
        time.sleep(0.2)  # until the echo is off
        os.write(terminal, f"{answer}\n".encode())
    while piece := _rest(terminal):
        shown += piece
    assert os.waitpid(child, 0)[1] == 0
    assert b"logged in to" in shown and not shows(shown)


def _rest(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1024)
    except OSError:  # its other end has gone
        return b""
