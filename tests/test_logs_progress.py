"""What a person sees while a training runs: progress, and messages."""

import logging
import math
import sys
from types import ModuleType

import numpy as np
import pytest
from helpers.logs import logger

from rlop.logs.messages import messages_on_stderr, say
from rlop.logs.progress import Progress


class Clock:
    """A clock that stands still until it is moved."""

    now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("rlop.logs.progress.time.monotonic", clock.monotonic)
    return clock


def run(clock, seconds, steps, **options):
    """Show a training of this length."""
    with Progress(steps, **options) as bar:
        for step in range(1, steps + 1):
            clock.now += seconds / steps
            bar.update(step, loss=0.25)
        bar.update(steps, ret=np.array([1.0, 3.0, math.nan]))


def test_without_a_terminal_a_line_is_printed_per_tenth(clock, capsys):
    run(clock, 1000.0, 1000)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0] == "step 100/1000 (10 %)  1 steps/s  loss 0.25  0:15:00 left"
    assert lines[-1].startswith("step 1000/1000 (100 %)")


@pytest.mark.parametrize(("seconds", "most"), [(5.0, 1), (50.0, 5), (36_000.0, 130)])
def test_lines_come_neither_too_often_nor_too_seldom(clock, capsys, seconds, most):
    run(clock, seconds, 2000)
    lines = capsys.readouterr().err.splitlines()
    assert max(1, seconds / 300 - 15) <= len(lines) <= most
    speed = f"{2000 / seconds:,.0f} steps/s"
    assert lines[-1] == f"step 2000/2000 (100 %)  {speed}  loss 0.25  return 2  0:00:00 left"


def test_nothing_is_shown_of_a_silent_training_or_of_none(clock, capsys):
    run(clock, 1000.0, 100, enabled=False)
    with Progress(10):
        pass
    assert capsys.readouterr().err == ""


def test_the_bar_is_drawn_four_times_a_second(clock, capsys, monkeypatch):
    drawn = []
    show = Progress._show

    def counted(self, now):
        drawn.append(now)
        show(self, now)

    monkeypatch.setattr(Progress, "_show", counted)
    run(clock, 10.0, 5000, enabled=True)
    assert 38 <= len(drawn) <= 42
    shown = capsys.readouterr().err
    assert "5000/5000" in shown
    assert "loss 0.25  return 2" in shown


@pytest.mark.parametrize("enabled", [None, True, False])
def test_a_process_without_stderr_shows_nothing(clock, monkeypatch, enabled):
    monkeypatch.setattr(sys, "stderr", None)
    run(clock, 1000.0, 100, enabled=enabled)
    with messages_on_stderr():
        say("nobody reads this")


# ---- messages


def test_messages_are_logged_and_not_printed_by_the_library(caplog, capsys):
    caplog.set_level(logging.INFO)
    say("compiling 50 % of it")
    assert caplog.record_tuples == [("rlop", logging.INFO, "compiling 50 % of it")]
    assert capsys.readouterr().err == ""


def test_a_command_prints_messages_as_plain_lines(capsys):
    with messages_on_stderr():
        say("collecting")
        say("diverged", logging.WARNING)
    with messages_on_stderr(logging.WARNING):
        say("quiet")
    say("after the command")
    assert capsys.readouterr().err == "collecting\ndiverged\n"


def test_a_logger_says_each_thing_once(capsys):
    log = logger(None)
    with messages_on_stderr():
        log.say_once("run a diverged by step 1", key="a")
        log.say_once("run a diverged by step 2", key="a")
        log.say_once("other")
        log.say_once("other")
    assert capsys.readouterr().err == "run a diverged by step 1\nother\n"


# ---- notebooks


@pytest.fixture
def cell(monkeypatch):
    """Pretend that the program is a notebook; return what its cell showed, one after the other."""
    shown = []

    class Handle:
        def update(self, content, raw):
            assert raw
            shown.append(content["text/plain"])

    shell = type("ZMQInteractiveShell", (), {})()
    ipython = ModuleType("IPython")
    ipython.get_ipython = lambda: shell
    ipython.display = ModuleType("IPython.display")
    ipython.display.display = lambda content, raw, display_id: Handle()
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython.display)
    return shown


def test_a_notebook_replaces_one_line_of_its_cell(clock, capsys, cell):
    run(clock, 100.0, 1000)
    assert capsys.readouterr().err == ""
    assert 100 < len(cell) <= 401
    half = cell[len(cell) // 2]
    assert 11 <= half.count("█") <= 13
    assert half.count("█") + half.count("░") == 24
    assert cell[-1].startswith("█" * 24 + "  step 1000/1000 (100 %)  10 steps/s  loss 0.25")

    shown = len(cell)
    run(clock, 100.0, 1000, enabled=False)
    assert len(cell) == shown


def test_a_terminal_of_ipython_is_no_notebook(clock, capsys, cell, monkeypatch):
    terminal = type("TerminalInteractiveShell", (), {})()
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: terminal)
    run(clock, 1000.0, 1000)
    assert cell == []
    assert len(capsys.readouterr().err.splitlines()) == 10
