"""A job of GitLab CI that checks an environment, with its findings as a test report."""

from __future__ import annotations

from mmdoctor.hooks.filling import filled


def job(env: str, image: str, mmdoctor: str) -> str:
    """The job's text. `env` is the environment's folder inside `image`, `mmdoctor` what pip installs."""
    return filled("gitlab.yml", env=env, image=image, mmdoctor=mmdoctor)
