"""Small wheels for the tests, and an index on the loopback that hands them out, whole or not."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Optional


def wheel_bytes(name: str, version: str, requires: Sequence[str] = ()) -> bytes:
    """A pure wheel with one module; the same bytes each time."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    metadata += [f"Requires-Dist: {text}" for text in requires]
    files = {
        f"{module}.py": f"version = {version!r}\n" + "# filled up\n" * 500,
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return stream.getvalue()


def wheel(folder: Path, name: str, version: str, requires: Sequence[str] = ()) -> Path:
    """The same as a file in a folder that `find-links` may name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    path.write_bytes(wheel_bytes(name, version, requires))
    return path


@contextmanager
def index(folder: Path, fault: str = "") -> Iterator[str]:
    """An index (PEP 503) of a folder's wheels; yields its address.

    `fault`: "503" every answer; "page" a login page in place of everything; "hash" another sum than the file has;
    "none" states none; "half" files cut off, their sum the right one; "short" the same, in the middle of the transfer.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.strip("/").split("/")[-1]
            if fault == "503":
                self.answer(503, b"<html>Service Unavailable</html>")
            elif fault == "page":
                self.answer(200, b"<html><body>Please log in</body></html>")
            elif name.endswith(".whl"):
                data = (folder / name).read_bytes()
                half = data[: len(data) // 2]
                self.answer(200, half if fault in ("half", "short") else data, len(data) if fault == "short" else None)
            else:
                found = sorted(folder.glob(f"{name.replace('-', '_')}-*.whl"))
                self.answer(200 if found else 404, "".join(map(self.link, found)).encode())

        def do_HEAD(self) -> None:
            self.do_GET()

        def link(self, path: Path) -> str:
            digest = "0" * 64 if fault == "hash" else hashlib.sha256(path.read_bytes()).hexdigest()
            fragment = "" if fault == "none" else f"#sha256={digest}"
            return f'<a href="/files/{path.name}{fragment}">{path.name}</a>\n'

        def answer(self, status: int, body: bytes, length: Optional[int] = None) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Quiet."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client that hangs up is no matter of the test."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/simple"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
