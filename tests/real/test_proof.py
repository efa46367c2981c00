"""The proof of the real mmcv that the demo environment was provisioned with."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest
from msgspec.structs import replace

from mmdoctor import rules
from mmdoctor.errors import ApplyError
from mmdoctor.folders import cache_folder
from mmdoctor.model import Target
from mmdoctor.probes.elf import Elf
from mmdoctor.probes.extension import built_for, torch_symbols
from mmdoctor.probes.target import probe_target
from mmdoctor.wheels.cache import Proof, proofs
from mmdoctor.wheels.proof import prove

pytestmark = pytest.mark.essential
ZEROS = b"_ZN2at4_ops5zeros4call"


@pytest.fixture(scope="module")
def target(demo: Path) -> Target:
    return probe_target(demo, is_env=True)


@pytest.fixture(scope="module")
def compiled(target: Target) -> tuple[Path, Proof]:
    """The mmcv of the cache that was compiled for the demo environment's torch."""
    assert target.torch is not None
    found = [one for one in proofs(cache_folder() / "wheels") if one[1].key.package == "mmcv"]
    return next(one for one in found if one[1].key.torch == target.torch.version and not one[1].key.cuda)


def test_the_wheel_of_this_torch_is_proven(target: Target, compiled: tuple[Path, Proof]) -> None:
    wheel, proof = compiled
    proven = prove(wheel, proof.key, target)
    [module] = proven.modules
    assert {"libc10.so", "libtorch_cpu.so", "libtorch_python.so"} <= set(module.needed)
    assert module.symbols > 200
    assert proven.functions > 100
    assert {check.op for check in proven.ops} == {"nms", "roi_align", "deform_conv2d"}
    assert proven.devices == ("cpu",)
    assert proven.beside["torch"] == proof.key.torch


def test_a_symbol_with_another_name_is_named(target: Target, compiled: tuple[Path, Proof], tmp_path: Path) -> None:
    wheel, proof = compiled
    patched = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(patched, "w") as archive:
        for info in whole.infolist():
            archive.writestr(info.filename, whole.read(info).replace(ZEROS, ZEROS.replace(b"zeros", b"zerox")))
    with pytest.raises(ApplyError, match="wants symbols that none of its libraries exports: _ZN2at4_ops5zerox4call"):
        prove(patched, proof.key, target)


def test_another_torch_than_the_one_that_ran_is_refused(target: Target, compiled: tuple[Path, Proof]) -> None:
    wheel, proof = compiled
    with pytest.raises(ApplyError, match=r"mmcv \S+ was built for torch 1\.13\.1, and \S+ runs torch "):
        prove(wheel, replace(proof.key, torch="1.13.1"), target)


def test_the_symbols_tell_the_torch_that_it_was_built_for(demo: Path, target: Target) -> None:
    assert target.torch is not None
    [ext] = Path(target.site_packages).glob("mmcv/_ext*.so")
    with Elf(ext) as elf:
        said = built_for(elf.undefined(), torch_symbols())
    assert said is not None
    told = [rules.order(minor) for minor in re.findall(r"\d+\.\d+", said)]
    own = rules.order(".".join(target.torch.version.split(".")[:2]))
    assert "older" in said or told[0] <= own
    assert "newer" in said or own <= told[-1]
