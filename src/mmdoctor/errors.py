"""One exception tree, one exit code per kind. The text for the user lives here; only `__main__` exits."""

from __future__ import annotations

from typing import Optional


class MMDoctorError(Exception):
    """Base of every error that a user may meet.

    `what` says what happened and what was expected, `hint` what to do next. `exit_code` is documented in the README.
    """

    exit_code = 70

    def __init__(self, what: str, hint: Optional[str] = None) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


class UsageError(MMDoctorError):
    """The command line, or a file it names, is wrong."""

    exit_code = 2


class DataError(UsageError):
    """A data file (matrix, recipe, facts, plan) does not hold what it should; names file, path and line."""


class UndeterminedError(MMDoctorError):
    """What was asked could not be found out (a probe could not look)."""

    exit_code = 3


class RefusedError(MMDoctorError):
    """mmdoctor will not do it: no stack satisfies, the plan is stale, a confirmation is missing."""

    exit_code = 4


class ApplyError(MMDoctorError):
    """A step failed; what stood at the environment's path stands there unchanged."""

    exit_code = 5


class TryAgainError(MMDoctorError):
    """The network or a lock stood in the way; the same command may succeed later."""

    exit_code = 75
