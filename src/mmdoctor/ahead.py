"""A quick look's first question, put to the target before the command line is loaded: that answer takes as long as the
loading. With the standard library alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Optional

from mmdoctor.apply.places import Places
from mmdoctor.probes.question import asked, interpreter_of
from mmdoctor.system import beginning

# With these the target is not asked, or not alone: whoever reads the whole command line decides.
OTHERWISE = {"--facts", "--pretend", "--python", "--cached", "--deep", "-h", "--help"}


def begun(arguments: Sequence[str]) -> AbstractContextManager[None]:
    """The target of `check --quick --env DIR` is being asked meanwhile. Where DIR has first to be made whole, or
    something else is asked, nothing is."""
    env = environment(arguments)
    if env is None or not Places(env).at_rest():
        return nullcontext()
    return beginning(*asked(interpreter_of(env), quick=True))


def environment(arguments: Sequence[str]) -> Optional[Path]:
    """The DIR of a `check --quick --env DIR`; None for all else."""
    options = [argument.partition("=") for argument in arguments]
    names = [name for name, _, _ in options]
    if os.name != "posix" or names[:1] != ["check"] or "--quick" not in names or names.count("--env") != 1:
        return None
    place = names.index("--env")
    _, equals, value = options[place]
    env = value if equals else "".join(arguments[place + 1 : place + 2])
    return Path(env).absolute() if env and OTHERWISE.isdisjoint(names) else None
