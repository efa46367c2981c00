"""A wheel that was compiled goes out as an index and comes in again: pip and uv install it, mmdoctor checks it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmdoctor.apply.clone import clone
from mmdoctor.folders import cache_folder
from mmdoctor.system import Child, uv_program
from tests.real.conftest import Doctor, run, uv

# Nothing of the user's own settings: what is installed comes from the folder or not at all.
ALONE = {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "", "UV_FIND_LINKS": "", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
XTCOCOTOOLS, NUMPY = "xtcocotools==1.14.3", "numpy==2.2.6"


@pytest.fixture(scope="module")
def exported(doctor: Doctor, scratch: Path) -> Path:
    """The demo's own mmcv, exported from the cache that it was compiled into."""
    listing = json.loads(doctor("wheels", "list", "--format", "json").stdout)
    if not any(wheel["name"] == "mmcv" for wheel in listing["wheels"]):
        pytest.skip(f"{cache_folder()} holds no mmcv: the demo was provisioned with a published wheel")
    doctor.json("wheels", "export", str(scratch / "exported"), "mmcv==2.1.0")
    return scratch / "exported"


@pytest.fixture
def address(exported: Path) -> Iterator[str]:
    """The folder as any web server shows it."""
    argv = (sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(exported))
    with Child(argv) as server:
        line = server.readline(30) or ""
        yield f"http://127.0.0.1:{line.split(' port ')[1].split()[0]}"


def an_environment(place: Path, demo: Path) -> Path:
    """An empty environment on the demo's Python."""
    base = Path(os.path.realpath(demo / "bin" / "python"))
    uv("venv", "--quiet", "--seed", "--python", str(base), str(place))
    return place / "bin" / "python"


@pytest.mark.essential
def test_pip_and_uv_install_from_it(exported: Path, address: str, demo: Path, scratch: Path) -> None:
    python = str(an_environment(scratch / "taker", demo))
    [index] = (path.parent for path in (exported / "simple").glob("*/index.html"))
    page = f"{address}/simple/{index.name}"
    [entry] = exported.glob("mmcv-2.1.0/*")
    pip = (python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-cache-dir", "mmcv==2.1.0")
    with_uv = (uv_program(), "pip", "install", "--quiet", "--no-deps", "--no-cache", "--python", python, "mmcv==2.1.0")
    ways = (
        (*with_uv, "--index-url", f"{page}/"),
        (*pip, "--no-index", "--find-links", f"{page}/mmcv/index.html"),
        (*with_uv, "--index-url", index.as_uri()),
        (*pip, "--no-index", "--find-links", str(entry)),
    )
    for way in ways:
        run(*way, environment=ALONE)
        [extension] = (scratch / "taker").glob("lib/python3*/site-packages/mmcv/_ext.*.so")
        uv("pip", "uninstall", "--quiet", "--python", python, "mmcv")
        assert not extension.exists()


@pytest.mark.essential
def test_it_is_imported_proven_anew_and_refused_when_changed(
    doctor: Doctor, exported: Path, address: str, demo: Path, tmp_path: Path
) -> None:
    mine = ("--wheels", str(tmp_path / "mine"))
    imported = doctor.json("wheels", "import", address, *mine, "--env", str(demo))
    [entry] = imported["added"]
    assert imported["proven"] == [entry]
    [wheel] = doctor.json("wheels", "list", *mine)["wheels"]
    assert (wheel["name"], wheel["sound"]) == ("mmcv", True)
    assert address in wheel["origin"]
    assert any("ops" in said for said in wheel["shown"])
    proof = exported / entry / "proof.json"
    whole = proof.read_text(encoding="utf-8")
    try:
        proof.write_text(whole.replace(wheel["torch"], "2.0.1+cu117"), encoding="utf-8")
        refused = doctor.json("wheels", "import", address, "--wheels", str(tmp_path / "other"), status=4)["refused"]
    finally:
        proof.write_text(whole, encoding="utf-8")
    assert "its proof was changed" in refused[0]["why"]
    assert not (tmp_path / "other" / "mmcv-2.1.0").exists()


@pytest.mark.essential
def test_what_one_compiled_another_takes_from_the_folder(demo: Path, scratch: Path) -> None:
    """Without network, and without the sdist: `--wheels DIR` names the exported folder itself."""
    for name in ("maker", "user"):
        python = an_environment(scratch / name, demo)
        uv("pip", "install", "--quiet", "--python", str(python), NUMPY)
    maker = Doctor({"MMDOCTOR_CACHE": str(scratch / "maker-cache")})
    user = Doctor({"MMDOCTOR_CACHE": str(scratch / "user-cache")})
    maker.json("wheels", "build", XTCOCOTOOLS, "--env", str(scratch / "maker"))
    out = scratch / "from-maker"
    maker.json("wheels", "export", str(out))
    for folder in out.rglob("*"):
        folder.chmod(0o555 if folder.is_dir() else 0o444)
    asked = ("wheels", "build", XTCOCOTOOLS, "--env", str(scratch / "user"), "--wheels", str(out), "--offline")
    made = user(*asked)
    for folder in out.rglob("*"):
        folder.chmod(0o755 if folder.is_dir() else 0o644)
    assert made.returncode == 0, made.stderr
    assert not (scratch / "user-cache" / "sdists").exists()
    assert str(out) in made.stdout


@pytest.mark.real
def test_a_repair_takes_mmcv_from_the_exported_folder(exported: Path, demo: Path, scratch: Path) -> None:
    """No wheel cache of its own, no sdist, no compile: as on a host that only got the folder."""
    isolated = Doctor({"MMDOCTOR_CACHE": str(scratch / "isolated-cache")})
    env = scratch / "isolated"
    clone(demo, env)
    uv("pip", "uninstall", "--quiet", "--python", str(env / "bin" / "python"), "mmcv")
    asked = ("fix", "--env", str(env), "--pin", "mmcv==2.1.0", "--wheels", str(exported))
    if isolated.json(*asked, status=1)["stack"]["mmcv"]["artefact"]["kind"] != "cached":
        pytest.skip("the publisher's own index answers here and has this wheel")
    assert isolated.json(*asked, "--apply", "--yes")["ok"]
    [origin] = env.glob("lib/python3*/site-packages/mmcv-*.dist-info/direct_url.json")
    assert json.loads(origin.read_text(encoding="utf-8"))["url"].startswith(exported.as_uri())
    assert not (scratch / "isolated-cache" / "sdists").exists()
    assert not (scratch / "isolated-cache" / "build").exists()
