"""Reports of several hosts as one, and the Ansible collection's own promises."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from html5lib import HTMLParser
from msgspec.structs import replace

from mmdoctor import __version__
from mmdoctor.checks import diagnose, summarise
from mmdoctor.cli.looking import verdict
from mmdoctor.fleet import host_names, merge
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Facts, Report, ReportTarget
from mmdoctor.report import encode
from mmdoctor.report.fleet import markdown, text
from mmdoctor.report.fleet_html import render
from tests.conftest import Machine, command, golden, load_machine, new_environment, on_host, packages, quick, with_gpu
from tests.test_cli import HEALTHY, document

COLLECTION = Path(__file__).parents[1] / "deploy" / "ansible"


def report_of(facts: Facts, matrix: Matrix) -> Report:
    found = diagnose(facts, matrix)
    target = ReportTarget(python=facts.target.python, prefix=facts.target.prefix or facts.target.requested)
    ok = verdict(found, "fail") == 0
    return Report(ok=ok, target=target, summary=summarise(found), findings=found, facts=facts, duration_ms=1.0)


@pytest.fixture(scope="module")
def reports(matrix: Matrix) -> dict[str, Any]:
    """Five hosts: two alike, one upgraded, one without an environment, one whose mmdoctor failed."""
    healthy = load_machine("healthy-cpu")
    upgraded = replace(
        with_gpu(quick(packages(healthy, {"numpy": "2.4.6", "pip": "26.0"})), "7.5", "400.1"),
        pretended=("gpu", "driver"),
    )
    return {
        "web1": report_of(on_host(healthy, now=1_790_000_000.0), matrix),
        "web2": report_of(on_host(healthy, now=1_790_000_060.0), matrix),
        "gpu<1>": report_of(upgraded, matrix),
        "new": report_of(new_environment(healthy), matrix),
        "lost": "mmdoctor was not told | which environment",
    }


def test_hosts_findings_and_drift(reports: dict[str, Any]) -> None:
    fleet = merge(reports)
    states = {host.name: host.state for host in fleet.hosts}
    assert (states["web1"], states["web2"], states["lost"]) == ("healthy", "healthy", "no-report")
    assert states["gpu<1>"] == "findings"
    assert not fleet.ok
    assert merge({name: reports[name] for name in ("web1", "web2")}).ok
    [numpy] = (finding for finding in fleet.findings if finding.id == "XTC001")
    assert {verdict.host: verdict.status for verdict in numpy.verdicts}["gpu<1>"] == "fail"
    statuses = {verdict.status for finding in fleet.findings for verdict in finding.verdicts if verdict.host == "web1"}
    assert statuses <= {"ok", "skip"}
    drift = {one.name: [(version.version, version.hosts) for version in one.versions] for one in fleet.drift}
    assert drift["numpy"] == [("1.26.4", ("web1", "web2")), ("2.4.6", ("gpu<1>",))]  # what is not there does not differ
    assert drift["driver"][0] == (None, ("new", "web1", "web2"))
    assert "torch" not in drift
    kinds = [one.kind for one in fleet.drift]
    assert kinds == sorted(kinds, key=["stack", "machine", "other"].index)


def test_the_three_pages_are_the_golden_ones(reports: dict[str, Any]) -> None:
    fleet = merge({name: reports[name] for name in ("web1", "web2", "gpu<1>", "lost")})
    golden("report/fleet.txt", text(fleet))
    golden("report/fleet.md", markdown(fleet))
    page = render(fleet)
    golden("report/fleet.html", page)
    HTMLParser(strict=True).parse(page)
    assert not re.search(r"<(script|link|img)|https?:", page)  # it needs nothing else
    assert "gpu&lt;1&gt;" in page


def test_two_hundred_hosts_are_named_by_the_first_few(reports: dict[str, Any]) -> None:
    many = {f"n{number:03}": reports["web1"] for number in range(200)}
    said = text(merge({**many, "odd": reports["gpu<1>"]}))
    assert re.search(r"numpy .*1\.26\.4 on n000, .* and 192 more; 2\.4\.6 on odd", " ".join(said.split()))


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["reports/web1.json"], ["web1"]),
        (["reports/web1.json", "reports/web2.json"], ["web1", "web2"]),
        (["web1/report.json", "web2/report.json"], ["web1", "web2"]),
        (["out/web1/var/r.json", "out/web2/var/r.json"], ["web1", "web2"]),  # as Ansible's fetch lays them out
        (["a/x.json", "b/y.json"], ["a/x", "b/y"]),
        (["r/report.json", "r/web/report.json"], ["report", "web/report"]),
        (["n1.example.org.json", "n2.example.org.json"], ["n1.example.org", "n2.example.org"]),
    ],
)
def test_a_host_is_called_by_what_tells_its_file_apart(files: list[str], names: list[str]) -> None:
    assert list(host_names([Path(file) for file in files])) == names


def test_the_command(tmp_path: Path, machine: Machine, matrix: Matrix) -> None:
    def written(name: str, content: str) -> str:
        (tmp_path / name).write_text(content, encoding="utf-8")
        return str(tmp_path / name)

    healthy = report_of(machine("healthy-cpu"), matrix)
    good = written("good.json", encode(healthy))
    bad = written("bad.json", encode(report_of(machine("natural-breakage"), matrix)))
    failed = written("failed.json", command("check", "--format", "json").stdout)  # which environment?
    for files, status in (([good], 0), ([good, bad, failed], 1), ([good, failed], 3)):
        done = command("report", "merge", *files, "--format", "json")
        assert done.returncode == status
        assert len(document(done, "fleet")["hosts"]) == len(files)
    other = {**json.loads(encode(healthy)), "schema_version": "9"}
    for wrong, words in (
        ([HEALTHY], "is no report of `mmdoctor check`"),
        ([written("empty.json", "")], "is no JSON: it is empty"),
        ([written("list.json", "[]")], "nothing of mmdoctor's"),
        ([written("other.json", json.dumps(other))], "schema_version '9', expected '1'"),
        ([str(tmp_path)], "Is a directory"),
        ([good, good], "named twice"),
        ([good, str(tmp_path / "gone.json")], "gone.json: No such file"),
    ):
        done = command("report", "merge", *wrong)
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr


# ------------------------------------------------------------------------------------------------- the collection


def loaded(place: str) -> Any:
    return yaml.safe_load((COLLECTION / place).read_text(encoding="utf-8"))


def test_the_collection_is_of_this_release_and_its_role_says_its_variables() -> None:
    assert loaded("galaxy.yml")["version"] == __version__
    options = loaded("roles/mmdoctor/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    said = {name: option["default"] for name, option in options.items() if "default" in option}
    assert said == loaded("roles/mmdoctor/defaults/main.yml")
    assert {name for name, option in options.items() if option.get("required")} == {"mmdoctor_env"}
    readme = (COLLECTION / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"mmdoctor_\w+", readme)) <= {*options, "mmdoctor_healthy", "mmdoctor_repaired"}
