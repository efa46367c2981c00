"""The one place that exits: runs the command line and turns errors into messages and exit codes."""

from __future__ import annotations

import gc
import os
import signal
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import FrameType
from typing import NoReturn, Optional

from mmdoctor.errors import MMDoctorError

BUG = 70
INTERRUPTED = 130


def _interrupt(_number: int, _frame: Optional[FrameType]) -> NoReturn:
    raise KeyboardInterrupt


def _forget_the_users_modules() -> None:
    """Take the working directory and PYTHONPATH off our own path: they are the target's, and a json.py in one of them
    would be imported by us. The folder that mmdoctor itself lies in stays."""
    own = Path(__file__).parents[1]
    theirs = {"", str(Path.cwd()), *os.environ.get("PYTHONPATH", "").split(os.pathsep)}
    sys.path[:] = [folder for folder in sys.path if folder not in theirs or Path(folder).resolve() == own]


def main(argv: Optional[list[str]] = None) -> NoReturn:
    """Run `mmdoctor`; never returns. SIGTERM and a closed terminal end it as an interrupt does: what was begun is taken
    back. A second one ends that at once; the next command then makes it whole."""
    _forget_the_users_modules()
    arguments = sys.argv[1:] if argv is None else argv
    gc.set_threshold(100_000)  # a short process: collecting its start-up's objects is a tenth of a quick check
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, _interrupt)
    status = _run(arguments)
    if argv is None:
        _end(status)
    sys.exit(status)


def _end(status: int) -> NoReturn:
    """End at once, with what was written: to take a process apart costs as much as a tenth of a quick check. Nothing is
    left to do then, for what was begun is ended where it began."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError) as error:  # a full disk, or a reader that went away
        status = INTERRUPTED if isinstance(error, BrokenPipeError) else status or BUG
    os._exit(status)


def _load_values() -> None:
    """Import msgspec without typing_extensions, which it takes where it finds it, for forms of types that are not ours:
    as slow as the rest of the start."""
    absent = "typing_extensions" not in sys.modules
    if absent:
        sys.modules["typing_extensions"] = None  # type: ignore[assignment]
    import msgspec  # noqa: F401

    if absent:
        del sys.modules["typing_extensions"]


def _run(arguments: list[str]) -> int:
    try:
        said = _said_before(arguments)
        if said is not None:
            return said
        with _meanwhile(arguments):
            return _asked(arguments)
    except KeyboardInterrupt:
        print("mmdoctor: interrupted", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001  the last resort: a bug of ours, said so, with what a report needs
        import traceback

        where = traceback.extract_tb(error.__traceback__)[-1]
        what = f"a bug of mmdoctor: {type(error).__name__}: {error} (in {where.name}, line {where.lineno})"
        return _say(arguments, "Bug", what, "please report it with this line and the command", BUG)


def _said_before(arguments: list[str]) -> Optional[int]:
    """The exit status of a `--cached` verdict that could be said again; None for all else, which loads nothing."""
    if not any(argument.startswith("--cached") for argument in arguments):
        return None
    from mmdoctor.answers import answer

    return answer(arguments, os.environ)


def _meanwhile(arguments: list[str]) -> AbstractContextManager[None]:
    """What is begun before the command line is loaded."""
    if "--quick" not in arguments:
        return nullcontext()
    from mmdoctor.ahead import begun

    return begun(arguments)


def _asked(arguments: list[str]) -> int:
    _load_values()
    import click

    from mmdoctor.cli import cli

    try:
        result = cli.main(args=arguments, prog_name="mmdoctor", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except MMDoctorError as error:
        return _say(arguments, type(error).__name__, error.what, error.hint, error.exit_code)
    except click.ClickException as error:
        if _wants(arguments, "json") or _wants(arguments, "nagios"):
            return _say(arguments, "UsageError", error.format_message(), None, 2)
        error.show()
        return 2
    except click.Abort:
        raise KeyboardInterrupt from None
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away; nobody is left to tell
        return INTERRUPTED


def _wants(arguments: list[str], form: str) -> bool:
    pairs = zip(arguments, [*arguments[1:], ""])
    return any(pair[0] == f"--format={form}" or pair == ("--format", form) for pair in pairs)


def _say(arguments: list[str], kind: str, what: str, hint: Optional[str], code: int) -> int:
    """The error on stderr, and the exit status; with --format json also as the one document on stdout, with nagios as a
    plugin's, to whom whatever is no verdict is UNKNOWN."""
    if _wants(arguments, "nagios"):
        from mmdoctor.report import nagios

        print(nagios.line(f"UNKNOWN - {what}"))  # noqa: T201
        code = nagios.UNKNOWN
    if _wants(arguments, "json"):
        import json

        document = {"schema_version": "1", "error": {"kind": kind, "what": what, "hint": hint, "exit_code": code}}
        print(json.dumps(document, indent=2))  # noqa: T201
    print(f"mmdoctor: {what}", file=sys.stderr)  # noqa: T201
    if hint:
        print(f"hint: {hint}", file=sys.stderr)  # noqa: T201
    return code


if __name__ == "__main__":
    main()
