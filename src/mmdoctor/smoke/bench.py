"""Ask the target interpreter for a smoke run and judge what it answers against `reference.json`."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Optional

import msgspec

from mmdoctor import system
from mmdoctor.errors import UsageError
from mmdoctor.model import Bench, Keypoints, Latency, Memory, OpCheck, Value, Weights
from mmdoctor.system import Completed
from mmdoctor.work import Background

HERE = Path(__file__).parent
MARK = "mmdoctor-smoke: "  # as in inside_smoke.py
MODELS = ("coco", "ap10k")
# OpenMP's threads spin while they wait, and so take the cores from the other model and from whatever else runs: on two
# cores under a load of 12 there was no inference in 250 s, and with this one in 0.4 to 2 s.
PATIENT = {"OMP_WAIT_POLICY": "passive"}
OPS_DEADLINE = 120.0  # seconds; importing torch and mmcv.ops takes 2 s warm, 40 s from a cold network disk

# OpenMMLab publishes `NAME-<sha256, 8 digits>.pth` and `NAME-<sha256>_<date>.pth` (tools/misc/publish_model.py).
# Eight digits that read as a date are one.
HASH_IN_NAME = re.compile(r"-(?!20[0-3]\d[01]\d[0-3]\d\.)([0-9a-f]{8})(?:_\d{8})?\.pth$")
# faulthandler's first frame: the innermost Python function that a crash happened in, in a file of a folder.
CRASH_FRAME = re.compile(
    r'\(most recent call first\):\s*\n\s*File "(?:.*[\\/])?([^"\\/]+[\\/][^"\\/]+)", line \d+ in (\S+)'
)


# ------------------------------------------------------------------------------------------- what is read and written


class ModelReference(Value, frozen=True, kw_only=True):
    """Right numbers of one seeded model: pixels of the input image, and scores (no unit), with their tolerances."""

    config: str
    keypoints: tuple[tuple[float, float], ...]
    scores: tuple[float, ...]
    margin: float
    tolerance_px: float
    tolerance_score: float


class OpReference(Value, frozen=True, kw_only=True):
    values: tuple[float, ...]
    tolerance: float


class Reference(Value, frozen=True, kw_only=True):
    """`reference.json`, written by tools/make_reference.py. `notes` say how the numbers and tolerances came about."""

    notes: tuple[str, ...]
    versions: dict[str, str]
    models: dict[str, ModelReference]
    ops: dict[str, OpReference]


class Failure(Value, frozen=True, kw_only=True):
    type: str
    message: str
    input: bool


class OpAnswer(Value, frozen=True, kw_only=True):
    """`compiled` is the file name of the extension that ran, None when mmcv has only PyTorch code for it."""

    values: tuple[Optional[float], ...] = ()
    compiled: Optional[str] = None
    error: Optional[Failure] = None


class Answer(Value, frozen=True, kw_only=True):
    """What `inside_smoke.py` writes; each row of `runs_ms` is total, preprocess, forward, postprocess."""

    versions: dict[str, str]
    rss_peak_bytes: int
    device: str = ""
    ops: dict[str, OpAnswer] = msgspec.field(default_factory=dict)
    keypoints: tuple[tuple[Optional[float], Optional[float]], ...] = ()
    scores: tuple[Optional[float], ...] = ()
    expected_count: int = 0
    margin: Optional[float] = None
    init_ms: float = 0.0
    first_ms: float = 0.0
    runs_ms: tuple[tuple[float, float, float, float], ...] = ()
    gpu_peak_bytes: Optional[int] = None
    error: Optional[Failure] = None


class Job(Value, frozen=True, kw_only=True):
    """The `model` part of a request."""

    config: str
    checkpoint: Optional[str]
    image: Optional[str]
    picture: Optional[str]
    runs: int


@cache
def reference() -> Reference:
    """The reference values that ship with mmdoctor."""
    return msgspec.json.decode((HERE / "reference.json").read_bytes(), type=Reference)


# ------------------------------------------------------------------------------------------------------------ public


def run_bench(
    python: str,
    *,
    models: Sequence[str] = MODELS,
    config: Optional[str] = None,
    checkpoint: Optional[str] = None,
    image: Optional[str] = None,
    device: str = "auto",
    runs: int = 10,
    picture: Optional[str] = None,
    deadline: float = 300.0,
    env: Optional[Mapping[str, str]] = None,
    together: bool = False,
) -> tuple[Bench, ...]:
    """Run each of `models` (or the one of `config`) in a process of its own by the interpreter `python`.

    `deadline` is in seconds and for each model. `runs` is how many inferences are timed. The processes run one after
    the other; `together`, for a verdict and not for its times, they import side by side and take turns from there on.
    Whatever happens inside is a Bench, with `ok` False and a `reason`; UsageError is raised for a wrong argument or an
    unusable file of the user's.
    """
    weights = check_input(
        models=models,
        config=config,
        checkpoint=checkpoint,
        image=image,
        device=device,
        runs=runs,
        picture=picture,
    )
    names = ("",) if config is not None else tuple(models)
    jobs = {
        name: Job(
            config=str(Path(config).resolve()) if config else reference().models[name].config,
            checkpoint=_absolute(checkpoint),
            image=_absolute(image),
            picture=_absolute(picture_of(picture, name, several=len(names) > 1)),
            runs=runs,
        )
        for name in names
    }
    if together and os.name == "posix":
        with NamedTemporaryFile(prefix="mmdoctor-turn-") as turn:
            patient = {**PATIENT, **(os.environ if env is None else env)}
            turns = (_request(device, job, turn.name) for job in jobs.values())
            asked = [Background(_ask, python, request, deadline, patient) for request in turns]
            answers = [answer.result() for answer in asked]
    else:
        answers = [_ask(python, _request(device, job), deadline, env) for job in jobs.values()]
    return tuple(
        judge(
            completed,
            Path(job.config).stem,
            weights,
            None if config or checkpoint or image else reference().models[name],
            deadline,
        )
        for (name, job), completed in zip(jobs.items(), answers)
    )


def run_ops(
    python: str, deadline: float = OPS_DEADLINE, *, device: str = "auto", env: Optional[Mapping[str, str]] = None
) -> tuple[OpCheck, ...]:
    """Run the golden mmcv ops alone, by the interpreter `python`, for at most `deadline` seconds. Never raises."""
    completed = _ask(python, _request(device, None), deadline, env)
    answer = parse(completed.stdout)
    problem = ended_badly(completed, answer, deadline)
    checks = judge_ops(answer.ops) if answer is not None and answer.ops else ()
    if problem is None:
        return checks
    return (*checks, OpCheck(op="mmcv.ops", ok=False, max_abs_error=None, tolerance=0.0, message=problem))


def _request(device: str, job: Optional[Job], turn: Optional[str] = None) -> object:
    return {"device": device, "model": msgspec.to_builtins(job), "turn": turn}


def _ask(python: str, request: object, deadline: float, env: Optional[Mapping[str, str]]) -> Completed:
    argv = (python, str(HERE / "inside_smoke.py"))
    return system.run(argv, deadline=deadline, env=env, text=json.dumps(request))


def _absolute(path: Optional[str]) -> Optional[str]:
    return None if path is None else str(Path(path).resolve())


def picture_of(picture: Optional[str], name: str, *, several: bool) -> Optional[str]:
    """Where the picture of one model goes: with several models, its name stands before the suffix."""
    if picture is None or not several:
        return picture
    path = Path(picture)
    return str(path.with_name(f"{path.stem}-{name}{path.suffix}"))


# ------------------------------------------------------------------------------------------------------- the arguments


def check_input(
    *,
    models: Sequence[str],
    config: Optional[str],
    checkpoint: Optional[str],
    image: Optional[str],
    device: str,
    runs: int,
    picture: Optional[str],
) -> Weights:
    """What the weights will be; UsageError for anything that can be seen to be wrong before a process starts."""
    unknown = [name for name in models if name not in MODELS]
    if unknown or not models:
        raise UsageError(
            f"no such model to run: {', '.join(unknown) or '(none)'}; expected {' or '.join(MODELS)}",
            "for a model of your own, give its config file",
        )
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"no such device: {device}; expected auto, cpu or cuda")
    if runs < 1:
        raise UsageError(f"{runs} timed runs; expected at least 1")
    if config is not None:
        hint = "configs that came with mmpose are in its package folder, under mmpose/.mim/configs"
        if not config.endswith(".py"):
            raise UsageError(f"{config} is not a config: the path of a .py file is expected, not a model's name", hint)
        _must_be_file(config, "config", hint)
    if image is not None:
        _must_be_file(image, "image", "give the path of a picture that OpenCV reads, such as .jpg or .png")
    if picture is not None and not Path(picture).resolve().parent.is_dir():
        raise UsageError(f"no folder to write the picture {picture} into", "make the folder, or choose another")
    if checkpoint is None:
        return Weights(kind="seeded", file=None, sha256=None)
    if config is None and len(models) != 1:
        raise UsageError("a checkpoint was given without its config", "name the config that it was trained with")
    _must_be_file(checkpoint, "checkpoint", "give the path of a downloaded .pth file")
    return Weights(kind="checkpoint", file=Path(checkpoint).name, sha256=checked_sha256(Path(checkpoint)))


def _must_be_file(path: str, what: str, hint: str) -> None:
    if not Path(path).is_file():
        raise UsageError(f"the {what} {path} is not there" if not Path(path).exists() else f"{path} is no file", hint)


def checked_sha256(path: Path) -> str:
    """The sha256 of a checkpoint; UsageError when its own name promises another one."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    promised = HASH_IN_NAME.search(path.name)
    if promised and not digest.hexdigest().startswith(promised[1]):
        raise UsageError(
            f"{path.name} is damaged or not what it says: its sha256 begins with {digest.hexdigest()[:8]}, "
            f"its name promises {promised[1]}",
            "download the checkpoint again",
        )
    return digest.hexdigest()


# --------------------------------------------------------------------------------------------------------- the verdict


def parse(stdout: str) -> Optional[Answer]:
    """The answer among whatever else was printed, or None when there is none."""
    lines = [line for line in stdout.splitlines() if line.startswith(MARK)]
    try:
        return msgspec.json.decode(lines[-1][len(MARK) :], type=Answer) if lines else None
    except msgspec.MsgspecError:
        return None


def ended_badly(completed: Completed, answer: Optional[Answer], deadline: float) -> Optional[str]:
    """A sentence on a process that did not come to its end, or None."""
    code = completed.returncode
    if completed.timed_out:
        return f"No answer within {deadline:g} s; the run was ended."
    if code == system.NOT_STARTED and answer is None:
        return f"The interpreter could not be started: {completed.stderr.strip()}"
    if code < 0:
        place = CRASH_FRAME.search(completed.stderr)
        where = f" in {place[2]} ({place[1]})" if place else ""
        return f"The run crashed with {_signal_name(-code)}{where}."
    if answer is None or code != 0:
        last = (completed.stderr.strip().splitlines() or ["nothing on standard error"])[-1]
        return f"The run ended with status {code} and no usable answer: {last}"
    if answer.error is not None:
        return _in_one_line(answer.error)
    return None


def _in_one_line(failure: Failure) -> str:
    """The exception's type and the first line of its message; torch appends paragraphs of advice to some."""
    return ": ".join((failure.type, *failure.message.strip().splitlines()[:1]))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def judge(
    completed: Completed, model: str, weights: Weights, expected: Optional[ModelReference], deadline: float
) -> Bench:
    """The Bench of one run. UsageError when a file that the user named turned out unusable inside the target."""
    answer = parse(completed.stdout)
    if answer is not None and answer.error is not None and answer.error.input:
        raise UsageError(
            answer.error.message, "check that the file is whole, and that config and checkpoint belong together"
        )
    problem = ended_badly(completed, answer, deadline)
    if answer is None:
        answer = Answer(versions={}, rss_peak_bytes=0)
    ops = judge_ops(answer.ops) if answer.ops else ()
    keypoints = compare(answer, expected)
    reason = problem or wrong_numbers(answer, keypoints, expected) or wrong_ops(ops)
    totals = [run[0] for run in answer.runs_ms]
    preprocess, forward, postprocess = (percentile([run[part] for run in answer.runs_ms], 50) for part in (1, 2, 3))
    return Bench(
        ok=reason is None,
        reason=reason,
        device=answer.device,
        model=model,
        weights=weights,
        keypoints=keypoints,
        latency_ms=Latency(
            init=answer.init_ms,
            first=answer.first_ms,
            p50=percentile(totals, 50),
            p95=percentile(totals, 95),
            preprocess=preprocess,
            forward=forward,
            postprocess=postprocess,
        ),
        throughput_per_s=1000 * len(totals) / sum(totals) if totals else 0.0,
        memory=Memory(rss_peak_bytes=answer.rss_peak_bytes, gpu_peak_bytes=answer.gpu_peak_bytes),
        ops=ops,
        versions=answer.versions,
        runs=len(totals),
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """The percentile with linear interpolation between the two nearest ranks; 0.0 of nothing."""
    if not values:
        return 0.0
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def largest_difference(seen: Sequence[Optional[float]], right: Sequence[float]) -> Optional[float]:
    """The largest absolute difference, or None when the lengths differ or a value is not finite."""
    finite = [value for value in seen if value is not None]
    if len(finite) != len(seen) or len(seen) != len(right):
        return None
    return max((abs(a - b) for a, b in zip(finite, right)), default=0.0)


def _flat(points: Sequence[Sequence[Optional[float]]]) -> list[Optional[float]]:
    return [value for point in points for value in point]


def compare(answer: Answer, expected: Optional[ModelReference]) -> Keypoints:
    """Count, finiteness, and the largest error in pixels where there is a reference."""
    seen = _flat(answer.keypoints)
    right = [] if expected is None else [value for point in expected.keypoints for value in point]
    return Keypoints(
        count=len(answer.keypoints),
        finite=bool(seen) and None not in seen and None not in answer.scores,
        max_abs_error=None if expected is None or not seen else largest_difference(seen, right),
        tolerance=0.0 if expected is None else expected.tolerance_px,
    )


def wrong_numbers(answer: Answer, keypoints: Keypoints, expected: Optional[ModelReference]) -> Optional[str]:
    """A sentence on keypoints that are not what they should be, or None."""
    if keypoints.count != answer.expected_count:
        return f"{keypoints.count} keypoints came out; the dataset of the model has {answer.expected_count}."
    if not keypoints.finite:
        return "Some keypoints or scores are not finite numbers."
    if expected is None:
        return None
    if keypoints.max_abs_error is None:
        return f"{keypoints.count} keypoints came out; the reference has {len(expected.keypoints)}."
    if keypoints.max_abs_error > expected.tolerance_px:
        return (
            f"Keypoints are off by up to {keypoints.max_abs_error:.3g} pixels; "
            f"{expected.tolerance_px:g} are tolerated (the reference is of a known-good stack)."
        )
    error = largest_difference(answer.scores, expected.scores)
    if error is None or error > expected.tolerance_score:
        seen = "incomparable" if error is None else f"off by up to {error:.3g}"
        return f"Keypoint scores are {seen}; {expected.tolerance_score:g} is tolerated (known-good stack)."
    return None


def judge_ops(answers: Mapping[str, OpAnswer]) -> tuple[OpCheck, ...]:
    """Each op of the reference against its golden values; one that did not answer is not ok."""
    return tuple(_judge_op(name, answers.get(name)) for name in reference().ops)


def _judge_op(name: str, answer: Optional[OpAnswer]) -> OpCheck:
    golden = reference().ops[name]
    error = None if answer is None or answer.error else largest_difference(answer.values, golden.values)
    ok = error is not None and error <= golden.tolerance
    if answer is None:
        message: Optional[str] = "It did not run."
    elif answer.error is not None:
        message = _in_one_line(answer.error)
    elif error is None:
        message = f"{len(answer.values)} values came out, {len(golden.values)} finite ones are right."
    elif not ok:
        message = f"Off by up to {error:.3g}; {golden.tolerance:g} is tolerated."
    else:
        message = None if answer.compiled else "mmcv has no compiled code for it on the CPU: its PyTorch code ran."
    return OpCheck(op=name, ok=ok, max_abs_error=error, tolerance=golden.tolerance, message=message)


def wrong_ops(ops: Sequence[OpCheck]) -> Optional[str]:
    """A sentence on the first mmcv op that failed, or None."""
    failed = next((op for op in ops if not op.ok), None)
    return None if failed is None else f"The mmcv op {failed.op} failed. {failed.message}"
