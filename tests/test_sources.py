"""Where an mmcv comes from: what each source gives, or why it does not, and what a place of the user's own shows."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import msgspec
import pytest
from msgspec.structs import replace

from mmdoctor.candidates.mmcv import mmcv_candidates, mmcv_rows
from mmdoctor.candidates.situation import Situation
from mmdoctor.candidates.torch import torch_candidates
from mmdoctor.emit import EMITTERS
from mmdoctor.matrix import load_recipe
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Artefact, CachedWheel, Facts, Index, OfferedWheel, Request, Unknown
from mmdoctor.plan import plan
from mmdoctor.pretend import pretend
from mmdoctor.probes.indexes import IndexConfig
from mmdoctor.probes.offers import probe_offers
from mmdoctor.resolve import resolve
from mmdoctor.wheels.cache import PROOF, Proof, sha256_of
from tests.conftest import BUILD_KEY, Machine, indexes, load_machine

FILE = "mmcv-2.1.0-cp311-cp311-linux_x86_64.whl"
KEY = replace(BUILD_KEY, torch="2.6.0+cu124")


def wheel(file: str = FILE, **fields: Optional[str]) -> OfferedWheel:
    version = str(fields.pop("version", "2.1.0"))
    base = OfferedWheel(name="mmcv", version=version, file=file, python_tag="cp311", platforms=("linux_x86_64",))
    return replace(base, **fields)  # type: ignore[arg-type]


def place(*wheels: OfferedWheel, url: str = "/srv/wheels", **fields: object) -> Index:
    return replace(Index(name="find-links", url=url, reachable=True, wheels=wheels), **fields)  # type: ignore[arg-type]


def new(*places: Index, python: str = "3.11", **fields: object) -> Facts:
    """An empty environment on Linux x86_64 with everything that answers."""
    facts = indexes(pretend(load_machine("healthy-cpu"), (f"python={python}", "installed=")), True)
    facts = replace(facts, indexes=(*facts.indexes, *places))
    return replace(facts, **fields)  # type: ignore[arg-type]


class Answer(Situation):
    """What the sources give for one mmcv beside one torch, and the rejections."""

    def of(self, torch: str, variant: str, mmcv: str = "2.1.0") -> Optional[Artefact]:
        for beside in torch_candidates(self):
            if (beside.choice.version, beside.choice.variant) == (torch, variant):
                for found in mmcv_candidates(self, beside, mmcv_rows(self)):
                    if found.row.version.partition("+")[0] == mmcv:
                        return found.artefact
        return None

    def why(self, fact: str) -> str:
        return next(r.why for (_, name), r in self.rejected.items() if name == fact)


def asking(matrix: Matrix, facts: Facts, *, build: bool = False) -> Answer:
    return Answer(facts, matrix, Request(recipe=load_recipe("rtmpose"), allow_build=build))


def test_the_publishers_wheel_comes_first(matrix: Matrix) -> None:
    found = asking(matrix, new()).of("2.1.2", "cu121")
    assert found is not None
    assert (found.kind, found.reason) == ("wheel", "prebuilt for torch 2.1 cu121")
    assert found.source == "https://download.openmmlab.com/mmcv/dist/cu121/torch2.1.0/index.html"


@pytest.mark.parametrize(
    ("torch", "variant", "mmcv", "python", "why"),
    [
        ("2.6.0", "cu124", "2.1.0", "3.11", "openmmlab: no wheel for torch 2.6"),
        ("2.0.1", "cu117", "2.0.1", "3.11", "openmmlab: no wheel for Python 3.11, only for 3.7, 3.8, 3.9, 3.10"),
        ("2.4.1", "cu124", "2.2.0", "3.11", "openmmlab: no wheel for torch 2.4 cu124, only for cpu, cu118, cu121"),
        ("2.4.1", "cu121", "2.1.0", "3.11", "openmmlab: no wheel of 2.1.0 for torch 2.4 cu121, only of 2.2.0"),
    ],
)
def test_the_index_says_the_nearest_that_it_has(
    matrix: Matrix, torch: str, variant: str, mmcv: str, python: str, why: str
) -> None:
    world = asking(matrix, new(python=python))
    assert world.of(torch, variant, mmcv) is None
    name = f"mmcv {mmcv} beside torch {torch}+{variant}"
    assert why in {r.why for (candidate, _), r in world.rejected.items() if candidate == name}


def test_no_wheel_for_another_machine(matrix: Matrix) -> None:
    facts = new()
    world = asking(matrix, replace(facts, host=replace(facts.host, machine="aarch64")))
    assert world.of("2.6.0", "cpu") is None
    assert world.why("wheel:openmmlab") == "openmmlab: no wheel for linux aarch64"


def test_a_build_says_of_each_source_why_not(matrix: Matrix) -> None:
    cached = CachedWheel(name="mmcv", version="2.1.0", python_tag="cp311", torch="2.1.2+cu121", numpy=None, path="/c")
    found = asking(matrix, new(place(wheel()), wheels=(cached,)), build=True).of("2.6.0", "cu124")
    assert found is not None
    assert found.kind == "build"
    assert found.reason.split("; ")[:2] == ["openmmlab: no wheel for torch 2.6", "cache: built against 2.1.2+cu121"]
    assert "find-links: nothing says which torch mmcv-2.1.0-cp311-cp311-linux_x86_64.whl was" in found.reason


def test_the_cache_before_the_users_places(matrix: Matrix) -> None:
    cached = CachedWheel(name="mmcv", version="2.1.0", python_tag="cp311", torch="2.6.0+cu124", numpy=None, path="/c")
    offered = place(wheel(torch="2.6.0+cu124", says="its label", version="2.1.0+torch2.6.0.cu124"))
    found = asking(matrix, new(offered, wheels=(cached,))).of("2.6.0", "cu124")
    assert found == Artefact(
        kind="cached",
        source="/c",
        reason="built and proven here against torch 2.6.0+cu124; openmmlab: no wheel for torch 2.6",
    )
    for other, why in (
        (replace(cached, python_tag="cp310"), "built for cp310"),
        (replace(cached, archs="8.6"), "built for 8.6"),
    ):
        world = asking(matrix, new(wheels=(other,)))
        assert world.of("2.6.0", "cu124") is None
        assert world.why("wheel:cache") == f"cache: {why}"


def test_what_was_proven_here_before_the_publishers_wheel(matrix: Matrix) -> None:
    """Unless that is better documented: nothing was measured with this mmpose beside this torch."""
    cached = CachedWheel(name="mmcv", version="2.1.0", python_tag="cp311", torch="2.1.2+cu121", numpy=None, path="/c")
    for mmpose, kind in (("1.3.2", "cached"), ("1.3.1", "wheel")):
        pins = {"torch": "2.1.2", "mmcv": "2.1.0", "mmpose": mmpose}
        request = Request(recipe=load_recipe("rtmpose"), torch_variants=("cu121",), pins=pins)
        stack = resolve(new(wheels=(cached,)), matrix, request).stack
        assert stack is not None
        assert (stack.mmcv.artefact.kind, stack.evidence == "documented") == (kind, kind == "wheel")


@pytest.mark.parametrize(
    ("offered", "why"),
    [
        (wheel(), "nothing says which torch"),
        (wheel(torch="2.5+cu124", says="its label"), "its label says that"),
        (wheel(torch="2.6+cu126", says="its address"), "its address says that"),
        (wheel(torch="2.6.0+cu124", archs="8.6", says="its proof"), "is for torch 2.6.0+cu124 and 8.6"),
        (wheel("mmcv-2.1.0-cp310-cp310-linux_x86_64.whl", python_tag="cp310"), "is for another Python"),
        (replace(wheel(), platforms=("win_amd64",)), "is for another platform"),
        (replace(wheel(), platforms=("linux_aarch64",)), "is for another platform"),
        (replace(wheel(), platforms=("manylinux_2_99_x86_64",)), "is for another platform"),
        (replace(wheel(), python_tag="py3", platforms=("any",)), "holds no compiled ops"),
    ],
)
def test_a_wheel_of_the_users_that_is_not_for_here(matrix: Matrix, offered: OfferedWheel, why: str) -> None:
    world = asking(matrix, new(place(offered)))
    assert world.of("2.6.0", "cu124") is None
    assert why in world.why("wheel:find-links")


@pytest.mark.parametrize("platform", ["linux_x86_64", "manylinux1_x86_64", "manylinux_2_28_x86_64"])
def test_a_wheel_of_the_users_that_says_what_it_is_for(matrix: Matrix, platform: str) -> None:
    offered = replace(wheel(torch="2.6+cu124", says="its address"), platforms=(platform,))
    found = asking(matrix, new(place(offered))).of("2.6.0", "cu124")
    assert found is not None
    assert (found.kind, found.source) == ("wheel", "find-links")
    assert found.reason.startswith("its address at /srv/wheels says that it was compiled for torch 2.6+cu124")


def test_two_of_one_version_are_none(matrix: Matrix) -> None:
    good, unknown = wheel(torch="2.6+cu124", says="its address"), place(wheel(), url="/srv/others")
    world = asking(matrix, new(place(good), unknown))
    assert world.of("2.6.0", "cu124") is None
    assert "an installer may take another 2.1.0" in world.why("wheel:find-links")
    labelled = replace(good, version="2.1.0+torch2.6.cu124")  # named exactly, the other one does not match
    assert asking(matrix, new(place(labelled), unknown)).of("2.6.0", "cu124") is not None


def test_an_unknown_wheel_would_take_the_place_of_the_publishers(matrix: Matrix) -> None:
    world = asking(matrix, new(place(wheel())))
    assert world.of("2.1.2", "cu121") is None
    assert "instead, which is for another torch or unknown" in world.why("wheel:openmmlab")
    same = place(wheel(torch="2.1+cu121", says="its address"))
    assert asking(matrix, new(same)).of("2.1.2", "cu121") is not None


def test_a_place_that_does_not_answer_is_named(matrix: Matrix) -> None:
    silent = place(url="https://wheels.example", reachable=False, reason="HTTP 500")
    world = asking(matrix, new(silent))
    assert world.of("2.6.0", "cu124") is None
    assert world.why("wheel:find-links") == "find-links: https://wheels.example does not answer (HTTP 500)"


def test_an_mmcv_without_cuda_ops_does_not_stay_beside_a_gpu(matrix: Matrix, machine: Machine) -> None:
    facts = machine("healthy-cpu")
    assert facts.extension is not None
    assert not facts.extension.has_cuda_code
    alone = resolve(facts, matrix, Request(recipe=load_recipe("rtmpose")))
    assert alone.changes == ()
    seen = indexes(replace(facts, gpu=pretend(facts, ("gpu=7.5", "driver=535.104.05")).gpu), True)
    moved = resolve(seen, matrix, Request(recipe=load_recipe("rtmpose"))).changes
    assert [(change.name, change.why) for change in moved] == [
        ("mmcv", "prebuilt: prebuilt for torch 2.1 cu121; installed: it was compiled for the CPU alone")
    ]


def test_the_plan_names_the_very_wheel_and_no_address(matrix: Matrix) -> None:
    offered = wheel(torch="2.6.0+cu124", says="its label", version="2.1.0+torch2.6.0.cu124")
    facts = new(place(offered, url="https://wheels.example/x"))
    request = Request(recipe=load_recipe("rtmpose"), pins={"torch": "2.6.0+cu124"}, allow_build=False)
    made = plan(facts, matrix, request, resolve(facts, matrix, request))
    assert made.stack is not None
    assert made.stack.mmcv.version == "2.1.0+torch2.6.0.cu124"
    words = next(stage for stage in made.stages if stage.id == "mmcv").steps[0].argv
    assert words[-1] == "mmcv==2.1.0+torch2.6.0.cu124"
    assert "--find-links" not in words  # the user's own settings name it, with their credentials
    assert "mmcv==2.1.0+torch2.6.0.cu124" in made.constraints
    written = EMITTERS["requirements"](made)
    assert "mmcv==2.1.0+torch2.6.0.cu124" in written
    assert "# mmcv lies in your own find-links" in written
    assert "wheels.example" not in written


# ---------------------------------------------------------------------------------------------- what the places show


def put(folder: Path, file: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_bytes(b"a wheel")
    return folder / file


def seen(*links: str, extra: tuple[str, ...] = (), offline: bool = False, **uv: str) -> tuple[Index, ...]:
    return probe_offers(IndexConfig(find_links=links, extra_index_urls=extra, uv=uv), offline=offline)


@pytest.mark.parametrize(
    ("file", "torch"),
    [
        (FILE, None),
        ("mmcv-2.1.0+torch2.6.0.cu124-cp311-cp311-linux_x86_64.whl", "2.6.0+cu124"),
        ("mmcv-2.1.0+cu124torch2.6-cp311-cp311-linux_x86_64.whl", "2.6+cu124"),
        ("mmcv-2.1.0+torch2.10.0.cpu-cp311-cp311-linux_x86_64.whl", "2.10.0+cpu"),
        (
            "mmcv-2.2.0+pt2.8.0cu128-cp311-cp311-linux_x86_64.whl",
            "2.8.0+cu128",
        ),  # as torch_packages_builder names its own
        ("mmcv-2.2.0+a8073c7pt2.11.0cpu-cp311-cp311-linux_x86_64.whl", "2.11.0+cpu"),
        ("mmcv-2.1.0+cu12torch2.6.0cxx11abiFALSE-cp311-cp311-linux_x86_64.whl", "2.6.0+cu12"),
        ("mmcv-2.1.0+corex.4.3.0-cp311-cp311-linux_x86_64.whl", None),
        ("mmcv-2.1.0+pt26cu124-cp311-cp311-linux_x86_64.whl", None),
        ("mmcv-2.1.0+torch2.6-cp311-cp311-linux_x86_64.whl", None),
    ],
)
def test_what_a_label_says(tmp_path: Path, file: str, torch: Optional[str]) -> None:
    put(tmp_path, file)
    (index,) = seen(str(tmp_path))
    assert [w.torch for w in index.wheels] == [torch]
    assert index.wheels[0].says == ("its label" if torch else None)
    assert index.wheels[0].file == file


@pytest.mark.parametrize(
    ("folder", "torch"),
    [
        ("mmcv/dist/cu121/torch2.1.0", "2.1+cu121"),
        ("mmcv/dist/cpu/torch2.10", "2.10+cpu"),
        ("cu128-torch280/onedl-mmcv", "2.8+cu128"),
        ("cpu-torch2100", "2.10+cpu"),
        ("cu121/wheels", None),
    ],
)
def test_what_an_address_says(tmp_path: Path, folder: str, torch: Optional[str]) -> None:
    put(tmp_path / folder, FILE)
    (index,) = seen((tmp_path / folder).as_uri())
    assert [(w.torch, w.says) for w in index.wheels] == [(torch, "its address" if torch else None)]


def test_a_proof_is_for_the_very_file(tmp_path: Path) -> None:
    path = put(tmp_path, FILE)
    proof = Proof(key=KEY, wheel=FILE, wheel_sha256=sha256_of(path), minutes=6.5, shown=())
    (tmp_path / PROOF).write_bytes(msgspec.json.encode(proof))
    (index,) = seen(str(tmp_path))
    assert (index.wheels[0].torch, index.wheels[0].says) == ("2.6.0+cu124", "its proof")
    path.write_bytes(b"another wheel")
    assert seen(str(tmp_path))[0].wheels[0].torch is None


def test_a_page_and_what_is_no_wheel_of_mmcv(tmp_path: Path) -> None:
    names = [FILE, "mmcv-2.1.0.tar.gz", "numpy-2.4.6-cp311-cp311-linux_x86_64.whl", "mmcv_lite-2.1.0-py3-none-any.whl"]
    names += ["mmcv_full-1.0.0+torch1.3.0+cu100-cp36-cp36m-manylinux1_x86_64.whl"]  # two labels: no version of PEP 440
    page = tmp_path / "index.html"
    page.write_text("".join(f'<a href="../torch2.1.0/{name}">{name}</a>' for name in names), encoding="utf-8")
    (index,) = seen(page.as_uri())
    assert [w.file for w in index.wheels] == [FILE]
    assert index.name == "find-links"


@pytest.fixture
def server() -> Iterator[str]:
    """`/simple/mmcv/` lists a wheel, other projects answer 404, `/broken/` 500."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            there = self.path in ("/simple/mmcv/", "/cu121/torch2.1.0/index.html")
            self.send_response(200 if there else 500 if self.path.startswith("/broken") else 404)
            self.end_headers()
            if there:
                self.wfile.write(f'<a href="{FILE}#sha256=0">{FILE}</a>'.encode())

        def log_message(self, *_: object) -> None:
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://me:secret@127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()


def test_pages_and_indexes_over_the_network(server: str) -> None:
    links, extra, broken = seen(f"{server}/cu121/torch2.1.0/index.html", extra=(f"{server}/simple", f"{server}/broken"))
    assert [(w.file, w.torch) for w in links.wheels] == [(FILE, "2.1+cu121")]
    assert (extra.name, [w.torch for w in extra.wheels]) == ("extra-index", [None])
    assert (broken.reachable, broken.reason) == (False, "HTTP 500 (Internal Server Error)")
    assert "secret" not in msgspec.json.encode((links, extra, broken)).decode()
    offline = seen(f"{server}/cu121/torch2.1.0/index.html", offline=True)[0]
    assert offline.reachable == Unknown(unknown="--offline")


def test_an_index_on_disk(tmp_path: Path) -> None:
    put(tmp_path / "simple" / "mmcv", FILE)
    (tmp_path / "simple" / "mmcv" / "index.html").write_text(f'<a href="{FILE}">{FILE}</a>', encoding="utf-8")
    (tmp_path / "empty").mkdir()
    there, empty, gone = seen(extra=tuple((tmp_path / name).as_uri() for name in ("simple", "empty", "gone")))
    assert [w.file for w in there.wheels] == [FILE]
    assert (empty.reachable, empty.wheels) == (True, ())
    assert (gone.reachable, gone.reason) == (False, "No such file or directory")


def test_what_uv_was_told_wins(tmp_path: Path) -> None:
    put(tmp_path / "uv", FILE)
    put(tmp_path / "pip", FILE)
    (index,) = seen(str(tmp_path / "pip"), UV_FIND_LINKS=str(tmp_path / "uv"))
    assert index.url.endswith("/uv")


def test_facts_of_before_are_read_and_new_ones_survive(machine: Machine) -> None:
    facts = machine("healthy-cpu")  # recorded before there were places
    assert all(index.wheels == () for index in facts.indexes)
    more = replace(facts, indexes=(*facts.indexes, place(wheel(torch="2.6+cu124", says="its label"))))
    assert msgspec.json.decode(msgspec.json.encode(more), type=Facts) == more
