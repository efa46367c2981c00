"""What the parts of `inside_config.py` share. Python 3.7 syntax; imports nothing of mmdoctor."""

import difflib
import importlib.util
import os
import re
import traceback

NEAREST = 3


class EndError(Exception):
    """The step ended with this answer, and no other makes sense after it."""

    def __init__(self, answer):
        Exception.__init__(self)
        self.answer = answer


def described(error):
    """What is said of a failure: its type and message, the packages that it went through, the module that it lacks."""
    packages = []
    for frame, _ in traceback.walk_tb(error.__traceback__):
        package = frame.f_globals.get("__name__", "").split(".")[0]
        if package not in ("__main__", "importlib", "") and packages[-1:] != [package]:
            packages.append(package)
    lacks = error.name if isinstance(error, ImportError) else None
    return {"error": type(error).__name__, "message": str(error)[:1000], "packages": packages, "lacks": lacks}


def installed(package):
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def words(name):
    return set(word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name) if len(word) > 2)


def nearest(name, names, count=NEAREST):
    """The names that are most like this one, by letters and by shared words."""

    def alike(other):
        last = other.rsplit(".", 1)[-1]
        return difflib.SequenceMatcher(None, name.lower(), last.lower()).ratio() + 0.3 * len(words(name) & words(last))

    ranked = sorted(set(names), key=lambda other: (-alike(other), other))
    return [other for other in ranked[:count] if alike(other) >= 0.4]


def shipped():
    """The folder of the configs inside the mmpose package, and their paths below it."""
    spec = importlib.util.find_spec("mmpose")
    folders = list(spec.submodule_search_locations or []) if spec else []
    root = os.path.join(folders[0], ".mim") if folders else ""
    found = []
    for folder, _, files in os.walk(os.path.join(root, "configs")):
        found += [os.path.join(folder, file) for file in files if file.endswith(".py")]
    return root, sorted(found)


def zoo(root):
    """The model zoo inside the mmpose package: pairs of a checkpoint's file name and its config's path."""
    pairs = []
    for folder, _, files in os.walk(os.path.join(root, "configs")):
        for file in files:
            if not file.endswith((".yml", ".yaml")):
                continue
            with open(os.path.join(folder, file), encoding="utf-8", errors="replace") as stream:
                config = None
                for line in stream:
                    key, _, value = line.strip().lstrip("- ").partition(": ")
                    if key == "Config":
                        config = value.strip()
                    elif key == "Weights" and config:
                        pairs.append((value.strip().rsplit("/", 1)[-1], config))
    return pairs


def openmmlab():
    """OpenMMLab's packages by scope, as mmengine lists them."""
    from mmengine.config import utils

    return getattr(utils, "MODULE2PACKAGE", None) or getattr(utils, "PKG2PROJECT", {})


def package_of(scope):
    """The distribution of an OpenMMLab scope, None for any other name."""
    return openmmlab().get(scope)
