"""An init container that holds a pod back from a broken environment, and a Job that looks at one once."""

from __future__ import annotations

import re
from typing import Any, Literal

from mmdoctor.errors import UsageError
from mmdoctor.hooks.filling import filled

# A DNS label (RFC 1123): what a Job's pods are named by.
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
Depth = Literal["quick", "full", "deep"]
# What is asked for, and the limit. The largest process took 34, 574 and 703 MB (torch 2.1.2+cu121, no GPU); a CUDA
# context comes on top, and an import that is killed for its memory would look like a broken one.
MEMORY = {"quick": ("64Mi", "256Mi"), "full": ("1Gi", "4Gi"), "deep": ("1Gi", "6Gi")}
SECONDS = {"quick": 60, "full": 300, "deep": 540}


def init_container(image: str, env: str, mmdoctor: str, depth: Depth, gpus: int) -> str:
    """A strategic merge patch that puts the check before a deployment's containers. `env` and `mmdoctor`, the command,
    are absolute paths inside `image`."""
    return filled("k8s_init.yml", **_container(image, env, mmdoctor, depth, gpus))


def job(name: str, image: str, env: str, mmdoctor: str, depth: Depth, gpus: int) -> str:
    """A Job's manifest. Raises UsageError for a name that is no DNS label."""
    if not LABEL.fullmatch(name):
        expected = "expected lower case letters, digits and hyphens, 63 at most"
        raise UsageError(f"--name {name!r}: {expected}", "a Job's name is a DNS label")
    return filled("k8s_job.yml", name=name, **_container(image, env, mmdoctor, depth, gpus))


def _container(image: str, env: str, mmdoctor: str, depth: Depth, gpus: int) -> dict[str, Any]:
    for what, path in (("env", env), ("mmdoctor", mmdoctor)):
        if not path.startswith("/"):
            raise UsageError(f"--{what} {path!r}: expected an absolute path inside the image", "as in /opt/venv")
    # The kubelet replaces $(NAME) in a command; $$ is one $.
    words = [mmdoctor, "check", "--env", env, "--deadline", str(SECONDS[depth])]
    command = [word.replace("$(", "$$(") for word in (*words, *([] if depth == "full" else [f"--{depth}"]))]
    requests, limit = MEMORY[depth]
    gpu = {"nvidia.com/gpu": str(gpus)} if gpus else {}
    resources = {"requests": {"cpu": "500m", "memory": requests}, "limits": {"memory": limit, **gpu}}
    return {"image": image, "command": command, "resources": resources}
