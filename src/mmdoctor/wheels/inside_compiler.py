"""Stands for g++ in a build against torch: the headers that almost every source begins with are read once.

    python -SI inside_compiler.py HEADER COMPILER... -- ARGUMENTS...

Runs in the target, stdlib only, Python 3.7 up. The first compile makes HEADER.gch with its own flags; gcc takes it
where the flags are the same and reads HEADER as text where not, so the objects are those of a build without it
(compared, byte for byte). Where it cannot be made, everything is compiled as it was asked for.
"""

from __future__ import annotations

import os
import sys

# gcc collects its garbage earlier: 1.45 instead of 1.85 GB for the largest source, in 79 s instead of 47 (measured),
# and the object is the same. By a variable, since a changed command would have ninja make all objects anew.
THRIFTY = ["--param", "ggc-min-expand=10", "--param", "ggc-min-heapsize=65536"]
VALUED = ("-o", "-MF", "-MT", "-MQ")
ALONE = ("-c", "-MD", "-MMD", "-MP")


def flags_of(arguments: list[str]) -> list[str]:
    """The arguments without the source, the output, and the file of dependencies."""
    words = iter(arguments)
    kept = []
    for word in words:
        if word in VALUED:
            next(words, None)
        elif word not in ALONE and not word.endswith(".cpp"):
            kept.append(word)
    return kept


def precompiled(header: str, compiler: list[str], arguments: list[str]) -> bool:
    """Whether HEADER.gch is there; made by the first that asks, while the others wait."""
    import fcntl
    import subprocess

    made, failed = header + ".gch", header + ".failed"
    with open(header + ".lock", "w") as lock:  # noqa: PTH123  pathlib costs more than the rest of this program
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(made) or os.path.exists(failed):  # noqa: PTH110
            return os.path.exists(made)  # noqa: PTH110
        draft = made + ".part"
        command = [*compiler, *flags_of(arguments), "-x", "c++-header", header, "-o", draft]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        if done.returncode == 0:
            os.replace(draft, made)  # noqa: PTH105
            return True
        with open(failed, "w"):  # noqa: PTH123
            return False


def main() -> None:
    header, *rest = sys.argv[1:]
    at = rest.index("--")
    compiler, arguments = rest[:at], rest[at + 1 :]
    if "MMDOCTOR_THRIFTY" in os.environ:
        compiler += THRIFTY
    compiles = "-c" in arguments and any(word.endswith(".cpp") for word in arguments)
    if compiles and precompiled(header, compiler, arguments):
        arguments = ["-include", header, *arguments]
    os.execvp(compiler[0], [*compiler, *arguments])


if __name__ == "__main__":
    main()
