"""Shows on a machine with an NVIDIA GPU and without network what no other can: mmcv compiled there for its GPU, golden
ops on CUDA within tolerance of the CPU's reference values, RTMPose on the GPU.

    .venv/bin/python tools/gpu_show.py prepare DIR [--python 3.12] [--torch 2.11.0] [--leave-out scipy ...]
    python3 tools/gpu_show.py run DIR [--device cpu]

`prepare`, where there is a network, fills DIR with what the other machine lacks; it takes torch to be there, unless
`--with-torch` (3 GB), and what `--leave-out` names. `run`, on the GPU machine, with the interpreter whose torch is to
be used, makes an environment in DIR on top of it, changes nothing else, and writes its figures to DIR/out; what was
cut short goes on when it is repeated. `--device cpu` takes the same steps with CPU ops: it shows the script alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import zipfile
from pathlib import Path

COCO = "xtcocotools==1.14.3"
# Compiled on the GPU machine, or not wanted there.
NOT_FETCHED = ("mmcv", "xtcocotools", "chumpy", "opencv-python", "opencv-contrib-python")
TOOLS = ("wheel", "ninja", "psutil", "packaging", "cython", "pip")
GLIBC = (5, 12, 17, 24, 27, 28, 31, 34, 35, 38, 39)
PLATFORMS = ("manylinux1_x86_64", "manylinux2014_x86_64", *(f"manylinux_2_{minor}_x86_64" for minor in GLIBC))
JSON = ("--format", "json")
SMI = ("nvidia-smi", "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader")
LOOK = """
import json, torch
gpu = torch.cuda.is_available()
print(json.dumps({"torch": torch.__version__, "cuda": torch.version.cuda, "gpu": gpu and torch.cuda.get_device_name(),
    "capability": gpu and "%d.%d" % torch.cuda.get_device_capability()}))
"""


def say(text: str) -> None:
    """One line of progress."""
    print(f"[{time.strftime('%T')}] {text}", file=sys.stderr, flush=True)


def told(*argv: str | Path) -> str:
    """What a command says; it must end well."""
    return subprocess.run(list(map(str, argv)), check=True, stdout=subprocess.PIPE, text=True).stdout


def written(path: Path, lines: list[str]) -> Path:
    """A file of these lines."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


# ------------------------------------------------------------------------------------------- where there is a network


def prepare(folder: Path, asked: argparse.Namespace) -> None:
    """Fill the folder: wheels of what will be installed, sdists of what will be compiled."""
    from mmdoctor.system import uv_program

    uv, wheels = uv_program(), folder / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    told(uv, "build", "--quiet", "--wheel", "--out-dir", wheels)
    stack = _stack(folder, asked)
    compiling = (uv, "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--python-version", asked.python)
    compiling += ("--python-platform", "x86_64-manylinux_2_28")
    out = [*asked.leave_out]
    if not asked.with_torch:  # it has what it requires
        torch = told(*compiling, written(folder / "torch.in", [f"torch=={asked.torch}"]))
        # All but setuptools: the stack wants one that still brings pkg_resources.
        theirs = {line.partition("==")[0] for line in torch.splitlines()} - {"setuptools"}
        out += ["torchvision", *sorted(theirs)]
    overrides = written(folder / "overrides.txt", [f"{name} ; python_version < '0'" for name in NOT_FETCHED])
    leaving = [word for name in out for word in ("--no-emit-package", name)]
    # mmpose imports six, and does not say so; xtcocotools, which is compiled there, requires Cython.
    wanted = written(folder / "stack.in", [*stack, "six", "cython"])
    told(*compiling, "--override", overrides, *leaving, wanted, "-o", folder / "env.txt")
    told(*compiling, "pyproject.toml", "-o", folder / "doctor.txt")
    setuptools = next(line for line in stack if line.startswith("setuptools=="))
    written(folder / "build.txt", [setuptools, *TOOLS, *(_nvcc() if asked.with_torch else ())])
    fetching = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    fetching += ["--implementation", "cp", "--python-version", asked.python, "--dest", str(wheels)]
    fetching += [word for platform in PLATFORMS for word in ("--platform", platform)]
    for name in ("env", "doctor", "build"):
        told(*fetching, "-r", folder / f"{name}.txt")
    _sdists(folder, asked.mmcv)
    size = sum(
        path.stat().st_size for name in ("wheels", "cache") for path in (folder / name).rglob("*") if path.is_file()
    )
    say(f"{folder} holds {size / 1e6:.0f} MB for Python {asked.python}, torch {asked.torch}, mmcv {asked.mmcv}")


def _stack(folder: Path, asked: argparse.Namespace) -> list[str]:
    """The stack as mmdoctor chooses it for such a machine; what it compiles is left out."""
    machine = (f"python={asked.python}", "gpu=9.0", "driver=580.65.06", "nvcc=13.0", "gcc=13.3")
    pins = (f"torch=={asked.torch}", f"mmcv=={asked.mmcv}", f"numpy=={asked.numpy}")
    argv = [
        sys.executable,
        "-m",
        "mmdoctor",
        "fix",
        "--offline",
        "--env",
        str(folder / "env"),
        "--emit",
        "requirements",
    ]
    argv += [word for fact in machine for word in ("--pretend", fact)] + [
        word for pin in pins for word in ("--pin", pin)
    ]
    said = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    written(folder / "stack.txt", said)
    return [line for line in said if not line.startswith("#")]


def _nvcc() -> list[str]:
    from mmdoctor.builds import nvcc_wheels
    from mmdoctor.matrix import load_matrix

    return [word for row in load_matrix().cuda_wheels for word in nvcc_wheels(row)]


def _sdists(folder: Path, mmcv: str) -> None:
    from mmdoctor import rules
    from mmdoctor.matrix import load_matrix
    from mmdoctor.probes.indexes import user_config
    from mmdoctor.wheels.fetch import fetch_sdist

    matrix, config = load_matrix(), user_config(os.environ, Path.home())
    name, _, version = COCO.partition("==")
    rows = (
        ("mmcv", mmcv, rules.mmcv_row(matrix, "mmcv", mmcv)),
        (name, version, rules.binary_row(matrix, name, version)),
    )
    for package, release, row in rows:
        digest = row.sdist_sha256 if row else None
        fetch_sdist(config, package, release, digest, folder / "cache" / "sdists", offline=False)
    written(folder / "compiled.txt", [f"mmcv=={mmcv}", COCO])


# ------------------------------------------------------------------------------------------------ on the GPU machine


def run(folder: Path, device: str, runs: str) -> None:
    """Everything that the GPU machine is to show."""
    out, env = folder / "out", folder / "env"
    out.mkdir(exist_ok=True)
    here = {"UV_OFFLINE": "1", "UV_NO_INDEX": "1", "UV_FIND_LINKS": str(folder / "wheels"), "UV_LINK_MODE": "copy"}
    here |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder / "wheels"), "UV_CACHE_DIR": str(folder / "uvcache")}
    os.environ.update({**here, "MMDOCTOR_CACHE": str(folder / "cache")})
    os.environ.pop("VIRTUAL_ENV", None)
    uv = _environments(folder, env)
    doctor, python = folder / "doctor" / "bin" / "mmdoctor", env / "bin" / "python"
    seen = json.loads(told(python, "-c", LOOK))
    if device == "cuda" and not seen["gpu"]:
        sys.exit(f"this torch sees no GPU ({seen}): --device cpu shows the script without one")
    machine = {
        **seen,
        "nvidia-smi": _maybe(*SMI),
        "nvcc": _maybe("nvcc", "--version"),
        "cores": os.cpu_count(),
    }
    written(out / "machine.json", [json.dumps(machine, indent=1)])
    say(f"torch {seen['torch']}, GPU {seen['gpu'] or 'none'} {seen['capability'] or ''}")
    for wanted in (folder / "compiled.txt").read_text(encoding="utf-8").split():
        archs = ("--cuda-archs", seen["capability"]) if device == "cuda" and wanted.startswith("mmcv") else ()
        answer, start = out / f"{wanted}.json", time.monotonic()
        told(doctor, "wheels", "build", wanted, "--env", env, *archs, "--offline", *JSON, "--output", answer)
        made = json.loads(answer.read_text(encoding="utf-8"))
        how = "compiled" if made["compiled"] else "from the cache"
        say(f"{wanted} {' '.join(archs)}: {how} in {time.monotonic() - start:.0f} s")
        told(uv, "pip", "install", "--quiet", "--no-deps", "--python", python, made["wheel"]["path"])
        if wanted.startswith("mmcv"):
            _ops(Path(made["wheel"]["path"]).with_name("proof.json"), out, device)
    failed = []
    for name, words in (
        ("bench.json", ("bench", "--device", device, "--runs", runs, *JSON)),
        ("check.txt", ("check", "--offline")),
    ):
        done = subprocess.run([doctor, *words, "--env", env, "--output", out / name], check=False)
        say(f"mmdoctor {' '.join(words)}: exit status {done.returncode}, {out / name}")
        failed += [name] if done.returncode else []
    first = json.loads((out / "bench.json").read_text(encoding="utf-8"))
    for one in (first, *first["also"]):
        points, times = one["keypoints"], one["latency_ms"]
        said = [f"{points['count']} keypoints, off by {points['max_abs_error']} px"] if one["ok"] else [one["reason"]]
        said += [f"{name} {times[name]} ms" for name in ("p50", "p95", "forward")] if one["ok"] else []
        say(f"{one['model']} on {one['device']}: {', '.join(said)}")
    if failed:
        sys.exit(f"look at {', '.join(failed)} in {out}")


def _environments(folder: Path, env: Path) -> Path:
    """mmdoctor in an environment of its own, and the target on top of this interpreter's packages; returns uv."""
    uv, ready = folder / "uv", folder / "ready"
    if ready.exists():
        return uv
    with zipfile.ZipFile(next(folder.glob("wheels/uv-*.whl"))) as wheel:  # makes environments without ensurepip, too
        name = next(name for name in wheel.namelist() if name.endswith("/scripts/uv"))
        uv.write_bytes(wheel.read(name))
    uv.chmod(0o755)
    for place, words in (folder / "doctor", ("mmdoctor",)), (env, ("--no-deps", "-r", str(folder / "env.txt"))):
        shutil.rmtree(place, ignore_errors=True)
        told(uv, "venv", "--quiet", "--python", sys.executable, place)
        told(uv, "pip", "install", "--quiet", "--python", place / "bin" / "python", *words)
    if not any(folder.glob("wheels/torch-*.whl")):
        [packages] = env.glob("lib/python3*/site-packages")
        written(packages / "behind.pth", [sysconfig.get_paths()["purelib"]])
    ready.touch()
    return uv


def _ops(file: Path, out: Path, device: str) -> None:
    """What the proof of the wheel saw of the golden ops, by device."""
    shutil.copyfile(file, out / "proof.json")
    proof = json.loads(file.read_text(encoding="utf-8"))
    for op in proof["proven"]["ops"]:
        say(f"{op['op']} {op['message']}: off by {op['max_abs_error']:.2g}, {op['tolerance']:g} tolerated")
    archs = {arch for module in proof["proven"]["modules"] for arch in module["archs"]}
    say(f"device code for {', '.join(sorted(archs)) or 'no GPU'}")
    if device == "cuda" and not any(op["message"] == "on the cuda" for op in proof["proven"]["ops"]):
        sys.exit("no op ran on the GPU")


def _maybe(*argv: str) -> str | None:
    return told(*argv).strip() if shutil.which(argv[0]) else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    preparing, running = verbs.add_parser("prepare"), verbs.add_parser("run")
    for verb in (preparing, running):
        verb.add_argument("folder", type=lambda text: Path(text).absolute())
    for name, default in (("python", "3.12"), ("torch", "2.11.0"), ("numpy", "2.5.5"), ("mmcv", "2.1.0")):
        preparing.add_argument(f"--{name}", default=default)
    preparing.add_argument("--with-torch", action="store_true")
    preparing.add_argument("--leave-out", nargs="*", default=[])
    running.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    running.add_argument("--runs", default="50")
    asked = parser.parse_args()
    if asked.verb == "prepare":
        prepare(asked.folder, asked)
    else:
        run(asked.folder, asked.device, asked.runs)


if __name__ == "__main__":
    main()
