"""Sweeps in the process of a test: in processes of their own, each would start PyTorch again."""

from rlop.sweep import command, sizing
from rlop.sweep.executor import outcome
from rlop.sweep.worker import train_launch


class Here:
    """An executor that trains a launch as soon as it is started."""

    def __init__(self, folder, jobs=1):
        self.folder = folder
        self.settled = []
        self.started = []

    def has_room(self):
        return not self.settled

    def start(self, launch):
        self.started.append(launch.name)
        self.settled.append(outcome(self.folder, launch, train_launch(self.folder, launch)))

    def ended(self, seconds):
        settled, self.settled = self.settled, []
        return settled

    def interrupt(self):
        pass

    def close(self):
        pass


def sweep_here(monkeypatch):
    """Let `rlop sweep` train and measure in this process."""
    monkeypatch.setattr(command, "Processes", Here)
    monkeypatch.setattr(sizing, "in_child", sizing.measured_here)
    monkeypatch.setattr("rlop.training.plan.MEASURED_SECONDS", 0.01)
