"""The model of a config, one pass through it, weights against it; a part of `inside_config.py`. Python 3.7 syntax."""

import contextlib
import copy
import re
import traceback

from inside_shared import EndError, described, shipped, zoo

IMAGE = (480, 640, 3)
MISMATCH = re.compile(
    r"size mismatch for (\S+): copying a param with shape (.+?) from checkpoint, "
    r"the shape in current model is (.+?)\.(?:\n|$)"
)


def on(device):
    import torch

    return torch.device(device) if device == "meta" else contextlib.nullcontext()


def made(config, device):
    """The model as mmpose.apis.init_model makes it, without weights."""
    from mmengine.model.utils import revert_sync_batchnorm
    from mmpose.models.builder import build_pose_estimator

    wanted = copy.deepcopy(config.model)
    if "backbone" in wanted and "init_cfg" in wanted.backbone:
        wanted.backbone.init_cfg = None
    wanted.train_cfg = None
    with on(device):
        return revert_sync_batchnorm(build_pose_estimator(wanted)).eval()


def build(seen):
    """The model, on torch's meta device where it can be made there: no memory, no time."""
    import torch

    config = seen["config"]
    devices = ["meta"] if hasattr(torch.device("cpu"), "__enter__") else []
    for device in devices:
        try:
            seen["model"] = made(config, device)
            seen["device"] = device
            return {"device": device, "head": of_head(seen["model"])}
        except Exception:
            traceback.print_exc()  # what meta cannot do is no fault: the CPU decides
    seen["model"] = made(config, "cpu")
    seen["device"] = "cpu"
    return {"device": "cpu", "head": of_head(seen["model"])}


def of_head(model):
    """What the head says of its input and output, as far as it does."""
    head = getattr(model, "head", None)
    codec = getattr(head, "decoder", None)
    said = {"type": type(head).__name__} if head is not None else {}
    for key in ("in_channels", "out_channels", "in_featuremap_size", "input_size"):
        value = plain(getattr(head, key, None))
        if value is not None:
            said[key] = value
    for key in ("input_size", "simcc_split_ratio"):
        value = plain(getattr(codec, key, None))
        if value is not None:
            said["decoder.%s" % key] = value
    return said


def plain(value):
    """Numbers and sequences of numbers as text; None of anything else."""
    if isinstance(value, (int, float)):
        return "%g" % value
    if isinstance(value, (list, tuple)) and value and all(isinstance(one, (int, float)) for one in value):
        return "x".join("%g" % one for one in value)
    return None


def feed(seen):
    """A black image through the test pipeline, as inference_topdown does it: the size that the model is given."""
    import numpy as np
    from mmengine.registry import TRANSFORMS
    from mmpose.apis.inference import dataset_meta_from_config

    config = seen["config"]
    loader = next((config[key] for key in ("test_dataloader", "val_dataloader") if config.get(key)), None)
    steps = loader.get("dataset", {}).get("pipeline") if loader else None
    if not steps:
        return {"skipped": "the config has no test_dataloader with a pipeline"}
    if any(kind.__name__ == "PoseLifter" for kind in type(seen["model"]).__mro__):
        return {"skipped": "its input are keypoints, not an image"}
    try:
        meta = dataset_meta_from_config(config) or {}
    except AssertionError:  # of a data set whose options choose its metainfo; the checkpoint has it then
        meta = {}
    height, width = IMAGE[:2]
    data = {
        "img": np.zeros(IMAGE, np.uint8),
        "bbox": np.array([[0, 0, width, height]], np.float32),
        "bbox_score": np.ones(1, np.float32),
    }
    data.update(meta)
    for index, step in enumerate(steps):
        try:
            data = TRANSFORMS.build(step)(data)
        except Exception as error:
            raise EndError(dict(described(error), where="pipeline[%d]" % index, type=str(step.get("type")))) from error
    inputs = data.get("inputs") if isinstance(data, dict) else None
    if inputs is None:
        last = str(steps[-1].get("type"))
        raise EndError({"error": "KeyError", "message": "the test pipeline gives no 'inputs'", "type": last})
    inputs = inputs[0] if isinstance(inputs, (list, tuple)) else inputs
    seen["input"] = [1] + list(inputs.shape)
    count = meta.get("num_keypoints")
    return {"input": seen["input"], "keypoints": count if isinstance(count, int) else None}


def shapes_of(value):
    """The shapes of the tensors in nested tuples, lists and dicts."""
    if hasattr(value, "shape"):
        return [[int(side) for side in value.shape]]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [shape for one in value for shape in shapes_of(one)]
    return []


def run(seen):
    """One pass through backbone, neck and head; when it fails, the innermost module and the shapes that it got."""
    try:
        return passed(seen["model"], seen["input"], seen["device"])
    except EndError:
        if seen["device"] != "meta":
            raise
        traceback.print_exc()  # what meta cannot do is no fault: the CPU decides
    return passed(made(seen["config"], "cpu"), seen["input"], "cpu")


def passed(model, size, device):
    import torch

    inside, features = [], {}

    def enter(name):
        return lambda module, given: inside.append((name, module, shapes_of(given)))

    def leave(name):
        def note(_module, _given, result):
            inside.pop()
            if name in ("backbone", "neck"):
                features[name] = shapes_of(result)

        return note

    for name, module in model.named_modules():
        module.register_forward_pre_hook(enter(name))
        module.register_forward_hook(leave(name))
    try:
        with torch.no_grad():
            outputs = model(torch.zeros(size, device=device), None, mode="tensor")
    except Exception as error:
        named = [one for one in inside if one[0]]
        name, module, got = named[-1] if named else ("", model, [size])
        layer = str(module).split("\n")[0][:200]
        raise EndError(
            dict(described(error), module=name, layer=layer, got=got, features=features, device=device)
        ) from error
    return {"device": device, "features": features, "outputs": shapes_of(outputs)}


def fit(seen, weights, checkpoint):
    """The checkpoint's weights against the model's: by the model's own load_state_dict, with shapes alone."""
    import torch

    model = seen["model"].to("meta")
    given = {re.sub(r"^module\.", "", name): torch.empty(size, device="meta") for name, size in weights.items()}
    differing = []
    own = model.state_dict()
    try:
        result = model.load_state_dict(given, strict=False)
        missing, unexpected = list(result.missing_keys), list(result.unexpected_keys)
    except RuntimeError as error:
        differing = MISMATCH.findall(str(error))
        if not differing:
            raise
        wrong = {name for name, _, _ in differing}
        result = model.load_state_dict({name: one for name, one in given.items() if name not in wrong}, strict=False)
        missing = [name for name in result.missing_keys if name not in wrong]
        unexpected = list(result.unexpected_keys)
    return {
        "of": len(own),
        "given": len(given),
        "missing": [name for name in missing if not name.endswith("num_batches_tracked")],
        "unexpected": unexpected,
        "shapes": [[name, sides(theirs), sides(ours)] for name, theirs, ours in differing],
        "config": next((config for file, config in zoo(shipped()[0]) if file == checkpoint), None),
    }


def sides(text):
    return "x".join(re.findall(r"\d+", text)) or "scalar"
