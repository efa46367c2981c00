"""Runs inside the target interpreter, alone: loads the compiled modules of an unpacked wheel and computes with them.

Read from standard input by `python - REQUEST`. REQUEST is JSON: `folder` (the unpacked wheel), `package` (its import
name), `functions` (by module of mmcv, what its Python code asks of it), `archs` (compute capabilities that it holds
machine code for), `smoke` (the file with the golden ops). Prints one line, `MARK` and a JSON answer: `imports`,
`missing` functions, `ops` by device, `beside`, or `error`. The environment itself is not touched, and needs torch or
NumPy alone: mmcv's own Python code would want mmengine and OpenCV as well. Syntax of Python 3.7.
"""

import faulthandler
import importlib
import importlib.machinery
import importlib.util
import json
import os
import sys
import traceback
import types

MARK = "mmdoctor-wheel: "


def binary(package, name, folder):
    """A compiled module of a package, loaded without the package around it."""
    spec = importlib.machinery.PathFinder.find_spec(package + "." + name, [os.path.join(folder, package)])
    if spec is None or spec.origin is None:
        raise ImportError("the wheel holds no %s.%s that this interpreter would import" % (package, name))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ops_of(ext):
    """As much of `mmcv.ops` as the golden ops call, straight from the binary."""

    def nms(boxes, scores, threshold):
        return None, ext.nms(boxes, scores, iou_threshold=threshold, offset=0)

    def roi_align(features, regions, size, scale, ratio, mode, aligned):
        output = features.new_zeros(regions.size(0), features.size(1), size, size)
        unused = features.new_zeros(0)
        sizes = {"aligned_height": size, "aligned_width": size, "spatial_scale": scale, "sampling_ratio": ratio}
        average = {"max": 0, "avg": 1}[mode]
        ext.roi_align_forward(features, regions, output, unused, unused, pool_mode=average, aligned=aligned, **sizes)
        return output

    def deform_conv2d(features, offset, weight, stride, padding):
        height, width = features.shape[2:]
        output = features.new_empty(features.size(0), weight.size(0), height, width)
        buffers = features.new_empty(0), features.new_empty(0)
        steps = {"dW": stride, "dH": stride, "padW": padding, "padH": padding, "dilationW": 1, "dilationH": 1}
        sizes = {"kW": weight.size(3), "kH": weight.size(2), "group": 1, "deformable_group": 1, "im2col_step": 1}
        ext.deform_conv_forward(features, weight, offset, output, *buffers, **dict(steps, **sizes))
        return output

    class MultiScaleDeformableAttnFunction:
        @staticmethod
        def apply(value, shapes, starts, places, weights, step):
            return ext.ms_deform_attn_forward(value, shapes, starts, places, weights, im2col_step=step)

    attention = types.SimpleNamespace(MultiScaleDeformableAttnFunction=MultiScaleDeformableAttnFunction)
    return {
        "nms": nms,
        "roi_align": roi_align,
        "deform_conv2d": deform_conv2d,
        "multi_scale_deform_attn": attention,
    }


def golden_ops(ext, smoke, device):
    """The output of each golden op that the binary has code for on this device."""
    spec = importlib.util.spec_from_file_location("inside_smoke", smoke)
    golden = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(golden)
    sys.modules["mmcv"], sys.modules["mmcv.ops"] = types.ModuleType("mmcv"), types.ModuleType("mmcv.ops")
    sys.modules["mmcv.ops"].__dict__.update(ops_of(ext))
    values = {}
    for name, module, function in golden.OPS:
        if device == "cpu" and module == "multi_scale_deform_attn":  # mmcv has no CPU kernel for this one
            continue
        values[name] = golden.plain(function(device).detach().cpu().flatten().tolist())
    return values


def devices(torch, archs):
    """The CPU, and the GPU where there is one that the wheel holds machine code for."""
    found = ["cpu"]
    if archs and torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        for arch in archs:
            told = arch.rstrip("af").split(".")
            exactly = arch[-1] == "a"  # runs on its own compute capability alone
            if int(told[0]) == major and (int(told[1]) == minor if exactly else int(told[1]) <= minor):
                return found + ["cuda"]
    return found


def look_at_mmcv(request, answer):
    import torch

    answer["beside"] = {"torch": str(torch.__version__)}
    missing = []
    for name, functions in sorted(request["functions"].items()):
        module = binary("mmcv", name, request["folder"])
        answer["imports"].append("mmcv." + name)
        missing += ["%s.%s" % (name, function) for function in functions if not hasattr(module, function)]
        if name == "_ext":
            ext = module
    answer["missing"] = missing
    if missing:
        return
    answer["ops"] = {device: golden_ops(ext, request["smoke"], device) for device in devices(torch, request["archs"])}


def look_at_masks(request, answer):
    """COCO's run-length code there and back. A 4x3 mask, its runs down the columns 5 2 1 2 2, written as maskApi's
    rleToString does: from the fourth on the difference to the one before the last."""
    import numpy

    answer["beside"] = {"numpy": str(numpy.__version__)}
    name = request["package"]
    masks = importlib.import_module(name + ".mask")
    answer["imports"] += [name + "._mask", name + ".mask"]
    rows = numpy.array([[0, 0, 1], [0, 1, 1], [0, 1, 0], [0, 0, 0]], dtype=numpy.uint8)
    code = masks.encode(numpy.asfortranarray(rows))
    there = code["counts"].decode() == "52101"
    back = numpy.array_equal(masks.decode(code), rows)
    box = masks.toBbox(code).tolist() == [1.0, 0.0, 2.0, 3.0]
    answer["ops"] = {"cpu": {"rle": [float(there), float(back), float(masks.area(code)), float(box)]}}


def look(request, answer):
    if request["package"] == "mmcv":
        look_at_mmcv(request, answer)
    elif request["package"] in ("xtcocotools", "pycocotools"):
        look_at_masks(request, answer)
    else:
        importlib.import_module(request["package"])
        answer["imports"].append(request["package"])


def main():
    request = json.loads(sys.argv[1])
    sys.path.insert(0, request["folder"])
    output = os.dup(1)
    os.dup2(2, 1)  # what the libraries print is no answer
    faulthandler.enable()
    answer = {"imports": []}
    try:
        look(request, answer)
    except Exception as error:
        traceback.print_exc()
        answer["error"] = "%s: %s" % (type(error).__name__, (str(error).splitlines() or [""])[0])
    with os.fdopen(output, "w") as stream:
        stream.write("\n" + MARK + json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
