"""The command line: exit codes, one document on stdout, errors that say what to do, no traceback; some as processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import mmdoctor
from tests.conftest import Done, command

DATA = Path(__file__).parent / "data" / "machines"
SCHEMAS = Path(mmdoctor.__file__).parent / "schemas"
NATURAL, HEALTHY = str(DATA / "natural-breakage.json"), str(DATA / "healthy-cpu.json")
HOOF = ("--pretend", "python=3.10", "--pretend", "driver=535.104.05", "--pretend", "gpu=7.5", "--pretend", "os=linux")


def process(*arguments: str, **options: Any) -> Done:
    """mmdoctor as its users start it; `options` of subprocess."""
    argv = [sys.executable, "-m", "mmdoctor", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, **options)
    assert "Traceback" not in done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def document(done: Done, schema: str) -> Any:
    value = json.loads(done.stdout)
    jsonschema.validate(value, json.loads((SCHEMAS / f"{schema}.json").read_text()))
    return value


def test_check_replays_facts_and_its_json_validates() -> None:
    broken = process("check", "--facts", NATURAL, "--format", "json")
    assert broken.returncode == 1
    report = document(broken, "report")
    roots = {f["cause"] for f in report["findings"] if f["status"] == "fail" and not f["caused_by"]}
    assert roots == {"torchvision-mismatch", "numpy2-abi", "mmcv-version-range"}
    assert command("check", "--facts", HEALTHY).returncode == 0


def test_fail_on_warn_is_stricter(tmp_path: Path) -> None:
    facts = json.loads(Path(HEALTHY).read_text())
    facts["target"]["leftovers"] = ["~umpy"]
    path = tmp_path / "facts.json"
    path.write_text(json.dumps(facts))
    assert command("check", "--facts", str(path)).returncode == 0
    assert command("check", "--facts", str(path), "--fail-on", "warn").returncode == 1


@pytest.mark.parametrize("kind", ["junit", "github", "markdown", "text"])
def test_every_format_says_the_roots(kind: str) -> None:
    done = command("check", "--facts", NATURAL, "--format", kind)
    assert done.returncode == 1
    for check in ("TVN001", "XTC001", "MCV004"):
        assert check in done.stdout


def test_a_plan_for_a_machine_that_is_not_here() -> None:
    """The issue's own example: the prebuilt cu121/torch2.1 wheel of mmcv, without touching the machine."""
    done = command("fix", *HOOF, "--recipe", "hoof-training", "--format", "json")
    assert done.returncode == 1
    plan = document(done, "plan")
    assert plan["stack"]["torch"]["variant"] == "cu121"
    assert plan["stack"]["torch"]["version"].startswith("2.1.")
    assert plan["stack"]["mmcv"]["artefact"]["kind"] == "wheel"
    assert "cu121/torch2.1" in plan["stack"]["mmcv"]["artefact"]["source"]
    assert plan["cost"]["build_minutes"] == 0
    assert plan["pretended"]


def test_fix_of_recorded_facts_is_a_plan_or_nothing() -> None:
    assert command("fix", "--facts", NATURAL).returncode == 1
    done = command("fix", "--facts", HEALTHY, "--format", "json")
    assert done.returncode == 0
    assert document(done, "plan")["status"] == "nothing-to-do"


def test_what_cannot_be_is_exit_4_with_the_reason() -> None:
    done = command("fix", "--facts", NATURAL, "--pin", "mmcv==2.2.0", "--format", "json")
    assert done.returncode == 4
    plan = document(done, "plan")
    assert plan["status"] == "unsatisfiable"
    assert "mmcv==2.2.0" in plan["conflict"]


@pytest.mark.parametrize("kind", ["script", "requirements", "dockerfile"])
def test_emit(kind: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = command("fix", *HOOF, "--recipe", "hoof-training", "--emit", kind, "--output", str(out))
    assert done.returncode == 0, done.stderr
    assert "mmcv==2.1.0" in out.read_text()


WRONG = {
    "no target": (("check",), "which environment?"),
    "quick and deep": (("check", "--quick", "--deep", "--env", "x"), "exclude each other"),
    "unknown option": (("check", "--nope"), "No such option"),
    "facts not there": (("check", "--facts", "/nonexistent.json"), "cannot read /nonexistent.json"),
    "facts of another kind": (("check", "--facts", str(SCHEMAS / "facts.json")), "does not hold facts"),
    "unknown recipe": (("fix", *HOOF, "--recipe", "nope"), "there is no recipe 'nope'"),
    "pin without version": (("fix", *HOOF, "--pin", "numpy"), "expected NAME==VERSION"),
    "pretend nonsense": (("fix", "--pretend", "moon=full"), "expected one of python="),
    "pretend a bad value": (("fix", "--pretend", "os=beos"), "linux or windows or macos"),
    "apply of pretended facts": (("fix", *HOOF, "--apply"), "takes no --facts and no --pretend"),
    "output into nothing": (("check", "--facts", HEALTHY, "--output", "/nonexistent/x"), "cannot write"),
    "hook without env": (("hook", "systemd", "u"), "there is no --env"),
    "bench of a file that is not there": (("bench", "--python", sys.executable, "--image", "/nope.png"), "/nope.png"),
}


@pytest.mark.parametrize(("arguments", "said"), WRONG.values(), ids=WRONG.keys())
def test_bad_input_is_exit_2_with_a_clear_error(arguments: tuple[str, ...], said: str) -> None:
    done = command(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""


def test_a_failure_with_json_is_one_document_too() -> None:
    done = process("fix", *HOOF, "--recipe", "nope", "--format", "json")
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert error["exit_code"] == 2
    assert "rtmpose" in error["hint"]


def test_apply_without_terminal_and_without_yes_is_refused(tmp_path: Path) -> None:
    done = command("fix", "--env", str(tmp_path / "env"), "--offline", "--apply")
    assert done.returncode == 4
    assert "--yes" in done.stderr
    assert not (tmp_path / "env").exists()


def test_a_stale_plan_is_refused(tmp_path: Path) -> None:
    env, plan = tmp_path / "env", tmp_path / "plan.json"
    made = command("fix", "--env", str(env), "--offline", "--plan-out", str(plan))
    assert made.returncode == 1, made.stderr
    other = json.loads(plan.read_text())
    other["bound"]["host"] = "another"
    plan.write_text(json.dumps(other))
    done = command("fix", "--env", str(env), "--offline", "--plan", str(plan), "--apply", "--yes")
    assert done.returncode == 4
    assert "stale: it was made for another machine" in done.stderr
    assert not env.exists()


def test_fix_of_what_does_not_answer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("somebody's")
    done = command("fix", "--env", str(tmp_path), "--offline")
    assert done.returncode == 4
    assert "move it away" in done.stderr


def test_apply_where_no_folder_can_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = command("fix", "--env", str(tmp_path / "file" / "env"), "--offline", "--apply", "--yes")
    assert done.returncode == 4
    assert "is no folder" in done.stderr


def test_rollback_of_nothing_is_refused(tmp_path: Path) -> None:
    assert command("rollback", "--env", str(tmp_path / "env")).returncode == 4


def test_bench_of_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    assert command("bench", "--env", str(tmp_path / "env")).returncode == 3


def test_explain_reads_stdin_and_files(tmp_path: Path) -> None:
    changed = "numpy.dtype size changed, may indicate binary incompatibility"
    log = f"ValueError: {changed}. Expected 96 from C header, got 88 from PyObject\n"
    done = command("explain", "--format", "json", "-", text=log)
    assert done.returncode == 0
    assert document(done, "explanation")["causes"][0]["cause"] == "numpy2-abi"
    (tmp_path / "log").write_text("nothing that anybody knows\n")
    done = command("explain", "--format", "json", str(tmp_path / "log"))
    assert document(done, "explanation")["causes"] == []


def test_lists() -> None:
    assert "2.1.2+cu121" in command("matrix", "list").stdout
    assert "no problems" in command("matrix", "lint").stdout
    assert "pose-service" in command("recipe", "list").stdout
    padel = document(command("recipe", "show", "padel-service", "--format", "json"), "recipe")
    assert padel["unit"] == "mmpose-service"
    assert "empty" in command("wheels", "list", "--wheels", "/nonexistent").stdout
    assert "ExecStartPre=" in command("hook", "systemd", "mmpose-service", "--env", "/opt/x", "--print").stdout


def test_matrix_lint_of_a_bad_file(tmp_path: Path) -> None:
    bad = tmp_path / "matrix.yaml"
    bad.write_text("schema_version: 1.0\n")
    done = command("matrix", "lint", str(bad))
    assert done.returncode == 2
    assert f"{bad}:1" in done.stderr


def test_every_command_has_help() -> None:
    import click

    from mmdoctor.cli import cli

    def walk(command: click.Command, path: tuple[str, ...]) -> None:
        assert command.help, path
        context = click.Context(command)
        for name in command.list_commands(context) if isinstance(command, click.Group) else ():
            child = command.get_command(context, name)
            assert child, name
            walk(child, (*path, name))

    walk(cli, ())


@pytest.mark.parametrize("script", ["docs", "schemas"])
def test_generated_files_are_up_to_date(script: str) -> None:
    tool = Path(__file__).parents[1] / "tools" / f"{script}.py"
    done = subprocess.run([sys.executable, str(tool), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_fix_never_takes_mmdoctors_own_environment_unasked() -> None:
    done = command("fix", "--offline", environment={"VIRTUAL_ENV": sys.prefix})
    assert done.returncode == 2
    assert "which environment?" in done.stderr


def test_an_interpreter_stands_for_its_environment() -> None:
    done = command("fix", "--offline", "--python", sys.executable, "--no-build", "--format", "json")
    assert Path(json.loads(done.stdout)["target"]).name == Path(sys.prefix).name


def test_modules_of_the_users_path_are_not_ours(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise RuntimeError('not the one you want')\n")
    (tmp_path / "random.py").write_text("raise RuntimeError('not the one you want')\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = process("fix", "--facts", NATURAL, "--format", "json", cwd=tmp_path, env=environment)
    assert done.returncode == 1, done.stderr
    assert document(done, "plan")["status"] == "plan"
