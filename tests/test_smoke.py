"""The smoke: reference values from their definitions, verdicts on recorded answers, and real runs (essential)."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import sys
from itertools import product
from pathlib import Path
from typing import Callable

import pytest

from mmdoctor import system
from mmdoctor.errors import UsageError
from mmdoctor.model import Bench, OpCheck, Weights
from mmdoctor.smoke import bench
from mmdoctor.smoke.inside_smoke import BINS, MARK, output_rows
from mmdoctor.system import Completed

DATA = Path(__file__).parent / "data" / "smoke"
SEEDED = Weights(kind="seeded", file=None, sha256=None)
COCO = bench.reference().models["coco"]


def recorded(name: str) -> str:
    return (DATA / name).read_text(encoding="utf-8")


def ended(stdout: str = "", *, returncode: int = 0, stderr: str = "", timed_out: bool = False) -> Completed:
    return Completed(returncode=returncode, stdout=stdout, stderr=stderr, timed_out=timed_out, duration_ms=1.0)


def judged(completed: Completed, expected: bench.ModelReference | None = COCO) -> Bench:
    return bench.judge(completed, "rtmpose-m", SEEDED, expected, 300.0)


def changed(change: Callable[[dict], None]) -> Completed:
    """The recorded good answer with a change."""
    answer = json.loads(recorded("coco-torch212.txt")[len(MARK) :])
    change(answer)
    return ended(MARK + json.dumps(answer) + "\n")


# ------------------------------------------------------------------------------------- golden ops, from definitions


def eighths(count: int, step: int = 7) -> list[float]:
    return [((i * step + 3) % 17 - 8) / 8 for i in range(count)]


def bilinear(plane: Callable[[int, int], float], height: int, width: int, y: float, x: float) -> float:
    """The value between four cells; outside the map there is nothing."""
    top, left = int(y // 1), int(x // 1)
    return sum(
        plane(i, j) * (1 - abs(y - i)) * (1 - abs(x - j))
        for i, j in product((top, top + 1), (left, left + 1))
        if 0 <= i < height and 0 <= j < width
    )


def golden_nms() -> list[float]:
    corners = [(i * 37 % 64, i * 53 % 48, 16 + i % 5 * 4, 16 + i % 3 * 8) for i in range(24)]

    def iou(a: int, b: int) -> float:
        (ax, ay, aw, ah), (bx, by, bw, bh) = corners[a], corners[b]
        wide = max(0, min(ax + aw, bx + bw) - max(ax, bx))
        high = max(0, min(ay + ah, by + bh) - max(ay, by))
        return wide * high / (aw * ah + bw * bh - wide * high)

    overlaps = [iou(a, b) for a in range(24) for b in range(a)]
    assert min(abs(value - 0.3) for value in overlaps) > 1e-3  # no decision hangs on rounding
    kept: list[int] = []
    for i in sorted(range(24), key=lambda i: -(i * 29 % 31)):
        if all(iou(i, other) <= 0.3 for other in kept):
            kept.append(i)
    return [float(i) for i in kept]


def golden_roi_align() -> list[float]:
    data = eighths(2 * 8 * 8)
    result = []
    for (x1, y1, x2, y2), channel, row, column in product(((1, 1, 5, 5), (0.5, 2, 7, 6)), range(2), range(2), range(2)):
        high, wide = (y2 - y1) / 2, (x2 - x1) / 2
        samples = [
            bilinear(
                lambda i, j, c=channel: data[(c * 8 + i) * 8 + j],
                8,
                8,
                y1 - 0.5 + high * (row + (a + 0.5) / 2),
                x1 - 0.5 + wide * (column + (b + 0.5) / 2),
            )
            for a, b in product(range(2), range(2))
        ]
        result.append(sum(samples) / 4)
    return result


def golden_deform_conv2d() -> list[float]:
    data, weight = eighths(2 * 16), eighths(3 * 2 * 9, 3)
    offset = [round(value * 4) / 4 for value in eighths(18 * 16, 5)]
    result = []
    for out, row, column in product(range(3), range(4), range(4)):
        total = 0.0
        for channel, i, j in product(range(2), range(3), range(3)):
            tap = i * 3 + j
            dy, dx = (offset[(2 * tap + axis) * 16 + row * 4 + column] for axis in range(2))
            value = bilinear(
                lambda a, b, c=channel: data[c * 16 + a * 4 + b], 4, 4, row - 1 + i + dy, column - 1 + j + dx
            )
            total += weight[(out * 2 + channel) * 9 + tap] * value
        result.append(total)
    return result


def golden_multi_scale_deformable_attention() -> list[float]:
    value = eighths(20 * 2 * 4)
    places = [(v + 1) / 2 for v in eighths(3 * 2 * 2 * 2 * 2, 5)]
    weights = [(v + 1) / 2 for v in eighths(3 * 2 * 2 * 2, 3)]
    result = []
    for query, head, channel in product(range(3), range(2), range(4)):
        total = 0.0
        for level, point in product(range(2), range(2)):
            start, size = ((0, 4), (16, 2))[level]
            at = ((query * 2 + head) * 2 + level) * 2 + point
            x, y = places[2 * at], places[2 * at + 1]
            total += weights[at] * bilinear(
                lambda i, j, s=start, n=size, h=head, c=channel: value[((s + i * n + j) * 2 + h) * 4 + c],
                size,
                size,
                y * size - 0.5,
                x * size - 0.5,
            )
        result.append(total)
    return result


@pytest.mark.parametrize("op", list(bench.reference().ops))
def test_golden_values_are_what_the_definition_says(op: str) -> None:
    """Exactly: the inputs are short binary fractions."""
    assert list(bench.reference().ops[op].values) == globals()[f"golden_{op}"]()


def test_a_wrong_winner_would_be_far_beyond_the_tolerance() -> None:
    # COCO: 192x256 input over a box of 800x1066 pixels, two bins to each input pixel
    for bins, pixels in ((384, 800), (512, 1066)):
        rows = sorted(output_rows(bins))
        assert len(set(rows)) == BINS
        assert {bins - 1 - row for row in rows} == set(rows)
        nearest = min(b - a for a, b in zip(rows, rows[1:])) * pixels / bins
        assert nearest > 1000 * COCO.tolerance_px
    assert min(model.margin for model in bench.reference().models.values()) > 0.05


# -------------------------------------------------------------------------------------------------- recorded answers


@pytest.mark.parametrize("name", ["coco-torch212.txt", "coco-torch213.txt"])
def test_good_answer(name: str) -> None:
    result = judged(ended("a library printed this\n" + recorded(name)))
    assert (result.ok, result.reason, result.device, result.runs) == (True, None, "cpu", 10)
    assert result.keypoints.count == 17
    assert result.keypoints.max_abs_error == 0.0
    assert result.keypoints.tolerance == COCO.tolerance_px
    parts = result.latency_ms.preprocess + result.latency_ms.forward + result.latency_ms.postprocess
    assert parts == pytest.approx(result.latency_ms.p50, rel=0.1)
    assert result.latency_ms.p50 <= result.latency_ms.p95
    assert 1000 / result.latency_ms.p95 <= result.throughput_per_s
    assert result.memory.rss_peak_bytes > 100 << 20
    assert {op.op: op.ok for op in result.ops} == dict.fromkeys(bench.reference().ops, True)
    assert "PyTorch code" in (result.ops[-1].message or "")


def test_broken_environment() -> None:
    result = judged(ended(recorded("numpy-abi.txt")))
    assert not result.ok
    assert result.reason is not None
    assert result.reason.startswith("ValueError: numpy.dtype size changed")
    assert result.versions["numpy"] == "2.4.6"
    assert all(op.ok for op in result.ops)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda a: a["keypoints"][3].__setitem__(0, 250.0), "Keypoints are off by up to 40.4 pixels; 0.01"),
        (lambda a: a["scores"].__setitem__(0, 0.4), "Keypoint scores are off by up to 0.126; 0.02"),
        (lambda a: a["keypoints"].pop(), "16 keypoints came out; the dataset of the model has 17."),
        (lambda a: (a["keypoints"].pop(), a.update(expected_count=16)), "16 keypoints came out; the reference has 17."),
        (lambda a: a["keypoints"][0].__setitem__(1, None), "Some keypoints or scores are not finite numbers."),
        (lambda a: a["scores"].__setitem__(1, None), "Some keypoints or scores are not finite numbers."),
        (lambda a: a["ops"]["nms"].update(values=[16, 1]), "The mmcv op nms failed. 2 values came out, 12"),
        (lambda a: a["ops"]["roi_align"]["values"].__setitem__(0, 0.5), "The mmcv op roi_align failed. Off by up to"),
        (lambda a: a["ops"].pop("deform_conv2d"), "The mmcv op deform_conv2d failed. It did not run."),
        (
            lambda a: a.update(error={"type": "RuntimeError", "message": "CUDA error: x\nadvice", "input": False}),
            "RuntimeError: CUDA error: x",
        ),
        (lambda a: a.update(error={"type": "AssertionError", "message": "", "input": False}), "AssertionError"),
    ],
)
def test_wrong_answer(change: Callable[[dict], None], reason: str) -> None:
    result = judged(changed(change))
    assert not result.ok
    assert result.reason is not None
    assert result.reason.startswith(reason)
    assert "\n" not in result.reason


def test_without_reference_a_finite_result_of_the_right_count_is_good() -> None:
    result = judged(changed(lambda a: a["keypoints"][3].__setitem__(0, 250.0)), None)
    assert result.ok
    assert result.keypoints.max_abs_error is None


def test_a_file_of_the_user_that_the_target_cannot_use_is_a_usage_error() -> None:
    failure = {"type": "InputError", "message": "a.txt is not an image that OpenCV can read", "input": True}
    with pytest.raises(UsageError, match=r"a\.txt is not an image"):
        judged(changed(lambda a: a.update(error=failure)))


@pytest.mark.parametrize(
    ("completed", "reason"),
    [
        (ended(timed_out=True, returncode=-15), "No answer within 300 s"),
        (ended(returncode=-9), "The run crashed with SIGKILL."),
        (ended(returncode=1, stderr="x\nImportError: y\n"), "status 1 and no usable answer: ImportError: y"),
        (ended(MARK + "{}"), "status 0 and no usable answer: nothing on standard error"),
        (ended(returncode=system.NOT_STARTED, stderr="no such file"), "could not be started: no such file"),
        (ended(recorded("coco-torch212.txt"), returncode=-11), "The run crashed with SIGSEGV."),
    ],
)
def test_no_answer(completed: Completed, reason: str) -> None:
    result = judged(completed)
    assert not result.ok
    assert reason in (result.reason or "")


@pytest.mark.parametrize(
    ("values", "percent", "right"),
    [([], 50, 0.0), ([3.0], 95, 3.0), ([4.0, 1.0, 3.0, 2.0], 50, 2.5), ([float(i) for i in range(1, 12)], 95, 10.5)],
)
def test_percentile(values: list[float], percent: float, right: float) -> None:
    assert bench.percentile(values, percent) == right


# ----------------------------------------------------------------------------- real children, without a pose stack


@pytest.fixture
def fake_torch(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """An environment in which `import torch` runs the given code: what a broken installation does."""

    def make(code: str) -> dict[str, str]:
        (tmp_path / "torch.py").write_text(code, encoding="utf-8")
        return {**os.environ, "PYTHONPATH": str(tmp_path)}

    return make


def smoke_with(env: dict[str, str], deadline: float = 60.0) -> Bench:
    return bench.run_bench(sys.executable, models=("coco",), deadline=deadline, env=env)[0]


def test_a_segfault_is_named_with_its_place(fake_torch: Callable[[str], dict[str, str]]) -> None:
    reason = smoke_with(fake_torch("import ctypes\ndef load(): ctypes.string_at(0)\nload()")).reason
    assert reason == "The run crashed with SIGSEGV in string_at (ctypes/__init__.py)."


def test_a_hang_ends_at_the_deadline(fake_torch: Callable[[str], dict[str, str]]) -> None:
    assert smoke_with(fake_torch("import time\ntime.sleep(60)"), 1.0).reason == (
        "No answer within 1 s; the run was ended."
    )


def test_an_import_error_is_quoted(fake_torch: Callable[[str], dict[str, str]]) -> None:
    env = fake_torch("print('chatter')\nraise ImportError('libcudart.so.12: cannot open shared object file')")
    message = "ImportError: libcudart.so.12: cannot open shared object file"
    assert smoke_with(env).reason == message
    assert bench.run_ops(sys.executable, 60.0, env=env) == (
        OpCheck(op="mmcv.ops", ok=False, max_abs_error=None, tolerance=0.0, message=message),
    )


def test_the_inside_script_is_python_3_7() -> None:
    ast.parse((bench.HERE / "inside_smoke.py").read_text(encoding="utf-8"), feature_version=(3, 7))


def test_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    (check,) = bench.run_ops(str(tmp_path / "python"))
    assert not check.ok
    assert "could not be started" in (check.message or "")


# --------------------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"models": ("coco", "mpii")}, "no such model to run: mpii; expected coco or ap10k"),
        ({"models": ()}, r"no such model to run: \(none\)"),
        ({"device": "gpu"}, "no such device: gpu"),
        ({"runs": 0}, "0 timed runs"),
        ({"config": "rtmpose-m_8xb256-420e_coco-256x192"}, "is not a config: the path of a .py file is expected"),
        ({"config": "nowhere/config.py"}, "the config nowhere/config.py is not there"),
        ({"image": "nowhere.jpg"}, "the image nowhere.jpg is not there"),
        ({"image": "."}, ". is no file"),
        ({"checkpoint": "k.pth"}, "a checkpoint was given without its config"),
        ({"checkpoint": "k.pth", "models": ("coco",)}, "the checkpoint k.pth is not there"),
        ({"picture": "nowhere/p.png"}, "no folder to write the picture"),
    ],
)
def test_wrong_arguments_start_nothing(arguments: dict, what: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=what):
        bench.run_bench(str(tmp_path / "no-python"), **arguments)


@pytest.mark.parametrize("name", ["rtmpose-m_coco-256x192-{}_20230126.pth", "best_coco_AP_epoch_210-{}.pth"])
def test_the_name_of_a_checkpoint_promises_its_hash(name: str, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"weights").hexdigest()
    good, bad = tmp_path / name.format(digest[:8]), tmp_path / name.format("0badc0de")
    for path in (good, bad):
        path.write_bytes(b"weights")
    assert bench.checked_sha256(good) == digest
    with pytest.raises(UsageError, match=f"begins with {digest[:8]}, its name promises 0badc0de"):
        bench.checked_sha256(bad)


def test_a_name_without_a_hash_promises_nothing(tmp_path: Path) -> None:
    for name in ("epoch_210.pth", "horse-2024.pth", "horse-20240131.pth"):
        (tmp_path / name).write_bytes(b"weights")
        assert bench.checked_sha256(tmp_path / name)


def test_pictures_of_several_models_do_not_overwrite_each_other() -> None:
    assert bench.picture_of("out/p.png", "coco", several=True) == str(Path("out/p-coco.png"))
    assert bench.picture_of("out/p.png", "coco", several=False) == "out/p.png"


# ----------------------------------------------------------------------------------------------- the real thing


@pytest.fixture(scope="module")
def python() -> str:
    """The interpreter of a provisioned environment."""
    prefix = os.environ.get("MMDOCTOR_TEST_ENV")
    if prefix is None:
        pytest.skip("MMDOCTOR_TEST_ENV names no environment with the MMPose stack; the Makefile sets it")
    return str(Path(prefix) / "bin" / "python")


@pytest.mark.essential
@pytest.mark.parametrize(("threads", "together"), [("1", False), ("2", True)])
def test_real_bench(python: str, threads: str, together: bool, tmp_path: Path) -> None:
    picture = tmp_path / "pose.png"
    env = {**os.environ, "OMP_NUM_THREADS": threads}
    results = bench.run_bench(python, device="cpu", runs=2, picture=str(picture), env=env, together=together)
    assert [result.reason for result in results] == [None, None]
    assert {result.keypoints.max_abs_error for result in results} == {0.0}
    for name in ("coco", "ap10k"):
        assert (tmp_path / f"pose-{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.essential
def test_real_cuda_where_there_is_none(python: str) -> None:
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    (check,) = bench.run_ops(python, device="cuda", env=env)
    assert "torch.cuda.is_available() is False" in (check.message or "")


@pytest.mark.essential
def test_real_ops_go_through_the_compiled_extension(python: str) -> None:
    checks = bench.run_ops(python, device="cpu")
    assert {check.op: check.max_abs_error for check in checks} == dict.fromkeys(bench.reference().ops, 0.0)
    assert [check.op for check in checks if check.message] == ["multi_scale_deformable_attention"]


WRITE_CHECKPOINTS = """
import sys, numpy, torch
sys.path.insert(0, sys.argv[1])
import inside_smoke
from mmengine.logging import MessageHub
model = inside_smoke.build(sys.argv[2], None, "cpu")
state = model.state_dict()
hub = MessageHub.get_instance("smoke")
hub.update_scalar("train/loss", numpy.float64(1.5))
meta = {"dataset_meta": model.dataset_meta, "epoch": 420}
torch.save({"meta": meta, "state_dict": state, "message_hub": hub.state_dict()}, "whole.pth")
del state["head.cls_x.weight"]
torch.save({"state_dict": state}, "part.pth")
"""


@pytest.mark.essential
def test_real_files_of_the_user(python: str, tmp_path: Path) -> None:
    script = tmp_path / "write.py"
    script.write_text(WRITE_CHECKPOINTS, encoding="utf-8")
    argv = (python, str(script), str(bench.HERE), COCO.config)
    written = system.run(argv, deadline=300, cwd=tmp_path)
    assert written.ok, written.stderr

    def run(checkpoint: str, **arguments: str) -> Bench:
        (result,) = bench.run_bench(
            python, models=("coco",), checkpoint=str(tmp_path / checkpoint), device="cpu", runs=1, **arguments
        )
        return result

    result = run("whole.pth")  # a training checkpoint: NumPy arrays and log buffers beside the weights
    assert (result.reason, result.weights.kind, result.keypoints.max_abs_error) == (None, "checkpoint", None)
    with pytest.raises(UsageError, match=r"does not fit the config: 1 weights .* head\.cls_x\.weight"):
        run("part.pth")
    with pytest.raises(UsageError, match=r"write\.py is not an image"):
        run("whole.pth", image=str(script))
    with pytest.raises(UsageError, match="cannot write the picture"):
        run("whole.pth", picture=str(tmp_path / "pose.docx"))
