"""What the checks of a config and a checkpoint say, on answers recorded from real targets; the reader of pickles."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mmdoctor.checks import diagnose
from mmdoctor.checks.checkpoint import narrow, runs_code
from mmdoctor.cli import cli
from mmdoctor.errors import UsageError
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Finding, LoadedConfig
from mmdoctor.probes.config import probe_checkpoint, probe_config
from tests.config_cases import asked, on_config
from tests.conftest import Machine, import_of, packages


@pytest.fixture
def said(machine: Machine, matrix: Matrix) -> Any:
    """The finding of one check on one recorded answer: `said("head", "CFG004")`."""

    def find(name: str, check: str) -> Finding:
        return next(f for f in diagnose(asked(name)(machine("healthy-cpu")), matrix) if f.id == check)

    return find


def test_invented_names_are_named_with_what_stands_there_officially(said: Any) -> None:
    finding = said("invented", "CFG002")
    assert finding.detail == "not registered: RTMPoseBackbone, HeatmapDecoder"
    backbone, decoder = finding.evidence
    assert backbone.startswith("model.backbone: RTMPoseBackbone is not in mmpose::model")
    assert "the rtmpose configs of this mmpose have mmdet.CSPNeXt there" in backbone
    assert decoder.startswith("model.head.decoder: HeatmapDecoder is not in mmpose::KEYPOINT_CODECS")
    assert "MSRAHeatmap" in decoder


def test_a_head_that_does_not_fit_is_named_with_what_its_backbone_gives(said: Any) -> None:
    finding = said("head", "CFG004")
    assert finding.detail == "the head does not fit its backbone"
    assert "mat1 and mat2 shapes cannot be multiplied (17x64 and 48x256)" in finding.evidence[0]
    assert finding.evidence[1].startswith("head.in_featuremap_size is 6x8; the backbone gives 768 channels of 8x8")
    assert finding.evidence[2].startswith("head.mlp.1 = Linear(in_features=48")
    channels = said("channels", "CFG004").evidence
    assert any(line.startswith("head.in_channels is 768; the backbone gives 1024 channels") for line in channels)


def test_what_raises_nothing_and_is_wrong_is_a_failure(said: Any) -> None:
    assert said("size", "CFG004").evidence == ("head.decoder.input_size is 192x256; the test pipeline gives 256x256",)


def test_a_class_of_the_users_own_is_found_and_its_import_named(said: Any) -> None:
    finding = said("own", "CFG002")
    assert "stable.py defines it, and nothing imports that" in finding.evidence[0]
    assert finding.fix.summary.startswith("custom_imports = dict(imports=['stable'])")


def test_another_scope_is_named_with_the_way_in(said: Any) -> None:
    finding = said("scope", "CFG002")
    assert "it is in mmpose::model" in finding.evidence[0]
    assert "default_scope = 'mmpose'" in finding.fix.summary


@pytest.mark.parametrize("name", ["imports", "vit", "noscope"])
def test_a_missing_package_is_named_in_the_releases_that_take_the_installed_mmcv(
    name: str, said: Any, machine: Machine, matrix: Matrix
) -> None:
    check = "CFG001" if name == "imports" else "CFG002"
    assert (
        said(name, check).fix.summary == 'pip install "mmpretrain==1.2.0" (mmpretrain 1.1.0 to 1.2.0 take mmcv 2.1.0)'
    )
    facts = packages(asked(name)(machine("healthy-cpu")), {"mmcv": "2.0.1"})
    finding = next(f for f in diagnose(facts, matrix) if f.id == check)
    assert "(mmpretrain 1.0.0 to 1.2.0 take mmcv 2.0.1)" in finding.fix.summary
    facts = packages(facts, {"mmcv": "2.9.0"})
    finding = next(f for f in diagnose(facts, matrix) if f.id == check)
    assert finding.fix.summary.startswith("no release of mmpretrain takes mmcv 2.9.0")


def test_weights_are_compared_shape_by_shape(said: Any) -> None:
    finding = said("mismatch", "CKP003")
    assert finding.detail == "4 weights have another shape than the config's model"
    assert finding.evidence[0] == "head.final_layer.weight: 17x768x7x7 in the checkpoint, 26x768x7x7 in the model"
    backbone = said("backbone", "CKP003")
    assert backbone.detail == "12 of the model's 362 weights are not in it, and would stay random"
    assert backbone.evidence[0].startswith("not in the checkpoint: 12 of head, such as head.")


def test_what_torch_refuses_gets_exactly_the_classes_it_needs(said: Any) -> None:
    """This line, run as it stands, loaded that file with torch 2.13.0 and NumPy 2.4.6."""
    fix = said("published", "CKP002").fix.summary
    assert fix.startswith("load it inside torch.serialization.safe_globals([")
    assert "numpy.ndarray, numpy.dtype, numpy.dtypes.UInt8DType, numpy.dtypes.Float32DType])" in fix
    assert "getattr" not in fix
    assert "weights alone" in said("trained", "CKP002").evidence[1]
    assert said("evil", "CKP002").evidence == ("its pickle names posix.system",)


def test_names_of_the_other_numpy_are_given_beside_their_objects() -> None:
    written_by_1, written_by_2 = "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"
    assert narrow((written_by_1, "numpy.dtype"), "2.4.6").endswith(
        f'([({written_by_2}, "{written_by_1}"), numpy.dtype])'
    )
    assert narrow((written_by_1,), "1.26.4").endswith(f"([{written_by_1}])")
    assert narrow((written_by_2,), "1.26.4").endswith(f'([({written_by_1}, "{written_by_2}")])')


@pytest.mark.parametrize(
    ("name", "harmful"),
    [
        ("posix.system", True),
        ("builtins.eval", True),
        ("subprocess.Popen", True),
        ("mmengine.config.ConfigDict", False),
    ],
)
def test_which_names_run_code(name: str, harmful: bool) -> None:
    assert runs_code(name) == harmful


def test_a_config_that_fails_on_a_broken_import_is_caused_by_that(machine: Machine, matrix: Matrix) -> None:
    broken = {"error": "AssertionError", "message": "MMCV==2.2.0 is used", "packages": ("mmdet",)}
    facts = import_of(machine("healthy-cpu"), "mmdet", **broken)
    ended = on_config("fits", load=LoadedConfig(**broken), types=None, build=None, feed=None, run=None, weights=None)
    findings = {finding.id: finding for finding in diagnose(ended(facts), matrix)}
    assert findings["MML002"].status == "fail"
    assert findings["CFG001"].caused_by == ("MML002",)
    findings = {finding.id: finding for finding in diagnose(asked("imports")(facts), matrix)}
    assert findings["CFG001"].caused_by == ()  # that mmpretrain is not there has nothing to do with it


# ------------------------------------------------------------------------------------------ what is read of a pickle


class Harm:
    """Pickles as a call."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.file}",)


def checkpoint(folder: Path, content: object, name: str = "x.pth") -> Path:
    """A file in torch's zip form (torch/serialization.py: ARCHIVE/data.pkl)."""
    path = folder / name
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(content, protocol=2))
    return path


def test_nothing_of_a_checkpoint_is_run(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, {"meta": Harm(tmp_path / "touched"), "state_dict": {}})
    seen, shapes = probe_checkpoint(sys.executable, path)
    assert not (tmp_path / "touched").exists()
    assert shapes is None
    assert seen.content is not None
    assert seen.content.other == (f"{os.system.__module__}.system",)
    assert seen.content.problem == "it holds no weights by name, but meta, state_dict"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"<!doctype html>", "it is a web page: the download failed"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
            "it is the pointer of a git-lfs file, not the file",
        ),
        (b"PK\x03\x04 cut off", "its end is missing: the download or copy was cut off"),
        (b"", "neither form of torch.save reads it (EOFError: Ran out of input)"),
        (pickle.dumps({"a": 1}), "it is a pickle that torch.save did not write"),
    ],
)
def test_what_is_no_checkpoint_is_named(content: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    seen, _ = probe_checkpoint(sys.executable, path)
    assert seen.content is not None
    assert seen.content.problem == problem


def test_the_digits_in_a_name_are_the_files_sha256(tmp_path: Path, machine: Machine, matrix: Matrix) -> None:
    path = checkpoint(tmp_path, {})
    digits = hashlib.sha256(path.read_bytes()).hexdigest()
    named = path.rename(tmp_path / f"rtmpose-m_256x256-{digits[:8]}_20230126.pth")
    seen, _ = probe_checkpoint(sys.executable, named)
    assert (seen.file.sha256, seen.file.promised) == (digits, digits[:8])


def test_a_checkpoint_that_is_not_there_is_a_mistake_of_the_command(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not there"):
        probe_checkpoint(sys.executable, tmp_path / "none.pth")
    with pytest.raises(UsageError, match="is no file"):
        probe_checkpoint(sys.executable, tmp_path)


# ------------------------------------------------------------------------------------------------- around the target


@pytest.mark.parametrize("name", ["rtmpose-m", "no/such.py", ""])
def test_a_target_without_mmpose_finds_no_config(name: str) -> None:
    bare = subprocess.run([sys.executable, "-c", "import mmpose"], capture_output=True, check=False)
    assert bare.returncode != 0  # mmdoctor's own environment has none
    seen = probe_config(sys.executable, name)
    assert (seen.find.how, seen.find.near, seen.load) == ("missing", (), None)


def test_a_target_without_mmengine_says_what_it_lacks(tmp_path: Path, machine: Machine, matrix: Matrix) -> None:
    file = tmp_path / "c.py"
    file.write_text("model = dict(type='TopdownPoseEstimator')\n")
    seen = probe_config(sys.executable, str(file))
    assert seen.load is not None
    assert (seen.load.error, seen.load.lacks) == ("ModuleNotFoundError", "mmengine")


def fake_python(folder: Path, body: str) -> str:
    """An interpreter that does not come to an end as one should."""
    file = folder / "python"
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)
    return str(file)


def test_a_target_that_hangs_or_crashes_is_a_step_that_ended_badly(tmp_path: Path) -> None:
    seen = probe_config(fake_python(tmp_path, "sleep 60"), "x.py", 0.5)
    assert (seen.find.error, seen.find.message) == ("timeout", "no answer within 0.5 s")
    seen = probe_config(fake_python(tmp_path, "kill -SEGV $$"), "x.py")
    assert seen.find.error == "SIGSEGV"


@pytest.mark.parametrize("with_option", [("--quick",), ("--facts", "f.json")])
@pytest.mark.parametrize("option", ["--config", "--checkpoint"])
def test_what_cannot_be_looked_at_is_refused(option: str, with_option: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli, ["check", option, "x", *with_option])
    assert isinstance(result.exception, UsageError)
    assert with_option[0] in result.exception.what


def test_recorded_answers_name_no_machine() -> None:
    folder = Path(__file__).parent / "data" / "config"
    for file in folder.glob("*.json"):
        assert "/tmp/" not in file.read_text(), file
        json.loads(file.read_text())
