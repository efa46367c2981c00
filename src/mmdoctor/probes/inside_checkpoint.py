"""Runs inside the target interpreter, alone: reads a checkpoint without running anything of it.

Reads a JSON request from standard input: `mark` and `path`. Before a step it writes `mark {"begin": STEP}`, after it
`mark {STEP: answer}`, in order *file* (its digest), *content* (names and shapes of the weights, what else the pickle
names) and *loads* (whether `torch.load(weights_only=True)` takes it, and with which of the harmless classes named).
What the libraries print goes to standard error. Python 3.7 syntax; only *loads* imports torch.
"""

import collections
import contextlib
import faulthandler
import hashlib
import importlib
import inspect
import json
import os
import pickle
import re
import sys
import zipfile

# The four pickles before the object of a file that torch before 1.6 wrote (torch/serialization.py, MAGIC_NUMBER).
MAGIC = 0x1950A86A20F9469CFC6C
# What checkpoints of mmengine hold besides tensors, and what restoring it can do no harm with.
HARMLESS = re.compile(
    r"numpy\.(_?core\.(multiarray\.(_reconstruct|scalar)|numeric\._frombuffer)|ndarray|dtype|dtypes\.\w+DType)$"
    r"|mmengine\.logging\.history_buffer\.HistoryBuffer$|((builtins|__builtin__)\.)?getattr$"
)
# What torch's own unpickler makes tensors and containers of.
TENSORS = re.compile(
    r"torch\.(\w+Storage|storage\.\w+|_utils\._rebuild_\w+|_tensor\._rebuild_\w+|nn\.parameter\.\w+|serialization\._get_layout"
    r"|Size|Tensor|device|bool|bfloat16|(float|u?int|complex)\d+)$"
    r"|collections\.(OrderedDict|defaultdict|Counter)$|_codecs\.encode$|(builtins|__builtin__)\.(set|dict|int)$"
)
ASKED_FOR = (
    re.compile(r"GLOBAL ([\w.]+) was not an allowed global"),
    re.compile(r"Trying to call reduce for unrecognized function <[^>]*?([\w.]+)[ >]"),
    re.compile(r"but got <class '([\w.]+)'>"),
)


class Shape(object):
    """A tensor that was not loaded."""

    def __init__(self, size):
        self.size = [int(side) for side in size]


class Inert(object):
    """Stands for whatever a pickle makes: takes every step of being built and does none."""

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass

    def __setitem__(self, key, value):
        pass

    def __call__(self, *_args, **_kwargs):
        return Inert()

    def append(self, item):
        pass

    def extend(self, items):
        pass

    def add(self, item):
        pass


def tensor_v2(_storage, _offset, size, *_rest):
    return Shape(size)


def first_argument(data, *_rest):
    return data


REAL = {
    "torch._utils._rebuild_tensor": tensor_v2,
    "torch._utils._rebuild_tensor_v2": tensor_v2,
    "torch._utils._rebuild_tensor_v3": tensor_v2,
    "torch._utils._rebuild_parameter": first_argument,
    "torch._utils._rebuild_parameter_with_state": first_argument,
    "collections.OrderedDict": collections.OrderedDict,
}


class Reader(pickle.Unpickler):
    """Unpickles into Shape, Inert and plain values only; notes every name that the pickle asks for."""

    def __init__(self, stream, names):
        pickle.Unpickler.__init__(self, stream, encoding="utf-8")
        self.names = names

    def find_class(self, module, name):
        full = "%s.%s" % (module, name)
        self.names[full] = None
        return REAL[full] if full in REAL else type(str(name), (Inert,), {"__module__": str(module)})

    def persistent_load(self, _pid):
        return None


class ContentError(Exception):
    """The file holds something else."""


def unpickled(path, names):
    """The object of a checkpoint, tensors as Shape."""
    with open(path, "rb") as stream:
        head = stream.read(512)
    if head.lstrip()[:1] == b"<":
        raise ContentError("it is a web page: the download failed")
    if head.startswith(b"version https://git-lfs"):
        raise ContentError("it is the pointer of a git-lfs file, not the file")
    if head.startswith(b"PK\x03\x04"):
        return from_zip(path, names)
    return from_stream(path, names)


def from_zip(path, names):
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        raise ContentError("its end is missing: the download or copy was cut off") from None
    with archive:
        inside = archive.namelist()
        if any(name.endswith("/constants.pkl") for name in inside) and any("/code/" in name for name in inside):
            raise ContentError("it is a TorchScript program, not weights")
        data = [name for name in inside if name.endswith("/data.pkl") or name == "data.pkl"]
        if not data:
            raise ContentError("it is a zip archive without torch's data.pkl")
        with archive.open(data[0]) as stream:
            return Reader(stream, names).load()


def from_stream(path, names):
    with open(path, "rb") as stream:
        try:
            if Reader(stream, {}).load() != MAGIC:
                raise ContentError("it is a pickle that torch.save did not write")
            Reader(stream, {}).load()
            Reader(stream, {}).load()
            return Reader(stream, names).load()
        except ContentError:
            raise
        except Exception as error:
            raise ContentError(
                "neither form of torch.save reads it (%s: %s)" % (type(error).__name__, error)
            ) from error


def digest(path):
    found = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            found.update(block)
    return {"sha256": found.hexdigest(), "bytes": os.path.getsize(path)}


def content(path):
    """The weights' shapes by name, the version of mmpose that wrote them, and the `other` classes and functions that
    the pickle names: neither tensors nor harmless."""
    names = {}
    try:
        whole = unpickled(path, names)
    except ContentError as error:
        return {"problem": str(error)}
    except Exception as error:
        return {"problem": "it does not unpickle (%s: %s)" % (type(error).__name__, error)}
    weights = whole.get("state_dict", whole) if isinstance(whole, dict) else {}
    shapes = {}
    if isinstance(weights, dict):
        shapes = {str(name): value.size for name, value in weights.items() if isinstance(value, Shape)}
    meta = whole.get("meta") if isinstance(whole, dict) else None
    version = meta.get("mmpose_version") if isinstance(meta, dict) else None
    other = sorted(name for name in names if not HARMLESS.match(name) and not TENSORS.match(name))
    answer = {"other": other, "shapes": shapes, "written_by": version if isinstance(version, str) else None}
    if not shapes:
        keys = ", ".join(map(str, list(whole)[:5])) if isinstance(whole, dict) else type(whole).__name__
        answer["problem"] = "it holds no weights by name, but %s" % (keys or "nothing")
    return answer


# ---------------------------------------------------------------------------------------------------------- loading


def history_buffer_method(owner, name):
    """What log buffers need of getattr, and no more."""
    from mmengine.logging import HistoryBuffer

    if owner is not HistoryBuffer:
        raise pickle.UnpicklingError("getattr(%r, %r) is asked for, which no log buffer needs" % (owner, name))
    return getattr(owner, name)


def meant(name):
    """The harmless class or function of this name, under the names that a pickle calls it by; nothing where this
    environment has none."""
    module, _, last = name.rpartition(".")
    if last == "getattr":
        return [renamed(history_buffer_method, builtin, last) for builtin in ("builtins", "__builtin__")]
    other = module.replace("._core.", ".core.") if "._core." in module else module.replace(".core.", "._core.")
    for place in (module, other):  # NumPy 1 and 2 name one thing differently
        try:
            found = getattr(importlib.import_module(place), last)
        except (ImportError, AttributeError):
            continue
        return [found if inspect.isclass(found) else renamed(found, module, last)]
    return []


def renamed(function, module, name):
    def alias(*args):
        return function(*args)

    alias.__module__, alias.__name__, alias.__qualname__ = module, name, name
    return alias


def asked_for(message):
    for pattern in ASKED_FOR:
        found = pattern.search(message)
        if found:
            return found.group(1)
    return None


def loads(path):
    """Whether torch takes the file with weights_only, and which harmless names have to be named for that."""
    import torch

    answer = {"torch": torch.__version__, "status": "unknown", "named": [], "message": ""}
    if "weights_only" not in inspect.signature(torch.load).parameters:
        return dict(answer, message="this torch knows no weights_only")
    allow = getattr(torch.serialization, "safe_globals", None)  # from torch 2.5 on
    named, objects = [], []
    while True:
        try:
            with contextlib.nullcontext() if not objects else allow(objects):
                torch.load(path, map_location="cpu", weights_only=True)
            return dict(answer, status="named" if named else "ok", named=named)
        except (pickle.UnpicklingError, RuntimeError, AttributeError, TypeError, EOFError) as error:
            message = str(error)
        said = message.rsplit("WeightsUnpickler error:", 1)[-1].strip().split("\n")[0][:300]
        wanted = asked_for(message)
        found = meant(wanted) if wanted and HARMLESS.match(wanted) and allow is not None else []
        if not found or wanted in named:
            return dict(answer, status="refused", named=named, message=said)
        named.append(wanted)
        objects.extend(found)


def main():
    sys.path[0] = ""  # as for `python -`: not this file's neighbours
    request = json.load(sys.stdin)
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    faulthandler.enable()

    def say(document):
        output.write("%s %s\n" % (request["mark"], json.dumps(document)))
        output.flush()

    for step, work in (("file", digest), ("content", content), ("loads", loads)):
        say({"begin": step})
        try:
            answer = work(request["path"])
        except Exception as error:
            answer = {"error": type(error).__name__, "message": str(error)[:1000]}
        say({step: answer})
        if answer.get("problem"):
            break


if __name__ == "__main__":
    main()
