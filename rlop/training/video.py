"""Films of a policy at its evaluations: animated GIFs, in a folder and in TensorBoard."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np

from rlop.agent import Agent
from rlop.config.checks import check_range
from rlop.config.files import write_atomic
from rlop.data.adapter import adapter_of, natural_spec
from rlop.deploy.policy import Policy
from rlop.envs.atari import PREFIX as ATARI
from rlop.envs.given import Given, copies, name_of
from rlop.envs.spaces import VectorEnv
from rlop.logs.history import History
from rlop.logs.messages import say
from rlop.training.callbacks import Callback, PerRun
from rlop.types import InputError

FOLDER = "video"  # in the folder of the training, which TensorBoard shows as a run
LONGEST = 500  # steps of a film
STRIDE = 2  # steps between two frames
PAUSE = 40  # ms between two frames: 50 steps a second
WIDTH = 320  # pixels of a frame, about: larger pictures lose pixels, smaller ones repeat theirs


class Video(Callback):
    """Film an episode of one run's greedy policy at evaluations.

        video = rlop.Video(agent, "CartPole-v1", "runs/cartpole")
        rlop.train(agent, data, logdir="runs/cartpole", evaluate=..., callbacks=[video])

    A film is `video/step-N.gif` in the folder, and a picture in TensorBoard. It shows the first 500
    steps of an episode that starts in the same state every time, in an environment of its own: no
    number of the training changes. An environment that fails leaves out its film, and says so.

    Args:
        agent: the agent that is trained.
        env: Gymnasium id, or a function that makes an environment with `render_mode="rgb_array"`.
        folder: of the training.
        every: evaluations between two films, the first included.
        run: number of the run.
        env_kwargs: keyword arguments of the environment, for an id.
    Raises:
        InputError: an environment that cannot render and whose observations are no images, another
            than that of the agent's data, or Pillow is not installed.
    """

    def __init__(
        self,
        agent: Agent,
        env: Given,
        folder: str | Path,
        every: int = 1,
        run: int = 0,
        env_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        check_range("every", every, low=1)
        check_range("run", run, low=0, high=len(agent.runs) - 1)
        try:
            import PIL.Image  # noqa: F401
        except ImportError:
            raise InputError("video: needs Pillow, pip install 'rlop[video]'") from None
        self.agent, self.run, self.every = agent, run, every
        self.folder = Path(folder) / FOLDER
        self.name = name_of(env)
        self.env, self.renders = _filmed(env, env_kwargs or {})
        self.adapter = adapter_of(agent.spec or natural_spec(self.env), self.env)
        self.count = 0  # evaluations so far
        self.before: History | None = None  # the record of a resume, until they are counted in it

    def on_start(self, history: History) -> None:
        """Show the films from before a resume again."""
        last = int(max(history.steps, default=-1))
        films = {step: path for step, path in films_in(self.folder).items() if step <= last}
        self.count, self.before = 0, history if films else None
        for step, path in sorted(films.items()):
            self._show(step, path.read_bytes())

    def on_evaluate(self, step: int, metrics: PerRun) -> None:
        """Film an episode, if it is time."""
        if self.before is not None:
            self.count, self.before = times_logged(self.before, metrics), None
        self.count += 1
        if (self.count - 1) % self.every:
            return
        try:
            frames = self.film()
        except Exception as error:  # a stranger's environment may raise anything
            say(f"video: {self.name}: {error}; no film at step {step}", logging.WARNING)
            return
        content = gif(frames)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomic(self.folder / f"step-{step}.gif", content)
        self._show(step, content)

    def film(self) -> list[np.ndarray]:
        """Play an episode; return its frames, uint8 `[height, width, 3]`."""
        policy = Policy(self.agent.one_run(self.run), self.adapter)
        rng = np.random.default_rng(0)  # a greedy policy draws nothing from it
        obs, _ = self.env.reset(seed=0)

        frames = []
        for step in range(LONGEST):
            if step % STRIDE == 0:
                frames.append(frame_of(self._picture(obs)))
            seen, _ = policy.read(obs)
            obs, _, terminated, truncated, _ = self.env.step(policy.play(seen, 0.0, rng))
            if terminated[0] or truncated[0]:
                break
        return frames

    def _picture(self, obs: np.ndarray) -> np.ndarray:
        """Return what the environment draws, or the last frame that the agent sees."""
        if not self.renders:
            return obs[0][-1]
        (picture,) = cast(tuple[np.ndarray], self.env.render())
        return picture

    def _show(self, step: int, content: bytes) -> None:
        """Give a film to TensorBoard, in a file of its own."""
        from rlop.logs.tensorboard import EventWriter, film

        writer = EventWriter(self.folder)
        writer.write(film("eval/video", content), step)
        writer.file.close()


def _filmed(env: Given, env_kwargs: Mapping[str, Any]) -> tuple[VectorEnv, bool]:
    """Make an environment; return also whether it renders, or its observations are filmed."""
    made = copies(env, 1, 1, env_kwargs, LONGEST).of_run[0]
    space = made.single_observation_space
    if name_of(env).startswith(ATARI) and len(space.shape or ()) == 3:  # stacked frames
        return made, False

    reason = "no render_mode"
    try:
        if isinstance(env, str):
            rendered = {**env_kwargs, "render_mode": "rgb_array"}
            made = copies(env, 1, 1, rendered, LONGEST).of_run[0]
        made.reset(seed=0)
        if made.render_mode == "rgb_array" and made.render() is not None:
            return made, True
    except Exception as error:  # whatever rendering raises where a package is missing
        reason = str(error).splitlines()[0]
    raise InputError(
        f"video: environment {name_of(env)}: expected pictures by render_mode 'rgb_array', "
        f"found none ({reason})"
    )


def times_logged(history: History, names: Iterable[str]) -> int:
    """Count the steps at which any of some metrics was logged.

    Args:
        history: of the training.
        names: of an evaluation's scores, whatever it calls them.
    """
    steps: set[int] = set()
    for name in names:
        if name in history.metrics:
            steps.update(history.metrics[name][0].tolist())
    return len(steps)


def films_in(folder: Path) -> dict[int, Path]:
    """Return step -> file of the films in a folder."""
    films = {}
    for path in folder.glob("step-*.gif"):
        if match := re.fullmatch(r"step-(\d+)\.gif", path.name):
            films[int(match[1])] = path
    return films


def frame_of(picture: np.ndarray) -> np.ndarray:
    """Return a frame of about `WIDTH` pixels, uint8 `[height, width, 3]`.

    Args:
        picture: gray `[H, W]` or in color `[H, W, 3]`; uint8, or between 0 and 1.
    """
    picture = np.asarray(picture)
    if picture.dtype != np.uint8:
        picture = np.rint(255 * picture.clip(0, 1)).astype(np.uint8)
    if picture.ndim == 2:
        picture = picture[..., None].repeat(3, axis=2)

    width = picture.shape[1]
    stride, times = -(-width // WIDTH), max(1, WIDTH // width)
    return picture[::stride, ::stride].repeat(times, 0).repeat(times, 1)


def gif(frames: list[np.ndarray]) -> bytes:
    """Compress frames, uint8 `[height, width, 3]` each, into an animated GIF."""
    from PIL import Image

    first, *others = [Image.fromarray(frame) for frame in frames]
    content = BytesIO()
    first.save(
        content, "GIF", save_all=True, append_images=others, duration=PAUSE, loop=0, optimize=False
    )
    return content.getvalue()
