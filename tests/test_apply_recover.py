"""The journal, the lock, the exchange and what recovery makes of a killed run: on real folders, made by the same
functions that a run uses, stopped in between."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmdoctor.apply.clone import clone
from mmdoctor.apply.journal import Journal, boot
from mmdoctor.apply.places import UNFINISHED, Places
from mmdoctor.apply.processes import started, users_of
from mmdoctor.apply.recover import KEEP, earlier, keep, prune, recover, recovered, rollback, swap
from mmdoctor.apply.swap import exchange, put_back
from mmdoctor.errors import RefusedError, TryAgainError


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """An environment `old`, and a run that has begun."""
    env = tmp_path / "env"
    env.mkdir()
    (env / "who").write_text("old")
    places = Places(env)
    places.state.mkdir()
    return places


def begin(places: Places, *, new: bool = False) -> tuple[Journal, Path]:
    run, journal = places.new_run(), Journal(places.journal)
    journal.note("start", run=str(run), new=new)
    return journal, run


def cloned(places: Places) -> tuple[Journal, Path]:
    journal, run = begin(places)
    clone(places.env, places.next)
    journal.note("cloned", boot=boot())
    return journal, run


def repaired(places: Places) -> tuple[Journal, Path]:
    """Everything is done in the clone, and it is proven."""
    journal, run = cloned(places)
    journal.note("stage", id="torch")
    (places.next / "who").unlink()
    (places.next / "who").write_text("new")
    journal.note("stage-done", id="torch", boot=boot())
    journal.note("proven")
    return journal, run


def at(places: Places) -> str:
    return (places.env / "who").read_text()


# ------------------------------------------------------------------------------------------------------------ exchange


def test_exchange_swaps_both_folders(tmp_path: Path) -> None:
    for name in ("left", "right"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "who").write_text(name)
    exchange(tmp_path / "left", tmp_path / "right", tmp_path / "aside")
    assert (tmp_path / "left" / "who").read_text() == "right"
    assert (tmp_path / "right" / "who").read_text() == "left"
    assert not (tmp_path / "aside").exists()


def test_exchange_with_nothing_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "left").mkdir()
    with pytest.raises(OSError, match="No such file"):
        exchange(tmp_path / "left", tmp_path / "missing", tmp_path / "aside")
    assert (tmp_path / "left").is_dir()


@pytest.mark.parametrize(("renames", "there"), [(1, "left"), (2, "right")])
def test_renames_that_were_killed_are_put_back(tmp_path: Path, renames: int, there: str) -> None:
    left, right, aside = (tmp_path / name for name in ("left", "right", "aside"))
    for folder in (left, right):
        folder.mkdir()
        (folder / "who").write_text(folder.name)
    for source, destination in [(left, aside), (right, left)][:renames]:
        source.rename(destination)
    put_back(left, right, aside)
    assert (left / "who").read_text() == there
    assert right.exists()
    assert not aside.exists()


# ------------------------------------------------------------------------------------------------------------- journal


def test_the_journal_keeps_its_order_and_says_where_the_run_stands(places: Places) -> None:
    journal, run = cloned(places)
    assert journal.standing().clean
    journal.note("stage", id="torch")
    assert not journal.standing().clean
    journal.note("stage-done", id="torch", boot=boot())
    standing = journal.standing()
    assert (standing.run, standing.stages, standing.clean, standing.ended) == (run, ("torch",), True, False)
    journal.note("dropped", error="E: e")
    assert journal.standing().ended
    assert [event["event"] for event in journal.events()] == ["start", "cloned", "stage", "stage-done", "dropped"]


def test_a_place_is_at_rest_until_something_begins_and_when_it_ended(places: Places) -> None:
    assert places.at_rest()
    journal, _ = cloned(places)
    assert not places.at_rest()
    journal.note("dropped", error="E: e")
    assert places.at_rest()
    journal.note("rollback", to="earlier")
    assert not places.at_rest()
    journal.note("done")
    assert places.at_rest()


@pytest.mark.parametrize("last", ["", '{"event": "do', "7", "{}", '{"event": "of a later version"}'])
def test_whoever_cannot_tell_does_not_say_at_rest(places: Places, last: str) -> None:
    places.state.mkdir(exist_ok=True)
    places.journal.write_text(last, encoding="utf-8")
    assert not places.at_rest()


def test_a_clone_of_before_a_reboot_is_not_trusted(places: Places) -> None:
    journal, _ = begin(places)
    journal.note("cloned", boot="another boot")
    assert not journal.standing().clean


def test_a_journal_of_another_version_says_nothing(places: Places) -> None:
    journal = Journal(places.journal)
    journal.note("start", plan="somewhere", new=True)
    journal.note("cloned", linked=True)
    assert journal.standing().ended
    assert recovered(places.named) is None


def test_a_torn_last_line_takes_nothing_with_it(places: Places) -> None:
    journal, _ = begin(places)
    with places.journal.open("a") as stream:
        stream.write('{"event": "clo')
    journal.note("dropped", error="")
    assert [event["event"] for event in journal.events()] == ["start", "dropped"]


# ---------------------------------------------------------------------------------------------------------------- lock


def test_the_lock_names_its_holder_and_goes_with_it(places: Places) -> None:
    with places.lock("mmdoctor fix --apply"):
        assert f"by mmdoctor fix --apply, process {os.getpid()}" in Places(places.env).holder()
        with pytest.raises(TryAgainError, match=f"process {os.getpid()}"), Places(places.env).lock("second"):
            pass
    assert places.holder() == ""


def test_a_killed_holder_holds_nothing(places: Places) -> None:
    program = (
        "import pathlib, sys, time; from mmdoctor.apply.places import Places\n"
        "with Places(pathlib.Path(sys.argv[1])).lock('first'): print('has it', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program, str(places.env)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    with holder.stdout:
        assert holder.stdout.readline() == "has it\n"
        assert f"process {holder.pid}" in places.holder()
        holder.kill()
        holder.wait()
    with places.lock("second"):
        pass


def test_a_link_to_an_environment_is_the_same_environment(places: Places, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(places.env)
    assert Places(tmp_path / "current").state == places.state


# ------------------------------------------------------------------------------------------------------------ recovery


def test_nothing_to_recover(places: Places) -> None:
    assert recovered(places.named) is None
    journal, _ = cloned(places)
    journal.note("dropped", error="")
    assert recovered(places.named) is None


def test_a_run_at_work_is_left_alone(places: Places) -> None:
    cloned(places)
    with places.lock("mmdoctor fix --apply"):
        assert "being changed by mmdoctor fix --apply" in str(recovered(places.named))
    assert places.next.exists()


@pytest.mark.parametrize("keep_clone", [True, False])
def test_killed_between_stages_the_clone_may_stay(places: Places, keep_clone: bool) -> None:
    cloned(places)
    said = recover(places, keep_clone=keep_clone)
    assert said is not None
    assert ("--resume" in said) is keep_clone
    assert places.next.exists() is keep_clone
    assert at(places) == "old"


def test_killed_within_a_stage_the_clone_goes(places: Places) -> None:
    journal, _ = cloned(places)
    journal.note("stage", id="torch")
    assert recovered(places.named) is not None
    assert not places.next.exists()
    assert at(places) == "old"


def test_killed_before_the_exchange_it_is_the_old_one(places: Places) -> None:
    journal, _ = repaired(places)
    journal.note("swap", other=str(places.next), old=places.env.stat().st_ino, new=places.next.stat().st_ino)
    assert recovered(places.named) is not None
    assert at(places) == "old"
    assert journal.standing().ended


def test_killed_after_the_exchange_it_is_the_new_one_and_the_old_is_kept(places: Places) -> None:
    journal, run = repaired(places)
    swap(places, journal, places.next)
    said = recovered(places.named)
    assert said is not None
    assert "stays" in said
    assert at(places) == "new"
    assert [folder.name for folder in places.kept()] == [run.name]
    assert journal.standing().how == "done"
    assert recovered(places.named) is None


@pytest.mark.parametrize("renames", [1, 2, 3])
def test_killed_between_the_renames_nothing_is_missing(places: Places, renames: int) -> None:
    journal, _ = repaired(places)
    journal.note("swap", other=str(places.next), old=places.env.stat().st_ino, new=places.next.stat().st_ino)
    steps = [(places.env, places.aside), (places.next, places.env), (places.aside, places.next)]
    for source, destination in steps[:renames]:
        source.rename(destination)
    recovered(places.named)
    assert at(places) == ("old" if renames == 1 else "new")
    assert bool(places.kept()) is (renames > 1)


def test_a_new_environment_that_was_killed_goes_and_one_that_is_proven_stays(tmp_path: Path) -> None:
    for proven in (False, True):
        places = Places(tmp_path / f"new-{proven}")
        places.state.mkdir()
        journal, _ = begin(places, new=True)
        places.env.mkdir()
        journal.note("created", inode=places.env.stat().st_ino)
        (places.env / UNFINISHED).write_text("")
        if proven:
            journal.note("proven")
        recovered(places.named)
        assert places.env.exists() is proven
        assert not (places.env / UNFINISHED).exists()


def test_a_folder_that_somebody_else_made_there_is_not_touched(tmp_path: Path) -> None:
    places = Places(tmp_path / "env")
    places.state.mkdir()
    journal, _ = begin(places, new=True)
    journal.note("created", inode=1)
    places.env.mkdir()
    (places.env / "theirs").write_text("")
    recovered(places.named)
    assert (places.env / "theirs").exists()


def test_what_the_killed_run_left_running_is_ended_and_nothing_else(places: Places) -> None:
    journal, _ = cloned(places)
    children = [subprocess.Popen(["sleep", "60"], start_new_session=True) for _ in range(2)]
    journal.note("child", pid=children[0].pid, started=started(children[0].pid))
    journal.note("child", pid=children[1].pid, started=started(children[1].pid) - 100)  # the number had another owner
    recovered(places.named)
    assert children[0].wait(5) == -9
    assert children[1].poll() is None
    children[1].kill()
    children[1].wait()


def test_what_recovery_takes_away_is_swept_by_the_next_change(places: Places) -> None:
    one_more(places, "new")
    journal, _ = cloned(places)
    journal.note("stage", id="torch")
    recovered(places.named)
    assert not places.next.exists()
    assert list(places.state.glob("trash-next-*"))
    rollback(places)
    assert not list(places.state.glob("trash-*"))


# ------------------------------------------------------------------------------------------------------------ rollback


def one_more(places: Places, text: str) -> str:
    journal, run = begin(places)
    clone(places.env, places.next)
    (places.next / "who").unlink()
    (places.next / "who").write_text(text)
    swap(places, journal, places.next)
    keep(places, run.name)
    journal.note("done")
    return run.name


def test_rollback_goes_back_and_forth(places: Places) -> None:
    one_more(places, "new")
    rollback(places)
    assert at(places) == "old"
    assert recovered(places.named) is None
    rollback(places)
    assert at(places) == "new"


def test_rollback_to_one_of_several_and_its_pruning(places: Places) -> None:
    names = [one_more(places, f"v{number}") for number in range(KEEP + 1)]
    assert [entry.name for entry in earlier(places)] == names[::-1]
    rollback(places, names[1])
    assert at(places) == "v0"
    assert prune(places) == (names[0],)
    with pytest.raises(RefusedError, match=names[0]):
        rollback(places, names[0])


def test_old_ones_go_by_age_and_the_newest_stays(places: Places) -> None:
    names = [one_more(places, f"v{number}") for number in range(2)]
    for position, name in enumerate(names):
        (places.previous / name).rename(places.previous / f"2020010{position + 1}-000000")
    assert prune(places) == ("20200101-000000",)
    assert [folder.name for folder in places.kept()] == ["20200102-000000"]


def test_a_killed_rollback_is_whole(places: Places) -> None:
    one_more(places, "new")
    journal = Journal(places.journal)
    kept = places.kept()[0]
    journal.note("rollback", to=kept.name)
    swap(places, journal, kept)
    recovered(places.named)
    assert at(places) == "old"
    rollback(places)
    assert at(places) == "new"


# ----------------------------------------------------------------------------------------------------------- processes


def test_who_runs_from_an_environment_is_named(tmp_path: Path) -> None:
    program = tmp_path / "env" / "serve.py"
    program.parent.mkdir()
    program.write_text("import time; print('up', flush=True); time.sleep(60)")
    child = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == "up\n"
        try:
            named = users_of(tmp_path / "env")
            assert len(named) == 1
            assert f"process {child.pid}" in named[0]
        finally:
            child.kill()
            child.wait()
    deadline = time.monotonic() + 5
    while users_of(tmp_path / "env"):
        assert time.monotonic() < deadline
