"""The types of a config against the registries of the target; a part of `inside_config.py`. Python 3.7 syntax."""

import contextlib
import copy
import importlib
import os
import re

from inside_shared import described, installed, nearest, openmmlab, package_of, shipped

OFFICIAL = 5  # configs of a family that are read
SEARCHED = 5000  # folders and files
# Which registry the classes below a key of a config are looked up in (mmengine's Runner and mmpose's builders); the
# last key of a place that is named here decides. Several: whichever has it.
PLACES = {
    "model": ("MODELS", "TASK_UTILS"),
    "data_preprocessor": ("MODELS",),
    "tta_model": ("MODELS",),
    "encoder": ("KEYPOINT_CODECS", "MODELS"),
    "decoder": ("KEYPOINT_CODECS", "MODELS"),
    "init_cfg": ("WEIGHT_INITIALIZERS",),
    "pipeline": ("TRANSFORMS",),
    "transforms": ("TRANSFORMS",),
    "dataset": ("DATASETS",),
    "datasets": ("DATASETS",),
    "sampler": ("DATA_SAMPLERS",),
    "batch_sampler": ("DATA_SAMPLERS",),
    "collate_fn": ("FUNCTIONS",),
    "default_hooks": ("HOOKS",),
    "custom_hooks": ("HOOKS",),
    "val_evaluator": ("METRICS", "EVALUATOR", "EVALUATORS"),
    "test_evaluator": ("METRICS", "EVALUATOR", "EVALUATORS"),
    "metrics": ("METRICS",),
    "optim_wrapper": ("OPTIM_WRAPPERS",),
    "optimizer": ("OPTIMIZERS",),
    "param_scheduler": ("PARAM_SCHEDULERS",),
    "visualizer": ("VISUALIZERS",),
    "vis_backends": ("VISBACKENDS",),
    "log_processor": ("LOG_PROCESSORS",),
    "model_wrapper_cfg": ("MODEL_WRAPPERS",),
}
# The top-level keys that mmengine's Runner builds of (Runner.from_cfg); the others are the config's own variables.
USED = (
    "model",
    "test_dataloader",
    "val_dataloader",
    "train_dataloader",
    "train_cfg",
    "val_cfg",
    "test_cfg",
    "optim_wrapper",
    "param_scheduler",
    "val_evaluator",
    "test_evaluator",
    "default_hooks",
    "custom_hooks",
    "data_preprocessor",
    "visualizer",
    "log_processor",
    "model_wrapper_cfg",
    "tta_model",
    "tta_pipeline",
)
LOOPS = ("train_cfg", "val_cfg", "test_cfg")  # only at the top
# Where a name is searched for that is not where it should be.
KINDS = sorted({kind for kinds in PLACES.values() for kind in kinds} | {"LOOPS", "TASK_UTILS", "RUNNERS"})
FILES = ("ann_file", "bbox_file")


def start_registry(kind, scope):
    """The registry in which a look-up begins: that of the config's own package, else mmengine's; None where there is
    none of this kind."""
    for module in (scope, "mmpose", "mmengine"):
        try:
            found = getattr(importlib.import_module("%s.registry" % module), kind, None)
        except Exception:  # a package that does not import: the look-up says so itself
            found = None
        if found is not None:
            return found
    return None


def family(registry):
    """All registries of one kind: the root and what hangs below it."""
    found, todo = [], [registry.root]
    while todo:
        one = todo.pop(0)
        found.append(one)
        todo += list(one.children.values())
    return found


def scope_now():
    from mmengine.registry import DefaultScope

    return DefaultScope.get_current_instance().scope_name


@contextlib.contextmanager
def scoped(scope):
    from mmengine.registry import DefaultScope

    if scope is None:
        yield
    else:
        with DefaultScope.overwrite_default_scope(scope):
            yield


class Walk(object):
    """Goes through a config and looks up every type in the registry and scope that will be used for it."""

    def __init__(self, scope, path):
        self.scope, self.path = scope, path
        self.looked, self.unknown, self.built, self.files = 0, [], [], []
        self.said = {}

    def go(self, node, where):
        if isinstance(node, (list, tuple)):
            for index, item in enumerate(node):
                self.go(item, where + (index,))
            return
        if not isinstance(node, dict):
            return
        with scoped(node.get("_scope_")):
            name = node.get("type")
            kinds = places(where)
            if name is not None and kinds:
                self.type(name, where, kinds, node)
            self.note_files(node)
            if isinstance(name, str) and name.split(".")[-1] == "Albumentation":
                return  # what is below are classes of albumentations
            for key in list(node):
                if key != "type":
                    self.go(node[key], where + (str(key),))

    def type(self, name, where, kinds, node):
        self.looked += 1
        if not isinstance(name, str):
            return
        key = (name, kinds, scope_now())
        if key not in self.said:
            self.said[key] = self.look_up(name, where, kinds)
        missing = self.said[key]
        if missing:
            self.unknown.append(dict(missing, name=name, where=dotted(where)))
        elif kinds == ("TRANSFORMS",):
            self.built.append((dotted(where), scope_now(), node))

    def look_up(self, name, where, kinds):
        """None when it is registered; else what is known about the name."""
        registries, errors = [], []
        for kind in kinds:
            start = start_registry(kind, self.scope)
            if start is None:
                continue
            registries.append(start)
            try:
                with start.switch_scope_and_registry(None) as active:
                    registries[-1] = active
                    if active.get(name) is not None:
                        return None
            except RuntimeError as error:
                if not str(error).startswith("Failed to get"):
                    errors.append(described(error))
            except Exception as error:  # a module that is imported for the look-up does not import
                errors.append(described(error))
        if not registries:
            return {"registry": kinds[0], "near": [], "elsewhere": [], "scope": None}
        return about(name, where, registries, errors, self.path)

    def note_files(self, node):
        root = node.get("data_root")
        for key in FILES:
            file = node.get(key)
            if isinstance(file, str) and file and "://" not in file:
                below = key == "ann_file" and isinstance(root, str)
                path = os.path.join(root, file) if below else file
                if not os.path.exists(path) and path not in self.files:
                    self.files.append(path)


def dotted(where):
    return "".join("[%d]" % key if isinstance(key, int) else ".%s" % key for key in where).lstrip(".")


def places(where):
    """The registries for a type at this place; none where no registry is asked."""
    names = [key for key in where if not isinstance(key, int)]
    if len(names) == 1 and names[0] in LOOPS:
        return ("LOOPS",)
    if len(names) == 2 and names[0] == "default_hooks":  # its keys are the user's
        return ("HOOKS",)
    for name in reversed(names):
        if name in PLACES:
            return PLACES[name]
        if name.endswith("_pipeline"):
            return PLACES["pipeline"]
        if name.endswith("_dataset"):
            return PLACES["dataset"]
    return ()


def about(name, where, registries, errors, path):
    """What is known about a type that is not registered: where it was looked for, what is like it, where else it is."""
    role = ".%ss" % where[-1]  # the classes for a place `backbone` are in a module `backbones`
    scope, _, last = name.rpartition(".")
    active = registries[0]
    wanted = scope.split(".")[0] or scope_now()
    near, elsewhere = {}, []
    for one in family(active):
        own = not scope and (one.scope == active.scope or one.parent is None)
        for key, known in one.module_dict.items():
            near[key if own else "%s.%s" % (one.scope, key)] = getattr(known, "__module__", "")
    near = [key for key, module in near.items() if role in module] or list(near)
    for package in filter(installed, openmmlab()):
        with contextlib.suppress(Exception):  # what does not import has no names to offer
            importlib.import_module("%s.registry" % package)
    for kind in KINDS:
        start = start_registry(kind, active.scope)
        for one in family(start) if start is not None else ():
            with contextlib.suppress(Exception):
                one.import_from_location()
            if last in one.module_dict:
                elsewhere.append("%s::%s" % (one.scope, one.name))
    absent = wanted if wanted and not installed(wanted) else None
    return {
        "registry": "%s::%s" % (wanted if absent else active.scope, active.name),
        "near": nearest(last, near),
        "elsewhere": sorted(set(elsewhere)),
        "scope": absent,
        "package": package_of(absent) if absent else None,
        "errors": errors,
        "defined": None if elsewhere or absent else defined(last, path),
    }


def defined(name, config):
    """A file of the user's own that defines a class of this name: beside the config, below the working directory or on
    PYTHONPATH."""
    line = re.compile(r"^\s*(class|def) %s\b" % re.escape(name), re.MULTILINE)
    folders = [os.path.dirname(config), os.getcwd()] + os.environ.get("PYTHONPATH", "").split(os.pathsep)
    looked = 0
    for top in dict.fromkeys(os.path.abspath(folder) for folder in folders if folder):
        for folder, below, files in os.walk(top):
            below[:] = [
                one for one in below if one[0] != "." and one not in ("site-packages", "__pycache__", "node_modules")
            ]
            looked += 1 + len(files)
            if looked > SEARCHED:
                return None
            for file in files:
                if not file.endswith(".py"):
                    continue
                path = os.path.join(folder, file)
                with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as stream:
                    if line.search(stream.read()):
                        return path
    return None


def official(name, where):
    """What the configs of this mmpose have at this place whose folder's name begins the type's: (folder, type)."""
    root, inside = shipped()
    for folder in sorted(
        {os.path.basename(os.path.dirname(os.path.dirname(path))) for path in inside}, key=len, reverse=True
    ):
        if len(folder) > 3 and name.lower().startswith(folder.replace("_", "")):
            own = [path for path in inside if "/%s/" % folder in path.replace(os.sep, "/")]
            for path in own[:OFFICIAL]:
                found = value_at(path, where)
                if found and found != name:
                    return {"family": folder, "type": found}
    return None


def value_at(path, where):
    from mmengine.config import Config

    node = dict(Config.fromfile(path, import_custom_modules=False).items())
    for key in where.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    if not isinstance(node, dict) or not isinstance(node.get("type"), str):
        return None
    return "%s.%s" % (node["_scope_"], node["type"]) if node.get("_scope_") else node["type"]


def types(seen):
    """Every type that no registry has where it is looked up, and the data files that are not there."""
    from mmengine.registry import init_default_scope

    config = seen["config"]
    seen["scope"] = config.get("default_scope") or "mmpose"
    init_default_scope(seen["scope"])
    walk = Walk(seen["scope"], seen["path"])
    for key in USED:
        walk.go(config.get(key), (key,))
    for one in walk.unknown:
        if not one["elsewhere"] and not one["scope"]:
            with contextlib.suppress(Exception):  # a hint only
                one["official"] = official(one["name"], one["where"])
    seen["unknown"] = walk.unknown
    return {
        "looked": walk.looked,
        "unknown": walk.unknown,
        "files": walk.files[:20],
        "training": broken_transforms(walk.built),
    }


def broken_transforms(built):
    """The steps of pipelines that cannot be made: an option that they do not have, a package that is not there."""
    from mmengine.registry import TRANSFORMS

    broken, said = [], set()
    for where, scope, node in built:
        text = repr(node)
        if text in said:
            continue
        said.add(text)
        try:
            with scoped(scope):
                TRANSFORMS.build(copy.deepcopy(node))
        except Exception as error:
            broken.append(dict(described(error), where=where, type=node["type"]))
    return broken
