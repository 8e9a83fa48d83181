"""A whole Slurm cluster on one machine: munged, slurmctld and several slurmd, each on a host of its own.

    with Cluster(nodes=2) as cluster:
        print(cluster.srun(["-N2", "hostname"]).stdout)

Everything lies in one directory and in namespaces that nothing outside refers to: the machine's
network, /etc, control groups and its own Slurm, if it has one, are not touched.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster import apparmor, cgroups, forward, installation, leftovers, slurmconf, users
from cluster.host import Host
from cluster.users import ADA, User

if TYPE_CHECKING:
    from cluster.leftovers import Baseline

# Unix sockets lie below it and their paths may be no longer than 108 bytes; /tmp is another one on each host.
_PLACE = Path("/var/tmp")
_PREFIX = "pinnace-"
_RECORD = "hosts.json"
_START_TIMEOUT = 60

#: Where every host of the cluster finds the registry.
REGISTRY = "127.0.0.1:5000"


class Cluster:
    """A cluster of ``nodes`` nodes n1, n2, … and the host ``login``, where commands are given."""

    def __init__(
        self,
        nodes: int = 2,
        *,
        directory: Path | None = None,
        plugin: bool = True,
        plugin_arguments: str = "",
        private_tmp: bool = False,
        detached: bool = False,
    ) -> None:
        self.login = Host("login", "10.86.0.1")
        self.nodes = [
            Host(f"n{number}", f"10.86.0.{10 + number}", pinned=private_tmp) for number in range(1, nodes + 1)
        ]
        self._plugin = plugin
        self._plugin_arguments = plugin_arguments
        self._private_tmp = private_tmp
        self._detached = detached
        self._directory = directory
        self._lock = -1
        self._baseline: Baseline | None = None

    @property
    def hosts(self) -> list[Host]:
        return [self.login, *self.nodes]

    @property
    def directory(self) -> Path:
        """Where all of it lies."""
        assert self._directory is not None, "the cluster has not been started"
        return self._directory

    @property
    def prefix(self) -> Path:
        """Where Pinnace is installed."""
        return self.directory / "prefix"

    def home(self, user: User = ADA) -> Path:
        """A user's home, the same on every host."""
        return self.directory / "home" / user.name

    # Life

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            print(self.logs(), file=sys.stderr)
        self.stop()

    def start(self) -> None:
        """Make the cluster and wait until its nodes are idle."""
        sweep()
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_PLACE))
        else:
            self._directory.mkdir()
        try:
            self._lock = os.open(self.directory / _RECORD, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._write_files()
            self._start_hosts()
            self._start_daemons()
            self.note_state()
        except BaseException as error:
            if isinstance(error, Exception):
                error.args = (f"{error}\n{self.logs()}",)
            self.stop()
            raise

    def stop(self) -> None:
        """Remove the cluster, whatever state it is in."""
        for host in reversed(self.hosts):
            host.stop()
        _remove(self.directory)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @classmethod
    def at(cls, directory: Path) -> Cluster:
        """The running cluster in ``directory``, for instance the demo's."""
        hosts = [Host(*entry) for entry in json.loads((directory / _RECORD).read_text())]
        cluster = cls(len(hosts) - 1, directory=directory)
        cluster.login, *cluster.nodes = hosts
        return cluster

    def is_running(self) -> bool:
        return all(host.is_running() for host in self.hosts)

    # Use

    def environment(self, user: User | None = None) -> dict[str, str]:
        """The variables that a login shell on the cluster has."""
        path = f"{self.prefix}/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
        variables = {"PATH": path, "LANG": "C.UTF-8", "SLURM_CONF": f"{self.directory}/slurm/slurm.conf"}
        if user is not None:
            variables.update(HOME=str(self.home(user)), USER=user.name, LOGNAME=user.name)
        return variables

    def run(
        self,
        command: Sequence[str | os.PathLike[str]],
        *,
        user: User | None = ADA,
        env: Mapping[str, str] | None = None,
        host: Host | None = None,
        check: bool = False,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as ``user`` (None: root) on ``host`` (default: login)."""
        variables = {**self.environment(user), **(env or {})}
        options.setdefault("cwd", self.home(user) if user else "/")
        return (host or self.login).run(command, user=user, env=variables, check=check, **options)

    def popen(
        self,
        command: Sequence[str | os.PathLike[str]],
        *,
        user: User | None = ADA,
        env: Mapping[str, str] | None = None,
        host: Host | None = None,
        **options: Any,
    ) -> subprocess.Popen[str]:
        """Like run(), without waiting; host.send_signal() signals what was started."""
        variables = {**self.environment(user), **(env or {})}
        options.setdefault("cwd", self.home(user) if user else "/")
        options.setdefault("stdin", subprocess.DEVNULL)
        return (host or self.login).popen(command, user=user, env=variables, **options)

    def srun(self, arguments: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run ``srun``; the options are those of run()."""
        return self.run(["srun", *arguments], **options)

    def sbatch(self, script: str, arguments: Sequence[str] = (), **options: Any) -> str:
        """Submit the lines of ``script`` as a batch job and return its number."""
        text = script if script.startswith("#!") else "#!/bin/sh\n" + script
        done = self.run(["sbatch", "--parsable", *arguments], input=text, check=True, **options)
        return done.stdout.strip()

    def scancel(self, job: str, *arguments: str, **options: Any) -> None:
        self.run(["scancel", *arguments, job], check=True, **options)

    def cancel_all(self) -> None:
        """End all jobs of all users."""
        for user in users.USERS:
            self.run(["scancel", f"--user={user.name}"], user=None, check=True)

    def wait_for_job(self, job: str, *, timeout: float = 120) -> str:
        """Wait until a job has left the queue and return its state, such as COMPLETED."""
        state = ""

        def has_ended() -> bool:
            nonlocal state
            shown = self.run(["scontrol", "-o", "show", "job", job], check=True).stdout
            state = shown.split("JobState=")[1].split()[0]
            return state not in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED")

        wait_until(has_ended, timeout=timeout, what=f"job {job} to end")
        return state

    def wait_for_idle(self, *, timeout: float = 60) -> None:
        """Wait until no job is left and every node is idle."""

        def is_idle() -> bool:
            shown = self.run(["sinfo", "-h", "-N", "-o", "%T"], user=None).stdout.split()
            return len(shown) == len(self.nodes) and set(shown) == {"idle"}

        wait_until(is_idle, timeout=timeout, what="idle nodes")

    def restart_slurmd(self, node: Host) -> None:
        """End slurmd on ``node`` and start it anew, for instance after a change of the plugin."""
        pid = int((self.directory / node.name / "pid").read_text())
        node.run(["kill", str(pid)])
        wait_until(
            lambda: node.run(["kill", "-0", str(pid)], check=False).returncode != 0, what="the end of slurmd"
        )
        self._start_slurmd(node)

    def node_processes(self, node: Host) -> dict[int, str]:
        """Command lines of what runs on a node, by process numbers as the machine sees them."""
        return leftovers.processes(node)

    def note_state(self) -> None:
        """From now on, leftovers are what is not there at this moment: call it after starting a daemon."""
        self._baseline = leftovers.Baseline(self)

    def leftovers(self, *, timeout: float = 15) -> list[str]:
        """What jobs have left behind; waits for a while until nothing is, which is the right answer."""
        assert self._baseline is not None, "the cluster has not been started"
        end = time.monotonic() + timeout
        while (found := self._baseline.leftovers()) and time.monotonic() < end:
            time.sleep(0.2)
        return found

    def logs(self, lines: int = 60) -> str:
        """The ends of all logs."""
        text = ""
        for file in sorted(self.directory.glob("log/*")):
            ends = [line[:300] for line in file.read_text(errors="replace").splitlines()[-lines:]]
            text += "\n".join([f"--- {file}", *ends, ""])
        return text

    # Making it

    def _write_files(self) -> None:
        directory = self.directory
        directory.chmod(0o755)
        for name, owner in (("munge", "munge"), ("slurmctld", "slurm"), ("log", "slurm"), ("slurm", None)):
            (directory / name).mkdir()
            if owner:
                shutil.chown(directory / name, owner, owner)
        for node in self.nodes:
            (directory / node.name).mkdir()
        users.make_homes(directory / "home")
        self._write_etc(directory / "etc")
        key = directory / "munge" / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        shutil.chown(key, "munge", "munge")
        slurmconf.write(
            directory,
            self.login,
            self.nodes,
            plugstack=self._install() if self._plugin else "",
            control_groups=cgroups.usable(),
            private_tmp=self._private_tmp,
        )

    def _write_etc(self, etc: Path) -> None:
        etc.mkdir()
        users.write_databases(etc, self.directory / "home")
        lines = [f"{host.address} {host.name}" for host in self.hosts]
        (etc / "hosts").write_text("\n".join(["127.0.0.1 localhost", *lines]) + "\n")

    def _install(self) -> str:
        etc = installation.install(self.prefix)
        apparmor.allow(etc / "apparmor.d" / "pinnace", self.directory.name)
        plugstack = etc / "slurm" / "plugstack.conf.d" / "pinnace.conf"
        return f"{plugstack.read_text().rstrip()} {self._plugin_arguments}\n"

    def _start_hosts(self) -> None:
        with_groups = cgroups.usable()
        for host in self.hosts:
            group = f"{self.directory.name}/{host.name}" if with_groups and host is not self.login else None
            log = self.directory / "log" / f"{host.name}.log"
            host.start(self.directory / "etc", log, group, detached=self._detached)
            record = [[entry.name, entry.address, entry.init] for entry in self.hosts]
            (self.directory / _RECORD).write_text(json.dumps(record))
        self.login.run(["ip", "link", "add", "br0", "type", "bridge"])
        self.login.run(["ip", "address", "add", f"{self.login.address}/24", "dev", "br0"])
        self.login.run(["ip", "link", "set", "br0", "up"])
        for node in self.nodes:
            # Named by process numbers as the machine sees them, hence not carried out by Host.run().
            cable = f"ip link add {node.name} type veth peer name eth0 netns {node.init}".split()
            subprocess.run(["nsenter", "-t", str(self.login.init), "-n", *cable], check=True)
            self.login.run(["ip", "link", "set", node.name, "master", "br0", "up"])
            node.run(["ip", "address", "add", f"{node.address}/24", "dev", "eth0"])
            node.run(["ip", "link", "set", "eth0", "up"])

    def _start_daemons(self) -> None:
        munge = self.directory / "munge"
        munged = ["munged", f"--key-file={munge}/key", f"--socket={munge}/socket", f"--pid-file={munge}/pid"]
        munged += [f"--log-file={munge}/log", f"--seed-file={munge}/seed"]
        as_munge = ["setpriv", "--reuid=munge", "--regid=munge", "--init-groups"]
        self.login.run([*as_munge, *munged])
        self.run(["slurmctld", "-c"], user=None, check=True)
        for node in self.nodes:
            self._start_slurmd(node)
            forward.start(node, REGISTRY, f"{self.login.address}:5000")
        self.wait_for_idle(timeout=_START_TIMEOUT)

    def _start_slurmd(self, node: Host) -> None:
        # PMIx would otherwise ask munge for credentials, whose socket a container does not have.
        environment = {**self.environment(), "PMIX_MCA_psec": "native"}
        node.run(["slurmd"], env=environment)


def wait_until(condition: Any, *, timeout: float = 60, what: str) -> None:
    """Ask ``condition()`` again and again until it holds."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout:.0f} s for {what}")
        time.sleep(0.1)


def sweep() -> None:
    """Remove what a killed test run has left: clusters without a process of theirs."""
    for record in _PLACE.glob(f"{_PREFIX}*/{_RECORD}"):
        with record.open("rb") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue  # being used, or being started
            text = stream.read()
            hosts = [Host(*entry) for entry in json.loads(text)] if text else []
            if not any(host.is_running() for host in hosts):
                _remove(record.parent)


def _remove(directory: Path) -> None:
    apparmor.withdraw(directory / "prefix" / "etc" / "apparmor.d" / "pinnace")
    cgroups.remove(directory.name)
    shutil.rmtree(directory)
