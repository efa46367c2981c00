"""Runs inside the target interpreter: what a config comes to there.

Reads a JSON request from standard input: `mark`, `config` (a path, or a name), `checkpoint` (a file name) and `weights`
(its shapes by name), both null without one. Before a step it writes `mark {"begin": STEP}`, after it
`mark {STEP: answer}`: *find*, *load*, *types*, *build*, *feed* (the test pipeline on a black image), *run* (the model
on that, on torch's meta device: shapes without numbers), *weights*. A step that does not end well has an `error`; those
that need it are left out. What is seen, never a verdict. What the libraries print goes to standard error. Python
3.7 syntax; the parts beside this file are imported, nothing else of mmdoctor.
"""

import faulthandler
import importlib
import json
import os
import re
import sys
import traceback

from inside_model import build, feed, fit, run
from inside_shared import EndError, described, installed, nearest, package_of, shipped, zoo
from inside_types import types

# What a config of the old generation (mmpose 0.x) has and one of the new has not (docs/en/migration.md of mmpose 1).
OLD_KEYS = ("data", "data_cfg", "optimizer_config", "lr_config", "checkpoint_config", "total_epochs", "log_config")


def find(asked):
    """The config's file, whether a path, a name of one inside mmpose, or the stem of a checkpoint was given."""
    root, inside = shipped()
    if os.path.isfile(asked):
        return {"path": os.path.abspath(asked), "how": "path"}
    below = os.path.join(root, asked)
    if root and os.path.isfile(below):
        return {"path": below, "how": "name"}
    name = os.path.basename(asked)
    stem = re.sub(r"\.(py|pth)$", "", name)
    for path in inside:
        if os.path.splitext(os.path.basename(path))[0] == stem:
            return {"path": path, "how": "name"}
    weights = zoo(root)
    for file, config in weights:
        plain = re.sub(r"-[0-9a-f]{8}(_\d{8})?\.pth$", "", file)
        if stem in (plain, file[: -len(".pth")]):
            raise EndError({"path": os.path.join(root, config), "how": "stem", "checkpoint": file})
    names = [os.path.splitext(os.path.basename(path))[0] for path in inside if "_base_" not in path]
    raise EndError({"path": None, "how": "missing", "near": nearest(stem, names)})


def load(path, seen):
    """The config as mmengine reads it, its custom imports done."""
    from mmengine.config import Config

    try:
        seen["config"] = config = Config.fromfile(path)
    except ImportError as error:
        raise EndError(dict(described(error), imports=failed_imports(path))) from error
    old = [key for key in OLD_KEYS if key in config] if "train_dataloader" not in config else []
    answer = {"default_scope": config.get("default_scope"), "old": old, "no_model": "model" not in config}
    if old or answer["no_model"]:
        raise EndError(answer)
    return answer


def failed_imports(path):
    """The custom imports of a config that fail, with the error of each."""
    from mmengine.config import Config

    try:
        wanted = Config.fromfile(path, import_custom_modules=False).get("custom_imports", {}).get("imports", [])
    except Exception:  # its own imports fail, the error says which
        return []
    failed = []
    for name in [wanted] if isinstance(wanted, str) else wanted:
        try:
            importlib.import_module(name)
        except Exception as error:
            top = name.split(".")[0]
            said = "%s: %s" % (type(error).__name__, str(error).split("\n")[0])
            failed.append({"module": name, "message": said, "package": package_of(top), "installed": installed(top)})
    return failed


SEEN = {}


def main():
    sys.path[0] = ""  # as for `python -`: the user's modules are found, this file's neighbours are not
    request = json.load(sys.stdin)
    mark = request["mark"]
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    faulthandler.enable()

    def say(document):
        output.write("%s %s\n" % (mark, json.dumps(document)))
        output.flush()

    def take(step, work, *arguments):
        say({"begin": step})
        try:
            answer, well = work(*arguments), True
        except EndError as stop:
            answer, well = stop.answer, False
        except Exception as error:
            traceback.print_exc()
            answer, well = described(error), False
        say({step: answer})
        return well and not answer.get("skipped")

    if not take("find", lambda: SEEN.update(find(request["config"])) or dict(SEEN)):
        return
    if not take("load", load, SEEN["path"], SEEN) or not take("types", types, SEEN):
        return
    lost = [one["where"] for one in SEEN["unknown"]]
    if any(where.startswith("model") for where in lost) or not take("build", build, SEEN):
        return
    whole = not any(where.startswith("test_dataloader.dataset.pipeline") for where in lost)
    if whole and take("feed", feed, SEEN):
        take("run", run, SEEN)
    if request["weights"]:
        take("weights", fit, SEEN, request["weights"], request["checkpoint"])


if __name__ == "__main__":
    main()
