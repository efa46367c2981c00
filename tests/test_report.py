"""Every format against a golden file, with a made-up report and plan that hold one of everything.

`UPDATE_GOLDEN=1 pytest tests/test_report.py` writes the files anew; read the difference before you commit it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Optional
from xml.etree import ElementTree as ET

import msgspec
import pytest

from mmdoctor import report as reports
from mmdoctor.errors import UsageError
from mmdoctor.model import (
    Accepted,
    Artefact,
    Baseline,
    Bench,
    BinaryChoice,
    Bound,
    Build,
    Cause,
    Change,
    CommandFix,
    Cost,
    Distribution,
    Explanation,
    Facts,
    Finding,
    Fix,
    Fixup,
    Gone,
    Gpu,
    GpuDevice,
    Host,
    ImportResult,
    Index,
    Keypoints,
    Latency,
    Memory,
    MmcvChoice,
    OpCheck,
    OpencvChoice,
    Plan,
    Rejection,
    Report,
    ReportTarget,
    Stack,
    Stage,
    Status,
    Step,
    Summary,
    Target,
    Tool,
    Toolchain,
    TorchBuild,
    TorchChoice,
    Unknown,
    Value,
    Weights,
)
from mmdoctor.report import page, text

DATA = Path(__file__).parent / "data" / "report"
HOME, USER = "/home/ann", "ann"
PREFIX = "/home/ann/my projects/venv"
AUTO = Fix(kind="auto", summary="mmdoctor fix --apply")
NONE = Fix(kind="none", summary="")


def finding(
    id: str,  # noqa: A002
    status: Status,
    title: str,
    detail: str,
    evidence: tuple[str, ...] = (),
    cause: Optional[str] = None,
    caused_by: tuple[str, ...] = (),
    fix: Fix = NONE,
    accepted: Optional[Accepted] = None,
) -> Finding:
    return Finding(
        id=id,
        status=status,
        severity="error" if status in ("fail", "crash") else "warning" if status == "warn" else "info",
        title=title,
        detail=detail,
        evidence=evidence,
        cause=cause,
        caused_by=caused_by,
        fix=fix,
        docs=f"docs/checks/{id}.md",
        duration_ms=1.25,
        accepted=accepted,
    )


FACTS = Facts(
    mmdoctor="0.1.0",
    pretended=("driver",),
    host=Host(
        os="linux",
        os_name="Ubuntu 22.04.4 LTS",
        machine="x86_64",
        glibc="2.35",
        cpu_count=8,
        memory_total_bytes=32_000_000_000,
        memory_available_bytes=20_000_000_000,
        disk_free_bytes=Unknown(unknown="the disk does not say"),
        container="docker",
        wsl=False,
        libgl=True,
        now=1_767_225_600.0,
    ),
    gpu=Gpu(
        driver="535.104.05",
        source="nvml",
        cuda_ceiling="12.2",
        devices=(GpuDevice(name="Tesla T4", compute_capability="7.5", memory_bytes=16_106_127_360),),
        reason=None,
    ),
    toolchain=Toolchain(
        nvcc=Tool(path="/usr/local/cuda/bin/nvcc", version="12.1.105"),
        gcc=Tool(path="/usr/bin/c++", version=Unknown(unknown="not gcc: 'clang version 14'")),
        ninja=None,
        cuda_home="/usr/local/cuda",
    ),
    target=Target(
        requested=PREFIX,
        state="present",
        executable=f"{PREFIX}/bin/python",
        prefix=PREFIX,
        python="3.10.12",
        torch=TorchBuild(version="2.1.2+cu121", cuda="12.1"),
        distributions=(
            Distribution(name="numpy", version="2.2.6"),
            Distribution(name="torch", version="2.1.2"),
            Distribution(name="mmcv", version="2.1.0"),
        ),
    ),
    imports=(
        ImportResult(module="torch", status="ok"),
        ImportResult(module="xtcocotools._mask", status="error", error="ImportError", message="_ARRAY_API not found"),
    ),
    indexes=(
        Index(name="pypi", url="https://pypi.org/simple", reachable=True),
        Index(name="torch", url="https://torch.example/whl", reachable=Unknown(unknown="--offline")),
        Index(name="openmmlab", url="https://mm.example/dist", reachable=False, reason="HTTP 403 (Forbidden)"),
    ),
    environment={"CUDA_VISIBLE_DEVICES": "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"},
)

REPORT = Report(
    ok=False,
    target=ReportTarget(python="3.10.12", prefix=PREFIX),
    summary=Summary(ok=2, warn=1, fail=2, skip=1, crash=1, accepted=1),
    findings=(
        finding("ENV001", "ok", "the interpreter answers", "Python 3.10.12"),
        finding("GPU002", "ok", "the driver runs torch's CUDA", "driver 535.104.05, CUDA 12.1"),
        finding(
            "XTC001",
            "fail",
            "xtcocotools imports",
            "its extension was built for NumPy 1",
            ("ImportError: numpy.core.multiarray failed to import, 100% sure", "\x1b[31m_ARRAY_API\x1b[0m not found"),
            "numpy2-abi",
            ("NPY002",),
        ),
        finding(
            "NPY002",
            "fail",
            "NumPy's generation fits the binaries",
            "numpy 2.2.6 is installed, while torch 2.1.2 and xtcocotools 1.14.3 were built for NumPy 1; "
            "each of them fails or crashes when it is handed an array",
            (f"{PREFIX}/lib/python3.10/site-packages/numpy", "A module that was compiled using NumPy 1.x\n  <pip|uv>"),
            "numpy2-abi",
            fix=AUTO,
        ),
        finding(
            "IDX001",
            "warn",
            "the indexes answer",
            "https://ann:s3cret@mirror.example/simple does not answer",
            fix=Fix(kind="manual", summary="look at `pip config list`"),
        ),
        finding("EXT001", "crash", "mmcv's extension", "the check itself failed: KeyError('needed')", cause="bug"),
        finding("SMK001", "skip", "RTMPose runs", "not looked at: --quick"),
        finding(
            "OCV001",
            "fail",
            "one OpenCV is installed",
            "opencv-python and opencv-python-headless own the same folder",
            cause="opencv-two",
            accepted=Accepted(by="waiver", reason="both are 4.11, see our issue 12", until="2026-12-31"),
        ),
    ),
    facts=FACTS,
    duration_ms=1834.4,
    exit_code=1,
    baseline=Baseline(known=0, gone=(Gone(id="HST001", cause="disk-full", title="there is room"),)),
    unused_waivers=("MCV003: there is no such finding (any more)",),
)

STACK = Stack(
    python="3.10",
    torch=TorchChoice(version="2.1.2", variant="cu121", index="installed"),
    torchvision="0.16.2",
    mmcv=MmcvChoice(
        name="mmcv",
        version="2.1.0",
        artefact=Artefact(kind="build", source="sdist", reason="the wheel index does not answer"),
    ),
    mmengine="0.10.7",
    mmdet=None,
    mmpose="1.3.2",
    numpy="1.26.4",
    xtcocotools=BinaryChoice(version="1.14.3", artefact=Artefact(kind="wheel", source="pypi", reason="it fits")),
    opencv=OpencvChoice(name="opencv-python-headless", version="4.11.0.86"),
    setuptools="75.8.0",
    evidence="tested",
)

PLAN = Plan(
    status="plan",
    recipe="rtmpose",
    target=PREFIX,
    bound=Bound(host="", python="3.11.7", state="present", distributions={}),
    new_environment=False,
    stack=STACK,
    changes=(
        Change(name="numpy", old="2.2.6", new="1.26.4"),
        Change(name="mmcv", old="2.1.0", new="2.1.0", why="compiled again for this torch"),
        Change(name="openxlab", old="0.1.2", new=None),
        Change(name="mmengine", old=None, new="0.10.7"),
        Change(
            name="jax", old="0.9.0", new="0.7.1", why="its requirement numpy>=2.0 does not hold beside numpy 1.26.4"
        ),
    ),
    forbidden=("our-tool 2.0 wants numpy>=2, the stack has numpy 1.26.4; it stays as it is",),
    manual=("the clock is two years behind: set it",),
    constraints=("numpy==1.26.4", "torch==2.1.2"),
    overrides=("chumpy ; python_version < '0'",),
    stages=(
        Stage(
            id="remove",
            title="remove what is in the way",
            steps=(
                Step(argv=("uv", "pip", "uninstall", "--python", "{python}", "openxlab"), why="its pins drag along"),
            ),
        ),
        Stage(
            id="mmcv",
            title="mmcv",
            steps=(
                Step(
                    argv=("uv", "pip", "install", "--python", "{python}", "--no-deps", "{wheel}"),
                    why="the ops that this torch loads",
                    build=Build(
                        package="mmcv",
                        version="2.1.0",
                        sdist_sha256=None,
                        minutes=6.2,
                        fixups=(Fixup(id="cxx17", file="setup.py", replace={"14": "17"}, reason="torch wants C++17"),),
                        env={"MMCV_WITH_OPS": "1", "CFLAGS": "-g0 -O2"},
                    ),
                ),
            ),
            verify=("MMC001", "EXT001"),
        ),
    ),
    rejected=(
        Rejection(
            candidate="torch 2.9.1+cu128",
            fact="driver",
            wanted="driver 570.26",
            observed="535.104.05",
            why="a newer driver would unlock it",
        ),
        Rejection(
            candidate="torch 2.8.0+cu128", fact="driver", wanted="driver 570.26", observed="535.104.05", why="likewise"
        ),
        Rejection(
            candidate="mmcv 2.1.0", fact="index:openmmlab", wanted="it answers", observed="HTTP 403", why="no wheel"
        ),
    ),
    assumptions=("https://pypi.org/simple answers (not looked at: --offline)",),
    cost=Cost(download_bytes=2_313_000_000, build_minutes=6.2),
    pretended=("driver",),
)

EXPLANATION = Explanation(
    causes=(
        Cause(
            cause="numpy2-abi",
            family="numpy",
            confidence=0.93,
            title="An extension built for NumPy 1 meets NumPy 2",
            why="The text names _ARRAY_API, which only NumPy 2 has.",
            evidence=("_ARRAY_API not found",),
            fix=CommandFix(kind="auto", summary="go back to NumPy 1", commands=("pip install 'numpy<2'",)),
            docs="docs/causes.md#numpy2-abi",
        ),
    ),
    versions={"numpy": "2.2.6"},
)

BENCH = Bench(
    ok=False,
    device="cuda",
    model="rtmpose-m",
    weights=Weights(kind="seeded", file=None, sha256=None),
    keypoints=Keypoints(count=17, finite=True, max_abs_error=0.75, tolerance=0.5),
    latency_ms=Latency(init=900.0, first=350.0, p50=21.04, p95=25.5, preprocess=2.0, forward=17.0, postprocess=1.5),
    throughput_per_s=47.5,
    memory=Memory(rss_peak_bytes=1_900_000_000, gpu_peak_bytes=412_000_000),
    ops=(
        OpCheck(op="nms", ok=True, max_abs_error=0.0, tolerance=1e-5),
        OpCheck(op="roi_align", ok=False, max_abs_error=None, tolerance=1e-4, message="no kernel image"),
    ),
    versions={"torch": "2.1.2+cu121", "mmcv": "2.1.0"},
    runs=50,
    reason="keypoints are off by more than the tolerance",
)


def shown(value: Value, kind: str) -> str:
    return reports.render(value, kind, HOME, USER)


def golden(name: str, actual: str) -> None:
    path = DATA / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(actual, encoding="utf-8")
    assert actual == path.read_text(encoding="utf-8")


# ---------------------------------------------------------------------------------------------------- golden files


@pytest.mark.parametrize(
    ("value", "kind", "name"),
    [
        (REPORT, "text", "report.txt"),
        (REPORT, "junit", "report.xml"),
        (REPORT, "github", "report.github.txt"),
        (REPORT, "markdown", "report.md"),
        (REPORT, "sarif", "report.sarif"),
        (REPORT, "prometheus", "report.prom"),
        (REPORT, "nagios", "report.nagios.txt"),
        (REPORT, "journal", "report.journal.txt"),
        (REPORT, "html", "report.html"),
        (PLAN, "text", "plan.txt"),
        (EXPLANATION, "text", "explanation.txt"),
        (BENCH, "text", "bench.txt"),
        (FACTS, "text", "facts.txt"),
    ],
)
def test_golden(value: Value, kind: str, name: str) -> None:
    golden(name, shown(value, kind))


@pytest.mark.parametrize("kind", list(reports.RENDERERS))
def test_nothing_private_is_shown(kind: str) -> None:
    said = shown(REPORT, kind)
    for private in ("/home/ann", "s3cret", "8932f937", "ann:"):
        assert private not in said


@pytest.mark.parametrize("value", [REPORT, PLAN, EXPLANATION, BENCH, FACTS])
def test_json_is_one_document_of_the_same_value(value: Value) -> None:
    assert msgspec.json.decode(reports.encode(value), type=type(value)) == value
    again = msgspec.json.decode(shown(value, "json"), type=type(value))
    assert again == reports.redact(value, HOME, USER)


def test_other_formats_and_values_are_a_users_error() -> None:
    with pytest.raises(UsageError, match="junit renders the report of a check, not a plan"):
        shown(PLAN, "junit")
    with pytest.raises(UsageError, match="no format 'pdf'"):
        shown(PLAN, "pdf")
    with pytest.raises(UsageError, match="no text form of a fix"):
        shown(AUTO, "text")


# ------------------------------------------------------------------------------------------------------------ text


def test_colour_only_adds_to_the_text() -> None:
    plain = text.render(PLAN, colour=False)
    coloured = text.render(PLAN, colour=True)
    assert "\x1b" not in plain
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain


@pytest.mark.parametrize(
    ("environ", "tty", "wanted"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "0"}, True, False),
        ({"TERM": "dumb"}, True, False),
    ],
)
def test_when_to_colour(environ: dict[str, str], tty: bool, wanted: bool) -> None:
    assert page.wants_colour(environ, tty) is wanted


def test_prose_is_wrapped_and_commands_are_not() -> None:
    lines = text.render(PLAN, width=50).splitlines()
    assert any(line.endswith("{wheel}") and len(line) > 50 for line in lines)
    wordy = finding("X001", "fail", "t", "word " * 60)
    said = text.render(msgspec.structs.replace(REPORT, findings=(wordy,)), width=50)
    assert {len(line) > 50 for line in said.splitlines() if "word" in line} == {False}


@pytest.mark.parametrize("kind", list(reports.RENDERERS))
def test_a_program_cannot_command_the_terminal(kind: str) -> None:
    evil = finding("X001", "fail", "t\x1b]0;title\x07", "d\x1b[2J", ("a\rb\x08\x9b31m",))
    said = shown(msgspec.structs.replace(REPORT, findings=(evil,)), kind)
    assert "31m" not in said
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", said)


def test_plans_that_do_nothing() -> None:
    done = msgspec.structs.replace(PLAN, status="nothing-to-do", changes=(), stages=(), rejected=(), assumptions=())
    assert "nothing to do" in text.render(done)
    stuck = msgspec.structs.replace(
        PLAN, status="unsatisfiable", stack=None, changes=(), stages=(), conflict="A excludes B"
    )
    said = text.render(stuck)
    assert "no stack: A excludes B" in said
    assert "torch 2.9.1+cu128" in said
    assert "--apply" not in said


def test_a_new_environment_without_a_compile() -> None:
    new = msgspec.structs.replace(PLAN, new_environment=True, stages=(), cost=Cost(download_bytes=0, build_minutes=0))
    said = text.render(new)
    assert "compiles nothing" in said
    assert "builds it" in said


def test_benches_of_several_models_stand_below_each_other() -> None:
    also = msgspec.structs.replace(BENCH, model="rtmpose-s", ok=True, reason=None)
    said = text.render(msgspec.structs.replace(BENCH, also=(also,)))
    assert said.index("rtmpose-m on cuda: FAIL") < said.index("rtmpose-s on cuda: ok")


def test_nothing_recognised_is_said() -> None:
    assert "nothing recognised" in text.render(Explanation(causes=()))


@pytest.mark.parametrize(
    ("causes", "order"),
    [
        ({"A": (), "B": ("A",), "C": ("B",)}, [(0, "A"), (1, "B"), (2, "C")]),
        ({"B": ("A",), "A": ()}, [(0, "A"), (1, "B")]),
        ({"A": ("Z",)}, [(0, "A")]),
        ({"A": ("Z", "B"), "B": ()}, [(0, "B"), (1, "A")]),
        ({"A": ("B",), "B": ("A",)}, [(0, "A"), (1, "B")]),
        ({"A": ("A",)}, [(0, "A")]),
    ],
)
def test_outline_loses_nothing(causes: dict[str, tuple[str, ...]], order: list[tuple[int, str]]) -> None:
    findings = [finding(name, "fail", "t", "d", caused_by=by) for name, by in causes.items()]
    assert [(depth, one.id) for depth, one in text.outline(findings)] == order


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        ("~/my venv", "~/'my venv'"),
        ("{python}", "{python}"),
        ("{env}/bin", "{env}/bin"),
        ("numpy<2", "'numpy<2'"),
        ("a;b", "'a;b'"),
        ("", "''"),
        ("{a b}", "'{a b}'"),
    ],
)
def test_quote(word: str, quoted: str) -> None:
    assert page.quote(word) == quoted


@pytest.mark.parametrize(
    ("count", "said"), [(999, "999 bytes"), (12_345, "12 kB"), (780_400_000, "780 MB"), (2_313_000_000, "2.31 GB")]
)
def test_size(count: int, said: str) -> None:
    assert page.size(count) == said


# ------------------------------------------------------------------------------------------------- junit and github


def test_junit_counts_and_places() -> None:
    suite = ET.fromstring(shown(REPORT, "junit")).find("testsuite")
    assert suite is not None
    cases = {case.attrib["name"].split()[0]: [child.tag for child in case] for case in suite.iter("testcase")}
    assert cases == {
        "ENV001": [],
        "GPU002": [],
        "XTC001": ["failure"],
        "NPY002": ["failure"],
        "IDX001": ["system-out"],
        "EXT001": ["error"],
        "SMK001": ["skipped"],
        "OCV001": ["skipped"],
    }
    assert {name: suite.attrib[name] for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "8",
        "failures": "2",
        "errors": "1",
        "skipped": "2",
    }


def test_github_shows_ten_and_sums_up_the_rest() -> None:
    many = tuple(finding(f"X{number:03}", "warn", "t: a, b", "50%\nsecond") for number in range(13))
    lines = shown(msgspec.structs.replace(REPORT, findings=many), "github").splitlines()
    assert [line.startswith("::") for line in lines] == [True] * 10 + [False] * 4
    assert lines[0] == "::warning title=mmdoctor X000%3A t%3A a%2C b::50%25%0Asecond%0Adocs/checks/X000.md"
    assert lines[11] == "more in the step's summary: X010, X011, X012"


def test_markdown_cannot_be_broken_by_evidence() -> None:
    nasty = finding("X001", "fail", "a|b <img>", "`c` *d*\ne", ("```", "</details>"))
    said = shown(msgspec.structs.replace(REPORT, findings=(nasty,)), "markdown")
    assert r"| fail | X001 | a\|b \<img\>: \`c\` \*d\* e |" in said
    assert "````text\n```\n</details>\n````" in said


# -------------------------------------------------------------------------------------------------------- redaction


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("/home/ann/venv/bin/python", "~/venv/bin/python"),
        ("/home/ann", "~"),
        ("'/home/ann': no", "'~': no"),
        ("file:///home/ann/wheels", "file://~/wheels"),
        ("/home/anna/x /home/bob/y", "/home/USER/x /home/USER/y"),
        ("/srv/home/annex", "/srv/home/USER"),
        ("/scratch/ann/env and annotations of ann", "/scratch/USER/env and annotations of ann"),
        ("ann@gpu-box:~$", "USER@gpu-box:~$"),
        (r"C:\Users\Ann Lee\venv", r"C:\Users\USER Lee\venv"),
        ("https://ann:s3cret@mirror.example/simple", "https://***@mirror.example/simple"),
        ("https://to@ken@mirror.example/simple", "https://***@mirror.example/simple"),
        ("https://a.example/w?sig=abc%2F&x=1", "https://a.example/w?sig=***&x=1"),
        ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "GPU-***"),
        ("MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/1/0", "MIG-GPU-***"),
        ("mmcv@2.1.0 https://pypi.org/simple/a@b", "mmcv@2.1.0 https://pypi.org/simple/a@b"),
        ("/opt/padel/mmpose/venv", "/opt/padel/mmpose/venv"),
    ],
)
def test_redact_text(raw: str, shown: str) -> None:
    assert reports.redact_text(raw, HOME, USER) == shown


def test_root_names_nobody_and_the_root_folder_is_no_home() -> None:
    assert reports.redact_text("/root/venv: root cause /x/root/y", "/root", "root") == "~/venv: root cause /x/root/y"
    assert reports.redact_text("/opt/venv", "/", "") == "/opt/venv"


def test_redaction_is_stable() -> None:
    once = reports.redact(REPORT, HOME, USER)
    assert reports.redact(once, HOME, USER) == once
