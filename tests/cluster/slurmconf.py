"""Slurm's configuration files for the embedded cluster."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from cluster.host import Host


def write(
    state: Path,
    controller: Host,
    nodes: Sequence[Host],
    *,
    plugstack: str,
    control_groups: bool,
    private_tmp: bool,
) -> None:
    """Write slurm.conf and what belongs to it into ``state``/slurm."""
    directory = state / "slurm"
    lines = {
        "ClusterName": "pinnace",
        "SlurmctldHost": f"{controller.name}({controller.address})",
        "SlurmUser": "slurm",
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={state}/munge/socket",
        "StateSaveLocation": f"{state}/slurmctld",
        "SlurmctldPidFile": f"{state}/slurmctld/pid",
        "SlurmctldLogFile": f"{state}/log/slurmctld.log",
        "SlurmdSpoolDir": f"{state}/%n",
        "SlurmdPidFile": f"{state}/%n/pid",
        "SlurmdLogFile": f"{state}/log/slurmd-%n.log",
        "SlurmdDebug": "verbose",
        # More processors than the machine has: the tests are about many tasks, not about speed.
        "SlurmdParameters": "config_overrides",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_Core",
        "ReturnToService": "2",
        "KillWait": "2",
        "UnkillableStepTimeout": "30",
        "MpiDefault": "none",
        "SwitchType": "switch/none",
        "JobAcctGatherType": "jobacct_gather/none",
        "PlugStackConfig": f"{directory}/plugstack.conf",
        "ProctrackType": "proctrack/cgroup" if control_groups else "proctrack/linuxproc",
        "TaskPlugin": "task/cgroup" if control_groups else "task/none",
    }
    if private_tmp:
        lines["JobContainerType"] = "job_container/tmpfs"
        lines["PrologFlags"] = "Contain"
        bases = [f"NodeName={node.name} AutoBasePath=true BasePath={state}/{node.name}/tmp" for node in nodes]
        (directory / "job_container.conf").write_text("\n".join(bases) + "\n")
    text = "".join(f"{key}={value}\n" for key, value in lines.items())
    for node in nodes:
        text += f"NodeName={node.name} NodeAddr={node.address} CPUs=8 RealMemory=4096 State=UNKNOWN\n"
    text += "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES:8\n"
    (directory / "slurm.conf").write_text(text)
    if control_groups:
        # Before 22.05 there was but one kind of control group, and no name for it.
        plugin = "CgroupPlugin=cgroup/v1\n" if _release() >= (22, 5) else ""
        (directory / "cgroup.conf").write_text(f"{plugin}ConstrainDevices=yes\n")
    (directory / "plugstack.conf").write_text(plugstack)


def _release() -> tuple[int, ...]:
    """Slurm's release, such as (22, 5)."""
    shown = subprocess.run(["slurmd", "-V"], check=True, capture_output=True, text=True).stdout
    return tuple(int(part) for part in shown.split()[1].split(".")[:2])
