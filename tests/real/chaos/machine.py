"""Faults around the packages: paths, start-up files, loader, interpreter, rights, disks, network, clock.

None of them is a package's, so no plan heals them: mmdoctor has to name the root and say what to do, or refuse, and
leave the environment as it is.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Optional

from mmdoctor.probes.indexes import user_config
from tests.real.chaos.lab import Around, Fault, Lab
from tests.real.chaos.packages import put, site

# What heals numpy 2 over this stack, so that `fix --apply` has something small to fetch.
NUMPY = "1.26.4"
NOBODY = "65534"
# Reads and searches everything, writes nothing: another user, though base interpreter and mmdoctor lie in root's home.
ANOTHER_USER = ("setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups")
READ_ALL = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")
FAKETIME = tuple(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
SHADOW = "__version__ = '0.0.1'\n"
HANG = "import time; time.sleep(1000)\n"


def folder(lab: Lab, name: str) -> Path:
    """A new folder beside the patient."""
    path = lab.folder / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    return path


# ------------------------------------------------------------------------------------------------ paths, start-up files


def shadow_in_cwd(lab: Lab, env: Path) -> Around:
    work = folder(lab, "work")
    (work / "mmcv").mkdir()
    (work / "mmcv" / "__init__.py").write_text(SHADOW)
    return Around(cwd=work)


def shadow_on_pythonpath(lab: Lab, env: Path) -> Around:
    around = shadow_in_cwd(lab, env)
    return Around(environment={"PYTHONPATH": str(around.cwd)})


def start_up(name: str, text: str) -> Callable[[Lab, Path], None]:
    """A start-up file in site-packages."""

    def inject(lab: Lab, env: Path) -> None:
        put(site(env) / name, text.encode())

    return inject


def editable_gone(lab: Lab, env: Path) -> None:
    """An editable mmpose whose checkout somebody deleted."""
    [info] = site(env).glob("mmpose-*.dist-info")
    shutil.rmtree(site(env) / "mmpose")
    put(site(env) / "__editable__.mmpose.pth", b"/nonexistent/checkouts/mmpose\n")
    put(info / "RECORD", f"__editable__.mmpose.pth,,\n{info.name}/METADATA,,\n".encode())
    put(info / "direct_url.json", b'{"url": "file:///nonexistent/checkouts/mmpose", "dir_info": {"editable": true}}')


def numpy_2_of_the_user(lab: Lab) -> dict[str, str]:
    """A user's own site-packages with numpy 2, as `pip install --user` leaves it."""
    variables = {"PYTHONUSERBASE": str(folder(lab, "user-base"))}
    python = lab.run(
        str(lab.proven / "bin" / "python"), "-c", "import os, sys; print(os.path.realpath(sys.executable))"
    )
    options = ("--user", "--ignore-installed", "--no-deps", "--no-warn-script-location")
    lab.run(python.strip(), "-m", "pip", "install", "-q", *options, "numpy==2.2.6", environment=variables)
    return variables


def user_site_behind_a_venv(lab: Lab, env: Path) -> Around:
    """A venv that lets the system in and lost its numpy: the user's is taken."""
    config = env / "pyvenv.cfg"
    put(config, config.read_bytes().replace(b"packages = false", b"packages = true"))
    lab.uv(env, "uninstall", "numpy")
    return Around(environment=numpy_2_of_the_user(lab))


def user_site_before_conda(lab: Lab, env: Path) -> Around:
    """A prefix that is no venv, as conda's are: the base interpreter, linked, and the stack in its site-packages."""
    prefix = folder(lab, "conda")
    home = Path(lab.run(str(env / "bin" / "python"), "-c", "import sys; print(sys.base_prefix)").strip())
    for part in ("bin", "lib"):
        subprocess.run(("cp", "-al", str(home / part), str(prefix / part)), check=True, timeout=120)
    (prefix / "conda-meta").mkdir()
    own = prefix / "lib" / "python3.11" / "site-packages"
    shutil.rmtree(own)
    site(env).rename(own)
    for script in (env / "bin").iterdir():
        if not script.is_symlink() and not (prefix / "bin" / script.name).exists():
            script.rename(prefix / "bin" / script.name)
    (env / "share").rename(prefix / "share")
    (prefix / "bin" / "python").unlink(missing_ok=True)
    (prefix / "bin" / "python").symlink_to("python3.11")
    return Around(env=prefix, environment=numpy_2_of_the_user(lab))


# ----------------------------------------------------------------------------------------------- loader and interpreter


def foreign_cuda(lab: Lab, env: Path) -> Around:
    """A folder as of another CUDA toolkit: libraries of the right names with other functions inside. Its libcudart
    alone does no harm (torch finds its own by RPATH), its libnvJitLink does (libcusparse finds it by RUNPATH)."""
    toolkit = folder(lab, "cuda")
    [other] = site(env).glob("nvidia/nvtx/lib/libnvToolsExt.so.1")
    for name in ("libcudart.so.12", "libcublas.so.12", "libnvJitLink.so.12"):
        shutil.copy(other, toolkit / name)
    return Around(environment={"LD_LIBRARY_PATH": str(toolkit)})


def interpreter_gone(lab: Lab, env: Path) -> None:
    python = env / "bin" / "python"
    python.unlink()
    python.symlink_to(lab.folder / "versions" / "3.11.6" / "bin" / "python3.11")


def interpreter_moved(lab: Lab, env: Path) -> None:
    """The base was upgraded: 3.11.6 is gone, 3.11.7 is in the folder beside it."""
    home = Path(os.path.realpath(env / "bin" / "python"))
    interpreter_gone(lab, env)
    now = folder(lab, "versions") / "3.11.7" / "bin"
    now.mkdir(parents=True)
    (now / "python3.11").symlink_to(home)


def packages_of_another_python(lab: Lab, env: Path) -> None:
    """The base is another minor version now, and looks for its packages elsewhere."""
    site(env).parent.rename(env / "lib" / "python3.10")


# -------------------------------------------------------------------------------------------------- rights, disks, lock


def broken_stack(lab: Lab, env: Path) -> None:
    """Something that `fix --apply` heals by one small download, where the fault is in the way of that."""
    lab.uv(env, "install", "--no-deps", "numpy==2.2.6")


def another_user(lab: Lab, env: Path) -> Around:
    broken_stack(lab, env)
    home = folder(lab, "home")
    os.chown(home, int(NOBODY), int(NOBODY))
    return Around(
        wrapper=(*ANOTHER_USER, *READ_ALL), environment={"HOME": str(home), "MMDOCTOR_CACHE": str(home / "c")}
    )


def read_only_mount(lab: Lab, env: Path) -> Around:
    broken_stack(lab, env)
    script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    return Around(wrapper=("unshare", "-m", "sh", "-c", script, str(env)))


def small_disk(variable: str, megabytes: int) -> Callable[[Lab, Path], Around]:
    """A tmpfs of this size where `variable` says, on a stack that wants a download."""

    def inject(lab: Lab, env: Path) -> Around:
        broken_stack(lab, env)
        return _mounted(lab, variable, megabytes)

    return inject


def full_disk(lab: Lab, env: Path) -> Around:
    return _mounted(lab, "TMPDIR", 1)


def _mounted(lab: Lab, variable: str, megabytes: int) -> Around:
    place = folder(lab, "small")
    script = f'mount -t tmpfs -o size={megabytes}m tmpfs "$0" && exec "$@"'
    return Around(wrapper=("unshare", "-m", "sh", "-c", script, str(place)), environment={variable: str(place)})


def new_environment_on_a_small_disk(lab: Lab, env: Path) -> Around:
    around = _mounted(lab, "NOTHING", 20)
    return Around(wrapper=around.wrapper, env=lab.folder / "small" / "env")


def locked(lab: Lab, env: Path) -> Around:
    """Another mmdoctor is at work: a process that holds the lock as one does."""
    broken_stack(lab, env)
    script = (
        "import sys; from pathlib import Path; from mmdoctor.apply.places import Places\n"
        "with Places(Path(sys.argv[1])).lock('mmdoctor fix --apply'): print('held', flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", script, str(env)]
    holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline().strip() == "held"

    def end() -> None:
        holder.communicate("", timeout=30)

    return Around(end=end)


# --------------------------------------------------------------------------------------------------- network and clock


class Index:
    """A loopback index that sends on to the real one what it does not spoil: numpy, or everything.

    `kind`: *503* and *html* answer every page with an error page; *cut* serves a wheel that ends half-way, *hash* one
    that is not the file its page promises.
    """

    def __init__(self, kind: str, metadata: bytes) -> None:
        self.kind = kind
        self.metadata = metadata
        self.real = user_config(os.environ, Path.home()).pypi.rstrip("/")
        wheel = _wheel(metadata)
        promised = hashlib.sha256(wheel).hexdigest() if kind == "cut" else "0" * 64
        self.file = wheel[: len(wheel) // 2] if kind == "cut" else wheel
        name = f"numpy-{NUMPY}-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
        known = hashlib.sha256(metadata).hexdigest()
        link = f'<a href="/files/{name}#sha256={promised}" data-dist-info-metadata="sha256={known}">{name}</a>'
        self.page = f"<!DOCTYPE html><html><body>{link}</body></html>".encode()
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body, location = index.answer(self.path)
                self.send_response(status)
                if location is not None:
                    self.send_header("Location", location)
                self.send_header("Content-Type", "text/html" if body[:1] == b"<" else "application/octet-stream")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path: str) -> tuple[int, bytes, Optional[str]]:
        """Status, body and, for what goes on to the real index, its address."""
        if self.kind == "503":
            return 503, b"<html><h1>Service Unavailable</h1></html>", None
        if self.kind == "html":
            return 200, b"<html><h1>Welcome</h1><a href='/terms'>Accept the terms to use this network</a></html>", None
        if path.startswith("/simple/numpy/"):
            return 200, self.page, None
        if path.startswith("/files/"):
            return 200, self.metadata if path.endswith(".metadata") else self.file, None
        return 302, b"", self.real + path[len("/simple") :]

    def around(self, cache: Path) -> Around:
        """mmdoctor with this index and nothing in uv's cache."""
        address = f"http://127.0.0.1:{self.server.server_port}/simple"
        # What this machine's user configured would serve in its place.
        variables = {name: "" for name in os.environ if name.startswith(("PIP_", "UV_"))}
        variables.update(PIP_CONFIG_FILE=os.devnull, PIP_INDEX_URL=address, UV_DEFAULT_INDEX=address)
        return Around(environment={**variables, "UV_CACHE_DIR": str(cache), "UV_HTTP_RETRIES": "1"}, end=self.end)

    def end(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def _wheel(metadata: bytes) -> bytes:
    """A wheel of numpy's name that a resolver may read; its content matters to nobody: it must not be installed."""
    info = f"numpy-{NUMPY}.dist-info"
    files = {
        "numpy/__init__.py": os.urandom(100_000).hex().encode(),
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp311-cp311-manylinux_2_17_x86_64\n",
        f"{info}/RECORD": b"",
    }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def bad_index(kind: str) -> Callable[[Lab, Path], Around]:
    """The stack wants numpy again, and the index is spoilt."""

    def inject(lab: Lab, env: Path) -> Around:
        [file] = site(env).glob(f"numpy-{NUMPY}.dist-info/METADATA")
        index = Index(kind, file.read_bytes())
        broken_stack(lab, env)
        return index.around(folder(lab, "cache"))

    return inject


def no_network(lab: Lab, env: Path) -> Around:
    broken_stack(lab, env)
    return Around(wrapper=("unshare", "-n"), environment={"UV_CACHE_DIR": str(folder(lab, "cache"))})


def clock(offset: str) -> Callable[[Lab, Path], Around]:
    """The clock of every process is off by this (libfaketime), the times of files are not."""

    def inject(lab: Lab, env: Path) -> Around:
        assert FAKETIME, "apt-get install libfaketime"
        return Around(environment={"LD_PRELOAD": str(FAKETIME[0]), "FAKETIME": offset, "NO_FAKE_STAT": "1"})

    return inject


def clock_ahead(lab: Lab, env: Path) -> Around:
    """A clock beyond the certificates' last day, and nothing in uv's cache."""
    broken_stack(lab, env)
    around = clock("+4000d")(lab, env)
    return Around(environment={**around.environment, "UV_CACHE_DIR": str(folder(lab, "cache"))})


NUMPY_2 = ("NPY001", "numpy2-abi")
USER_SITE = ("ENV006", "user-site-leak")
FAULTS = (
    Fault("mmcv folder in the working directory", shadow_in_cwd, "ENV004", "path-shadowing", "manual", small=True),
    Fault("mmcv folder on PYTHONPATH", shadow_on_pythonpath, "ENV004", "path-shadowing", "manual"),
    Fault(".pth line that raises", start_up("bad.pth", "import gone\n"), "ENV005", "startup-file-broken", "manual"),
    Fault(".pth of a deleted checkout", editable_gone, "ENV005", "startup-file-broken", "manual"),
    Fault(
        ".pth that ends the interpreter",
        start_up("bad.pth", "import os; os._exit(3)\n"),
        *("ENV001", "startup-file-broken", "manual"),
        exit=4,
        says="bad.pth",
    ),
    Fault(
        "sitecustomize that raises",
        start_up("sitecustomize.py", "raise RuntimeError('stray')\n"),
        *("ENV005", "startup-file-broken", "manual"),
    ),
    Fault(
        "sitecustomize that hangs",
        start_up("sitecustomize.py", HANG),
        *("ENV001", "startup-file-broken", "manual"),
        exit=4,
        says="sitecustomize.py",
    ),
    Fault(
        "sitecustomize that patches numpy",
        start_up("sitecustomize.py", "import numpy\nnumpy.dtype = None\n"),
        *("ENV005", "startup-file-broken", "manual"),
    ),
    Fault("numpy 2 of the user site before conda's", user_site_before_conda, *USER_SITE, "manual"),
    Fault("numpy 2 of the user site in a venv", user_site_behind_a_venv, *USER_SITE, changes=("numpy",)),
    Fault("foreign CUDA on LD_LIBRARY_PATH", foreign_cuda, "ENV007", "library-path-foreign", "manual"),
    Fault(
        "interpreter deleted", interpreter_gone, "ENV001", "interpreter-gone", "manual", exit=4, says="which is gone"
    ),
    Fault("interpreter moved to another patch", interpreter_moved, "ENV001", "interpreter-gone", "manual", exit=4),
    Fault(
        "interpreter is another minor version",
        packages_of_another_python,
        *("ENV001", "wrong-interpreter", "manual"),
        exit=4,
        says="the packages are for 3.10",
    ),
    Fault("read-only for this user", another_user, *NUMPY_2, "refused", exit=4, says="writable"),
    Fault("read-only mount", read_only_mount, *NUMPY_2, "refused", exit=4, says="writable"),
    Fault("no room for temporary files", full_disk, "HST002", "disk-full", "manual"),
    Fault("small disk below TMPDIR", small_disk("TMPDIR", 100), *NUMPY_2, "refused", exit=4, says="TMPDIR"),
    Fault(
        "small disk below uv's cache", small_disk("UV_CACHE_DIR", 40), *NUMPY_2, "refused", exit=4, says="UV_CACHE_DIR"
    ),
    Fault(
        "small disk below a new environment",
        new_environment_on_a_small_disk,
        *("ENV001", "interpreter-broken", "refused"),
        exit=4,
        says="free some space",
    ),
    Fault("no network", no_network, *NUMPY_2, "refused", exit=75, says="network"),
    Fault("index answers 503", bad_index("503"), *NUMPY_2, "refused", exit=75, says="503"),
    Fault("index is a sign-in page", bad_index("html"), *NUMPY_2, "refused", exit=5, says="login or error page"),
    Fault("wheel ends half-way", bad_index("cut"), *NUMPY_2, "refused", exit=5, says="numpy"),
    Fault("wheel with the wrong hash", bad_index("hash"), *NUMPY_2, "refused", exit=5, says="hash"),
    Fault("clock 400 days behind", clock("-400d"), "HST001", "clock-wrong", "manual"),
    Fault("clock 11 years ahead", clock_ahead, *NUMPY_2, "refused", exit=75, says="clock"),
    Fault("environment locked", locked, *NUMPY_2, "refused", exit=75, says="mmdoctor fix --apply, process"),
)
