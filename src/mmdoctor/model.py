"""The vocabulary on one page: every frozen value that one stage hands to the next.

`probe → Facts → diagnose → Finding…`, `resolve → Resolution → plan → Plan → apply → proof`. All of them are msgspec
structs: they encode to JSON, decode with path-carrying errors, and their JSON Schemas are generated from here
(`tools/schemas.py`). Sizes are bytes, times milliseconds unless a name says otherwise; versions are strings.
"""

from __future__ import annotations

from datetime import date
from typing import Any, Literal, Optional, Union

from msgspec import UNSET, Struct, UnsetType, field

SCHEMA_VERSION = "1"


class Value(Struct, frozen=True, kw_only=True):
    """Base of all values: immutable, compared by content."""


class Unknown(Value, frozen=True, kw_only=True):
    """Could not look. Distinct from None, which is "looked, and it is not there"."""

    unknown: str


Text = Union[str, None, Unknown]
YesNo = Union[bool, Unknown]

# ---------------------------------------------------------------------------------------------------------- facts


class Disk(Value, frozen=True, kw_only=True):
    """Room for `what` (the environment, temporary files, a cache) on the disk that `path` is on."""

    what: str
    path: str
    free_bytes: Union[int, Unknown]


class Host(Value, frozen=True, kw_only=True):
    """The machine. `libgl` says whether the dynamic linker knows libGL.so.1, which OpenCV's GUI build links to.
    `identity` is a digest that tells machines apart and names none. `now` is its clock, in seconds since 1970."""

    os: Literal["linux", "windows", "macos"]
    os_name: str
    machine: str
    glibc: Text
    cpu_count: int
    memory_total_bytes: int
    memory_available_bytes: int
    disk_free_bytes: Union[int, Unknown]
    container: Optional[str]
    wsl: bool
    libgl: YesNo
    identity: str = ""
    now: Optional[float] = None
    disks: tuple[Disk, ...] = ()


class GpuDevice(Value, frozen=True, kw_only=True):
    name: str
    compute_capability: str
    memory_bytes: int


class Gpu(Value, frozen=True, kw_only=True):
    """`driver` is the kernel driver's version, in contrast to the toolkit's; its raw text is kept (`550.144.03`).

    `cuda_ceiling` is the newest CUDA that this driver runs, as NVML says. `reason` says why there is no device.
    """

    driver: Text
    source: Optional[str]
    cuda_ceiling: Optional[str]
    devices: tuple[GpuDevice, ...]
    reason: Optional[str]


class Tool(Value, frozen=True, kw_only=True):
    path: str
    version: Text


class Toolchain(Value, frozen=True, kw_only=True):
    """What a source build would use. `nvcc` is the toolkit version, in contrast to the driver's. `looked` is False
    after a quick look, which leaves the compilers out. `cuda_headers`: whether those of CUDA's libraries, which torch's
    own include, lie in `cuda_home`; with a bare nvcc they do not."""

    looked: bool = True
    nvcc: Optional[Tool]
    gcc: Optional[Tool]
    ninja: Optional[Tool]
    cuda_home: Optional[str]
    cuda_headers: bool = True


class Distribution(Value, frozen=True, kw_only=True):
    """One installed distribution; `name` is normalised (PEP 503). `info` is the entry of `folder` that describes it.
    `missing_files` are RECORD entries not on disk, `damaged_files` those that are empty or without their end; `digest`
    is that of RECORD; `direct` says that it came from an address or folder and not from an index (PEP 610)."""

    name: str
    version: str
    folder: str = ""
    info: str = ""
    requires: tuple[str, ...] = ()
    record: Literal["present", "missing", "editable"] = "present"
    missing_files: tuple[str, ...] = ()
    damaged_files: tuple[str, ...] = ()
    installer: Optional[str] = None
    tag: Optional[str] = None
    digest: Optional[str] = None
    direct: bool = False


class TorchBuild(Value, frozen=True, kw_only=True):
    """Read from `torch/version.py` without importing it. `cuda` is the build CUDA, None for a CPU build."""

    version: str
    cuda: Optional[str]


class StartupFile(Value, frozen=True, kw_only=True):
    """What the interpreter runs or reads at each start. `problem`: what it did wrong; `missing`: folders that a .pth
    file names and that are gone; `stack`: the modules of the stack that its code mentions."""

    kind: Literal["pth", "sitecustomize", "usercustomize"]
    path: str
    problem: Optional[str] = None
    missing: tuple[str, ...] = ()
    stack: tuple[str, ...] = ()


class Breakage(Value, frozen=True, kw_only=True):
    """Why an interpreter does not serve. `kind`: *gone* its base interpreter is; *startup* the file `culprit` keeps it
    from starting; *variable* the environment variable `culprit` does; *permission* this user may not run the file or
    search the folder `culprit`; *python* the packages are for the Python `culprit`. `others`: interpreters of the right
    version that are there."""

    kind: Literal["gone", "startup", "variable", "permission", "python"]
    culprit: str
    others: tuple[str, ...] = ()


class Target(Value, frozen=True, kw_only=True):
    """The interpreter that is doctored, never the one mmdoctor runs on.

    `state`: *present* answered; *absent* there is nothing at the path yet; *broken* it does not serve, see `problem`
    and `breakage`. `torchvision_build` is the version with local label that `torchvision/version.py` states
    (`0.28.0+cu130`). `modules`: the stack's modules that lie in its site-packages, whoever put them there; `leftovers`:
    what interrupted installs left there. `at_start`: the stack's modules that are loaded before anybody asks.
    `installed_at`: when an installer last wrote here, in seconds since 1970.
    """

    requested: str
    state: Literal["present", "absent", "broken"]
    problem: Optional[str] = None
    executable: str = ""
    prefix: str = ""
    base_prefix: str = ""
    site_packages: str = ""
    python: str = ""
    implementation: str = "cpython"
    ext_suffix: str = ""
    kind: Literal["venv", "conda", "system"] = "venv"
    externally_managed: bool = False
    writable: bool = True
    user_site: Optional[str] = None
    sys_path: tuple[str, ...] = ()
    pythonpath: tuple[str, ...] = ()
    distributions: tuple[Distribution, ...] = ()
    leftovers: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    torch: Optional[TorchBuild] = None
    torchvision_build: Optional[str] = None
    shadowed: tuple[str, ...] = ()
    shadowed_stdlib: tuple[str, ...] = ()
    breakage: Optional[Breakage] = None
    startup: tuple[StartupFile, ...] = ()
    at_start: tuple[str, ...] = ()
    installed_at: Optional[float] = None

    @property
    def installed(self) -> dict[str, Distribution]:
        """The distributions by name; of two, the one whose folder is first on the path, for that one is imported. The
        user's own site-packages aside: no plan touches them, and no other user has them."""
        return {d.name: d for d in reversed(self.distributions) if not d.folder or d.folder != self.user_site}

    @property
    def own(self) -> tuple[Distribution, ...]:
        """The distributions of the environment itself: not the user's, nor those of a base that a venv lets in."""

        def elsewhere(folder: str) -> bool:
            in_base = self.kind == "venv" and self.base_prefix != "" and folder.startswith(self.base_prefix)
            return folder == self.user_site or (in_base and not folder.startswith(self.prefix))

        return tuple(d for d in self.distributions if not elsewhere(d.folder))

    def version(self, name: str) -> Optional[str]:
        """The installed version of a distribution (normalised name), or None."""
        return next((d.version for d in self.distributions if d.name == name), None)


class ImportResult(Value, frozen=True, kw_only=True):
    """One import (or deeper look) in a killable child.

    `status`: *ok*; *error* an exception, with `error`, `message` and the top-level packages its traceback went
    through, innermost last; *timeout*; *crash* died of `signal`; *skipped* not tried, see `message`.
    """

    module: str
    status: Literal["ok", "error", "timeout", "crash", "skipped"]
    error: Optional[str] = None
    message: Optional[str] = None
    packages: tuple[str, ...] = ()
    signal: Optional[int] = None
    duration_ms: float = 0.0
    data: dict[str, str] = field(default_factory=dict)


class Retry(Value, frozen=True, kw_only=True):
    """Failed imports tried once more `without` a part of their surroundings (a variable, the user site, the working
    directory): those that then end well are `healed`."""

    without: str
    healed: tuple[str, ...]


class LoaderFolder(Value, frozen=True, kw_only=True):
    """A folder that the dynamic linker is told to look in first, and which of the stack's own libraries it holds."""

    variable: str
    folder: str
    libraries: tuple[str, ...]


class Extension(Value, frozen=True, kw_only=True):
    """What the file of `mmcv._ext` says, read without loading it. `machine` is ELF's name (`EM_X86_64`). `problem`: why
    no linker takes it; *unreadable* without the right to read it, *cut-off* without its end, *foreign* no ELF file.
    `missing` are the first of the `missing_count` symbols of torch that it wants and the installed torch does not
    export; `built_for` then says the releases of torch that do (`2.1 to 2.3`), where the symbols tell. `absent` are the
    libraries that it needs and that no folder of torch's, of NVIDIA's wheels or of the linker's holds."""

    path: str
    needed: tuple[str, ...]
    has_cuda_code: bool
    machine: str
    problem: Optional[Literal["unreadable", "cut-off", "foreign"]] = None
    missing: tuple[str, ...] = ()
    missing_count: int = 0
    built_for: Optional[str] = None
    absent: tuple[str, ...] = ()


class PipWheel(Value, frozen=True, kw_only=True):
    """A wheel that pip compiled and keeps, to hand it out to every environment of the same Python. `extension` is its
    compiled module, None where it holds none; `numpy` the generation of NumPy that it was compiled for, where it
    tells."""

    name: str
    version: str
    path: str
    extension: Optional[Extension] = None
    numpy: Optional[Literal["1", "2"]] = None


class OfferedWheel(Value, frozen=True, kw_only=True):
    """A wheel of mmcv in a place of the user's own. `version` has its local label, `platforms` are those of its file
    name. A file name does not say what it was compiled for: `torch` (`2.1.2+cu121`, `2.1+cu121`) and `archs` (the
    compute capabilities of its CUDA ops) are what its label, its address or a proof beside it says (`says`)."""

    name: str
    version: str
    file: str
    python_tag: str
    platforms: tuple[str, ...]
    torch: Optional[str] = None
    archs: str = ""
    says: Literal["its label", "its address", "its proof", None] = None


class Index(Value, frozen=True, kw_only=True):
    """A place that artefacts come from; the address is redacted. `reachable` False carries a `reason`. `now` is the
    server's clock as its answer's Date says, in seconds since 1970. `wheels`: what a place of the user's own
    (find-links, a further index) offers of mmcv."""

    name: Literal["pypi", "torch", "openmmlab", "find-links", "extra-index"]
    url: str
    reachable: YesNo
    reason: Optional[str] = None
    now: Optional[float] = None
    wheels: tuple[OfferedWheel, ...] = ()


class ProvenModule(Value, frozen=True, kw_only=True):
    """A compiled module of a wheel, by its `file` in there: each library that it needs was found, each of the `symbols`
    that it leaves undefined is exported by one of them. `archs` are the compute capabilities of its machine code, `ptx`
    those of its PTX."""

    file: str
    needed: tuple[str, ...]
    symbols: int
    archs: tuple[str, ...] = ()
    ptx: tuple[str, ...] = ()


class Proven(Value, frozen=True, kw_only=True):
    """What a fresh wheel was seen to hold and do, before it enters the cache. `imports`: what was imported out of it;
    `functions`: how many of its compiled functions its Python code asks for, all of them there; `ops`: golden
    computations by its binary, and their `device`s; `beside`: the versions that it ran with."""

    modules: tuple[ProvenModule, ...]
    imports: tuple[str, ...]
    functions: int = 0
    ops: tuple[OpCheck, ...] = ()
    devices: tuple[str, ...] = ()
    beside: dict[str, str] = field(default_factory=dict)


class CachedWheel(Value, frozen=True, kw_only=True):
    """A wheel of mmdoctor's own cache, proven against `torch` (with local label). `archs` are the compute capabilities
    that its CUDA ops were compiled for, empty for CPU ops."""

    name: str
    version: str
    python_tag: str
    torch: str
    archs: str = ""
    numpy: Optional[str]
    path: str


# ---------------------------------------------------------------------------------------------------------- bench


class Weights(Value, frozen=True, kw_only=True):
    kind: Literal["seeded", "checkpoint"]
    file: Optional[str]
    sha256: Optional[str]


class Keypoints(Value, frozen=True, kw_only=True):
    """`max_abs_error` is in pixels of the input image against the reference, None where there is no reference."""

    count: int
    finite: bool
    max_abs_error: Optional[float]
    tolerance: float


class Latency(Value, frozen=True, kw_only=True):
    """Milliseconds. `init` builds the model, `first` is the first inference; the rest are medians over `runs`."""

    init: float
    first: float
    p50: float
    p95: float
    preprocess: float
    forward: float
    postprocess: float


class Memory(Value, frozen=True, kw_only=True):
    rss_peak_bytes: int
    gpu_peak_bytes: Optional[int]


class OpCheck(Value, frozen=True, kw_only=True):
    """One mmcv op against its golden values."""

    op: str
    ok: bool
    max_abs_error: Optional[float]
    tolerance: float
    message: Optional[str] = None


class Bench(Value, frozen=True, kw_only=True):
    """What `mmdoctor bench` answers for one model."""

    schema_version: str = SCHEMA_VERSION
    ok: bool
    device: str
    model: str
    weights: Weights
    keypoints: Keypoints
    latency_ms: Latency
    throughput_per_s: float
    memory: Memory
    ops: tuple[OpCheck, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    runs: int = 0
    reason: Optional[str] = None
    also: Union[tuple[Bench, ...], UnsetType] = UNSET


# --------------------------------------------------------------------------------------------------------- config


class Look(Value, frozen=True, kw_only=True):
    """How one step of looking at a config or checkpoint ended. `error`: the type of the exception that ended it,
    *timeout* or the name of a signal; `packages`: those that its traceback went through, innermost last; `lacks`: the
    module that it did not find."""

    error: Optional[str] = None
    message: str = ""
    packages: tuple[str, ...] = ()
    lacks: Optional[str] = None


class FoundConfig(Look, frozen=True, kw_only=True):
    """The config's file. `how`: a *path* was given, the *name* of a config inside mmpose, the *stem* of a `checkpoint`
    of the model zoo (then `path` is that one's config), or it is *missing* and `near` are the names like it."""

    path: Optional[str] = None
    how: Literal["path", "name", "stem", "missing"] = "path"
    checkpoint: Optional[str] = None
    near: tuple[str, ...] = ()


class CustomImport(Value, frozen=True, kw_only=True):
    """A module of `custom_imports` that does not import. `package`: the distribution to install, where it is one of
    OpenMMLab's and is not `installed`."""

    module: str
    message: str
    package: Optional[str]
    installed: bool


class LoadedConfig(Look, frozen=True, kw_only=True):
    """`old`: its keys that only mmpose 0.x knows."""

    default_scope: Optional[str] = None
    old: tuple[str, ...] = ()
    no_model: bool = False
    imports: tuple[CustomImport, ...] = ()


class OfficialType(Value, frozen=True, kw_only=True):
    """What the configs of a `family` inside mmpose (`rtmpose`) have in the same place."""

    family: str
    type: str


class UnknownType(Value, frozen=True, kw_only=True):
    """A `type=` that no registry has where it is looked up (`registry`: `mmpose::model`). `near`: registered names like
    it; `elsewhere`: the registries that have it; `scope`: the package that is not installed, and its distribution
    `package`; `defined`: a file of the user's that defines it; `errors`: why modules did not import for the look-up."""

    name: str
    where: str
    registry: str
    near: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    scope: Optional[str] = None
    package: Optional[str] = None
    defined: Optional[str] = None
    official: Optional[OfficialType] = None
    errors: tuple[Look, ...] = ()


class BrokenPart(Look, frozen=True, kw_only=True):
    """A part of a config that cannot be made or used: `type` at the place `where`."""

    where: str
    type: str


class LookedTypes(Look, frozen=True, kw_only=True):
    """`looked`: how many were looked up; `files`: data files of the config that are not there; `training`: steps of its
    pipelines that cannot be made."""

    looked: int = 0
    unknown: tuple[UnknownType, ...] = ()
    files: tuple[str, ...] = ()
    training: tuple[BrokenPart, ...] = ()


class BuiltModel(Look, frozen=True, kw_only=True):
    """`head`: what it says of its input and output (`in_channels`: `768`, `in_featuremap_size`: `8x8`)."""

    device: str = ""
    head: dict[str, str] = field(default_factory=dict)


class FedPipeline(Look, frozen=True, kw_only=True):
    """The test pipeline on a black image: the shape of its `input` to the model, and the `keypoints` of the data set;
    or the step (`type`, `where`) that failed, or why it was `skipped`."""

    input: tuple[int, ...] = ()
    keypoints: Optional[int] = None
    where: str = ""
    type: str = ""
    skipped: Optional[str] = None


class RanModel(Look, frozen=True, kw_only=True):
    """One pass, its `features` by part (`backbone`) and its `outputs` as shapes; of one that failed the innermost
    `module`, the `layer` that it is, and the shapes that it `got`."""

    device: str = ""
    features: dict[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    outputs: tuple[tuple[int, ...], ...] = ()
    module: str = ""
    layer: str = ""
    got: tuple[tuple[int, ...], ...] = ()


class FittedWeights(Look, frozen=True, kw_only=True):
    """`given` weights of a checkpoint against the `of` ones of the model. `shapes`: name, the checkpoint's shape, the
    model's. `config`: the one that the model zoo inside mmpose has for a checkpoint of this file name."""

    of: int = 0
    given: int = 0
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    shapes: tuple[tuple[str, str, str], ...] = ()
    config: Optional[str] = None


class ConfigSeen(Value, frozen=True, kw_only=True):
    """What a config comes to in the target, step by step; None is a step that was not reached."""

    asked: str
    find: FoundConfig
    load: Optional[LoadedConfig] = None
    types: Optional[LookedTypes] = None
    build: Optional[BuiltModel] = None
    feed: Optional[FedPipeline] = None
    run: Optional[RanModel] = None
    weights: Optional[FittedWeights] = None


class CheckpointFile(Look, frozen=True, kw_only=True):
    """`promised`: the beginning of the sha256 that the file's name states."""

    sha256: str = ""
    bytes: int = 0
    promised: Optional[str] = None


class CheckpointContent(Look, frozen=True, kw_only=True):
    """Read without running anything of it. `problem`: why it holds no weights; `other`: the classes and functions that
    it names and that are neither tensors, NumPy arrays nor mmengine's logs; `written_by`: the version of mmpose."""

    problem: Optional[str] = None
    weights: int = 0
    other: tuple[str, ...] = ()
    written_by: Optional[str] = None


class CheckpointLoads(Look, frozen=True, kw_only=True):
    """Whether `torch.load(weights_only=True)` takes it: *ok*; *named*, with those harmless classes and functions named;
    *refused*; *unknown* to this torch."""

    torch: str = ""
    status: Literal["ok", "named", "refused", "unknown"] = "unknown"
    named: tuple[str, ...] = ()


class CheckpointSeen(Value, frozen=True, kw_only=True):
    """What a checkpoint is; None is a step that was not reached."""

    path: str
    file: CheckpointFile
    content: Optional[CheckpointContent] = None
    loads: Optional[CheckpointLoads] = None


# ------------------------------------------------------------------------------------------------- facts, whole


class Facts(Value, frozen=True, kw_only=True):
    """Everything that was seen. `pretended` names the keys that `--pretend` overrode. `pip_cache`: what pip compiled of
    the stack for this Python and keeps; None where nobody looked. `unfinished`: what ended the look, and while it did
    what; then the rest is what had been seen."""

    schema_version: str = SCHEMA_VERSION
    mmdoctor: str
    pretended: tuple[str, ...] = ()
    quick: bool = False
    unfinished: Optional[str] = None
    host: Host
    gpu: Gpu
    toolchain: Toolchain
    target: Target
    imports: tuple[ImportResult, ...] = ()
    retries: tuple[Retry, ...] = ()
    loader: tuple[LoaderFolder, ...] = ()
    extension: Optional[Extension] = None
    pip_cache: Union[tuple[PipWheel, ...], Unknown, None] = None
    indexes: tuple[Index, ...] = ()
    wheels: tuple[CachedWheel, ...] = ()
    smoke: tuple[Bench, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    config: Optional[ConfigSeen] = None
    checkpoint: Optional[CheckpointSeen] = None

    def imported(self, module: str) -> Optional[ImportResult]:
        """The result of one import, or None when it was not looked at."""
        return next((r for r in self.imports if r.module == module), None)


# ------------------------------------------------------------------------------------------------------- findings

Status = Literal["ok", "warn", "fail", "skip", "crash"]


class Fix(Value, frozen=True, kw_only=True):
    kind: Literal["auto", "confirm", "manual", "none"]
    summary: str


class Accepted(Value, frozen=True, kw_only=True):
    """Why a finding does not count: by a *waiver*, somebody's `reason`, up to and with the day `until` (YYYY-MM-DD); by
    the *baseline*, it was there before."""

    by: Literal["waiver", "baseline"]
    reason: str
    until: Optional[str] = None


class Finding(Value, frozen=True, kw_only=True):
    """A check's verdict. `caused_by` holds the ids of the findings that explain this one; a root has none. One that is
    `accepted` is as it is, and does not count."""

    id: str
    status: Status
    severity: Literal["info", "warning", "error"]
    title: str
    detail: str
    evidence: tuple[str, ...] = ()
    cause: Optional[str] = None
    caused_by: tuple[str, ...] = ()
    fix: Fix
    docs: str
    duration_ms: float = 0.0
    accepted: Optional[Accepted] = None


class Summary(Value, frozen=True, kw_only=True):
    """How many findings there are of each status, the accepted ones apart."""

    ok: int
    warn: int
    fail: int
    skip: int
    crash: int
    accepted: int = 0


class ReportTarget(Value, frozen=True, kw_only=True):
    python: Optional[str]
    prefix: str


class AnnotationChange(Value, frozen=True, kw_only=True):
    """What `--write-fixed` put in: which field, how often, from what, and the first places."""

    field: str
    count: int
    how: str
    first: tuple[str, ...]


class AnnotationFile(Value, frozen=True, kw_only=True):
    """A COCO keypoint file. `keypoints` per instance, None where the categories differ; `unused`: images without an
    annotation. `changes` says what `written` has over `path`; the numbers are those of what was written."""

    path: str
    bytes: int
    images: int
    unused: int
    annotations: int
    categories: int
    keypoints: Optional[int]
    written: Optional[str] = None
    changes: tuple[AnnotationChange, ...] = ()


class Gone(Value, frozen=True, kw_only=True):
    """A finding of the baseline that was looked for again and is not there any more."""

    id: str
    cause: Optional[str]
    title: str


class Baseline(Value, frozen=True, kw_only=True):
    """This report held against an earlier one: `known` findings were there before, `gone` ones are no more."""

    known: int
    gone: tuple[Gone, ...] = ()


class Waiver(Value, frozen=True, kw_only=True):
    """A finding that somebody accepts: by the check's `id`, and where given its `cause` and the path of the `target`
    (with wildcards `*`, `?` and `[…]`). The day `expires` is its last."""

    id: str
    reason: str
    expires: date
    cause: Optional[str] = None
    target: Optional[str] = None


class Waivers(Value, frozen=True, kw_only=True):
    """The file of `check --waivers`."""

    waivers: tuple[Waiver, ...]


class Cached(Value, frozen=True, kw_only=True):
    """A verdict that is not of now: found `age_seconds` ago, at `at` (seconds since 1970), and nothing that decides it
    has changed since."""

    at: float
    age_seconds: float


class Report(Value, frozen=True, kw_only=True):
    """What `mmdoctor check` answers. `annotations`: the file of `--annotations`. `exit_code` is that of the check under
    its `--fail-on`. `unused_waivers` say which accepted nothing, and why. `cached`: how old the verdict is, None
    where the look was taken now. `lang`: that of titles, details and fixes."""

    schema_version: str = SCHEMA_VERSION
    ok: bool
    target: ReportTarget
    summary: Summary
    findings: tuple[Finding, ...]
    facts: Facts
    duration_ms: float
    annotations: Optional[AnnotationFile] = None
    exit_code: Optional[int] = None
    baseline: Optional[Baseline] = None
    unused_waivers: tuple[str, ...] = ()
    cached: Optional[Cached] = None
    lang: Literal["en", "zh"] = "en"


class Health(Value, frozen=True, kw_only=True):
    """What a pose service's /healthz shows (`check --format healthz`). `http_status` is 200 where the check's exit
    status is 0, else 503. A field is None where it is not so (no GPU, a CPU build) or was not found out: then `unknown`
    has the reason, by the field's name. `mmcv_cuda`: the CUDA that mmcv's ops were compiled for; `model_loaded`: a
    short RTMPose inference ran (`--deep`), in `inference_ms`; `findings`: the roots, a line each."""

    schema_version: str = SCHEMA_VERSION
    status: Literal["ok", "broken", "unknown"]
    http_status: Literal[200, 503]
    target: str
    python: Optional[str]
    torch_version: Optional[str]
    torch_cuda: Optional[str]
    cuda_available: Optional[bool]
    gpu_device: Optional[str]
    gpu_driver: Optional[str]
    numpy_version: Optional[str]
    mmcv_version: Optional[str]
    mmcv_cuda: Optional[str]
    mmengine_version: Optional[str]
    mmdet_version: Optional[str]
    mmpose_version: Optional[str]
    model_loaded: Optional[bool]
    model: Optional[str]
    model_device: Optional[str]
    inference_ms: Optional[float]
    findings: tuple[str, ...] = ()
    unknown: dict[str, str] = field(default_factory=dict)
    cached: Optional[Cached] = None


# ---------------------------------------------------------------------------------------------------------- fleet


class FleetHost(Value, frozen=True, kw_only=True):
    """One host, by the name of its report's file. `state`: *healthy*; *findings*; *undetermined*, a needed look did not
    come to a verdict; *no-report*, its mmdoctor answered with the error `said`. `at` is its clock when it looked, in
    seconds since 1970."""

    name: str
    state: Literal["healthy", "findings", "undetermined", "no-report"]
    target: str = ""
    python: Optional[str] = None
    summary: Optional[Summary] = None
    at: Optional[float] = None
    quick: bool = False
    pretended: tuple[str, ...] = ()
    said: Optional[str] = None


class FleetVerdict(Value, frozen=True, kw_only=True):
    """What one check said on one host; `accepted` there it does not count."""

    host: str
    status: Status
    detail: str
    caused_by: tuple[str, ...] = ()
    accepted: bool = False


class FleetFinding(Value, frozen=True, kw_only=True):
    """A check that did not pass somewhere, with its verdict on each host where it was looked at. `fixes`: what mends
    it, in each host's own words."""

    id: str
    title: str
    docs: str
    verdicts: tuple[FleetVerdict, ...]
    fixes: tuple[str, ...] = ()


class Drift(Value, frozen=True, kw_only=True):
    """A version that is not the same on all hosts: which hosts have which, the most common first. None: not
    installed."""

    kind: Literal["stack", "machine", "other"]
    name: str
    versions: tuple[DriftVersion, ...]


class DriftVersion(Value, frozen=True, kw_only=True):
    version: Optional[str]
    hosts: tuple[str, ...]


class Fleet(Value, frozen=True, kw_only=True):
    """What `mmdoctor report merge` answers: the reports of several hosts as one. `findings` are the worst and most
    frequent first; `ok`: every host is healthy."""

    schema_version: str = SCHEMA_VERSION
    ok: bool
    hosts: tuple[FleetHost, ...]
    findings: tuple[FleetFinding, ...]
    drift: tuple[Drift, ...]


# ------------------------------------------------------------------------------------------------- request, recipe


class Recipe(Value, frozen=True, kw_only=True):
    """What a project wants. `pins` are exact (`==`), `requires` are ranges, both PEP 440 specifiers by name."""

    name: str
    title: str
    source: str
    family: Literal["mmpose-1", "mmpose-0"] = "mmpose-1"
    python: str = ">=3.7"
    packages: dict[str, str] = field(default_factory=dict)
    torch_variant: Optional[str] = None
    opencv: Optional[Literal["opencv-python", "opencv-python-headless"]] = None
    with_chumpy: bool = False
    extra: tuple[str, ...] = ()
    driver: Optional[str] = None
    unit: Optional[str] = None
    env: Optional[str] = None
    models: tuple[str, ...] = ()
    alternatives: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Request(Value, frozen=True, kw_only=True):
    """The recipe with the user's own constraints on top."""

    recipe: Recipe
    pins: dict[str, str] = field(default_factory=dict)
    torch_variants: tuple[str, ...] = ()
    allow_build: bool = True
    installer: Literal["uv", "pip"] = "uv"


# ------------------------------------------------------------------------------------------------ resolution, plan


class Artefact(Value, frozen=True, kw_only=True):
    """`wheel`: downloaded from `source`; `cached`: from mmdoctor's wheel cache; `build`: compiled from the sdist;
    `installed`: what is there stays."""

    kind: Literal["wheel", "cached", "build", "installed"]
    source: str
    reason: str


class TorchChoice(Value, frozen=True, kw_only=True):
    version: str
    variant: str
    index: str


class BinaryChoice(Value, frozen=True, kw_only=True):
    version: str
    artefact: Artefact


class MmcvChoice(Value, frozen=True, kw_only=True):
    name: Literal["mmcv", "mmcv-full", "onedl-mmcv"]
    version: str
    artefact: Artefact


class OpencvChoice(Value, frozen=True, kw_only=True):
    name: Literal["opencv-python", "opencv-python-headless"]
    version: str


class Stack(Value, frozen=True, kw_only=True):
    """The coupled choice. A package that the stack goes without is None."""

    python: str
    torch: TorchChoice
    torchvision: Optional[str]
    mmcv: MmcvChoice
    mmengine: Optional[str]
    mmdet: Optional[str]
    mmpose: str
    numpy: str
    xtcocotools: BinaryChoice
    opencv: OpencvChoice
    setuptools: str
    evidence: Literal["tested", "tested-elsewhere", "documented", "derived"]


class Rejection(Value, frozen=True, kw_only=True):
    """Why a candidate is out: the fact that speaks against it, what was wanted and what was seen. `unlock`: what would
    let it in (`driver ≥525.60.13`), None where nothing on the machine or in the request does. `source`: keys of the
    matrix's sources that the rule rests on."""

    candidate: str
    fact: str
    wanted: str
    observed: str
    why: str
    unlock: Optional[str] = None
    source: tuple[str, ...] = ()


class Constraint(Value, frozen=True, kw_only=True):
    """One of the facts that together exclude every stack: `who` set it (`you`, `recipe NAME`, `this machine`), and what
    it says."""

    who: str
    says: str


class Cost(Value, frozen=True, kw_only=True):
    """`download_bytes` of what is known to be fetched; `build_minutes` on this machine's cores."""

    download_bytes: int
    build_minutes: float


class Change(Value, frozen=True, kw_only=True):
    """`old` None: it is new; `new` None: it goes. `why` where the versions alone do not say it."""

    name: str
    old: Optional[str]
    new: Optional[str]
    why: str = ""


class Nearest(Value, frozen=True, kw_only=True):
    """A stack that there would be if some constraints gave way: which (`gives`), what that takes (`how`), the stack,
    and what it costs then. `idle`: it leaves the GPU idle."""

    gives: tuple[Constraint, ...]
    how: str
    stack: Stack
    changes: tuple[Change, ...]
    cost: Cost
    idle: bool = False


class Resolution(Value, frozen=True, kw_only=True):
    """The chosen stack with its rejections, the tightest first. Without a stack: `core` is a minimal set of
    constraints that no stack satisfies together, `conflict` says it in a sentence, `nearest` are the ways out, the
    cheapest first."""

    stack: Optional[Stack]
    changes: tuple[Change, ...]
    rejected: tuple[Rejection, ...]
    assumptions: tuple[str, ...]
    cost: Cost
    conflict: Optional[str] = None
    core: tuple[Constraint, ...] = ()
    nearest: tuple[Nearest, ...] = ()


class Source(Value, frozen=True, kw_only=True):
    """What a place that wheels of mmcv come from says of one beside one torch (`2.6.0+cu124`)."""

    torch: str
    source: str
    has: bool
    says: str


class Evidence(Value, frozen=True, kw_only=True):
    """A measured stack that bears on a question: its versions by name, its outcome, and what was seen."""

    outcome: Literal["works", "broken"]
    date: str
    versions: dict[str, str]
    says: str


class Why(Value, frozen=True, kw_only=True):
    """What `mmdoctor matrix why` answers: whether the versions `asked` about go together on a machine, and why not.
    `sources` are those that the rejections name, by key."""

    schema_version: str = SCHEMA_VERSION
    asked: dict[str, str]
    machine: str
    together: bool
    stack: Optional[Stack]
    cost: Cost
    conflict: Optional[str]
    core: tuple[Constraint, ...]
    nearest: tuple[Nearest, ...]
    wheels: tuple[Source, ...]
    against: tuple[Rejection, ...]
    measured: tuple[Evidence, ...]
    assumptions: tuple[str, ...]
    sources: dict[str, str]
    pretended: tuple[str, ...] = ()


class Rest(Value, frozen=True, kw_only=True):
    """What the stack means for the user's other packages: the ones that must move, those that cannot live beside it and
    stay as they are, and what could not be looked up."""

    moves: tuple[Change, ...] = ()
    forbidden: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()


class Fixup(Value, frozen=True, kw_only=True):
    """One change to an unpacked sdist: in `file`, each key of `replace` becomes its value."""

    id: str
    file: str
    replace: dict[str, str]
    reason: str


class Nvcc(Value, frozen=True, kw_only=True):
    """nvcc as wheels (requirements), installed beside a build's source: their folder `home`, with what the one of the
    same name has that torch's own wheels brought and with `links` (name → what it stands for), is the CUDA_HOME."""

    wheels: tuple[str, ...]
    home: str
    links: dict[str, str]


class Build(Value, frozen=True, kw_only=True):
    """A wheel to compile for the target: without isolation, never from pip's own cache, with these fix-ups; CUDA ops
    with the machine's own nvcc unless `nvcc` is brought along."""

    package: str
    version: str
    sdist_sha256: Optional[str]
    minutes: float
    fixups: tuple[Fixup, ...]
    env: dict[str, str]
    nvcc: Optional[Nvcc] = None


class Step(Value, frozen=True, kw_only=True):
    """One command. In `argv`, `{python}` stands for the target's interpreter and `{env}` for its prefix: the clone's
    while applying, the final one in emitted scripts; `{constraints}` and `{overrides}` for files with the plan's. A
    step with `build` compiles that wheel first, and `{wheel}` stands for the file."""

    argv: tuple[str, ...]
    why: str
    build: Optional[Build] = None


class Stage(Value, frozen=True, kw_only=True):
    """`verify` holds the ids of the checks that must pass when the stage is done."""

    id: str
    title: str
    steps: tuple[Step, ...]
    verify: tuple[str, ...] = ()


class Bound(Value, frozen=True, kw_only=True):
    """What a plan is bound to: it is stale on another host, with another interpreter, or when a distribution came, went
    or changed. `distributions` maps `name version` to the digest of RECORD."""

    host: str
    python: str
    state: str
    distributions: dict[str, str]


class Plan(Value, frozen=True, kw_only=True):
    """What `fix` prints and `fix --apply` runs, on the `target` as `bound` describes it. `forbidden`: your other
    packages that cannot live beside the stack and stay as they are; `manual`: what is wrong and no plan can mend."""

    schema_version: str = SCHEMA_VERSION
    status: Literal["nothing-to-do", "plan", "unsatisfiable"]
    recipe: str
    target: str
    bound: Bound
    new_environment: bool
    stack: Optional[Stack]
    changes: tuple[Change, ...]
    constraints: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    stages: tuple[Stage, ...]
    rejected: tuple[Rejection, ...]
    assumptions: tuple[str, ...]
    cost: Cost
    conflict: Optional[str] = None
    core: tuple[Constraint, ...] = ()
    nearest: tuple[Nearest, ...] = ()
    reasons: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    manual: tuple[str, ...] = ()
    pretended: tuple[str, ...] = ()


# ------------------------------------------------------------------------------------------------------- rollback


class Earlier(Value, frozen=True, kw_only=True):
    """An environment that stood at the path before the run `name` replaced it with these changes. `bytes` are those of
    its files that it shares with no other environment."""

    name: str
    bytes: int
    changes: tuple[str, ...]


class Kept(Value, frozen=True, kw_only=True):
    """What `mmdoctor rollback --list` answers: the earlier environments, newest first."""

    schema_version: str = SCHEMA_VERSION
    target: str
    earlier: tuple[Earlier, ...]


# -------------------------------------------------------------------------------------------------------- explain


class CommandFix(Value, frozen=True, kw_only=True):
    kind: Literal["auto", "confirm", "manual", "none"]
    summary: str
    commands: tuple[str, ...] = ()


class Cause(Value, frozen=True, kw_only=True):
    cause: str
    family: str
    confidence: float
    title: str
    why: str
    evidence: tuple[str, ...]
    fix: CommandFix
    docs: str


class Explanation(Value, frozen=True, kw_only=True):
    schema_version: str = SCHEMA_VERSION
    causes: tuple[Cause, ...]
    versions: dict[str, str] = field(default_factory=dict)
    paste: tuple[str, ...] = ()  # what else would tell, where nothing is sure
    lang: Literal["en", "zh"] = "en"


# ----------------------------------------------------------------------------------------------------- the wheel cache


class KeptWheel(Value, frozen=True, kw_only=True):
    """A wheel of the cache: what it is bound to, what it cost (`minutes`), when it was built and last used (UTC), what
    was `shown` to work, and where it was imported from (`origin`). Not `sound`: its file is not the one that was
    proven, and is never handed out. `archs` as in CachedWheel."""

    name: str
    version: str
    path: str
    sound: bool
    bytes: int
    torch: Optional[str]
    cuda: Optional[str]
    archs: str
    numpy: Optional[str]
    python_tag: str
    glibc: str
    compiler: str
    minutes: float
    built: str
    used: Optional[str]
    shown: tuple[str, ...]
    origin: Optional[str] = None


class Built(Value, frozen=True, kw_only=True):
    """What `mmdoctor wheels build` answers: the wheel, and whether it was `compiled` now or was in the cache."""

    schema_version: str = SCHEMA_VERSION
    wheel: KeptWheel
    compiled: bool


class WheelList(Value, frozen=True, kw_only=True):
    """What `mmdoctor wheels list` answers. `strays`: entries that are none, since their proof does not read or was
    changed."""

    schema_version: str = SCHEMA_VERSION
    folder: str
    wheels: tuple[KeptWheel, ...]
    strays: tuple[str, ...] = ()


class Removal(Value, frozen=True, kw_only=True):
    """What `wheels prune` takes out of the cache: a wheel, what is left of a build, an sdist that no wheel was made
    from, a draft that a kill left."""

    kind: Literal["wheel", "build", "sdist", "draft"]
    name: str
    path: str
    bytes: int
    why: str


class Pruned(Value, frozen=True, kw_only=True):
    """What `mmdoctor wheels prune` answers; `done` is False where it only says what would go. `in_use`: what stays only
    because a running command may need it."""

    schema_version: str = SCHEMA_VERSION
    folder: str
    done: bool
    removals: tuple[Removal, ...]
    in_use: tuple[str, ...]
    kept: int
    kept_bytes: int


class WheelIndex(Value, frozen=True, kw_only=True):
    """An index (PEP 503) of an exported folder, for one torch with its ops or one NumPy. `path` is that of the index
    relative to the folder, `wheels` are those of its files, by distribution."""

    path: str
    beside: str
    wheels: dict[str, tuple[str, ...]]


class Exported(Value, frozen=True, kw_only=True):
    """What `mmdoctor wheels export` answers: entries that were added to the folder, that were there already, and that
    were left out for being damaged; and all of its indexes."""

    schema_version: str = SCHEMA_VERSION
    folder: str
    added: tuple[str, ...]
    there: tuple[str, ...]
    damaged: tuple[str, ...]
    indexes: tuple[WheelIndex, ...]


class RefusedWheel(Value, frozen=True, kw_only=True):
    """An entry that was not imported, and why."""

    entry: str
    why: str


class Imported(Value, frozen=True, kw_only=True):
    """What `mmdoctor wheels import` answers, by entry (`mmcv-2.1.0/3722998f1d8d4279`); `done` is False for a dry run.
    `proven`: those of `added` that were proven anew here."""

    schema_version: str = SCHEMA_VERSION
    source: str
    folder: str
    done: bool
    added: tuple[str, ...]
    proven: tuple[str, ...]
    there: tuple[str, ...]
    refused: tuple[RefusedWheel, ...]


# ---------------------------------------------------------------------------------------------------- the matrix anew


class Tried(Value, frozen=True, kw_only=True):
    """One address that was asked for a page; `said` is why it is not gone by, None for the page that was."""

    url: str
    said: Optional[str] = None


class Reading(Value, frozen=True, kw_only=True):
    """One page that `matrix refresh` wants: the places that were asked in turn, and whether one had it."""

    page: str
    read: bool
    tried: tuple[Tried, ...]


class FieldChange(Value, frozen=True, kw_only=True):
    """A field of a row; `old` is None in a new row."""

    field: str
    old: Any
    new: Any


class Difference(Value, frozen=True, kw_only=True):
    """A row of the matrix that the indexes would have otherwise. `look` is what they do not tell: without changes the
    row is not written until somebody finds it out."""

    table: str
    row: str
    kind: Literal["new", "changed", "look"]
    changes: tuple[FieldChange, ...]
    look: tuple[str, ...]
    url: str


class Refresh(Value, frozen=True, kw_only=True):
    """What `mmdoctor matrix refresh` answers. `matrix` is the file, `read_on` the day it was read before, `written`
    whether the changes are in it now."""

    schema_version: str = SCHEMA_VERSION
    matrix: str
    read_on: str
    written: bool
    differences: tuple[Difference, ...]
    readings: tuple[Reading, ...]


class TorchLine(Value, frozen=True, kw_only=True):
    """One torch release of `matrix list`, with the Pythons and builds that run on the machine. `mmcv_wheels`: the mmcv
    releases with a prebuilt wheel for one of them, by distribution. `works` and `broken` count the measured stacks with
    it; without any it is *documented*."""

    release: str
    torchvision: tuple[str, ...]
    python: tuple[str, ...]
    builds: tuple[str, ...]
    pypi: str
    numpy: str
    mmcv_wheels: dict[str, tuple[str, ...]]
    evidence: Literal["measured", "documented"]
    works: int
    broken: int
    withdrawn: Optional[str] = None


class StackLine(Value, frozen=True, kw_only=True):
    """One measured stack. The artefacts say whether a wheel was installed or compiled."""

    id: str
    torch: str
    python: str
    mmcv: str
    mmcv_artefact: str
    mmdet: Optional[str]
    mmpose: str
    numpy: str
    xtcocotools: str
    xtcocotools_artefact: str
    opencv: str
    outcome: str
    date: str


class LeftOut(Value, frozen=True, kw_only=True):
    """How many torch releases or builds do not run on the machine by one fact, why the newest of them does not, and
    what would let some of them in."""

    fact: str
    of: Literal["releases", "builds", "stacks"]
    count: int
    newest: str
    why: str
    unlock: tuple[str, ...] = ()


class MatrixList(Value, frozen=True, kw_only=True):
    """What `mmdoctor matrix list` answers: what the matrix has for a machine, newest first, and what was left out."""

    schema_version: str = SCHEMA_VERSION
    machine: str
    pretended: tuple[str, ...]
    read_on: str
    torch: tuple[TorchLine, ...]
    stacks: tuple[StackLine, ...]
    left_out: tuple[LeftOut, ...]
