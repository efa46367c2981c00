"""Recorded pages of package indexes on the loopback, with the faults that indexes have.

`data/indexes` holds pages of PyPI as they were on 2026-11-21, trimmed to a few releases and with relative links;
`insides.json` what stood in some of the wheels (of a binary, the texts that are looked for); `matrix.yaml` a matrix of
the releases that are on these pages. The pages of torch's index and of openmmlab's are made after the matrix: the file
names have the form of the published addresses.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Optional
from urllib.parse import unquote

from msgspec.structs import replace

from mmdoctor.matrix import load_matrix
from mmdoctor.matrix_model import Matrix

RECORDED = Path(__file__).parent / "data" / "indexes"
INSIDES = json.loads((RECORDED / "insides.json").read_text(encoding="utf-8"))
JSON_TYPE = "application/vnd.pypi.simple.v1+json"


class Indexes:
    """What the server has: pages by path (`simple/torch/`), the fault of a path, and what it was asked."""

    def __init__(self) -> None:
        self.base = ""
        self.pages = {f"simple/{f.stem}/": f.read_text(encoding="utf-8") for f in RECORDED.glob("*.html")}
        self.faults: dict[str, str] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.on_ask: Callable[[str], None] = lambda path: None

    @property
    def simple(self) -> str:
        return f"{self.base}/simple"

    def matrix(self) -> Matrix:
        """The recorded matrix, its own indexes on this server."""
        return replace(
            load_matrix(RECORDED / "matrix.yaml"),
            torch_index=f"{self.base}/whl/{{variant}}",
            openmmlab_index=f"{self.base}/mmcv/{{variant}}/torch{{torch}}/index.html",
        )

    def publish(self, matrix: Matrix) -> None:
        """The pages of torch's index and of mmcv's wheels, as the matrix says they are."""
        torches = [
            f"torch-{row.release}%2B{variant}-cp312-cp312-{platform}.whl"
            for row in matrix.torch
            for variant in row.variants
            for platform in ("manylinux_2_28_x86_64", "win_amd64")
        ]
        self.pages["whl/torch/"] = links(torches)
        built = {row.version: row.wheel_python for row in matrix.mmcv if row.package == "mmcv"}
        for place in {(row.variant, row.torch) for row in matrix.mmcv_wheels}:
            wheels = [
                f"mmcv-{version}-cp{tag}-cp{tag}-{'manylinux1_x86_64' if row.os == 'linux' else 'win_amd64'}.whl"
                for row in matrix.mmcv_wheels
                if (row.variant, row.torch) == place
                for version in row.versions
                for tag in (python.replace(".", "") for python in row.python.get(version, built[version]))
            ]
            self.pages[f"mmcv/{place[0]}/torch{place[1]}.0/index.html"] = links(wheels)


def links(names: list[str]) -> str:
    """A page of links, as the wheel indexes have them."""
    return "\n".join(f'<a href="/files/{name}">{unquote(name)}</a><br>' for name in names) + "\n"


def without(page: str, pattern: str) -> str:
    """A page without the lines of some files."""
    return "\n".join(line for line in page.splitlines() if not re.search(pattern, line)) + "\n"


def as_json(page: str, base: str) -> bytes:
    """A page in the form of PEP 691."""
    files = []
    for tag, attributes, name in re.findall(r'<a href="([^"]+)"([^>]*)>([^<]+)</a>', page):
        url, _, digest = tag.partition("#sha256=")
        yanked = re.search(r'data-yanked="([^"]*)"', attributes)
        requires = re.search(r'data-requires-python="([^"]*)"', attributes)
        one = {"filename": name, "url": url, "hashes": {"sha256": digest}, "yanked": yanked[1] if yanked else False}
        files.append(
            {**one, "requires-python": requires[1].replace("&gt;", ">").replace("&lt;", "<") if requires else None}
        )
    return json.dumps({"meta": {"api-version": "1.1"}, "name": base, "files": files}).encode()


def wheel(name: str) -> bytes:
    """A wheel that holds what the recorded one said."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, said in INSIDES[name].items():
            archive.writestr(path, said if isinstance(said, str) else "\0".join(said))
    return stream.getvalue()


@contextmanager
def served() -> Iterator[Indexes]:
    """The recorded indexes behind a server of their own."""
    indexes = Indexes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(self.path).lstrip("/")
            indexes.asked.append((path, dict(self.headers.items())))
            indexes.on_ask(path)
            fault = indexes.faults.get(path, "")
            if fault.isdigit():
                self.answer(int(fault), b"<html>an error page</html>")
            elif fault == "redirect":
                self.send_response(302)
                self.send_header("Location", f"http://localhost:{self.server.server_address[1]}/moved/{path}")
                self.end_headers()
            elif path.startswith("files/"):
                self.part(path.removeprefix("files/"), fault)
            else:
                self.page(path.removeprefix("moved/"), fault)

        def part(self, name: str, fault: str) -> None:
            beside = name.endswith(".metadata")
            known = name.removesuffix(".metadata")
            if known not in INSIDES:
                self.answer(404, b"")
                return
            members = INSIDES[known]
            metadata = next(text for path, text in members.items() if path.endswith("METADATA"))
            data = metadata.encode() if beside else wheel(known)
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if not asked or fault == "whole":
                self.answer(200, data)
                return
            first, last = int(asked[1]), int(asked[2])
            total = {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
            self.answer(206, b"\0" * (last + 1 - first) if fault == "garbage" else data[first : last + 1], total)

        def page(self, path: str, fault: str) -> None:
            text = indexes.pages.get(path)
            if text is None:
                self.answer(404, b"<html>Not Found</html>")
                return
            body, kind, more = text.encode(), "text/html", {}
            if fault == "json":
                body, kind = as_json(text, path), JSON_TYPE
            elif fault == "half-json":
                whole = as_json(text, path)
                body, kind = whole[: len(whole) // 2], JSON_TYPE
            elif fault == "login":
                body = b'<html><body>Please log in: <a href="/login">here</a></body></html>'
            elif fault == "odd-link":
                body = b'<a href="http://[torch-2.9.0.tar.gz">torch-2.9.0.tar.gz</a>'
            elif fault == "empty":
                body = b""
            elif fault in ("gzip", "broken-gzip"):
                packed = gzip.compress(body)
                body, more = packed[:-20] if fault == "broken-gzip" else packed, {"Content-Encoding": "gzip"}
            elif fault == "cut":
                more = {"Content-Length": str(len(body))}
                body = body[: len(body) // 2]
            elif fault == "half":
                body = body[: len(body) // 2]
            elif fault == "slow":
                threading.Event().wait(3.0)
            self.answer(200, body, more, kind)

        def answer(
            self, status: int, body: bytes, more: Optional[dict[str, str]] = None, kind: str = "text/html"
        ) -> None:
            self.send_response(status)
            headers = {"Content-Type": kind, "Content-Length": str(len(body)), **(more or {})}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Quiet."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client that hangs up is no matter of the test."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    indexes.base = f"http://127.0.0.1:{server.server_address[1]}"
    indexes.publish(load_matrix(RECORDED / "matrix.yaml"))
    try:
        yield indexes
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
