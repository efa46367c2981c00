"""Runs inside the target interpreter, alone: standard library only, syntax of Python 3.7.

Read from standard input by `python - REQUEST`; prints one JSON document that `target.py` turns into a `Target`.
REQUEST is JSON: {"quick": bool, "stack": [module names]}. Nothing is imported but the standard library.
"""

import json
import os
import re
import site
import sys
import sysconfig

MISSING_SHOWN = 5


def normalise(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return None


def headers(text):
    """The header lines of a METADATA file as (key, value) pairs, continuation lines left out."""
    pairs = []
    for line in text.splitlines():
        if not line.strip():
            break
        if ":" in line and not line[0].isspace():
            key, value = line.split(":", 1)
            pairs.append((key.strip().lower(), value.strip()))
    return pairs


def recorded_files(record):
    for line in record.splitlines():
        if line.startswith('"'):
            yield line[1 : line.index('"', 1)]
        elif line:
            yield line.rsplit(",", 2)[0]


def missing_files(folder, record):
    missing = []
    for name in recorded_files(record):
        if name.endswith(".pyc") or os.path.exists(os.path.join(folder, name)):
            continue
        missing.append(name)
    shown = missing[:MISSING_SHOWN]
    if len(missing) > MISSING_SHOWN:
        shown.append("and %d more" % (len(missing) - MISSING_SHOWN))
    return shown


def wheel_tag(info):
    text = read(os.path.join(info, "WHEEL"))
    tags = [value for key, value in headers(text)] if text else []
    tags = [tag for tag in tags if re.match(r"^(cp|py|pp)[0-9.py]+-", tag)]
    return tags[0] if tags else None


def distribution(folder, entry, quick):
    """One *.dist-info or *.egg-info as a plain dict; a name without metadata keeps what the folder's name says."""
    info = os.path.join(folder, entry)
    metadata = read(os.path.join(info, "METADATA")) or read(os.path.join(info, "PKG-INFO"))
    if metadata is None and os.path.isfile(info):
        metadata = read(info)
    pairs = headers(metadata or "")
    fields = dict((key, value) for key, value in reversed(pairs))
    parts = entry.rsplit(".", 1)[0].split("-")
    record = read(os.path.join(info, "RECORD")) or read(os.path.join(info, "installed-files.txt"))
    direct = read(os.path.join(info, "direct_url.json")) or ""
    state = "present" if record is not None else "missing"
    if '"editable": true' in direct or entry.endswith(".egg-info"):
        state = "editable"
    return {
        "name": normalise(fields.get("name", parts[0])),
        "version": fields.get("version", parts[1] if len(parts) > 1 else "0"),
        "folder": folder,
        "requires": [value for key, value in pairs if key == "requires-dist"],
        "record": state,
        "missing_files": missing_files(folder, record) if record and state == "present" and not quick else [],
        "installer": (read(os.path.join(info, "INSTALLER")) or "").strip() or None,
        "tag": wheel_tag(info),
    }


def distributions(folders, quick):
    found, leftovers = [], []
    for folder in folders:
        try:
            entries = sorted(os.listdir(folder))
        except OSError:
            continue
        for entry in entries:
            if entry.startswith("~"):
                leftovers.append(entry)
            elif entry.endswith((".dist-info", ".egg-info")):
                found.append(distribution(folder, entry, quick))
    return found, leftovers


def locate(module, folders):
    """The first folder of the path that holds a package or module of this name."""
    for folder in folders:
        base = os.path.join(folder or os.curdir, module)
        if os.path.exists(os.path.join(base, "__init__.py")) or os.path.isfile(base + ".py"):
            return folder or os.curdir
    return None


def version_file(module, folders):
    folder = locate(module, folders)
    text = read(os.path.join(folder, module, "version.py")) if folder else None
    if not text:
        return None
    fields = {}
    for key, value in re.findall(r"^(\w+)\s*(?::[^=\n]+)?=\s*['\"]([^'\"]*)['\"]", text, re.M):
        fields[key] = value
    return fields


def main():
    request = json.loads(sys.argv[1])
    paths = sysconfig.get_paths()
    library_folders = []
    for folder in sys.path[1:]:
        if folder and os.path.isdir(folder) and folder not in library_folders:
            library_folders.append(folder)
    stdlib = (paths["stdlib"], paths["platstdlib"], os.path.join(paths["platstdlib"], "lib-dynload"))
    package_folders = [folder for folder in library_folders if folder not in stdlib]
    found, leftovers = distributions(package_folders, request["quick"])
    torch = version_file("torch", package_folders)
    vision = version_file("torchvision", package_folders)
    shadowed = []
    early = [
        folder for folder in sys.path[:1] + os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder is not None
    ]
    for module in request["stack"]:
        for folder in dict.fromkeys(early):
            if locate(module, [folder]) and locate(module, [paths["purelib"], paths["platlib"]]):
                if os.path.realpath(folder or os.curdir) != os.path.realpath(paths["purelib"]):
                    shadowed.append("%s: %s" % (module, os.path.join(os.path.abspath(folder or os.curdir), module)))
    conda = os.path.isdir(os.path.join(sys.prefix, "conda-meta"))
    venv = sys.prefix != sys.base_prefix
    user_site = site.getusersitepackages() if site.ENABLE_USER_SITE else None
    answer = {
        "executable": sys.executable,
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "site_packages": paths["purelib"],
        "python": "%d.%d.%d" % sys.version_info[:3],
        "implementation": sys.implementation.name,
        "ext_suffix": sysconfig.get_config_var("EXT_SUFFIX") or "",
        "kind": "conda" if conda else "venv" if venv else "system",
        "externally_managed": not venv and os.path.exists(os.path.join(paths["stdlib"], "EXTERNALLY-MANAGED")),
        "writable": os.access(paths["purelib"], os.W_OK),
        "user_site": user_site if user_site and os.path.isdir(user_site) else None,
        "sys_path": [folder for folder in sys.path if folder],
        "pythonpath": [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder],
        "distributions": found,
        "leftovers": leftovers,
        "torch": None if torch is None else {"version": torch.get("__version__", ""), "cuda": torch.get("cuda")},
        "torchvision_version": None if vision is None else vision.get("__version__"),
        "shadowed": shadowed,
    }
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


main()
