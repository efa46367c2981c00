"""Every fault: found with the right root, and healed, named as manual, or refused with the environment as it was.

`make test-real` runs the few small ones, `make evidence` all; with MMDOCTOR_CHAOS_TABLE=FILE the table is written there
when all of them ran.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.chaos import machine, packages
from tests.real.chaos.lab import Fault, Lab, Row, table

FAULTS = (*packages.FAULTS, *machine.FAULTS)


@pytest.fixture(scope="module")
def lab(demo: Path, scratch: Path) -> Lab:
    return Lab(demo, scratch)


@pytest.fixture(scope="module")
def rows() -> Iterator[list[Row]]:
    found: list[Row] = []
    yield found
    place = os.environ.get("MMDOCTOR_CHAOS_TABLE")
    if place and len(found) == len(FAULTS):
        Path(place).write_text(table(found), encoding="utf-8")


def test_the_faults_have_names_of_their_own() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names) >= 35


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, id=fault.name, marks=[pytest.mark.evidence, *([pytest.mark.real] if fault.small else [])])
        for fault in FAULTS
    ],
)
def test_a_fault_is_found_and_dealt_with(fault: Fault, lab: Lab, rows: list[Row]) -> None:
    rows.append(lab.treat(fault))
