"""What `check --config` and `--checkpoint` saw of real faults (`data/config/`, recorded from real runs).

Each file holds what the target answered: mmpose 1.3.2, mmcv 2.1.0, torch 2.1.2, mmengine 0.10.7; `published`, `trained`
and `evil` torch 2.13.0 with NumPy 2.4.6. The configs and checkpoints are those of `real/test_config_check.py`.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Optional

import msgspec
from msgspec.structs import replace

from mmdoctor.model import BrokenPart, BuiltModel, CheckpointSeen, ConfigSeen, Facts, FoundConfig, LoadedConfig, Value
from tests.conftest import DATA

Change = Callable[[Facts], Facts]


class Recorded(Value, frozen=True, kw_only=True):
    config: Optional[ConfigSeen]
    checkpoint: Optional[CheckpointSeen]


class ConfigCase(NamedTuple):
    check: str
    status: str
    cause: Optional[str]
    change: Change


def recorded(name: str) -> Recorded:
    return msgspec.json.decode((DATA / "config" / f"{name}.json").read_bytes(), type=Recorded)


def asked(name: str) -> Change:
    """The machine after `check` was asked about this config and checkpoint."""

    def change(facts: Facts) -> Facts:
        seen = recorded(name)
        return replace(facts, config=seen.config, checkpoint=seen.checkpoint)

    return change


def on_config(name: str, **steps: Any) -> Change:
    """The same with other answers of some steps."""

    def change(facts: Facts) -> Facts:
        seen = recorded(name)
        assert seen.config is not None
        return replace(facts, config=replace(seen.config, **steps), checkpoint=seen.checkpoint)

    return change


def ended(error: str, message: str = "", **fields: Any) -> dict[str, Any]:
    return {"error": error, "message": message, **fields}


HANGS = on_config("fits", load=LoadedConfig(**ended("timeout", "no answer within 180 s")), types=None, build=None)
OPTION = "__init__() got an unexpected keyword argument 'deepen_factor'"


def scope_left_out(facts: Facts) -> Facts:
    return on_config("fits", load=LoadedConfig(default_scope=None))(facts)


CONFIG_CASES = (
    ConfigCase("CFG001", "ok", None, asked("fits")),
    ConfigCase("CFG001", "fail", "config-not-found", asked("stem")),
    ConfigCase("CFG001", "fail", "config-not-found", asked("missing")),
    ConfigCase("CFG001", "fail", "config-invalid", HANGS),
    ConfigCase("CFG001", "fail", "config-invalid", asked("crash")),
    ConfigCase("CFG001", "fail", "optional-package-missing", asked("imports")),
    ConfigCase("CFG001", "fail", "mmlab-generation-mix", asked("old")),
    ConfigCase("CFG001", "warn", "config-invalid", on_config("fits", load=LoadedConfig(no_model=True))),
    ConfigCase("CFG001", "fail", "config-invalid", on_config("fits", find=FoundConfig(**ended("SIGSEGV")), load=None)),
    ConfigCase("CFG002", "ok", None, asked("fits")),
    ConfigCase("CFG002", "fail", "registry-scope", asked("invented")),
    ConfigCase("CFG002", "fail", "registry-scope", asked("scope")),
    ConfigCase("CFG002", "fail", "registry-scope", asked("own")),
    ConfigCase("CFG002", "fail", "optional-package-missing", asked("noscope")),
    ConfigCase("CFG002", "fail", "optional-package-missing", asked("vit")),
    ConfigCase("CFG002", "warn", "registry-scope", asked("hand5")),
    ConfigCase("CFG002", "warn", "registry-scope", scope_left_out),
    ConfigCase("CFG003", "ok", None, asked("fits")),
    ConfigCase("CFG003", "fail", "config-invalid", asked("option")),
    ConfigCase("CFG003", "fail", "config-invalid", on_config("fits", build=BuiltModel(**ended("TypeError", OPTION)))),
    ConfigCase("CFG004", "ok", None, asked("fits")),
    ConfigCase("CFG004", "fail", "config-inconsistent", asked("head")),
    ConfigCase("CFG004", "fail", "config-inconsistent", asked("channels")),
    ConfigCase("CFG004", "fail", "config-inconsistent", asked("size")),
    ConfigCase("CFG005", "warn", "optional-package-missing", asked("fits")),
    ConfigCase("CKP001", "ok", None, asked("fits")),
    ConfigCase("CKP001", "fail", "artefact-damaged", asked("cut")),
    ConfigCase("CKP002", "ok", None, asked("fits")),
    ConfigCase("CKP002", "fail", "torch-weights-only", asked("published")),
    ConfigCase("CKP002", "fail", "torch-weights-only", asked("trained")),
    ConfigCase("CKP002", "fail", "checkpoint-runs-code", asked("evil")),
    ConfigCase("CKP003", "ok", None, asked("fits")),
    ConfigCase("CKP003", "fail", "checkpoint-config-mismatch", asked("mismatch")),
    ConfigCase("CKP003", "fail", "checkpoint-config-mismatch", asked("backbone")),
)


def made_pipelines(facts: Facts) -> Facts:
    """All data and packages for training are there."""
    seen = recorded("fits").config
    assert seen is not None
    assert seen.types is not None
    types = replace(seen.types, training=(), files=())
    return replace(facts, config=replace(seen, types=types))


def broken_option(facts: Facts) -> Facts:
    """A step of a pipeline with an option that it does not have."""
    seen = recorded("fits").config
    assert seen is not None
    assert seen.types is not None
    part = BrokenPart(where="train_dataloader.dataset.pipeline[2]", type="RandomFlip", **ended("TypeError", OPTION))
    return replace(facts, config=replace(seen, types=replace(seen.types, training=(part,))))


CONFIG_CASES += (
    ConfigCase("CFG005", "ok", None, made_pipelines),
    ConfigCase("CFG005", "warn", "config-invalid", broken_option),
)
