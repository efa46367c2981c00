"""The reports of several hosts as one value: which host has which finding, and what differs between them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Literal, Optional, Union

from mmdoctor.model import (
    Drift,
    DriftVersion,
    Finding,
    Fleet,
    FleetFinding,
    FleetHost,
    FleetVerdict,
    Report,
    Text,
    Unknown,
)
from mmdoctor.rules import PARTS

ORDER = ("crash", "fail", "warn", "skip", "ok")
ATTENTION = ("crash", "fail", "warn")
Kind = Literal["stack", "machine", "other"]
KINDS: tuple[Kind, ...] = ("stack", "machine", "other")


def host_names(files: Sequence[PurePath]) -> tuple[str, ...]:
    """What tells the files apart, which is what their hosts are called: `reports/web1.json reports/web2.json` and
    `web1/report.json web2/report.json` are both web1 and web2. One file is called by its stem."""
    parts = [file.with_suffix("").parts for file in files]
    if len(parts) == 1:
        return (parts[0][-1],)
    while all(len(names) > 1 for names in parts) and len({names[0] for names in parts}) == 1:
        parts = [names[1:] for names in parts]
    while all(len(names) > 1 for names in parts) and len({names[-1] for names in parts}) == 1:
        parts = [names[:-1] for names in parts]
    return tuple("/".join(names) for names in parts)


def merge(reports: Mapping[str, Union[Report, str]]) -> Fleet:
    """One value of what each host said, by its name: a report, or the error of an mmdoctor that made none."""
    known = {name: said for name, said in reports.items() if isinstance(said, Report)}
    hosts = tuple(_host(name, said) for name, said in sorted(reports.items()))
    return Fleet(
        ok=all(host.state == "healthy" for host in hosts),
        hosts=hosts,
        findings=_findings(known),
        drift=tuple(_drift(known)),
    )


def _host(name: str, said: Union[Report, str]) -> FleetHost:
    if isinstance(said, str):
        return FleetHost(name=name, state="no-report", said=said)
    return FleetHost(
        name=name,
        state="healthy" if said.ok else "findings" if said.summary.fail else "undetermined",
        target=said.target.prefix,
        python=said.target.python,
        summary=said.summary,
        at=said.facts.host.now,
        quick=said.facts.quick,
        pretended=said.facts.pretended,
    )


def _findings(reports: Mapping[str, Report]) -> tuple[FleetFinding, ...]:
    found: dict[str, dict[str, Finding]] = {}
    for name, report in sorted(reports.items()):
        for finding in sorted(report.findings, key=lambda one: (one.accepted is not None, ORDER.index(one.status))):
            found.setdefault(finding.id, {}).setdefault(name, finding)
    wanting = [by_host for by_host in found.values() if any(map(_wants_attention, by_host.values()))]

    def rank(by_host: dict[str, Finding]) -> tuple[int, bool, int, str]:
        bad = [finding for finding in by_host.values() if _wants_attention(finding)]
        worst = min(ORDER.index(finding.status) for finding in bad)
        return (worst, all(finding.caused_by for finding in bad), -len(bad), bad[0].id)

    return tuple(map(_finding, sorted(wanting, key=rank)))


def _wants_attention(finding: Finding) -> bool:
    """Whether it speaks against its host: not passed and not accepted, or a needed look that could not be made."""
    if finding.accepted:
        return False
    return finding.status in ATTENTION or (finding.status == "skip" and finding.severity == "error")


def _finding(by_host: Mapping[str, Finding]) -> FleetFinding:
    bad = [finding for finding in by_host.values() if _wants_attention(finding)]
    verdicts = (
        FleetVerdict(
            host=name,
            status=finding.status,
            detail=finding.detail,
            caused_by=finding.caused_by,
            accepted=finding.accepted is not None,
        )
        for name, finding in by_host.items()
    )
    return FleetFinding(
        id=bad[0].id,
        title=bad[0].title,
        docs=bad[0].docs,
        verdicts=tuple(verdicts),
        fixes=tuple(dict.fromkeys(finding.fix.summary for finding in bad if finding.fix.summary)),
    )


# ---------------------------------------------------------------------------------------------------------- drift


def _drift(reports: Mapping[str, Report]) -> Iterator[Drift]:
    seen = {name: _versions(report) for name, report in sorted(reports.items())}
    asked = sorted({key for of_host in seen.values() for key in of_host})
    for kind, name in sorted(asked, key=lambda key: (KINDS.index(key[0]), key[1])):
        # Where no interpreter answers there is nothing to compare; a package that one has and another lacks differs.
        hosts = seen if kind == "machine" else [host for host in seen if ("stack", "Python") in seen[host]]
        having: dict[Optional[str], list[str]] = {}
        for host in hosts:
            having.setdefault(seen[host].get((kind, name)), []).append(host)
        if len(having) > 1:
            common = sorted(having.items(), key=lambda item: (-len(item[1]), item[0] or ""))
            versions = (DriftVersion(version=version, hosts=tuple(names)) for version, names in common)
            yield Drift(kind=kind, name=name, versions=tuple(versions))


def _versions(report: Report) -> dict[tuple[Kind, str], Optional[str]]:
    """What is compared of one host; torch's version with its local label, since the build is what matters."""
    facts = report.facts
    host, gpu, target = facts.host, facts.gpu, facts.target
    machine: dict[str, Text] = {
        "mmdoctor": facts.mmdoctor,
        "system": f"{host.os_name} ({host.machine})",
        "glibc": host.glibc,
        "driver": gpu.driver,
        "GPU": ", ".join(device.name for device in gpu.devices) or None,
    }
    found: dict[tuple[Kind, str], Optional[str]] = {("machine", name): _said(fact) for name, fact in machine.items()}
    if target.state != "present":
        return found
    installed = {name: distribution.version for name, distribution in target.installed.items()}
    if target.torch:
        installed["torch"] = target.torch.version
    for name, version in installed.items():
        found["stack" if name in PARTS else "other", name] = version
    found["stack", "Python"] = target.python
    if facts.extension is not None:
        found["stack", "mmcv's ops"] = "with CUDA code" if facts.extension.has_cuda_code else "for the CPU"
    return found


def _said(fact: Text) -> Optional[str]:
    return f"unknown ({fact.unknown})" if isinstance(fact, Unknown) else fact
