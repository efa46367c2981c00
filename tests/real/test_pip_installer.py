"""pip as the fallback installer: the same stack, the same proof, no chumpy and one OpenCV without uv's overrides."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.conftest import Doctor, versions

pytestmark = pytest.mark.real


def test_pip_brings_up_the_same_stack(doctor: Doctor, demo: Path, scratch: Path) -> None:
    env = scratch / "by-pip"
    done = doctor("fix", "--env", str(env), "--installer", "pip", "--apply", "--yes")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "uv pip" not in done.stdout
    built, expected = versions(env), versions(demo)
    for name in ("torch", "torchvision", "numpy", "mmcv", "mmengine", "mmdet", "mmpose", "xtcocotools"):
        assert built[name] == expected[name]
    assert "chumpy" not in built
    assert sum(name.startswith("opencv-") for name in built) == 1
    assert doctor("check", "--env", str(env)).returncode == 0
