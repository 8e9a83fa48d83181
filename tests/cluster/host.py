"""One host of the cluster: a set of namespaces with a first process, and a way to run things in it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.users import User

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Host:
    """A host named ``name``; ``init`` is its first process, as seen from the machine.

    ``pinned``: all that runs on it runs on one processor.
    """

    def __init__(self, name: str, address: str, init: int = 0, *, pinned: bool = False) -> None:
        self.name = name
        self.address = address
        self.init = init
        # Linux 6.18 numbers namespaces on each processor by itself, and does not let a process mount
        # a mount namespace whose number is below that of its own. Slurm's job_container/tmpfs does it.
        self._pin = ["taskset", "-c", str(min(os.sched_getaffinity(0)))] if pinned else []
        self._unshare: subprocess.Popen[bytes] | None = None

    def start(self, etc: Path, log: Path, cgroup: str | None, *, detached: bool) -> None:
        """Make the namespaces and wait until they are ready to be used."""
        command = [*self._pin, "unshare", "--pid", "--mount", "--net", "--uts", "--ipc", "--fork"]
        command += ["--propagation", "slave", sys.executable, "-m", "cluster.init"]
        command += ["--name", self.name, "--etc", str(etc)]
        if cgroup:
            command += ["--cgroup", cgroup]
        if detached:
            command.append("--detached")
        with log.open("wb") as messages:
            self._unshare = subprocess.Popen(
                command,
                cwd=Path(__file__).parents[1],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=messages,
                start_new_session=True,  # an interrupt of the tests is theirs to handle
            )
        assert self._unshare.stdout is not None
        if self._unshare.stdout.readline() != b"ready\n":
            raise RuntimeError(f"host {self.name} did not start")
        self._unshare.stdout.close()
        parent = self._unshare.pid
        self.init = int(Path(f"/proc/{parent}/task/{parent}/children").read_text())

    def stop(self) -> None:
        """End everything that runs on the host, at once: the kernel does it with the first process."""
        if self.is_running():
            descriptor = os.pidfd_open(self.init)
            try:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                select.select([descriptor], [], [])
            except ProcessLookupError:
                pass
            finally:
                os.close(descriptor)
        if self._unshare is not None:
            assert self._unshare.stdin is not None
            self._unshare.stdin.close()
            self._unshare.wait()

    def is_running(self) -> bool:
        """Whether the first process is alive and is ours: numbers are used again."""
        try:
            command = Path(f"/proc/{self.init}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return b"--name" in command and command[command.index(b"--name") + 1] == self.name.encode()

    def enter(self, user: User | None = None, *, machine_files: bool = False) -> list[str]:
        """The beginning of a command line that is carried out on this host.

        With ``machine_files`` it sees the machine's files instead of the host's: the repository
        may lie below /tmp, which is another one on each host.
        """
        command = [*self._pin, "nsenter", "-t", str(self.init), "-u", "-i", "-n", "-p"]
        if not machine_files:
            command.append("-m")
        if os.path.exists("/proc/self/ns/cgroup"):
            command.append("-C")
        if user is not None:
            groups = ",".join(str(gid) for gid in user.gids)
            command += ["setpriv", f"--reuid={user.uid}", f"--regid={user.gid}", f"--groups={groups}"]
        return command

    def run(
        self,
        command: Sequence[str | os.PathLike[str]],
        *,
        user: User | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | Path = "/",
        timeout: float = 120,
        check: bool = True,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``command`` on this host and return what it said."""
        options.setdefault("stdin", subprocess.DEVNULL if "input" not in options else None)
        process = self.popen(command, user=user, env=env, cwd=cwd, **_without(options, "input"))
        try:
            out, err = process.communicate(options.get("input"), timeout=timeout)
        except BaseException:
            send_signal(process, signal.SIGKILL)
            process.wait()
            raise
        done = subprocess.CompletedProcess([str(word) for word in command], process.returncode, out, err)
        if check and done.returncode:
            raise RuntimeError(f"{self.name}: {command} returned {done.returncode}: {err}{out}")
        return done

    def popen(
        self,
        command: Sequence[str | os.PathLike[str]],
        *,
        user: User | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | Path = "/",
        machine_files: bool = False,
        **options: Any,
    ) -> subprocess.Popen[str]:
        """Start ``command`` on this host. Use send_signal() to signal it."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        if options["stdin"] is None:
            options["stdin"] = subprocess.PIPE
        environment = {"PATH": _SYSTEM_PATH, "LANG": "C.UTF-8", **(env or {})}
        # env(1) changes directory inside the host, where its /tmp is another one.
        words = [*self.enter(user, machine_files=machine_files), "env", "-C", cwd, *command]
        return subprocess.Popen(words, env=environment, **options)


def send_signal(process: subprocess.Popen[str], number: int) -> None:
    """Signal the command that ``process``, an nsenter waiting for its only child, carries out."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    for child in children.read_text().split() if children.exists() else []:
        os.kill(int(child), number)


def _without(options: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key != name}
