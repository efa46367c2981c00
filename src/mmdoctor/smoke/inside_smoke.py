"""Runs inside the target interpreter, alone: golden mmcv ops, then one pose model through the public mmpose API.

Reads one JSON request from standard input and writes one line to standard output: `MARK` and a JSON answer. Whatever
the libraries print goes to standard error. Python 3.7 syntax; imports nothing of mmdoctor.

Request: `device` (auto, cpu or cuda) and `model`, null for the ops alone, else `config` (a path, or relative to the
configs inside the mmpose wheel), `checkpoint`, `image` and `picture` (paths or null), `runs`. `turn` is null or a file:
whoever has it locked works, the others have imported all and wait. Answer: what was seen,
never a verdict; `error` is the exception that ended it, and its `input` says whether a file that the user named is to
blame. Times are milliseconds, sizes bytes.
"""

import contextlib
import faulthandler
import importlib
import json
import math
import os
import pickle
import sys
import time
import traceback
import zlib

MARK = "mmdoctor-smoke: "
BINS = 16
SEED = 736  # of 1500 tried by tools/make_reference.py, the one with the widest margin on both reference models
PACKAGES = ("torch", "torchvision", "mmcv", "mmengine", "mmdet", "mmpose", "numpy", "cv2")


class InputError(Exception):
    """A file that the request names cannot be used."""


# ------------------------------------------------------------------------------------------- deterministic numbers


def noise(name, count, seed=0):
    """`count` float64 values, near normal with mean 0 and deviation 1, the same on every machine and version.

    Sums of four 16-bit words of NumPy's raw PCG64 stream, which NumPy keeps stable (NEP 19). torch's own generators
    promise nothing across releases, and exp, log and sin differ between math libraries in the last bit.
    """
    import numpy as np

    words = np.random.PCG64([seed, zlib.crc32(name.encode())]).random_raw(count).view(np.uint16).reshape(count, 4)
    return (words.sum(axis=1, dtype=np.int64) - 131070) * (3.0**0.5 / 65536)


def smooth_image(height=480, width=640):
    """A BGR image of overlapping parabolic waves, by integer arithmetic: no codec is involved."""
    import numpy as np

    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    waves = ((3, 1, 700), (-2, 5, 900), (1, -4, 1100))
    phases = [(a * x + b * y + x * y // 400) % period / period for a, b, period in waves]
    return np.stack([(1020 * p * (1 - p)).astype(np.uint8) for p in phases], axis=-1)


def fill_weights(model, seed=SEED):
    """Give every stored number of the model a value that depends on its name only.

    Weights are scaled by fan-in with gain sqrt(2): measured on RTMPose-m, signals stay between 1 and 20 from the stem
    to the head, so that the output depends on the image (swapped channels change it by 7 %) and rounding does not grow.
    """
    import torch

    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        last = name.rsplit(".", 1)[-1]
        values = noise(name, tensor.numel())
        if last == "running_var":
            values = 1 + 0.1 * abs(values)
        elif last in ("bias", "beta", "running_mean"):
            values = 0.1 * values
        elif last == "gamma":  # of the attention: larger values would drown its shortcut
            values = 0.3 + 0.03 * values
        elif tensor.dim() < 2:
            values = 1 + 0.1 * values
        else:
            values = values * (2 * tensor.shape[0] / tensor.numel()) ** 0.5
        tensor.copy_(torch.from_numpy(values).reshape(tensor.shape))
    for name in ("cls_x", "cls_y"):
        layer = getattr(getattr(model, "head", None), name, None)
        if layer is not None:
            bins, features = layer.weight.shape
            layer.weight.copy_(torch.from_numpy(output_layer(name, bins, features, seed)))


def output_rows(bins):
    """The bins of a SimCC axis that can win: in its middle 40 %, which the image fills, and mirrored, so that a flip
    test adds them up one by one."""
    left = [bins * (25 + 2 * i) // 80 for i in range(BINS // 2)]
    return left + [bins - 1 - row for row in left]


def output_layer(name, bins, features, seed):
    """The weight of `cls_x` or `cls_y`, zero but for `output_rows`.

    A keypoint is an argmax: were all bins random, some runner-up would lie within rounding noise of its winner. With
    few bins, and a seed chosen for it, every winner is ahead by far more than any noise.
    """
    import numpy as np

    weight = np.zeros((bins, features))
    weight[output_rows(bins)] = noise(name, BINS * features, seed).reshape(BINS, features) / (4 * features**0.5)
    return weight


# --------------------------------------------------------------------------------------------------------- the ops
# All inputs are multiples of small powers of two, few bits wide: sums and products are exact in float32 and even in
# TF32, in any order. So the right answer is one exact set of numbers on every machine.


def eighths(shape, device, step=7):
    """A tensor of the multiples of 1/8 from -1 to 1, in a scrambled order."""
    import torch

    index = torch.arange(torch.Size(shape).numel())
    return (((index * step + 3) % 17 - 8).to(torch.float32) / 8).reshape(shape).to(device)


def op_nms(device):
    """Which of 24 boxes survive, best score first."""
    import torch
    from mmcv.ops import nms

    i = torch.arange(24)
    corner = torch.stack([i * 37 % 64, i * 53 % 48], dim=1)
    size = torch.stack([16 + i % 5 * 4, 16 + i % 3 * 8], dim=1)
    boxes = torch.cat([corner, corner + size], dim=1).to(torch.float32).to(device)
    scores = ((i * 29 % 31 + 1).to(torch.float32) / 32).to(device)
    return nms(boxes, scores, 0.3)[1]


def op_roi_align(device):
    """Two regions of an 8x8 map, pooled to 2x2."""
    import torch
    from mmcv.ops import roi_align

    regions = torch.tensor([[0, 1, 1, 5, 5], [0, 0.5, 2, 7, 6]], dtype=torch.float32, device=device)
    return roi_align(eighths((1, 2, 8, 8), device), regions, 2, 1.0, 2, "avg", True)


def op_deform_conv2d(device):
    """A 3x3 convolution of a 4x4 map with offsets in quarters of a cell."""
    from mmcv.ops import deform_conv2d

    offset = eighths((1, 18, 4, 4), device, step=5).mul(4).round().div(4)
    return deform_conv2d(eighths((1, 2, 4, 4), device), offset, eighths((3, 2, 3, 3), device, step=3), 1, 1)


def op_multi_scale_deformable_attention(device):
    """Three queries, two heads, two levels, two points each."""
    import torch
    from mmcv.ops import multi_scale_deform_attn as op

    value = eighths((1, 20, 2, 4), device)
    shapes = torch.tensor([[4, 4], [2, 2]], device=device)
    places = (eighths((1, 3, 2, 2, 2, 2), device, step=5) + 1) / 2
    weights = (eighths((1, 3, 2, 2, 2), device, step=3) + 1) / 2
    if device == "cpu":
        return op.multi_scale_deformable_attn_pytorch(value, shapes, places, weights)
    starts = torch.tensor([0, 16], device=device)
    return op.MultiScaleDeformableAttnFunction.apply(value, shapes, starts, places, weights, 64)


OPS = (
    ("nms", "nms", op_nms),
    ("roi_align", "roi_align", op_roi_align),
    ("deform_conv2d", "deform_conv", op_deform_conv2d),
    ("multi_scale_deformable_attention", "multi_scale_deform_attn", op_multi_scale_deformable_attention),
)


def run_ops(device):
    """Every op's output by name, as flat `values`, or the `error` it ended with; `compiled` names the binary used."""
    return {name: run_op(module, function, device) for name, module, function in OPS}


def run_op(module, function, device):
    try:
        extension = importlib.import_module("mmcv.ops." + module).ext_module
        values = function(device)
        fallback = device == "cpu" and module == "multi_scale_deform_attn"  # mmcv has no CPU kernel for this one
        binary = None if fallback else os.path.basename(extension.__file__)
        return {"values": plain(values.detach().cpu().flatten().tolist()), "compiled": binary}
    except Exception as error:
        traceback.print_exc()
        return {"error": describe(error)}


# ------------------------------------------------------------------------------------------------------- the model


def milliseconds():
    return time.perf_counter() * 1000


def pick_device(wanted):
    import torch

    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise RuntimeError("a CUDA device was asked for, and torch.cuda.is_available() is False")
    return "cuda" if available and wanted != "cpu" else "cpu"


def wait_for(device):
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def read_image(path):
    import cv2

    if path is None:
        return smooth_image()
    image = cv2.imread(path)
    if image is None:
        raise InputError("%s is not an image that OpenCV can read" % path)
    return image


def build(config, checkpoint, device):
    """The model as mmpose builds it, with the checkpoint's weights or seeded ones."""
    import mmpose
    import torch
    from mmpose.apis import init_model

    shipped = os.path.join(os.path.dirname(mmpose.__file__), ".mim", "configs")
    # Without a checkpoint init_model drops the backbone's `init_cfg`, so nothing is downloaded.
    model = init_model(os.path.join(shipped, config), None, device=device)
    with torch.no_grad():
        if checkpoint is None:
            fill_weights(model)
        else:
            load_weights(model, checkpoint)
    return model


def trusted():
    """What checkpoints of mmengine hold besides tensors: NumPy arrays and log buffers.

    From torch 2.6 on `torch.load` refuses every other class and function; these are named to it while one file loads.
    """
    import numpy as np
    from mmengine.logging import HistoryBuffer

    def buffer_method(owner, name):
        if owner is not HistoryBuffer:
            raise InputError("the checkpoint asks for %s of %r, which no log buffer needs" % (name, owner))
        return getattr(owner, name)

    arrays = importlib.import_module("numpy._core.multiarray" if hasattr(np, "_core") else "numpy.core.multiarray")
    found = [HistoryBuffer, np.ndarray, np.dtype] + [type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd"]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):  # written under NumPy 1, or 2
        found += [named(getattr(arrays, name), module, name) for name in ("_reconstruct", "scalar")]
    return found + [named(buffer_method, module, "getattr") for module in ("builtins", "__builtin__")]


def named(function, module, name):
    """The same function under the name that a pickle calls it by."""

    def alias(*args):
        return function(*args)

    alias.__module__, alias.__name__, alias.__qualname__ = module, name, name
    return alias


def load_weights(model, path):
    """Load a checkpoint and insist that it fits: mmengine only logs what is missing."""
    import torch
    from mmengine.runner import CheckpointLoader

    allow = getattr(torch.serialization, "safe_globals", None)
    try:
        with contextlib.nullcontext() if allow is None else allow(trusted()):
            checkpoint = CheckpointLoader.load_checkpoint(path, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        why = str(error).split("WeightsUnpickler error:")[-1].strip().split("\n")[0]  # without torch's advice
        raise InputError("torch.load does not read %s: %s" % (path, why or type(error).__name__)) from error
    state = checkpoint.get("state_dict", checkpoint)
    state = {name[7:] if name.startswith("module.") else name: tensor for name, tensor in state.items()}
    try:
        missing = model.load_state_dict(state, strict=False).missing_keys
    except RuntimeError as error:  # a shape differs
        raise InputError("%s does not fit the config: %s" % (path, " ".join(str(error).split()))) from error
    if missing:
        text = "%s does not fit the config: %d weights of the model are not in it, the first is %s"
        raise InputError(text % (path, len(missing), missing[0]))
    meta = checkpoint.get("meta", {}).get("dataset_meta")
    if meta is not None:
        model.dataset_meta = meta


def time_forward(model, device):
    """Wrap what `predict` calls of backbone, neck and head; returns the dictionary that their times are added to."""
    spent = {"began": 0.0, "forward": 0.0}

    def timed(function):
        def call(*args, **kwargs):
            wait_for(device)
            start = milliseconds()
            spent["began"] = spent["began"] or start
            result = function(*args, **kwargs)
            wait_for(device)
            spent["forward"] += milliseconds() - start
            return result

        return call

    model.extract_feat = timed(model.extract_feat)
    if model.with_head:
        model.head.forward = timed(model.head.forward)
    return spent


def margin(outputs):
    """How far the best bin of a SimCC axis is ahead of the second, as a share of its value: the narrowest of all."""
    if not isinstance(outputs, tuple) or any(axis.dim() != 3 for axis in outputs):
        return None
    best = [axis.topk(2, dim=-1).values for axis in outputs]
    return min(float(((top[..., 0] - top[..., 1]) / top[..., 0]).min()) for top in best)


def run_model(request, device, answer):
    """Build, infer once, then `runs` times; fills `answer` as it goes."""
    import numpy as np
    import torch
    from mmpose.apis import inference_topdown

    image = read_image(request["image"])
    start = milliseconds()
    model = build(request["config"], request["checkpoint"], device)
    wait_for(device)
    answer["init_ms"] = milliseconds() - start

    decode, decoded = model.head.decode, []
    model.head.decode = lambda outputs: decoded.append(outputs) or decode(outputs)
    spent = time_forward(model, device)
    start = milliseconds()
    result = inference_topdown(model, image)[0].pred_instances
    answer["first_ms"] = milliseconds() - start
    model.head.decode = decode

    keypoints, scores = np.asarray(result.keypoints)[0, :, :2], np.asarray(result.keypoint_scores)[0]
    answer["keypoints"], answer["scores"] = plain(keypoints.tolist()), plain(scores.tolist())
    answer["expected_count"] = model.dataset_meta["num_keypoints"]
    answer["margin"] = plain(margin(decoded[0]))

    answer["runs_ms"] = []
    for _ in range(request["runs"]):
        spent.update(began=0.0, forward=0.0)
        start = milliseconds()
        inference_topdown(model, image)
        total, before = milliseconds() - start, spent["began"] - start
        answer["runs_ms"].append([total, before, spent["forward"], total - before - spent["forward"]])
    if device == "cuda":
        answer["gpu_peak_bytes"] = torch.cuda.max_memory_allocated()
    if request["picture"] is not None:
        draw(image, keypoints, scores, model.dataset_meta.get("skeleton_links", []), request["picture"])


def draw(image, keypoints, scores, links, path):
    """Write the image with the skeleton, and beside each keypoint its score."""
    import cv2
    import numpy as np

    canvas = np.ascontiguousarray(image).copy()
    points = [(int(round(float(x))), int(round(float(y)))) for x, y in keypoints]
    for a, b in links:
        cv2.line(canvas, points[int(a)], points[int(b)], (255, 255, 255), 2, cv2.LINE_AA)
    for point, score in zip(points, scores):
        cv2.circle(canvas, point, 4, (0, 0, 255), -1, cv2.LINE_AA)
        place = (point[0] + 6, point[1] - 6)
        for color, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(canvas, "%.2f" % score, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, color, width, cv2.LINE_AA)
    try:
        written = cv2.imwrite(path, canvas)
    except cv2.error:
        written = False
    if not written:
        raise InputError("OpenCV cannot write the picture %s" % path)


# ------------------------------------------------------------------------------------------------------ the answer


def plain(value):
    """Lists of floats with null for what is not finite: JSON has no word for it."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value if value is None or math.isfinite(value) else None


def describe(error):
    return {"type": type(error).__name__, "message": str(error), "input": isinstance(error, InputError)}


def versions():
    found = {"python": "%d.%d.%d" % sys.version_info[:3]}
    for name in PACKAGES:
        module = sys.modules.get(name)
        if hasattr(module, "__version__"):
            found["opencv" if name == "cv2" else name] = str(module.__version__)
    cuda = getattr(getattr(sys.modules.get("torch"), "version", None), "cuda", None)
    if cuda:
        found["cuda"] = cuda
    return found


def rss_peak():
    """Peak resident bytes of this process, 0 where the system does not say."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def take_turn(file):
    """Import what the work needs, then wait until nobody else works; the end of the process passes the turn on."""
    import fcntl

    import mmcv.ops  # noqa: F401
    import mmpose.apis  # noqa: F401

    turn = open(file)  # noqa: SIM115
    fcntl.flock(turn, fcntl.LOCK_EX)
    return turn


def look(request, answer):
    turn = request["turn"] and take_turn(request["turn"])  # noqa: F841  held until the process ends
    device = answer["device"] = pick_device(request["device"])
    answer["ops"] = run_ops(device)
    if request["model"] is not None:
        run_model(request["model"], device, answer)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]
    output = os.dup(1)
    os.dup2(2, 1)
    faulthandler.enable()
    request, answer = json.load(sys.stdin), {}
    try:
        look(request, answer)
    except Exception as error:
        traceback.print_exc()
        answer["error"] = describe(error)
    answer.update(versions=versions(), rss_peak_bytes=rss_peak())
    with os.fdopen(output, "w") as stream:
        stream.write(MARK + json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
