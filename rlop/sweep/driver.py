"""Run the launches of a sweep to their ends: retries, interruption, and what is left to do."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from rlop.logs.messages import say
from rlop.sweep.executor import Ended, Executor
from rlop.sweep.launches import Launch
from rlop.sweep.plan import Plan
from rlop.sweep.table import FAILED, FINISHED, TRAINING, WAITING, Board
from rlop.sweep.worker import is_done
from rlop.training.interrupt import StopSignal
from rlop.types import InputError, Interrupted

TRIES = 3  # of a launch whose process is killed
LOOK = 0.5  # seconds between looks at what has ended


def drive(plan: Plan, folder: Path, executor: Executor, live: bool | None = None) -> None:
    """Run all launches that are not finished, and return once they are.

    A launch whose process was killed is tried again, where it stopped; one that failed is not, and
    the others go on. Ctrl-C, SIGTERM and SIGHUP reach all of them.

    Args:
        plan: what to run.
        folder: of the sweep, whose lock this process holds.
        executor: where to run it; it is closed at the end.
        live: whether a table is shown; by default on a terminal.
    Raises:
        InputError: some launch failed, or was killed too often; all others have ended.
        Interrupted: by a signal; everything can be resumed.
    """
    waiting: deque[Launch] = deque()
    board = Board(folder, plan.launches, live)
    for launch in plan.launches:
        if is_done(folder, launch):
            board.rows[launch.name].state = FINISHED
        else:
            waiting.append(launch)
    if board.done:
        say(f"{board.done} of {len(plan.launches)} launches are finished already")

    running = 0
    was_asked = False
    try:
        with StopSignal() as stop, board:
            while running or (waiting and not stop.asked):
                while waiting and not stop.asked and executor.has_room():
                    launch = waiting.popleft()
                    executor.start(launch)
                    running += 1
                    board.change(launch, TRAINING)

                if stop.asked and not was_asked:
                    was_asked = True
                    say("interrupted: every launch writes a checkpoint and ends")
                    executor.interrupt()

                for ended in executor.ended(LOOK):
                    running -= 1
                    if _settle(board, ended, stop.asked):
                        waiting.append(ended.launch)
                board.refresh()
    finally:
        executor.close()

    if stop.number is not None:
        say(f"{board.done} of {len(plan.launches)} launches are finished; the same command goes on")
        raise Interrupted(stop.number)
    failed = [row for row in board.rows.values() if row.state == FAILED]
    if failed:
        names = "; ".join(f"{row.launch.name}: {row.note}" for row in failed)
        raise InputError(
            f"sweep: {len(failed)} of {len(plan.launches)} trainings failed, see {folder}/*.log; "
            f"the same command tries them again: {names}"
        )


def _settle(board: Board, ended: Ended, was_asked: bool) -> bool:
    """Note how a try of a launch ended; return whether it is to be tried again."""
    launch = ended.launch
    tries = board.rows[launch.name].tries
    if not ended.reason:
        board.change(launch, FINISHED)
        return False
    if was_asked:
        board.change(launch, WAITING, "interrupted")
        return False
    if ended.can_retry and tries < TRIES:
        board.change(launch, WAITING, f"{ended.reason}, tried again")
        return True
    times = f" {tries} times" if ended.can_retry else ""
    board.change(launch, FAILED, f"{ended.reason}{times}")
    return False
