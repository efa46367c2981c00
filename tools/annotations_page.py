"""docs/annotations.md from the rules."""

from __future__ import annotations

from mmdoctor.annotations.rules import RULES, WHOLE

HEAD = f"""\
# Annotations

Written by `make docs` from `src/mmdoctor/annotations/rules.py`.

    mmdoctor check --annotations train.json
    mmdoctor check --annotations train.json --write-fixed train.fixed.json

holds a COCO keypoint file against what MMPose needs, without torch or mmpose, in bounded memory: 100 MB with 120,000
annotations took 32 MB, 44 MB with `--write-fixed` (`benchmarks/annotations.py`; json.load: 552 MB). Without `--env`,
`--python`, `--facts`, `--pretend`, `--config` or `--checkpoint` only the file is looked at. Each rule is one finding,
with how often it is broken and the first three places. Exit status: 0, 1 where a
rule fails (with `--fail-on warn` also where one warns), 2 where the file cannot be read or OUT is there already.

`--write-fixed OUT` puts in what follows from the rest: fields that are missing or null. Nothing that is there is
changed, the file stays byte for byte the same around what is put in, and OUT is never overwritten. The findings and the
exit status are then those of OUT: what remains.

What MMPose 1.3.2 (xtcocotools 1.14.3) does was measured for every rule: a file of four instances that breaks it once
was loaded by CocoDataset and judged by CocoMetric, the file's own keypoints, moved by three pixels, being the
predictions. The whole file gives: {WHOLE}.
What raises, or loses or spoils instances without a word, fails; the rest warns.

| code | rule | | MMPose without it | `--write-fixed` |
| --- | --- | --- | --- | --- |
"""


def page() -> str:
    """docs/annotations.md, whole."""
    rows = [
        f"| [{rule.id}](checks/{rule.id}.md) | {rule.title} | {rule.status} | {rule.seen} | {rule.derived} |\n"
        for rule in RULES
    ]
    return HEAD + "".join(rows)
