"""pip's configuration as pip reads it, the same in uv's words, and indexes asked over a local server."""

from __future__ import annotations

import os
import shutil
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Optional

import pytest

from mmdoctor import system
from mmdoctor.errors import UsageError
from mmdoctor.model import Unknown
from mmdoctor.probes import indexes
from mmdoctor.probes.indexes import IndexConfig, uv_environment

linux = pytest.mark.skipif(sys.platform != "linux", reason="the places of pip's files differ elsewhere")
MIRROR = "https://mirror.example/simple"


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def config(tmp_path: Path, **environ: str) -> IndexConfig:
    return indexes.user_config(environ, tmp_path / "home", tmp_path / "env", tmp_path / "root")


# -------------------------------------------------------------------------------------------- pip's configuration


def test_nothing_configured(tmp_path: Path) -> None:
    seen = config(tmp_path)
    assert seen == IndexConfig()
    assert seen.pypi == "https://pypi.org/simple"
    assert uv_environment(seen) == {}


@linux
def test_files_in_pips_order(tmp_path: Path) -> None:
    files = [
        tmp_path / "root/etc/xdg/pip/pip.conf",
        tmp_path / "root/etc/pip.conf",
        tmp_path / "home/.pip/pip.conf",
        tmp_path / "home/.config/pip/pip.conf",
        tmp_path / "env/pip.conf",
    ]
    for number, path in enumerate(files):
        put(path, f"[global]\nindex-url = https://{number}.example/simple\n")
        assert config(tmp_path).index_url == f"https://{number}.example/simple"
    named = put(tmp_path / "named.conf", "[global]\nindex_url = https://named.example/simple\n")
    assert config(tmp_path, PIP_CONFIG_FILE=str(named)).index_url == "https://named.example/simple"
    variables = {"PIP_CONFIG_FILE": str(named), "PIP_INDEX_URL": MIRROR}
    assert config(tmp_path, **variables).index_url == MIRROR


@linux
def test_a_named_file_replaces_the_users_and_the_null_device_all(tmp_path: Path) -> None:
    put(tmp_path / "home/.config/pip/pip.conf", f"[global]\nextra-index-url = {MIRROR}\n")
    put(tmp_path / "root/etc/pip.conf", "[global]\ncert = /etc/ca.pem\n")
    named = put(tmp_path / "named.conf", "[global]\ntimeout = 7\n")
    seen = config(tmp_path, PIP_CONFIG_FILE=str(named))
    assert (seen.extra_index_urls, seen.cert, seen.timeout) == ((), "/etc/ca.pem", 7.0)
    assert config(tmp_path, PIP_CONFIG_FILE=str(tmp_path / "absent")).extra_index_urls == (MIRROR,)
    assert config(tmp_path, PIP_CONFIG_FILE="/dev/null") == IndexConfig()


@linux
def test_the_install_section_beats_global_of_a_stronger_file(tmp_path: Path) -> None:
    put(tmp_path / "root/etc/pip.conf", f"[install]\nindex-url = {MIRROR}\n[freeze]\nindex-url = no\n")
    put(tmp_path / "env/pip.conf", "[global]\nindex-url = https://weaker.example/simple\n")
    assert config(tmp_path).index_url == MIRROR


@linux
def test_lists_switches_and_places(tmp_path: Path) -> None:
    (tmp_path / "home/wheels").mkdir(parents=True)
    put(
        tmp_path / "home/.config/pip/pip.conf",
        "[global]\nextra-index-url =\n    https://a.example/simple\n    https://b.example/simple\n"
        "find-links = ~/wheels /nonexistent https://c.example/wheels file:///nonexistent\n"
        "trusted-host = a.example b.example:8443\nno-index = true\nproxy = http://proxy.example:3128\n",
    )
    seen = config(tmp_path, PIP_DEFAULT_TIMEOUT="180", REQUESTS_CA_BUNDLE="/etc/ca.pem", PIP_EMPTY="")
    assert seen.extra_index_urls == ("https://a.example/simple", "https://b.example/simple")
    assert seen.find_links == (str(tmp_path / "home/wheels"), "https://c.example/wheels")
    assert seen.trusted_hosts == ("a.example", "b.example:8443")
    assert (seen.no_index, seen.proxy, seen.timeout) == (True, "http://proxy.example:3128", 180.0)
    assert seen.cert == "/etc/ca.pem"


@linux
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("index-url = x\n", "no section headers"),
        ("[global]\nno-index = perhaps\n", "'perhaps'"),
        ("[global]\ntimeout = soon\n", "'soon'"),
    ],
)
def test_what_pip_refuses_is_a_users_error_with_the_place(text: str, words: str, tmp_path: Path) -> None:
    path = put(tmp_path / "env/pip.conf", text)
    with pytest.raises(UsageError) as caught:
        config(tmp_path)
    assert words in caught.value.what
    assert str(path) in caught.value.what
    assert caught.value.hint


@linux
def test_pip_itself_agrees(tmp_path: Path) -> None:
    home = tmp_path / "home"
    put(home / ".pip/pip.conf", "[global]\nindex-url = https://old.example/simple\ntimeout = 3\n")
    put(home / ".config/pip/pip.conf", "[global]\nindex-url = https://new.example/simple\n")
    environ = {"HOME": str(home), "PATH": os.environ["PATH"], "PIP_EXTRA_INDEX_URL": MIRROR, "XDG_CONFIG_DIRS": "/none"}
    told = system.run(
        [sys.executable, "-m", "pip", "config", "list", "--user"], deadline=60, env={**environ, "PIP_USER": "0"}
    )
    if not told.ok:
        pytest.skip(f"this interpreter has no working pip: {told.stderr.strip()}")
    seen = indexes.user_config(environ, home, root=tmp_path)
    assert f"global.index-url='{seen.index_url}'" in told.stdout
    assert f"global.timeout='{seen.timeout:.0f}'" in told.stdout


# ------------------------------------------------------------------------------------------------ in uv's words

FULL = IndexConfig(
    index_url=MIRROR,
    extra_index_urls=("https://a.example/simple", "file:///srv/simple"),
    find_links=("/srv/wheels",),
    trusted_hosts=("a.example",),
    cert="/etc/ca.pem",
    client_cert="/etc/me.pem",
    proxy="http://proxy.example:3128",
    timeout=180.0,
    no_index=True,
)


def test_pips_settings_in_uvs_words() -> None:
    assert uv_environment(FULL) == {
        "UV_DEFAULT_INDEX": MIRROR,
        "UV_INDEX": "https://a.example/simple file:///srv/simple",
        "UV_FIND_LINKS": "/srv/wheels",
        "UV_INSECURE_HOST": "a.example",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "SSL_CERT_FILE": "/etc/ca.pem",
        "SSL_CLIENT_CERT": "/etc/me.pem",
        "UV_HTTP_TIMEOUT": "180",
        "HTTP_PROXY": "http://proxy.example:3128",
        "HTTPS_PROXY": "http://proxy.example:3128",
    }


def test_what_the_user_told_uv_wins(tmp_path: Path) -> None:
    seen = config(
        tmp_path,
        PIP_INDEX_URL=MIRROR,
        PIP_EXTRA_INDEX_URL=MIRROR,
        PIP_CERT="/etc/ca.pem",
        PIP_TIMEOUT="3",
        UV_INDEX_URL="https://uv.example/simple",
        UV_INDEX="https://uv.example/more",
        UV_INDEX_STRATEGY="first-index",
        UV_HTTP_TIMEOUT="9",
        SSL_CERT_FILE="/etc/uv.pem",
    )
    assert uv_environment(seen) == {}
    assert seen.pypi == "https://uv.example/simple"


def test_a_named_uv_index_is_an_address(tmp_path: Path) -> None:
    assert config(tmp_path, UV_DEFAULT_INDEX=f"corp={MIRROR}").pypi == MIRROR


def test_credentials_stay_off_the_command_line(tmp_path: Path) -> None:
    secret = "https://me:pa%40ss@mirror.example/simple"
    seen = config(tmp_path, PIP_INDEX_URL=secret, PIP_EXTRA_INDEX_URL=f"{MIRROR} {secret}")
    assert uv_environment(seen) == {
        "UV_DEFAULT_INDEX": secret,
        "UV_INDEX": f"{MIRROR} {secret}",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


def test_a_folder_of_certificates(tmp_path: Path) -> None:
    assert uv_environment(IndexConfig(cert=str(tmp_path))) == {"SSL_CERT_DIR": str(tmp_path)}


UV = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))


@pytest.mark.skipif(UV is None, reason="uv is not installed")
def test_uv_finds_what_only_pips_index_has(tmp_path: Path) -> None:
    assert UV is not None
    put(tmp_path / "simple/demo/index.html", '<a href="demo-1.0-py3-none-any.whl">demo-1.0-py3-none-any.whl</a>')
    made = system.run([UV, "venv", "--no-config", "-p", sys.executable, str(tmp_path / "env")], deadline=60)
    assert made.ok, made.stderr
    full = IndexConfig(
        index_url=(tmp_path / "simple").as_uri(),
        extra_index_urls=((tmp_path / "nothing-here").as_uri(), "file:///nonexistent/simple"),
        find_links=(str(tmp_path / "simple"),),
        trusted_hosts=("a.example",),
        timeout=180.5,
    )
    argv = [UV, "pip", "install", "--no-config", "--offline", "--dry-run", "--no-deps", "demo"]
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "VIRTUAL_ENV": str(tmp_path / "env"),
        **uv_environment(full),
    }
    done = system.run(argv, deadline=60, env=env)
    assert done.ok, done.stderr
    assert "+ demo==1.0" in done.stderr


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:secret@mirror.example:8443/simple?token=1#x", "https://mirror.example:8443/simple"),
        ("https://to@ken@mirror.example/simple", "https://mirror.example/simple"),
        (MIRROR, MIRROR),
        ("file:///home/ann/wheels", "file://~/wheels"),
        ("file:///home/anna/wheels", "file:///home/anna/wheels"),
        ("/home/ann", "~"),
        ("/srv/a@b/wheels", "/srv/a@b/wheels"),
        ("https://[broken", "https://[broken"),
    ],
)
def test_redact(url: str, shown: str) -> None:
    assert indexes.redact(url, Path("/home/ann")) == shown


# ---------------------------------------------------------------------------------------------------- reachability


PAGE = b'<!DOCTYPE html><a href="pip-24.0-py3-none-any.whl">pip-24.0-py3-none-any.whl</a>'
SIGN_IN = b"<!DOCTYPE html><title>Welcome</title><a href='/terms'>Accept the terms to use this network</a>"
YEAR_SECONDS = 365 * 86400.0


class Handler(BaseHTTPRequestHandler):
    """`/401/…` answers 401, and so on; `/root-only/` has no project page; `/login/` wants me:pa@ss; `/portal/` is a
    sign-in page, `/json/` an index in JSON (PEP 691). `ahead`: how many seconds the server's clock is off."""

    ahead = 0.0

    def do_GET(self) -> None:
        first = self.path.strip("/").split("/")[0]
        if first == "root-only":
            code = 404 if self.path.endswith("/pip/") else 200
        elif first == "login":
            code = 200 if self.headers["Authorization"] == "Basic bWU6cGFAc3M=" else 401
        else:
            code = int(first) if first.isdigit() else 200
        self.send_response(code)
        self.send_header("Content-Type", "application/vnd.pypi.simple.v1+json" if first == "json" else "text/html")
        self.end_headers()
        if code == 200:
            self.wfile.write({"portal": SIGN_IN, "json": b"{}"}.get(first, PAGE))

    def date_time_string(self, timestamp: Optional[float] = None) -> str:
        return super().date_time_string(int(time.time() + self.ahead))

    def log_message(self, *arguments: object) -> None:
        return


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def ask(url: str, **settings: object) -> tuple[object, object]:
    seen = indexes.probe_indexes(IndexConfig(index_url=url, **settings), "file:///", "file:///", offline=False)[0]
    return seen.reachable, seen.reason


def test_offline_sends_nothing() -> None:
    seen = indexes.probe_indexes(IndexConfig(), "https://t.example", "https://o.example", offline=True)
    assert [index.name for index in seen] == ["pypi", "torch", "openmmlab"]
    assert {index.reachable for index in seen} == {Unknown(unknown="--offline")}


def test_each_place_has_its_own_answer(server: str, tmp_path: Path) -> None:
    seen = indexes.probe_indexes(
        IndexConfig(index_url=f"{server}/simple"), f"{server}/403/", f"file://{tmp_path}/gone", offline=False
    )
    assert [(index.reachable, index.reason) for index in seen] == [
        (True, None),
        (False, "HTTP 403 (Forbidden)"),
        (False, "the folder is not there"),
    ]


def test_http_answers(server: str) -> None:
    assert ask(f"{server}/simple") == ask(f"{server}/json") == (True, None)
    assert ask(f"{server}/root-only/") == (True, None)
    assert ask(f"{server}/portal") == (False, "it answers with a page that is no index")
    assert ask(f"{server}/404") == (False, "HTTP 404 (Not Found)")
    assert ask(f"{server}/503") == (False, "HTTP 503 (Service Unavailable)")
    assert ask(server.replace("http://", "http://me:pa%40ss@") + "/login") == (True, None)
    assert ask(server.replace("http://", "http://me:wrong@") + "/login") == (False, "HTTP 401 (Unauthorized)")
    wanted, reason = ask(f"{server}/login")
    assert isinstance(wanted, Unknown)
    assert "credentials" in wanted.unknown
    assert reason is None


def test_the_servers_clock_is_read(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "ahead", YEAR_SECONDS)
    config = IndexConfig(index_url=f"{server}/simple")
    good, bad, none = indexes.probe_indexes(config, f"{server}/503/", "file:///", offline=False)
    assert good.reachable is True
    for index in (good, bad):
        assert index.now is not None
        assert abs(index.now - time.time() - YEAR_SECONDS) < 60
    assert bad.reason == "HTTP 503 (Service Unavailable); this machine's clock is 365 days behind"
    assert none.now is None


def test_local_and_strange_addresses(tmp_path: Path) -> None:
    assert ask(tmp_path.as_uri()) == (True, None)
    assert isinstance(ask("s3://bucket/simple")[0], Unknown)
    assert ask("http://[broken/simple") == (False, "not an address: Invalid IPv6 URL")


def test_refused_and_unresolved(server: str) -> None:
    port = server.rpartition(":")[2]
    assert ask("http://127.0.0.1:1/simple") == (False, "the connection is refused")
    assert ask("http://name.invalid/simple")[1] == "the name is not resolved"
    through = ask("http://name.invalid/simple", proxy="http://me:secret@127.0.0.1:1")
    assert through == (False, "the connection is refused, through the proxy http://127.0.0.1:1")
    assert ask("http://name.invalid/simple", proxy=f"http://127.0.0.1:{port}") == (True, None)


def test_silence_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(indexes, "DEADLINE_SECONDS", 0.7)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        reachable, reason = ask(f"http://127.0.0.1:{silent.getsockname()[1]}/simple")
    assert reachable is False
    assert reason == "timed out"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1"
    files = ("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"))
    names = ("-addext", "subjectAltName=IP:127.0.0.1")
    made = system.run([openssl, *command.split(), *files, *names], deadline=60)
    assert made.ok, made.stderr
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        running.socket = context.wrap_socket(running.socket, server_side=True)
        running.handle_error = lambda *arguments: None  # type: ignore[method-assign]  # refused handshakes are the test
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"https://127.0.0.1:{running.server_port}", folder / "cert.pem"
        running.shutdown()


def test_certificates(tls: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, cert = tls
    reachable, reason = ask(url)
    assert reachable is False
    assert str(reason).startswith("its certificate is not trusted: self")
    monkeypatch.setattr(Handler, "ahead", -YEAR_SECONDS)
    assert str(ask(url)[1]).endswith("; this machine's clock is 365 days ahead")
    assert ask(url, cert=str(cert)) == (True, None)
    assert ask(url, trusted_hosts=("127.0.0.1",)) == (True, None)
    assert ask(url, uv={"SSL_CERT_FILE": str(cert)}, cert=str(tmp_path / "gone.pem")) == (True, None)
    reachable, reason = ask(url, cert=str(tmp_path / "gone.pem"))
    assert reachable is False
    assert "cannot be read" in str(reason)
