"""The folder of a training: one writer, checkpoints that survive a kill, names that never meet."""

import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from rlop.agents import DQN

import rlop
from rlop.training import lock
from rlop.training.checkpoint import best, copy_to, load, save
from rlop.training.folder import RunFolder, new_folder, newest
from rlop.training.interrupt import StopSignal
from rlop.types import InputError, Interrupted

FILE = "checkpoint.pt"
KEPT = ["checkpoint.best.pt", "checkpoint.previous.pt", FILE]
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks")


@pytest.fixture
def agent(tiny):
    return DQN(tiny.spec, hidden=(4,), batch_size=4)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- one writer


def test_a_folder_has_one_writer_at_a_time(tmp_path):
    with RunFolder(tmp_path):
        host = socket.gethostname()
        with pytest.raises(InputError, match=f"process {os.getpid()} on {host} trains in this"):
            RunFolder(tmp_path).__enter__()
    with RunFolder(tmp_path):
        pass
    assert names(tmp_path) == []


@pytest.mark.parametrize("is_stale", [False, True])
def test_of_many_who_want_a_folder_at_once_one_gets_it(tmp_path, is_stale):
    if is_stale:
        (tmp_path / lock.LOCK).mkdir()
        (tmp_path / lock.LOCK / f"{ended()}-1-{socket.gethostname()}").touch()
    start = threading.Barrier(20)

    def take(number):
        start.wait()
        try:
            return lock.acquire(tmp_path)
        except InputError:
            return None

    with ThreadPoolExecutor(20) as pool:
        held = [path for path in pool.map(take, range(20)) if path is not None]
    assert len(held) == 1
    assert names(tmp_path) == [lock.LOCK]
    lock.release(held[0])
    assert names(tmp_path) == []


def ended():
    """Return the number of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


HOLDERS = {
    "that has ended": (lambda: f"{ended()}--{socket.gethostname()}", True),
    "of another start": (lambda: f"{os.getpid()}-1-{socket.gethostname()}", True),
    "that lives": (lambda: lock.holder(os.getppid()), False),
    "of another host": (lambda: f"{ended()}-1-another.host", False),
    "without a name": (lambda: "x", False),
}


@pytest.mark.parametrize(("name", "is_dead"), HOLDERS.values(), ids=HOLDERS.keys())
def test_a_lock_is_taken_from_a_process_that_has_ended_only(tmp_path, name, is_dead):
    if name() == HOLDERS["of another start"][0]() and not os.path.exists("/proc/self/stat"):
        pytest.skip("the system does not tell when a process started")
    held = tmp_path / lock.LOCK / name()
    held.parent.mkdir()
    held.touch()
    if is_dead:
        with RunFolder(tmp_path):
            assert not held.exists()
        assert names(tmp_path) == []
    else:
        with pytest.raises(InputError, match=r"trains in this folder; .* remove .*\.lock"):
            RunFolder(tmp_path).__enter__()
        assert held.exists()


def test_an_empty_lock_is_free(tmp_path):
    (tmp_path / lock.LOCK).mkdir()
    with RunFolder(tmp_path):
        pass
    assert names(tmp_path) == []


@forks
def test_a_child_that_was_not_waited_for_counts_as_ended():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert not lock.is_alive(child)
    os.waitpid(child, 0)


def test_two_trainings_in_one_folder_are_refused_without_a_trace(tiny, agent, tmp_path):
    options = {"logdir": tmp_path, "progress": False, "probe_every": 0}
    rlop.train(agent, tiny, 2, **options)
    before = names(tmp_path)
    with RunFolder(tmp_path), pytest.raises(InputError, match="trains in this folder"):
        rlop.train(agent, tiny, 4, resume=True, **options)
    assert names(tmp_path) == before


def test_what_dead_writers_left_is_removed_and_what_others_wrote_is_not(tmp_path):
    (tmp_path / f".checkpoint.pt.{ended()}.tmp").touch()
    (tmp_path / f".lock.x.{ended()}.tmp").mkdir()
    kept = [".hidden", ".notes.tmp", f".runs.json.{os.getppid()}.tmp", "file.tmp"]
    for name in kept:
        (tmp_path / name).touch()
    with RunFolder(tmp_path):
        pass
    assert names(tmp_path) == sorted(kept)


def test_a_hundred_starts_in_a_second_make_a_hundred_folders(tmp_path, monkeypatch):
    monkeypatch.setattr("rlop.training.folder.time.strftime", lambda form: "20260101-000000")
    with ThreadPoolExecutor(10) as pool:
        made = list(pool.map(lambda _: new_folder(tmp_path / "runs", "dqn"), range(100)))
    assert len(set(made)) == 100
    assert all(path.is_dir() for path in made)
    assert sorted(map(str, made))[0].endswith("dqn-20260101-000000")


def test_a_folder_that_stays_empty_is_removed_only_by_who_made_it(tmp_path):
    with RunFolder(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists()
    with RunFolder(new_folder(tmp_path, "x"), is_new=True):
        pass
    assert names(tmp_path) == []
    with RunFolder(tmp_path):
        pass
    assert tmp_path.exists()


# --- whole checkpoints

OPERATIONS = ("replace", "link", "fsync", "unlink", "open")


def die_at(number, before):
    """Let this process end at its n-th file operation, before or after it."""
    count = 0

    def dying(operation):
        def run(*args, **kwargs):
            nonlocal count
            count += 1
            is_last = count == number
            if is_last and before:
                os._exit(1)
            try:
                return operation(*args, **kwargs)
            finally:
                if is_last:
                    os._exit(1)

        return run

    for name in OPERATIONS:
        setattr(os, name, dying(getattr(os, name)))
    torch.save = dying(torch.save)


def save_and_die(path, agent, number, before):
    """Write step 3 in a child that dies at a file operation; return whether it got to its end."""
    child = os.fork()
    if child == 0:
        die_at(number, before)
        copy_to(save(path, agent, 3), best(path))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@forks
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_kill_at_any_file_operation_leaves_whole_checkpoints(agent, tmp_path, before):
    steps = []
    for number in range(1, 40):
        folder = tmp_path / str(number)
        folder.mkdir()
        for step in (1, 2):
            copy_to(save(folder / FILE, agent, step), best(folder / FILE))
        is_done = save_and_die(folder / FILE, agent, number, before)

        for path in folder.glob("checkpoint*.pt"):
            assert load(path)["step"] in (1, 2, 3)
        path, content = newest(folder, "cpu")
        assert path == folder / FILE
        steps.append(content["step"])
        with RunFolder(folder):
            assert names(folder) == [".lock", *KEPT]
        if is_done:
            break
    assert is_done
    assert number > 8
    assert steps == sorted(steps)
    assert set(steps) == {2, 3}


@pytest.mark.parametrize("error", [OSError("no links here"), None], ids=["copies", "links"])
def test_the_last_two_checkpoints_are_kept(agent, tmp_path, monkeypatch, error):
    if error is not None:

        def refuse(*args):
            raise error

        monkeypatch.setattr(os, "link", refuse)
    for step in (1, 2, 3):
        save(tmp_path / FILE, agent, step)
    assert names(tmp_path) == ["checkpoint.previous.pt", FILE]
    assert load(tmp_path / FILE)["step"] == 3
    assert load(tmp_path / "checkpoint.previous.pt")["step"] == 2
    (tmp_path / FILE).unlink()
    assert newest(tmp_path, "cpu")[1]["step"] == 2


# --- signals


class Asks(DQN):
    """DQN that gets a signal in its third update."""

    number = signal.SIGTERM

    def update(self, batch, noise):
        if self.main.steps == 2:
            os.kill(os.getpid(), self.number)
        return super().update(batch, noise)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_in_a_save_leave_a_valid_checkpoint(tiny, tmp_path, monkeypatch, number):
    write = torch.save

    def impatient(content, path):
        os.kill(os.getpid(), signal.SIGINT)
        write(content, path)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(torch, "save", impatient)
    asks = Asks(tiny.spec, hidden=(4,), batch_size=4)
    asks.number = number
    with pytest.raises(Interrupted) as caught:
        rlop.train(asks, tiny, 9, logdir=tmp_path, progress=False, probe_every=0)
    assert caught.value.number == number
    assert load(tmp_path / FILE)["step"] == 3
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_waits_and_the_second_does_not(number):
    handler = signal.getsignal(number)
    with StopSignal() as stop:
        assert not stop.asked
        os.kill(os.getpid(), number)
        assert stop.asked
        with pytest.raises(Interrupted) as caught:
            os.kill(os.getpid(), number)
    assert caught.value.number == number
    assert signal.getsignal(number) == handler


def test_a_signal_waits_for_the_end_of_a_shield_and_not_for_that_of_an_evaluation():
    with StopSignal() as stop:
        with stop.shield():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted), stop.at_once():
            pytest.fail("an evaluation begins after a signal")
    assert stop.number == signal.SIGINT

    with StopSignal() as stop, pytest.raises(Interrupted), stop.at_once():
        os.kill(os.getpid(), signal.SIGTERM)
