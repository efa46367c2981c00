"""The parts of explain: wrappings taken off, long logs cut down, versions and symbols read, both languages complete."""

from __future__ import annotations

import json
import string
import time
from itertools import repeat
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mmdoctor.cli import cli
from mmdoctor.errors import UsageError
from mmdoctor.explain import explain, text_of
from mmdoctor.explain.matcher import SENTENCES, load
from mmdoctor.explain.normalise import LONGEST_LINE, plain
from mmdoctor.explain.reading import WHOLE, condensed
from mmdoctor.explain.registries import homes, verdict
from mmdoctor.explain.symbols import demangle, exported
from mmdoctor.explain.versions import versions
from mmdoctor.lang import chinese, language, translated
from mmdoctor.report import text
from mmdoctor.report.text import render
from mmdoctor.report.text_explanation import LABELS

LINE = "ModuleNotFoundError: No module named 'mmcv._ext'"


@pytest.mark.parametrize(
    "text",
    [
        f"2026-11-20T12:00:01+0100 host mmpose[123]: {LINE}",
        f"[pod/pose-0/api] {LINE}",
        f"[rank0]: {LINE}",
        f"0: {LINE}",
        f"##[error]{LINE}",
        f"[2026-11-20 12:00:01 +0100] [7] [ERROR] {LINE}",
        f"2026-11-20 12:00:01,123 - mmpose - ERROR - {LINE}",
        f"ERROR:mmpose.apis:{LINE}",
        f"  | {LINE}",
        f"│ {LINE} │",
        f"api-1  | 2026-11-20T12:00:01Z E   {LINE}",
        LINE.replace("ModuleNotFoundError", "\\u001b[0;31mModuleNotFoundError\\u001b[0m"),
        LINE.replace(": ", "\uff1a"),
    ],
)
def test_more_wrappings_are_taken_off(text: str) -> None:
    assert plain(text).strip() == LINE


@pytest.mark.parametrize("text", [LINE, "torch  2.1.2", "| NVIDIA-SMI 535.104.05 |"])
def test_plain_text_stays(text: str) -> None:
    assert " ".join(text.split()) == plain(text)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_encodings_of_shells_are_read(encoding: str) -> None:
    text = "拒绝访问。 [WinError 5]\n"
    assert text_of([text.encode(encoding)]) == text


def test_a_long_log_is_cut_down_and_its_end_is_read() -> None:
    step = "11/20 12:00:00 - mmengine - INFO - Epoch(train) [1][{}/9] loss: 0.1\n"
    begun = time.process_time()
    text = text_of([(step.format(n) * 100).encode() for n in range(2000)] + [f"Traceback\n{LINE}\n".encode()])
    assert len(text) <= WHOLE + 2 * LONGEST_LINE
    assert explain(text).causes[0].cause == "mmcv-ext-missing"
    assert time.process_time() - begun < 10  # 13 MB; far below a second on an idle machine


def test_an_error_in_the_middle_of_a_long_log_is_kept() -> None:
    filler = [f"{'step ' * 20}{n}\n" for n in range(20_000)]
    text = condensed([*filler, f"{LINE}\n", *filler])
    assert LINE in text


def test_a_line_without_an_end_does_not_grow() -> None:
    text = text_of(repeat(b"x" * 100_000, 100))
    assert len(text) < WHOLE + 2 * LONGEST_LINE


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("mmcv │ 2.1.0 │", {"mmcv": "2.1.0"}),
        ("mmpose | 1.3.2 | https://github.com/open-mmlab/mmpose", {"mmpose": "1.3.2"}),
        ("pytorch 2.0.1 py3.10_cuda11.8_cudnn8.7.0_0 pytorch", {"torch": "2.0.1"}),
        ("Python 版本: 3.8.10\nPyTorch 版本: 1.13.1+cu117", {"python": "3.8.10", "torch": "1.13.1+cu117"}),
        ("C:/Python310/lib/site-packages", {"python": "3.10"}),
        ("https://download.pytorch.org/whl/cu118/torch-2.0.1%2Bcu118", {"cuda": "11.8"}),
        ("/e/site-packages/mmengine-0.10.7.dist-info/RECORD", {"mmengine": "0.10.7"}),
        (
            "OrderedDict([('sys.platform', 'linux'), ('PyTorch', '2.1.0'), ('MMEngine', '0.10.1')])",
            {"mmengine": "0.10.1"},
        ),
    ],
)
def test_more_forms_of_versions(text: str, seen: dict[str, str]) -> None:
    found = versions(plain(text))
    assert {name: found.get(name) for name in seen} == seen


@pytest.mark.parametrize(
    ("symbol", "name"),  # as c++filt says, without a template's result type
    [
        ("_ZN3c106Device8validateEv", "c10::Device::validate()"),
        ("_ZNK2at10TensorBase8data_ptrIN3c104HalfEEEPT_v", "at::TensorBase::data_ptr<c10::Half>() const"),
        ("_ZN3c105ErrorC2ENS_14SourceLocationESs", "c10::Error::Error(c10::SourceLocation, std::string)"),
        ("_ZNK2at6Tensor5zero_Ev", "at::Tensor::zero_() const"),
        ("_ZTVN3c1021AutogradMetaInterfaceE", "vtable for c10::AutogradMetaInterface"),
        (
            "_ZN2at4_ops5zeros4callEN3c108ArrayRefIlEENS2_8optionalINS2_10ScalarTypeEEE",
            "at::_ops::zeros::call(c10::ArrayRef<long>, c10::optional<c10::ScalarType>)",
        ),
        ("cudaLaunchKernel", None),
        ("_ZN3c10", None),
        ("_Z", None),
    ],
)
def test_symbols_are_demangled(symbol: str, name: str) -> None:
    assert demangle(symbol) == name


@given(st.text(alphabet="NKSTIELPRFDCJEvilbmj0123456789_xA", max_size=60))
def test_any_symbol_is_read_or_given_up(rest: str) -> None:
    demangle("_Z" + rest)


def test_a_missing_symbol_is_named_in_words() -> None:
    text = "ImportError: /e/mmcv/_ext.cpython-310-x86_64-linux-gnu.so: undefined symbol: _ZN3c106Device8validateEv"
    assert "c10::Device::validate()" in explain(text).causes[0].why


def test_the_releases_that_export_a_symbol(tmp_path: Path) -> None:
    table = tmp_path / "symbols.json"
    symbol = "_ZN3c106Device8validateEv"
    spans = {"1.8.0-1.9.1,2.0.0-2.1.2": [symbol], "2.2.0": ["_ZN3c106Device4nameEv"]}
    table.write_text(json.dumps({"releases": ["1.8.0", "2.2.0"], "symbols": spans}))
    found = exported(symbol, table)
    assert found
    assert (found.first, found.last, found.oldest, found.newest) == ("1.8.0", "2.1.2", "1.8.0", "2.2.0")
    assert exported("_ZN3c106Device", table) is None
    assert exported(symbol, tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("name", "scope", "expected"),
    [
        ("TopDown", "mmpose", {"old"}),
        ("TopdownPoseEstimator", "mmpose", {"here", "new"}),
        ("TopdownPoseEstimator", "mmengine", {"elsewhere", "new"}),
        ("RTMPoseBackbone", "mmpose", {"nowhere"}),
    ],
)
def test_where_a_class_is_registered(name: str, scope: str, expected: set[str]) -> None:
    assert verdict(name, scope) == expected
    assert any(homes(name)) == ("nowhere" not in expected)


# ------------------------------------------------------------------------------------------------------ languages


@pytest.mark.parametrize(
    ("asked", "environ", "expected"),
    [
        (None, {}, "en"),
        (None, {"LANG": "zh_CN.UTF-8"}, "zh"),
        (None, {"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        (None, {"LANG": "en_US.UTF-8", "LC_ALL": ""}, "en"),
        ("en", {"LANG": "zh_CN.UTF-8"}, "en"),
        ("zh", {}, "zh"),
    ],
)
def test_the_language_is_what_is_asked_for_or_the_locale(asked: str, environ: dict[str, str], expected: str) -> None:
    assert language(asked, environ) == expected


def sentences() -> set[str]:
    known = load()
    said = {*SENTENCES, *LABELS, *text.LABELS}
    for repair in known.causes.values():
        said |= {repair.title, repair.fix.summary}
    for row in known.rows:
        said |= {row.why, *([row.fix.summary] if row.fix else [])}
    return said


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_no_sentence_lacks_its_chinese_and_none_is_left_over() -> None:
    assert sentences() == chinese().keys()


def test_the_chinese_keeps_the_placeholders() -> None:
    for english in sorted(sentences()):
        said = translated(english, "zh")
        assert placeholders(said) == placeholders(english), english
        assert any("\u4e00" <= character <= "\u9fff" for character in said), english


def test_an_explanation_in_chinese() -> None:
    english, said = explain(LINE), explain(LINE, "zh")
    assert [c.cause for c in english.causes] == [c.cause for c in said.causes]
    assert "已安装的 mmcv" in render(said)
    assert "fix" not in render(said).replace("mmdoctor fix", "")


def test_the_command_speaks_the_language_of_the_locale(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(LINE.encode("utf-16"))
    environ = {"LC_ALL": "", "LC_MESSAGES": "", "LANG": "zh_CN.UTF-8"}
    runner = CliRunner()
    said = runner.invoke(cli, ["explain", str(log), "--format", "json"], env=environ)
    assert said.exit_code == 0
    assert json.loads(said.stdout)["lang"] == "zh"
    asked = runner.invoke(cli, ["explain", "--lang", "en", "--format", "json"], input=LINE, env=environ)
    assert json.loads(asked.stdout)["causes"][0]["title"] == "mmcv is installed without its compiled ops"


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        CliRunner().invoke(cli, ["explain", str(tmp_path / "absent")], standalone_mode=False, catch_exceptions=False)


# ------------------------------------------------------------------------------------------------------- any text


@given(st.lists(st.sampled_from([f for row in load().rows for f in row.has]), max_size=60), st.sampled_from(" \n:'/"))
def test_fragments_in_any_order_are_answered_in_time(fragments: list[str], glue: str) -> None:
    begun = time.process_time()
    explain(glue.join(fragments) * 20)
    assert time.process_time() - begun < 5
