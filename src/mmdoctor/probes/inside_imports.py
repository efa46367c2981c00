"""Runs inside the target interpreter, alone: imports one thing after the other and reports each on its own line.

Read from standard input by `python - MARK STEP...`. Before a step it prints `MARK {"start": STEP}`, after it
`MARK {"module": STEP, "status": …}`, with the files that a traceback went through, innermost last. It ends at the
first failure: a failed import leaves half-loaded modules behind that change what the next one says (a second
`import torchvision` complains of its own first attempt), so the parent starts a fresh process for the rest. Syntax of
Python 3.7.
"""

import faulthandler
import importlib
import importlib.machinery
import json
import os
import sys
import time
import traceback

REGISTRY_1 = {
    "TopdownPoseEstimator": "mmpose.models",
    "CSPNeXt": "mmdet.models",
    "RTMCCHead": "mmpose.models",
    "SimCCLabel": "mmpose.codecs",
}
REGISTRY_0 = {"TopDown": "mmpose.models", "HRNet": "mmpose.models", "TopdownHeatmapSimpleHead": "mmpose.models"}


def torch_facts(torch):
    data = {"version": torch.__version__, "cuda": str(torch.version.cuda or ""), "file": torch.__file__}
    data["cuda_available"] = str(torch.cuda.is_available())
    if torch.cuda.is_available():
        data["archs"] = " ".join(torch.cuda.get_arch_list())
    return data


def torch_numpy():
    """Hands an array to torch: fails when torch was built for another NumPy generation, though both import."""
    import numpy
    import torch

    torch.from_numpy(numpy.arange(3)).numpy()
    return {}


def mmcv_ops():
    """Runs nms through mmcv._ext on the CPU and, where there is one, on the GPU."""
    import torch
    from mmcv.ops import get_compiler_version, get_compiling_cuda_version, nms

    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 1.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    kept = nms(boxes, scores, 0.5)[1].tolist()
    if kept != [0, 2]:
        raise AssertionError("nms kept %s where [0, 2] is right" % kept)
    data = {"compiler": get_compiler_version(), "compiling_cuda": get_compiling_cuda_version(), "nms": "ok"}
    if torch.cuda.is_available():
        try:
            kept = nms(boxes.cuda(), scores.cuda(), 0.5)[1].tolist()
            data["nms_cuda"] = "ok" if kept == [0, 2] else "nms kept %s where [0, 2] is right" % kept
        except RuntimeError as error:
            data["nms_cuda"] = str(error).splitlines()[0]
    return data


def registry():
    """Looks up what RTMPose is made of in MMPose's registries (mmpose 1.x), or the top-down parts of mmpose 0.x."""
    import mmpose

    missing = []
    if mmpose.__version__.startswith("0."):
        from mmpose.models import builder

        registries = (builder.POSENETS, builder.BACKBONES, builder.HEADS)
        wanted = REGISTRY_0
    else:
        from mmengine.registry import init_default_scope
        from mmpose.registry import KEYPOINT_CODECS, MODELS

        init_default_scope("mmpose")
        registries = (MODELS, KEYPOINT_CODECS)
        wanted = REGISTRY_1
    for name, module in wanted.items():
        importlib.import_module(module)
        scoped = "mmdet." + name if module.startswith("mmdet") else name
        if not any(entry.get(scoped) for entry in registries):
            missing.append(name)
    if missing:
        raise KeyError("not in the registry: " + ", ".join(missing))
    return {"found": " ".join(wanted)}


def mmcv_ext():
    """mmcv._ext is linked to torch's libraries and finds them where torch is loaded already."""
    import torch  # noqa: F401

    return {"file": importlib.import_module("mmcv._ext").__file__}


STEPS = {"torch.numpy": torch_numpy, "mmcv._ext": mmcv_ext, "mmcv.ops": mmcv_ops, "registry": registry}


def look(step):
    if step in STEPS:
        return STEPS[step]()
    module = importlib.import_module(step)
    if step == "torch":
        return torch_facts(module)
    file = getattr(module, "__file__", None)
    return {"file": file} if file else {}


def unloaded_binary(error):
    """The compiled module that the linker did not load; of its name the error keeps only the last part (`_ext`)."""
    path = getattr(error, "path", None)
    return path if path and path.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES)) else None


def damaged_bytecode(error):
    """The .pyc file whose content marshal refused; the message does not say which, importlib's frame does."""
    if "marshal data" not in str(error):
        return None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        path = frame.f_locals.get("bytecode_path")
        if frame.f_code.co_filename.startswith("<frozen importlib") and path:
            return path
    return None


def main():
    mark, steps = sys.argv[1], sys.argv[2:]
    faulthandler.enable(file=sys.stdout, all_threads=False)  # a crash says where it was, too

    def say(document):
        sys.stdout.write("\n%s %s\n" % (mark, json.dumps(document)))
        sys.stdout.flush()

    for step in steps:
        say({"start": step})
        start = time.time()
        try:
            data = look(step)
        except BaseException as error:
            document = {"module": step, "status": "error", "error": type(error).__name__, "message": str(error)[:2000]}
            document["files"] = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
            binary = unloaded_binary(error)
            named = getattr(error, "name", None)
            document["data"] = {"missing": str(named)} if named and not binary else {}
            document["files"] += [binary] if binary else []
            bytecode = damaged_bytecode(error)
            if bytecode:
                document["files"].append(bytecode)
                document["data"]["bytecode"] = bytecode
            document["duration_ms"] = (time.time() - start) * 1000
            say(document)
            os._exit(1)
        say({"module": step, "status": "ok", "data": data, "duration_ms": (time.time() - start) * 1000})
    sys.stdout.flush()
    os._exit(0)


main()
