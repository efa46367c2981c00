"""Runs inside the target interpreter, alone: imports one thing after the other and reports each on its own line.

Read from standard input by `python - MARK straight|forking STEP...`. Before a step it prints `MARK {"start": STEP}`,
after it `MARK {"module": STEP, "status": …}`, with the files that a traceback went through, innermost last. A failed
import leaves half-loaded modules behind that change what the next one says (a second `import torchvision` complains of
its own first attempt): `straight` ends at the first failure, `forking` tries each step in a fork that is thrown away
when the step fails. Syntax of Python 3.7.
"""

import faulthandler
import importlib
import importlib.machinery
import json
import os
import sys
import time
import traceback

# Exit statuses that no module ends the interpreter with.
WELL, FAILED = 100, 101
REGISTRY_1 = {
    "TopdownPoseEstimator": "mmpose.models",
    "CSPNeXt": "mmdet.models",
    "RTMCCHead": "mmpose.models",
    "SimCCLabel": "mmpose.codecs",
}
REGISTRY_0 = {"TopDown": "mmpose.models", "HRNet": "mmpose.models", "TopdownHeatmapSimpleHead": "mmpose.models"}


def torch_facts():
    import torch

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


STEPS = {"torch.numpy": torch_numpy, "mmcv._ext": mmcv_ext, "registry": registry}
# What is asked after the import. It may start the CUDA driver, and a process that did cannot be forked any more.
ASKED = {"torch": torch_facts, "mmcv.ops": mmcv_ops}


def look(step):
    if step in STEPS:
        return STEPS[step]()
    module = importlib.import_module(step)
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


def described(error):
    """What is said of a failure."""
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    binary, bytecode, named = unloaded_binary(error), damaged_bytecode(error), getattr(error, "name", None)
    data = {"missing": str(named)} if named and not binary else {}
    if bytecode:
        data["bytecode"] = bytecode
    files += [file for file in (binary, bytecode) if file]
    said = {"error": type(error).__name__, "message": str(error)[:2000], "files": files, "data": data}
    return dict(said, status="error")


def attempt(work):
    try:
        return {"status": "ok", "data": work()}
    except BaseException as error:
        return described(error)


def take(step, say, aside):
    """Take a step, its question by way of `aside`, and say what came of it; whether it ended well."""
    say({"start": step})
    start = time.time()

    def report(document):
        say(dict(document, module=step, duration_ms=(time.time() - start) * 1000))
        return document["status"] == "ok"

    document = attempt(lambda: look(step))
    if document["status"] == "ok" and step in ASKED:
        return aside(lambda: report(attempt(ASKED[step])))
    return report(document)


def straight(steps, say):
    """Take the steps up to the first that fails."""
    return all(take(step, say, lambda ask: ask()) for step in steps)


def forking(steps, say):
    """Take every step, each in a fork of the process in which those before it went well."""
    for step in steps:
        child = os.fork()
        if child:
            if ended_well(child):  # it took the rest, too
                break
        elif not take(step, say, in_fork):
            os._exit(FAILED)
    return True


def in_fork(work):
    """Do `work` in a fork; whether it was content."""
    child = os.fork()
    if not child:
        os._exit(WELL if work() else FAILED)
    return ended_well(child)


def ended_well(child):
    """Whether a fork came to the end of its work, and well. When it died so does this process, in the same way."""
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        faulthandler.disable()  # it has said where
        os.kill(os.getpid(), os.WTERMSIG(status))
    if os.WEXITSTATUS(status) not in (WELL, FAILED):
        os._exit(os.WEXITSTATUS(status))
    return os.WEXITSTATUS(status) == WELL


def main():
    mark, way, steps = sys.argv[1], sys.argv[2], sys.argv[3:]
    faulthandler.enable(file=sys.stdout, all_threads=False)  # a crash says where it was, too

    def say(document):
        sys.stdout.write("\n%s %s\n" % (mark, json.dumps(document)))
        sys.stdout.flush()

    well = {"straight": straight, "forking": forking}[way](steps, say)
    sys.stdout.flush()
    os._exit(WELL if well else FAILED)


main()
