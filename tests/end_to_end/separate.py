"""Machines of their own on this one: each has its network, its disk and its shared memory.

Needs the rights to make namespaces, and mounts in them.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from tests.end_to_end.lab import wait_until

LIVE = "mount --make-rprivate / && mount -t tmpfs tmpfs {disk} && mount -t tmpfs tmpfs /dev/shm && exec sleep 3600"
ADDRESSES = "10.77.{net}.{number}"


def can_separate() -> bool:
    """Whether this process may make such machines."""
    command = "mount -t tmpfs tmpfs /mnt && ip link add near type veth peer name far"
    return (
        os.geteuid() == 0
        and not subprocess.run(["unshare", "-n", "-m", "sh", "-c", command], capture_output=True).returncode
    )


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _network(pid: int) -> Path:
    return Path(f"/proc/{pid}/ns/net").readlink()


def _on(network: Path) -> list[psutil.Process]:
    """The processes on a network that have not ended."""
    found = []
    for process in psutil.process_iter():
        with suppress(OSError, psutil.NoSuchProcess):
            if _network(process.pid) == network and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@dataclass
class Machine:
    """A machine: what runs on it runs in the namespaces of a process that sleeps."""

    name: str
    address: str
    disk: Path
    """Has the same path on every machine, and other files."""
    env: Mapping[str, str]
    life: subprocess.Popen[bytes]
    ray: subprocess.Popen[bytes] | None = None

    def start(self, *command: str, log: Path | None = None) -> subprocess.Popen[str]:
        """Start a command there, in the folder of its disk."""
        inside = ["nsenter", "-t", str(self.life.pid), "-m", "-n", "sh", "-c", 'cd "$0" && exec "$@"', str(self.disk)]
        out = subprocess.PIPE if log is None else log.open("ab")
        return subprocess.Popen(
            [*inside, *command], stdout=out, stderr=subprocess.STDOUT, text=True, env=os.environ | dict(self.env)
        )

    def write(self, name: str, text: str) -> None:
        done = self.start("sh", "-c", f"cat > {name} << 'END'\n{text}\nEND\n")
        assert done.wait() == 0

    def processes(self) -> list[psutil.Process]:
        """All that runs there."""
        return _on(_network(self.life.pid))

    def kill(self) -> None:
        """SIGKILL everything there: with the last process its disk is gone too."""
        network = _network(self.life.pid)
        while found := _on(network):  # some may have been starting others
            for process in found:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(found, timeout=10)
        self.life.wait()


@dataclass
class Machines:
    """Machines on one network; ``here`` is the address of what is outside of them."""

    folder: Path
    env: dict[str, str]
    net: int = field(default_factory=lambda: 1 + secrets.randbelow(250))
    machines: dict[str, Machine] = field(default_factory=dict)
    _count: int = 0

    @property
    def bridge(self) -> str:
        return f"lin{self.net}"

    @property
    def here(self) -> str:
        return ADDRESSES.format(net=self.net, number=1)

    def open(self) -> None:
        # Otherwise its own changes with those of the machines, and others look for it in vain for a while.
        address = f"02:00:00:00:00:{self.net:02x}"
        _run("ip", "link", "add", self.bridge, "address", address, "type", "bridge")
        _run("ip", "address", "add", f"{self.here}/24", "dev", self.bridge)
        _run("ip", "link", "set", self.bridge, "up")

    def close(self) -> None:
        for machine in self.machines.values():
            machine.kill()
        _run("ip", "link", "delete", self.bridge)

    def new(self, name: str) -> Machine:
        """A machine with an empty disk."""
        disk = self.folder / "disk"
        disk.mkdir(exist_ok=True)
        life = subprocess.Popen(["unshare", "-n", "-m", "sh", "-c", LIVE.format(disk=disk)])
        pid = str(life.pid)
        wait_until("it lives", lambda: psutil.Process(life.pid).name() == "sleep", 60)
        self._count += 1
        address = ADDRESSES.format(net=self.net, number=10 + self._count)
        outside = f"{self.bridge}n{self._count}"
        inside = ["nsenter", "-t", pid, "-n", "ip"]
        _run("ip", "link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", pid)
        _run("ip", "link", "set", outside, "master", self.bridge, "up")
        _run(*inside, "address", "add", f"{address}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            _run(*inside, "link", "set", device, "up")
        _run(*inside, "route", "add", "default", "via", self.here)
        places = {"HOME": str(disk), "TMPDIR": str(disk), "LINSWEEP_CACHE": str(disk / "cache")}
        ray = {"RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": str(disk), "GLOO_SOCKET_IFNAME": "eth0"}
        machine = Machine(name, address, disk, {**self.env, **places, **ray}, life)
        self.machines[name] = machine
        return machine

    def start_ray(self, name: str, head: str | None = None, cpus: int = 1) -> Machine:
        """A new machine that is a node of Ray's: the head, or one that joins a head."""
        machine = self.new(name)
        options = ["--block", "--disable-usage-stats", f"--node-ip-address={machine.address}", f"--num-cpus={cpus}"]
        if head is None:
            options += ["--head", "--port=6379", "--include-dashboard=false", f"--temp-dir={machine.disk}/ray"]
        else:
            options += [f"--address={self.machines[head].address}:6379"]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *options]
        machine.ray = machine.start(*command, log=self.folder / f"{name}.log")  # type: ignore[assignment]
        return machine

    def await_nodes(self, head: str, count: int, seconds: float = 600) -> None:
        """Wait until so many nodes have joined."""
        code = JOINED.format(address=f"{self.machines[head].address}:6379", count=count)
        deadline = time.monotonic() + seconds
        while self.machines[head].start(sys.executable, "-c", code).wait() != 0:
            assert time.monotonic() < deadline, f"{count} nodes do not join"
            time.sleep(1)


JOINED = """
import time, ray
ray.init(address="{address}", logging_level="ERROR", log_to_driver=False)
deadline = time.monotonic() + 240
while sum(node["Alive"] for node in ray.nodes()) < {count}:
    assert time.monotonic() < deadline
    time.sleep(0.2)
"""


@contextmanager
def separate_machines(env: Mapping[str, str]) -> Iterator[Machines]:
    """A network without machines, ended with all that is on it."""
    with TemporaryDirectory(prefix="lin-") as folder:  # sockets need short paths
        machines = Machines(Path(folder), dict(env))
        machines.open()
        try:
            yield machines
        finally:
            machines.close()
