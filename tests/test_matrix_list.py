"""`matrix list`: what runs on a machine is there, what does not is counted by the fact that speaks against it."""

from __future__ import annotations

import json

import pytest

from mmdoctor import rules
from mmdoctor.__main__ import _run
from mmdoctor.matrix_list import anybody, known_pythons, matrix_list
from mmdoctor.pretend import pretend
from mmdoctor.report.tables import matrix_list_text

BLACKWELL = ("gpu=12.0", "driver=580.65.06", "python=3.12")
MACHINES = [
    BLACKWELL,
    ("gpu=7.5", "driver=470.82.01", "python=3.10", "glibc=2.17"),
    ("gpu=6.1", "driver=535.104.05", "python=3.11"),
    ("gpu=8.6,9.0", "driver=550.54.15"),
    ("os=windows", "python=3.11", "gpu=8.9", "driver=551.61"),
    ("os=macos", "machine=arm64", "python=3.13"),
    ("machine=aarch64", "python=3.12"),
    ("python=3.7",),
    ("glibc=2.27",),
    ("gpu=none", "python=3.9"),
]


def listed(matrix, *settings):
    return matrix_list(matrix, pretend(anybody(), settings))


def test_without_a_machine_everything_is_there(matrix):
    found = listed(matrix)
    assert [line.release for line in found.torch] == [row.release for row in reversed(matrix.torch)]
    assert {line.release: line.builds for line in found.torch} == {row.release: row.variants for row in matrix.torch}
    assert {line.release: line.python for line in found.torch} == {row.release: row.python for row in matrix.torch}
    assert [stack.id for stack in found.stacks] == [row.id for row in reversed(matrix.stacks)]
    assert found.left_out == ()


@pytest.mark.parametrize("settings", MACHINES, ids=" ".join)
def test_every_release_and_build_is_listed_or_counted(matrix, settings):
    facts = pretend(anybody(), settings)
    found = matrix_list(matrix, facts)
    counted = {(left.of, left.fact): left.count for left in found.left_out}
    releases = sum(count for (of, _), count in counted.items() if of == "releases")
    fitting = [row for row in matrix.torch if rules.wheel_pythons(row, facts.host)]
    listed_releases = {line.release for line in found.torch}
    # a release may be there and every one of its builds be out
    hidden = {row.release for row in fitting} - listed_releases
    assert len(listed_releases) + releases <= len(matrix.torch)
    assert len(matrix.torch) - len(listed_releases) - releases <= len(hidden)
    for line in found.torch:
        row = rules.torch_row(matrix, line.release)
        assert set(line.python) <= set(rules.wheel_pythons(row, facts.host))
        for build in line.builds:
            for device in facts.gpu.devices:
                assert (
                    rules.holds_code_for(matrix, line.release, build, facts.host, device.compute_capability)
                    is not False
                )
            floor = rules.driver_floor(matrix, build, facts.host.os)
            assert not facts.gpu.devices or rules.driver_takes(facts, build, floor)
    assert all(left.count > 0 and left.why for left in found.left_out)


def test_a_blackwell_gpu(matrix):
    found = listed(matrix, *BLACKWELL)
    assert min((line.release for line in found.torch), key=rules.order) == "2.7.0"
    assert all("cpu" not in line.builds and "cu126" not in line.builds for line in found.torch)
    facts = {left.fact: left for left in found.left_out}
    assert {"gpu-arch", "gpu-idle", "python"} <= facts.keys()
    assert facts["gpu-idle"].count == sum("3.12" in row.python for row in matrix.torch)
    assert "Python 3.11" in facts["python"].unlock


def test_a_driver_that_is_too_old_says_what_unlocks(matrix):
    found = listed(matrix, "gpu=7.5", "driver=470.82.01", "python=3.10")
    (driver,) = (left for left in found.left_out if left.fact == "driver")
    assert (driver.of, driver.unlock[0]) == ("builds", "driver ≥525.60.13")
    assert all(build.startswith(("cu11", "cu10")) for line in found.torch for build in line.builds)


def test_measured_stacks_are_of_linux(matrix):
    assert listed(matrix, "os=windows").stacks == ()
    (left,) = (left for left in listed(matrix, "os=windows").left_out if left.of == "stacks")
    assert left.count == len(matrix.stacks)


def test_evidence_is_that_of_the_python(matrix):
    stack = next(row for row in matrix.stacks if row.outcome == "works")
    other = next(python for python in known_pythons(matrix) if not any(row.python == python for row in matrix.stacks))
    here = {line.release: line for line in listed(matrix, f"python={stack.python}").torch}
    assert (here[stack.torch].evidence, here[stack.torch].works > 0) == ("measured", True)
    assert all(line.evidence == "documented" for line in listed(matrix, f"python={other}").torch)


@pytest.mark.parametrize("width", [80, 100, 140])
def test_it_fits_the_terminal(matrix, width):
    text = matrix_list_text(listed(matrix, "gpu=8.6", "driver=535.104.05"), width, colour=False)
    lines = text.splitlines()
    assert max(map(len, lines[1:])) <= width
    assert "torch releases" in text
    assert "\x1b" not in text


def test_json(capsys):
    assert _run(["matrix", "list", "--format", "json", *(word for s in BLACKWELL for word in ("--pretend", s))]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["pretended"] == list(BLACKWELL)
    assert said["machine"] == "linux x86_64, Python 3.12, GPU 12.0, driver 580.65.06"
    assert {left["fact"] for left in said["left_out"]} >= {"gpu-arch", "gpu-idle", "python"}


def test_text(capsys):
    assert _run(["matrix", "list", "--pretend", "python=3.11"]) == 0
    out = capsys.readouterr().out
    assert "(pretended)" in out
    assert "Measured stacks" in out
    assert "Left out" in out


def test_a_wrong_setting_is_a_usage_error(capsys):
    assert _run(["matrix", "list", "--pretend", "gpu=12"]) == 2
    assert "compute capabilities such as 7.5" in capsys.readouterr().err
