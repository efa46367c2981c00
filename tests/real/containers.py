"""Debian machines for the real tests: a root file system by mmdebstrap, booted under systemd-nspawn.

    base = rootfs("bookworm", "python3-venv")          # made once, kept under `.mmdoctor/roots`
    with machine(base, tmp_path / "node1") as node:    # a copy, booted; powered off and deleted at the end
        node.run("systemctl", "is-system-running")

Nothing here knows what is tested.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

from mmdoctor.system import uv_program

TOOLS = {"systemd-nspawn": "systemd-container", "mmdebstrap": "mmdebstrap"}
# What boots, and a Python with venv.
BOOTS = ("systemd", "systemd-sysv", "dbus", "python3", "python3-venv", "ca-certificates", "procps")
SMALL = (
    "--variant=minbase",
    '--aptopt=Acquire::Languages "none"',
    "--dpkgopt=force-unsafe-io",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
)
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BOOT_SECONDS = 120.0
REBOOTS = 133  # systemd-nspawn(1), --keep-unit
UV = "/usr/local/bin/uv"


def missing() -> str:
    """Why no machine can be booted here; empty when one can. The reason of a `pytest.skip`."""
    if os.geteuid() != 0:
        return "systemd-nspawn needs root"
    absent = [package for program, package in TOOLS.items() if shutil.which(program) is None]
    return f"not installed: apt-get install {' '.join(absent)}" if absent else ""


def kept() -> Path:
    """Where what takes long to make is kept between runs: beside the test's own cache."""
    cache = os.environ.get("MMDOCTOR_CACHE")
    return Path(cache).parent / "roots" if cache else Path.home() / ".cache" / "mmdoctor-test-roots"


def rootfs(release: str, *packages: str) -> Path:
    """The folder of a Debian `release` with what boots and `packages`: made once, 50 s of CPU; copy it to change it."""
    wanted = sorted({*BOOTS, *packages})
    digest = hashlib.sha256(" ".join([*SMALL, *wanted]).encode()).hexdigest()[:8]
    folder = kept() / f"{release}-{digest}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            draft = folder.with_suffix(".part")
            shutil.rmtree(draft, ignore_errors=True)
            must(["mmdebstrap", *SMALL, f"--include={','.join(wanted)}", release, str(draft)])
            if Path(CERTIFICATES).exists():  # where a company's proxy reads along, its authority is in the host's list
                shutil.copy(CERTIFICATES, str(draft) + CERTIFICATES)
            (draft / "etc/machine-id").write_text("")
            draft.rename(folder)
    return folder


def copied(base: Path, to: Path) -> Path:
    """A copy of a root file system, of its own; blocks are shared where the file system can."""
    must(["cp", "-a", "--reflink=auto", str(base), str(to)])
    return to


def must(argv: Sequence[str], deadline: float = 1800) -> str:
    """A command of the host that must succeed; its output."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=deadline, check=False)
    assert done.returncode == 0, (
        f"{list(argv)} ended with {done.returncode}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    )
    return done.stdout


class Machine:
    """A root file system that can be booted, asked, rebooted and powered off."""

    def __init__(self, root: Path, *, network: bool = False, binds: Sequence[str] = ()) -> None:
        """`network`: the host's, with its resolver; else loopback alone. `binds`: `--bind` values of systemd-nspawn."""
        self.root = root
        self.console_file = root.with_name(f"{root.name}.console")
        self.options = ["--resolv-conf=copy-host"] if network else ["--private-network"]
        self.options += [f"--bind={bind}" for bind in binds]
        # What pip, uv and Python were told of certificates and indexes, for `run` alone: services do not see it.
        names = [name for name in os.environ if name.startswith(("PIP_", "UV_", "SSL_CERT_"))] if network else []
        self.environment = {"PATH": PATH, "LANG": "C.UTF-8", **{name: os.environ[name] for name in names}}
        self._nspawn: Optional[subprocess.Popen[bytes]] = None

    def start(self, seconds: float = BOOT_SECONDS) -> None:
        """Boot, and wait until systemd has started all that it wants to start, at most `seconds`."""
        argv = ["systemd-nspawn", "-q", "-D", str(self.root), "--register=no", "--keep-unit", "--boot", *self.options]
        with self.console_file.open("wb") as log:
            self._nspawn = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        over = time.monotonic() + seconds
        while time.monotonic() < over:
            assert self._nspawn.poll() is None, self.console()
            if self.first() and self.run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"):
                return
            time.sleep(0.2)
        raise AssertionError(f"{self.root.name} did not boot: {self.console()}")

    def console(self) -> str:
        """The end of what the machine said on its console."""
        return self.console_file.read_text(errors="replace")[-3000:]

    def first(self) -> int:
        """The machine's process 1 as the host numbers it; 0 while there is none."""
        if self._nspawn is None:
            return 0
        for pid in descendants(self._nspawn.pid):
            with open_status(pid) as lines:
                numbers = next((line.split()[1:] for line in lines if line.startswith("NSpid:")), [])
            if len(numbers) > 1 and numbers[-1] == "1":
                return pid
        return 0

    def run(
        self,
        *argv: str,
        user: str = "root",
        environment: Optional[Mapping[str, str]] = None,
        text: Optional[str] = None,
        deadline: float = 600,
    ) -> subprocess.CompletedProcess[str]:
        """A command in the machine, as `user`, from `/`; `text` goes to its standard input."""
        home = "/root" if user == "root" else self.passwd(user)[5]
        variables = {**self.environment, "HOME": home, "USER": user, **(environment or {})}
        settings = [f"{name}={value}" for name, value in variables.items()]
        become = [] if user == "root" else ["/sbin/runuser", "-u", user, "--"]
        enter = ["nsenter", "-t", str(self.first()), "-a", "/usr/bin/env", "-i", *settings, *become]
        return subprocess.run(
            [*enter, *argv], input=text or "", capture_output=True, text=True, timeout=deadline, check=False
        )

    def must(
        self,
        *argv: str,
        user: str = "root",
        environment: Optional[Mapping[str, str]] = None,
        text: Optional[str] = None,
        deadline: float = 600,
    ) -> str:
        """`run`, which must succeed; the output."""
        done = self.run(*argv, user=user, environment=environment, text=text, deadline=deadline)
        assert done.returncode == 0, f"{argv} ended with {done.returncode}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout

    def passwd(self, user: str) -> list[str]:
        """The fields of a user's line in the machine's own passwd."""
        lines = (self.root / "etc/passwd").read_text().splitlines()
        return next(line.split(":") for line in lines if line.startswith(f"{user}:"))

    def path(self, inside: str) -> Path:
        """Where the host sees a file of the machine; not for /run, /tmp and /proc, which are mounts of its own."""
        return self.root / inside.lstrip("/")

    def write(self, inside: str, text: str, mode: int = 0o644) -> None:
        """A file in the machine, with the folders above it."""
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)

    def reboot(self, seconds: float = BOOT_SECONDS) -> None:
        """`systemctl reboot`, and wait until it is up again, as `start` does: systemd-nspawn leaves that to us."""
        assert self._nspawn is not None
        self.run("systemctl", "reboot")
        status = self._nspawn.wait(BOOT_SECONDS)
        assert status == REBOOTS, f"systemd-nspawn ended with {status}: {self.console()}"
        self.start(seconds)

    def stop(self) -> None:
        """Power off; killed with all that runs in it when that takes more than a minute."""
        if self._nspawn is None:
            return
        if self._nspawn.poll() is None and self.first():
            self.run("systemctl", "poweroff")
        try:
            self._nspawn.wait(60)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()  # the machine's process 1 asked to die with it
            self._nspawn.wait()
        self._nspawn = None
        # systemd-nspawn leaves this where /run is no tmpfs.
        shutil.rmtree(f"/run/systemd/nspawn/propagate/{self.root.name}", ignore_errors=True)


def descendants(pid: int) -> Iterator[int]:
    """The processes below one, nearest first."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it ended meanwhile
        return
    for child in map(int, children):
        yield child
        yield from descendants(child)


@contextmanager
def open_status(pid: int) -> Iterator[list[str]]:
    """The lines of a process's status; none when it ended meanwhile."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        lines = []
    yield lines


@contextmanager
def machine(base: Path, at: Path, *, network: bool = False, binds: Sequence[str] = ()) -> Iterator[Machine]:
    """A copy of `base` at `at`, booted; powered off and deleted at the end."""
    made = Machine(copied(base, at), network=network, binds=binds)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(at)
        made.console_file.unlink(missing_ok=True)


def install_mmdoctor(on: Machine, at: str = "/opt/mmdoctor") -> str:
    """mmdoctor apart, in a venv of its own for everybody, from a wheel of this checkout; returns the command's path.

    Wants a machine with `network=True` and `binds=uv_binds()`.
    """
    checkout = Path(__file__).parents[2]
    must([uv_program(), "build", "--quiet", "--wheel", "--out-dir", str(on.path("/opt")), str(checkout)])
    wheel = next(on.path("/opt").glob("mmdoctor-*.whl"))
    on.must(UV, "venv", "--quiet", "--clear", "--python", "/usr/bin/python3", at)
    on.must(UV, "pip", "install", "--quiet", "--link-mode=copy", "--python", f"{at}/bin/python", f"/opt/{wheel.name}")
    return f"{at}/bin/mmdoctor"


def uv_binds() -> tuple[str, str]:
    """The uv of the tests as /usr/local/bin/uv, and the host's uv cache as root's: nothing is downloaded twice."""
    cache = must([uv_program(), "cache", "dir"]).strip()
    return f"{uv_program()}:{UV}", f"{cache}:/root/.cache/uv"
