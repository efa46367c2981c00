"""A composite action of GitHub Actions that checks an environment, and a workflow that runs it."""

from __future__ import annotations

from pathlib import Path

from mmdoctor.errors import RefusedError, UsageError
from mmdoctor.hooks.filling import filled

MARK = "# Written by `mmdoctor hook github`"


def files(env: str, mmdoctor: str) -> dict[str, str]:
    """The files by their path in the repository. `env` is the environment's folder as the workflow names it, `mmdoctor`
    what pip installs. Raises UsageError for a text that GitHub would read as an expression."""
    return {
        ".github/actions/mmdoctor/action.yml": filled("github_action.yml", mmdoctor=mmdoctor),
        ".github/workflows/mmdoctor.yml": filled("github_workflow.yml", env=env),
    }


def write(texts: dict[str, str], repository: Path) -> tuple[Path, ...]:
    """Write the files into a repository, each whole; their paths. What mmdoctor wrote before is replaced.

    Raises UsageError where there is no such folder or it cannot be written, RefusedError for a file of somebody else's.
    """
    if not repository.is_dir():
        raise UsageError(f"{repository} is no folder", "--write names the top of a repository")
    paths = {repository / name: text for name, text in texts.items()}
    for path in paths:
        if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(MARK):
            raise RefusedError(f"{path} is there, and mmdoctor did not write it", "move it away, or print the files")
    try:
        for path, text in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(path.name + ".part")
            draft.write_text(text, encoding="utf-8")
            draft.replace(path)
    except OSError as error:
        raise UsageError(f"cannot write {error.filename}: {error.strerror}", "--write names a repository") from error
    return tuple(paths)
