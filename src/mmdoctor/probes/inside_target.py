"""Runs inside the target interpreter, alone: standard library only, syntax of Python 3.7.

Read from standard input by `python - REQUEST`; prints one JSON document that `target.py` turns into a `Target`.
REQUEST is JSON: {"quick": bool, "stack": [module names]}. Nothing is imported but the standard library.
"""

import os
import sys

# A json.py in the working directory or on PYTHONPATH must not be ours: what the user put first is left out meanwhile.
PATH = list(sys.path)
PYTHONPATH = os.environ.get("PYTHONPATH", "") if not sys.flags.ignore_environment else ""
EARLY = [folder for folder in PATH[:1] if not folder] + [folder for folder in PYTHONPATH.split(os.pathsep) if folder]
sys.path[:] = [folder for folder in PATH if folder not in EARLY]

import json  # noqa: E402
import re  # noqa: E402
import site  # noqa: E402
import struct  # noqa: E402
import sysconfig  # noqa: E402

try:  # hashlib would load OpenSSL, as slow as all the rest of these
    from _blake2 import blake2b  # noqa: E402
except ImportError:
    from hashlib import blake2b  # noqa: E402

sys.path[:] = PATH
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
    # The first empty line ends them; one of blanks only continues a folded header (matplotlib's licence has them), and
    # splitlines() would also break at the form feed of a licence text.
    for line in ("\n" + text).partition("\n\n")[0].split("\n"):
        if ":" in line and not line[0].isspace():
            key, value = line.split(":", 1)
            pairs.append((key.strip().lower(), value.strip()))
    return pairs


def wrong_files(folder, record):
    """What RECORD lists and is not there, and what is there and empty or without its end: two lists for people."""
    missing, damaged = [], []
    for line in record.splitlines():
        name = line[1:].partition('"')[0] if line.startswith('"') else line.partition(",")[0]
        if not name or name.endswith(".pyc"):
            continue
        path = os.path.join(folder, name)
        try:
            there = os.stat(path).st_size
        except OSError:
            missing.append(name)
            continue
        stated = line.rpartition(",")[2]
        # A file that somebody edited is theirs; one that a crash or a full disk left short works for nobody.
        if stated.isdigit() and there < int(stated) and (there == 0 or cut_off(path, there)):
            damaged.append(name)
    return some(missing), some(damaged)


LISTED = {}


def listed(folder):
    """The names in a folder; each is read once."""
    if folder not in LISTED:
        try:
            LISTED[folder] = os.listdir(folder)
        except OSError:
            LISTED[folder] = []
    return LISTED[folder]


def suspicious(folder, record):
    """The lines of RECORD that a quick look asks more of: whose file is in no list of its folder, and of compiled files
    all. To read folders is a quarter of asking each file."""
    if '"' in record:  # a name with a comma
        return record
    lines, folders, gone = record.splitlines(), {}, set()
    for line in lines:
        above, _, last = line.partition(",")[0].rpartition("/")
        if above in folders:
            folders[above].append(last)
        else:
            folders[above] = [last]
    for above, names in folders.items():
        lost = set(names).difference(listed(os.path.join(folder, above)))
        gone.update(above + "/" + name if above else name for name in lost)
    asked = [line for line in lines if ".so" in line]
    if gone:
        asked += [line for line in lines if line.partition(",")[0] in gone and ".so" not in line]
    return "\n".join(asked)


def cut_off(path, size):
    """Whether a compiled file ends before its own table of sections, which linkers write last (ELF, 64 bits)."""
    try:
        with open(path, "rb") as stream:
            head = stream.read(64)
    except OSError:
        return False
    if head[:4] != b"\x7fELF" or len(head) < 64 or head[4:6] != b"\x02\x01":
        return False
    [start] = struct.unpack_from("<Q", head, 40)
    entry, count = struct.unpack_from("<HH", head, 58)
    return start + entry * count > size


def some(names):
    shown = names[:MISSING_SHOWN]
    return shown + ["and %d more" % (len(names) - MISSING_SHOWN)] if len(names) > MISSING_SHOWN else shown


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
    asked = suspicious(folder, record) if quick and record else record
    looked = wrong_files(folder, asked) if record and state == "present" else ([], [])
    return {
        "name": normalise(fields.get("name", parts[0])),
        "version": fields.get("version", parts[1] if len(parts) > 1 else "0"),
        "folder": folder,
        "requires": [value for key, value in pairs if key == "requires-dist"],
        "record": state,
        "info": entry,
        "missing_files": looked[0],
        "damaged_files": looked[1],
        "installer": (read(os.path.join(info, "INSTALLER")) or "").strip() or None,
        "tag": wheel_tag(info),
        "digest": blake2b(record.encode(), digest_size=8).hexdigest() if record else None,
        "direct": bool(direct),
    }


def distributions(folders, quick):
    entries, leftovers = [], []
    for folder in folders:
        for entry in sorted(listed(folder)):
            if entry.startswith("~"):
                leftovers.append(os.path.join(folder, entry))
            elif entry.endswith((".dist-info", ".egg-info")):
                entries.append((folder, entry))
    return [distribution(folder, entry, quick) for folder, entry in entries], leftovers


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


def modules(folder):
    """The names that can be imported from a folder's own files."""
    found = {}
    try:
        entries = os.listdir(folder or os.curdir)
    except OSError:
        return found
    for entry in entries:
        path = os.path.join(folder or os.curdir, entry)
        if entry.endswith(".py"):
            found[entry[:-3]] = path
        elif os.path.exists(os.path.join(path, "__init__.py")):
            found[entry] = path
    return found


def shadows(names, homes):
    """`NAME: PATH` of what the working directory or PYTHONPATH puts before the module of that name in `homes`."""
    found = []
    own = {os.path.realpath(folder) for folder in homes}
    for folder in dict.fromkeys(EARLY):
        if os.path.realpath(folder or os.curdir) in own:
            continue
        early = modules(folder)
        found.extend("%s: %s" % (name, os.path.abspath(early[name])) for name in names if name in early)
    return found


def mentioned(text, stack):
    """The stack's modules that code speaks of, its comments aside."""
    words = set(re.findall(r"\w+", re.sub(r"#.*", "", text)))
    return [name for name in stack if name in words]


def pth_file(folder, entry, stack):
    """A .pth file: the folders it names that are gone, and what its code (lines that begin with `import`) speaks of."""
    lines = (read(os.path.join(folder, entry)) or "").splitlines()
    code = [line for line in lines if line.startswith(("import ", "import\t"))]
    named = [line.strip() for line in lines if line.strip() and not line.startswith("#") and line not in code]
    gone = [name for name in named if not os.path.exists(os.path.join(folder, name))]
    path = os.path.join(folder, entry)
    return {"kind": "pth", "path": path, "missing": gone, "stack": mentioned("\n".join(code), stack)}


def startup_files(stack):
    """What this interpreter reads or runs at each start: .pth files of its site folders, site- and usercustomize."""
    folders = list(getattr(site, "getsitepackages", list)())
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    found = []
    for folder in dict.fromkeys(folders):
        entries = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        found.extend(pth_file(folder, entry, stack) for entry in entries if entry.endswith(".pth"))
    for kind in ("sitecustomize", "usercustomize") if site.ENABLE_USER_SITE else ("sitecustomize",):
        # It was sought before the working directory came to the path.
        folder = locate(kind, [entry for entry in PATH if entry])
        if folder is not None:
            path = getattr(sys.modules.get(kind), "__file__", None) or os.path.join(folder, kind + ".py")
            found.append({"kind": kind, "path": path, "stack": mentioned(read(path) or "", stack)})
    return found


def newest(folder):
    """When an installer last wrote into a site-packages, in seconds since 1970; None when nothing is installed."""
    try:
        entries = [entry for entry in os.listdir(folder) if entry.endswith(".dist-info")]
        return max([os.stat(os.path.join(folder, entry)).st_mtime for entry in entries] or [0]) or None
    except OSError:
        return None


def main():
    request = json.loads(sys.argv[1])
    stack = request["stack"]
    at_start = [name for name in stack if name in sys.modules]
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
    homes = (paths["purelib"], paths["platlib"])
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
        "pythonpath": [folder for folder in PYTHONPATH.split(os.pathsep) if folder],
        "distributions": found,
        "leftovers": leftovers,
        "modules": [name for name in stack if locate(name, homes)],
        "torch": None if torch is None else {"version": torch.get("__version__", ""), "cuda": torch.get("cuda")},
        "torchvision_version": None if vision is None else vision.get("__version__"),
        "shadowed": shadows([name for name in stack if locate(name, homes)], homes),
        "shadowed_stdlib": shadows(sorted(set(modules(paths["stdlib"])) - {"test"}), (*homes, *stdlib)),
        "startup": startup_files(stack),
        "at_start": at_start,
        "installed_at": newest(paths["purelib"]),
    }
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


main()
