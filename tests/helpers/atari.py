"""Policies and environments of Atari tests."""

import numpy as np
import torch

BREAKOUT = "ALE/Breakout-v5"
SHORT = {"max_num_frames_per_episode": 200, "num_threads": 1}
# Shape, actions and type of the observations of Breakout.
PIXELS = ((4, 84, 84), 4, (), "uint8")


class Policies:
    """R policies that take actions from their own sequences, whatever they see."""

    device = torch.device("cpu")

    def __init__(self, *moves):
        self.moves = moves
        self.step = 0

    def one_run(self, run):
        return Policies(self.moves[run])

    def act(self, obs):
        self.step += 1
        actions = []
        for move in self.moves:
            action = move[self.step % len(move)]
            actions.append(torch.full((obs.shape[1],), action))
        return torch.stack(actions)


class Counter:
    """n environments whose frames say which environment, episode and step they show.

    Episodes have 3, 4, 5, ... steps and end by termination and truncation in turn. As in ALE the
    last frame of an episode is never stored, and the step after it only resets.
    """

    def __init__(self, n):
        self.n = n

    def look(self):
        frames = []
        for env in range(self.n):
            number = 50 * env + 10 * self.episode[env] + self.steps[env]
            frames.append(np.full((4, 2, 2), number, np.uint8))
        return np.stack(frames)

    def reset(self, seed):
        self.episode = [0] * self.n
        self.steps = [0] * self.n
        self.over = [False] * self.n
        return self.look(), {}

    def step(self, action):
        reward = np.zeros(self.n)
        for env in range(self.n):
            if self.over[env]:
                self.episode[env] += 1
                self.steps[env] = 0
                self.over[env] = False
            else:
                reward[env] = 10 * env + self.steps[env]
                self.steps[env] += 1
                self.over[env] = self.steps[env] == 3 + self.episode[env]

        over = np.array(self.over)
        is_even = np.array(self.episode) % 2 == 0
        return self.look(), reward, over & is_even, over & ~is_even, {}
