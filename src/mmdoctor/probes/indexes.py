"""Where packages come from: pip's configuration, its translation for uv, and whether the indexes answer.

uv does not read pip's configuration (docs.astral.sh/uv/pip/compatibility), so a user whose pip works through a mirror
would be sent to PyPI. What the user told uv itself (`UV_*`) wins over what we translate.
"""

from __future__ import annotations

import base64
import configparser
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from functools import cache, partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Callable, Literal, Optional, TypeVar, Union
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import field

from mmdoctor import system
from mmdoctor.errors import UsageError
from mmdoctor.model import Index, Unknown, Value

if TYPE_CHECKING:
    import ssl

K = TypeVar("K")
T = TypeVar("T")
PYPI = "https://pypi.org/simple"
DEADLINE_SECONDS = 5.0
LATE = f"no answer within {DEADLINE_SECONDS:.0f} s"
NULL_DEVICES = ("/dev/null", "nul")
# pip's words for a switch (pip._internal.utils.misc.strtobool).
TRUE = ("y", "yes", "t", "true", "on", "1")
FALSE = ("n", "no", "f", "false", "off", "0")
# Sections of pip's configuration that count for `pip install`, weakest first; the environment comes after them.
SECTIONS = ("global", "install")
# A project that every full index has: its page is small, where PyPI's root is 40 MB.
KNOWN_PROJECT = "pip"


class IndexConfig(Value, frozen=True, kw_only=True):
    """What pip was told about indexes, and in `uv` what uv was told (its variables, as they are).

    Addresses carry their credentials: pass them through `redact` before they are shown. `timeout` is seconds; a
    `find_links` folder that does not exist is left out, as pip does.
    """

    index_url: Optional[str] = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    trusted_hosts: tuple[str, ...] = ()
    cert: Optional[str] = None
    client_cert: Optional[str] = None
    proxy: Optional[str] = None
    timeout: Optional[float] = None
    cache_dir: Optional[str] = None
    no_cache: bool = False
    uv: dict[str, str] = field(default_factory=dict)

    @property
    def pypi(self) -> str:
        """The address that stands in for PyPI: what uv was told, then what pip was told, then PyPI itself."""
        told = self.uv.get("UV_DEFAULT_INDEX") or self.uv.get("UV_INDEX_URL") or self.index_url or PYPI
        return re.sub(r"^[\w.-]+=(?=\w+:)", "", told)  # uv allows `name=address`


class _Setting(Value, frozen=True, kw_only=True):
    """One of pip's settings in uv's words. Any of `variables` set by the user makes it theirs."""

    values: tuple[str, ...]
    variables: tuple[str, ...]
    separator: str = " "


# -------------------------------------------------------------------------------------------- pip's configuration


def user_config(
    environ: Mapping[str, str], home: Path, site: Optional[Path] = None, root: Path = Path("/")
) -> IndexConfig:
    """Read what pip would: its files in pip's order (global, user, site, PIP_CONFIG_FILE), then PIP_* variables.

    `site` is the prefix of the environment that is installed into. Raises UsageError for a file or a value that pip
    itself would refuse.
    """
    settings: dict[str, dict[str, tuple[str, str]]] = {section: {} for section in SECTIONS}
    for path in config_files(environ, home, site, root):
        for section, values in _parse(path).items():
            settings[section].update({key: (value, str(path)) for key, value in values.items()})
    variables = {_normal(name[4:]): (value, name) for name, value in environ.items() if name.startswith("PIP_")}
    told: dict[str, tuple[str, str]] = {}
    for source in (*settings.values(), variables):
        told.update({key: value for key, value in source.items() if value[0].strip()})

    def one(*names: str) -> Optional[str]:
        return next((told[name][0].strip() for name in names if name in told), None)

    def many(name: str) -> tuple[str, ...]:
        return tuple((one(name) or "").split())

    return IndexConfig(
        index_url=one("index-url", "pypi-url"),
        extra_index_urls=many("extra-index-url"),
        find_links=tuple(filter(_there, (_expand(link, home) for link in many("find-links")))),
        no_index=_switch(*told.get("no-index", ("no", ""))),
        trusted_hosts=many("trusted-host"),
        cert=one("cert") or environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE") or None,
        client_cert=one("client-cert"),
        proxy=one("proxy"),
        cache_dir=one("cache-dir"),
        no_cache=one("no-cache-dir") is not None,  # pip takes a "no" for a "yes" here
        timeout=_seconds(*told.get("timeout", told.get("default-timeout", ("", "")))),
        uv={name: value for name, value in environ.items() if _is_uv(name) and value},
    )


def config_files(
    environ: Mapping[str, str], home: Path, site: Optional[Path], root: Path = Path("/")
) -> tuple[Path, ...]:
    """pip's configuration files, weakest first (pip.pypa.io/en/stable/topics/configuration).

    PIP_CONFIG_FILE naming the null device turns all files off; naming a file that exists, it replaces the user's.
    """
    named = environ.get("PIP_CONFIG_FILE")
    if named and named.lower() in NULL_DEVICES:
        return ()
    base = "pip.ini" if sys.platform == "win32" else "pip.conf"
    files = [folder / base for folder in _global_folders(environ, root)]
    if not (named and Path(named).exists()):
        files += [folder / base for folder in _user_folders(environ, home)]
    if site is not None:
        files.append(site / base)
    if named:
        files.append(Path(named))
    return tuple(files)


def _global_folders(environ: Mapping[str, str], root: Path) -> Iterator[Path]:
    if sys.platform == "win32":
        yield Path(environ.get("PROGRAMDATA", r"C:\ProgramData")) / "pip"
    elif sys.platform == "darwin":
        yield root / "Library/Application Support/pip"
    else:
        told = environ.get("XDG_CONFIG_DIRS")
        folders = [Path(folder) for folder in told.split(":") if folder] if told else [root / "etc/xdg"]
        yield from (folder / "pip" for folder in folders)
        yield root / "etc"


def _user_folders(environ: Mapping[str, str], home: Path) -> Iterator[Path]:
    yield home / ("pip" if sys.platform == "win32" else ".pip")  # the old place, still read
    mac = home / "Library/Application Support/pip"
    if sys.platform == "win32":
        yield Path(environ.get("APPDATA", str(home / "AppData/Roaming"))) / "pip"
    elif sys.platform == "darwin" and mac.is_dir():
        yield mac
    else:
        yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip"


def _parse(path: Path) -> dict[str, dict[str, str]]:
    text = system.read(path)
    if text is None:
        return {}
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(text, str(path))
    except configparser.Error as error:
        said = str(error).replace("\n", " ")
        raise UsageError(f"pip's configuration cannot be read: {said}", f"correct {path}; pip refuses it too") from None
    sections = (section for section in SECTIONS if parser.has_section(section))
    return {section: {_normal(key): value for key, value in parser.items(section)} for section in sections}


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").removeprefix("--")


def _switch(value: str, where: str) -> bool:
    if value.strip().lower() not in TRUE + FALSE:
        raise UsageError(f"no-index = {value!r} in {where}: expected yes or no", "correct it; pip refuses it too")
    return value.strip().lower() in TRUE


def _seconds(value: str, where: str) -> Optional[float]:
    if not value:
        return None
    try:
        return float(value)
    except ValueError:
        what = f"timeout = {value!r} in {where}: expected a number of seconds"
        raise UsageError(what, "correct it; pip refuses it too") from None


def _expand(link: str, home: Path) -> str:
    return str(home / link[2:]) if link.startswith("~/") else link


def _there(link: str) -> bool:
    # uv stops at a folder that is not there, where pip only warns.
    parts = urlsplit(link)
    if parts.scheme == "file":
        return Path(unquote(parts.path)).exists()
    return bool(parts.scheme and parts.netloc) or Path(link).exists()


# ------------------------------------------------------------------------------------------------ in uv's words


def _is_uv(name: str) -> bool:
    return name.startswith("UV_") or name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSL_CLIENT_CERT")


def _settings(config: IndexConfig) -> Iterator[_Setting]:
    default = (config.index_url,) if config.index_url else ()
    extra = config.extra_index_urls
    rows = (
        _Setting(values=default, variables=("UV_DEFAULT_INDEX", "UV_INDEX_URL")),
        _Setting(values=extra, variables=("UV_INDEX", "UV_EXTRA_INDEX_URL")),
        _Setting(values=config.find_links, variables=("UV_FIND_LINKS",), separator=","),
        _Setting(values=config.trusted_hosts, variables=("UV_INSECURE_HOST",)),
        # pip takes the best version of all its indexes; uv by itself stays with the first that has the name.
        _Setting(
            values=("unsafe-best-match",) if extra else (),
            variables=("UV_INDEX_STRATEGY",),
        ),
    )
    for row in rows:
        if row.values and not any(config.uv.get(name) for name in row.variables):
            yield row


def uv_environment(config: IndexConfig) -> dict[str, str]:
    """pip's settings as variables for uv: a command line would show an address's credentials to every user of the
    machine, and a step's own options still win over variables. `no_index` has no variable: it is a flag of the step."""
    found = {setting.variables[0]: setting.separator.join(setting.values) for setting in _settings(config)}
    if config.cert and not (config.uv.get("SSL_CERT_FILE") or config.uv.get("SSL_CERT_DIR")):
        found["SSL_CERT_DIR" if Path(config.cert).is_dir() else "SSL_CERT_FILE"] = config.cert
    if config.client_cert and not config.uv.get("SSL_CLIENT_CERT"):
        found["SSL_CLIENT_CERT"] = config.client_cert
    if config.timeout is not None and not config.uv.get("UV_HTTP_TIMEOUT"):
        found["UV_HTTP_TIMEOUT"] = str(max(1, round(config.timeout)))
    if config.proxy:
        found.update(HTTP_PROXY=config.proxy, HTTPS_PROXY=config.proxy)
    return found


def redact(url: str, home: Optional[Path] = None) -> str:
    """The address without credentials, query and fragment; a local path with `~` for `home` (default: this user's)."""
    scheme, _, rest = _split(url)
    if scheme not in ("", "file://"):
        return f"{scheme}{rest}"
    inside = str(Path.home() if home is None else home)
    if inside != "/" and (rest == inside or rest.startswith(inside + "/")):
        rest = "~" + rest[len(inside) :]
    return f"{scheme}{rest}"


def _split(url: str) -> tuple[str, str, str]:
    """(`https://` or nothing, credentials or nothing, the rest up to a query), for any text."""
    found = re.match(r"(?:([\w+.-]+://)(?:([^/]*)@)?)?([^?#]*)", url)
    scheme, credentials, rest = found.groups("") if found else ("", "", url)
    return scheme, credentials, rest


# ---------------------------------------------------------------------------------------------------- reachability

Name = Literal["pypi", "torch", "openmmlab"]
Refusal = Union[None, str, Unknown]  # it answers; it does not, because …; could not tell
# What the page that is asked for names in its first bytes, if it is an index: a sign-in page of a hotel or a company's
# proxy, and a server's error page, come with status 200 too.
NAMES: dict[Name, bytes] = {"pypi": b"pip-", "torch": b"torch", "openmmlab": b"mmcv"}
ANY_LINK = b"<a "
PAGE_BYTES = 1 << 16
DAY_SECONDS = 86400.0


class Answer(Value, frozen=True, kw_only=True):
    """Why a place does not serve (None: it does), and its clock, in seconds since 1970."""

    refusal: Refusal = None
    now: Optional[float] = None


def probe_indexes(
    config: IndexConfig, matrix_torch_index: str, matrix_openmmlab_index: str, offline: bool
) -> tuple[Index, ...]:
    """Whether PyPI (or what stands in for it), torch's index and openmmlab's answer, asked at once, 5 s at most.

    The two addresses must be pages that exist: a missing page counts as no answer. With `offline` nothing is sent,
    and `reachable` is Unknown.
    """
    places: dict[Name, str] = {"pypi": config.pypi, "torch": matrix_torch_index, "openmmlab": matrix_openmmlab_index}
    if offline:
        not_asked = Unknown(unknown="--offline")
        return tuple(Index(name=name, url=redact(url), reachable=not_asked) for name, url in places.items())
    answers = at_once({name: partial(_try, url, config, name) for name, url in places.items()})
    return tuple(_index(name, url, answers.get(name, Answer(refusal=LATE))) for name, url in places.items())


def at_once(calls: Mapping[K, Callable[[], T]]) -> dict[K, T]:
    """Make all calls at the same time; what those of them returned that ended within DEADLINE_SECONDS."""
    answers: dict[K, T] = {}

    def make(key: K) -> None:
        answers[key] = calls[key]()

    # Plain daemon threads: a name server that hangs cannot be interrupted, and must not keep the program from ending.
    threads = [threading.Thread(target=make, args=(key,), daemon=True) for key in calls]
    end = time.monotonic() + DEADLINE_SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return dict(answers)


def _index(name: Name, url: str, answer: Answer) -> Index:
    refusal = answer.refusal
    if isinstance(refusal, Unknown):
        return Index(name=name, url=redact(url), reachable=refusal, now=answer.now)
    if refusal is not None and answer.now is not None and abs(answer.now - time.time()) > DAY_SECONDS:
        days = (time.time() - answer.now) / DAY_SECONDS
        refusal += f"; this machine's clock is {abs(days):.0f} days {'ahead' if days > 0 else 'behind'}"
    return Index(name=name, url=redact(url), reachable=refusal is None, reason=refusal, now=answer.now)


def _try(url: str, config: IndexConfig, name: Name) -> Answer:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        return Answer(refusal=f"not an address: {error}")
    if parts.scheme in ("", "file"):
        return Answer(refusal=None if Path(unquote(parts.path)).exists() else "the folder is not there")
    if parts.scheme not in ("http", "https"):
        return Answer(refusal=Unknown(unknown=f"mmdoctor cannot ask a {parts.scheme}: address"))
    if name != "pypi":
        return _get(url, config, NAMES[name])
    answer = _get(f"{url.rstrip('/')}/{KNOWN_PROJECT}/", config, NAMES[name])
    # A mirror need not hold that project.
    return _get(f"{url.rstrip('/')}/", config, ANY_LINK) if answer.refusal == _http(404) else answer


def _get(url: str, config: IndexConfig, names: bytes) -> Answer:
    """Ask for a page of an index, which `names` what it lists; several index servers refuse HEAD."""
    import ssl
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError

    try:
        with open_url(url, config) as answer:
            headers = getattr(answer, "headers", {})
            whole = "json" in headers.get("Content-Type", "") or names in answer.read(PAGE_BYTES)
            refusal = None if whole else "it answers with a page that is no index"
            return Answer(refusal=refusal, now=_date(headers.get("Date")))
    except HTTPError as error:
        error.close()
        now = _date(error.headers.get("Date"))
        if error.code == 401 and not _split(url)[1]:
            known = "it wants credentials (HTTP 401); pip or uv may know them from netrc or a keyring"
            return Answer(refusal=Unknown(unknown=known), now=now)
        return Answer(refusal=_http(error.code), now=now)
    except URLError as error:
        untrusted = isinstance(error.reason, ssl.SSLCertVerificationError)
        now = _date_of_untrusted(url, config) if untrusted else None
        return Answer(refusal=_plain(error.reason) + _through_proxy(url, config), now=now)
    except (OSError, HTTPException, ValueError) as error:
        return Answer(refusal=_plain(error) + _through_proxy(url, config))


def _date(text: Optional[str]) -> Optional[float]:
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(text or "").timestamp()
    except (TypeError, ValueError):
        return None


def _date_of_untrusted(url: str, config: IndexConfig) -> Optional[float]:
    """The clock of a server whose certificate is refused, which a wrong clock of ours is a reason for. Nothing but the
    date is read from it, and no credentials are sent."""
    from http.client import HTTPException
    from urllib.error import HTTPError

    scheme, _, rest = _split(url)
    trusting = msgspec.structs.replace(
        config, trusted_hosts=(urlsplit(url).netloc.rpartition("@")[2],), client_cert=None
    )
    try:
        with open_url(f"{scheme}{rest}", trusting) as answer:
            return _date(getattr(answer, "headers", {}).get("Date"))
    except HTTPError as error:
        error.close()
        return _date(error.headers.get("Date"))
    except (OSError, HTTPException, ValueError):
        return None


def why_not(url: str, config: IndexConfig, error: Exception) -> str:
    """Why an address could not be read, in words that say what to look at."""
    from urllib.error import HTTPError, URLError

    if isinstance(error, HTTPError):
        return _http(error.code)
    return _plain(error.reason if isinstance(error, URLError) else error) + _through_proxy(url, config)


def open_url(
    url: str, config: IndexConfig, headers: Optional[Mapping[str, str]] = None, seconds: Optional[float] = None
) -> AbstractContextManager[IO[bytes]]:
    """Open an address with the user's credentials, proxy and certificates; `seconds` is the longest silence. Raises
    OSError or ValueError."""
    from urllib import request

    scheme, credentials, rest = _split(url)
    asked = request.Request(f"{scheme}{rest}", headers={"User-Agent": "mmdoctor", **(headers or {})})
    if credentials:  # not sent on to where a redirect may lead
        encoded = base64.b64encode(unquote(credentials).encode()).decode()
        asked.add_unredirected_header("Authorization", f"Basic {encoded}")
    opener = request.build_opener(
        request.ProxyHandler(_proxies(config)), request.HTTPSHandler(context=_trust(asked.host, config))
    )
    opened: AbstractContextManager[IO[bytes]] = opener.open(
        asked, timeout=DEADLINE_SECONDS - 0.5 if seconds is None else seconds
    )
    return opened


def _proxies(config: IndexConfig) -> dict[str, str]:
    from urllib import request

    return {"http": config.proxy, "https": config.proxy} if config.proxy else request.getproxies()


def _through_proxy(url: str, config: IndexConfig) -> str:
    from urllib import request

    parts = urlsplit(url)
    proxy = _proxies(config).get(parts.scheme)
    used = proxy is not None and not request.proxy_bypass(parts.hostname or "")
    return f", through the proxy {redact(proxy)}" if proxy is not None and used else ""


def _trust(host: str, config: IndexConfig) -> ssl.SSLContext:
    if host in config.trusted_hosts or host.partition(":")[0] in config.trusted_hosts:
        return _context(None, None, trusted=True)
    return _context(config.uv.get("SSL_CERT_FILE") or config.cert, config.client_cert, trusted=False)


@cache
def _context(cert: Optional[str], client_cert: Optional[str], *, trusted: bool) -> ssl.SSLContext:
    """Made once: reading the system's certificates takes 20 ms, and `matrix refresh` asks for 150 pages."""
    import ssl

    try:
        folder = cert is not None and Path(cert).is_dir()
        context = ssl.create_default_context(cafile=None if folder else cert, capath=cert if folder else None)
        if client_cert:
            context.load_cert_chain(client_cert)
    except OSError as error:
        raise ValueError(f"the certificates of {cert or client_cert} cannot be read: {error}") from None
    if trusted:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _http(code: int) -> str:
    from http import HTTPStatus

    known = {status.value: status.phrase for status in HTTPStatus}
    return f"HTTP {code} ({known.get(code, 'unknown status')})"


def _plain(error: object) -> str:
    """The failure in words that say what to look at."""
    import socket
    import ssl

    if isinstance(error, socket.gaierror):
        return "the name is not resolved"
    if isinstance(error, ConnectionRefusedError):
        return "the connection is refused"
    if isinstance(error, (TimeoutError, socket.timeout)):
        return "timed out"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS fails: {error.reason or error}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
