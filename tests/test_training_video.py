"""Films of a policy: what they show, where they go, and that they change nothing."""

import gymnasium
import numpy as np
import pytest
from rlop.agents import DQN

import rlop
from rlop.training.video import films_in, frame_of, gif

Image = pytest.importorskip("PIL.Image")


class Dial(gymnasium.Env):
    """Four steps; the picture is as bright as the step, the start is always the same."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012
    render_mode = "rgb_array"
    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.at = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.at += 1
        return np.full(2, self.at / 4, np.float32), 1.0, self.at == 4, False, {}

    def render(self):
        return np.full((8, 6, 3), 60 * self.at, np.uint8)


class Broken(Dial):
    """Fails at its first step."""

    def step(self, action):
        raise RuntimeError("the dial is stuck")


class Blind(Dial):
    """Has no picture."""

    render_mode = None


def dial_data():
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(64, 2)).astype(np.float32)
    action, reward = rng.integers(0, 2, 64), rng.normal(size=64)
    ends = np.arange(64) % 8 == 7
    return rlop.Dataset.from_arrays(obs, action, reward, ends, np.zeros(64, bool), n_actions=2)


def trained(folder, steps=20, callbacks=(), **options):
    data = dial_data()
    agent = DQN(data.spec, seeds=[1, 2], hidden=[8])
    made = [make(agent) for make in callbacks]
    evaluate = options.pop("evaluate", None) or rlop.Evaluator(Dial, seeds=[1, 2], episodes=1)
    schedule = {"log_every": 10, "probe_every": 0, "eval_every": 10, "checkpoint_every": 10}
    history = rlop.train(
        agent,
        data,
        logdir=folder,
        evaluate=evaluate,
        steps=steps,
        callbacks=made,
        **{**schedule, **options},
    )
    return agent, history


def test_films_show_every_second_step_of_an_episode(tmp_path):
    trained(tmp_path, callbacks=[lambda agent: rlop.Video(agent, Dial, tmp_path)])
    films = films_in(tmp_path / "video")
    assert sorted(films) == [0, 10, 20]
    with Image.open(films[20]) as film:
        assert (film.n_frames, film.size) == (2, (318, 424))
        film.seek(1)
        shade = np.asarray(film.convert("RGB"))
    np.testing.assert_allclose(shade, 120, atol=2)


def test_every_second_evaluation_is_filmed(tmp_path):
    trained(tmp_path, callbacks=[lambda agent: rlop.Video(agent, Dial, tmp_path, every=2)])
    assert sorted(films_in(tmp_path / "video")) == [0, 20]


@pytest.mark.parametrize("name", ["eval/return", "coffee/brewed"])
def test_a_resume_counts_on_whatever_the_evaluation_calls_its_score(tmp_path, name):
    def evaluate(agent):
        return {name: np.arange(len(agent.runs), dtype=float)}

    def film(agent):
        return rlop.Video(agent, Dial, tmp_path, every=3)

    # Evaluations at 0, 10, 20 and 30: the first and the fourth are filmed.
    trained(tmp_path, callbacks=[film], evaluate=evaluate)
    trained(tmp_path, callbacks=[film], evaluate=evaluate, steps=30, resume=True)
    assert sorted(films_in(tmp_path / "video")) == [0, 30]


def test_films_change_no_number_of_the_training(tmp_path):
    _, plain = trained(tmp_path / "plain")
    filmed = [lambda agent: rlop.Video(agent, Dial, tmp_path / "filmed", run=1)]
    _, with_films = trained(tmp_path / "filmed", callbacks=filmed)
    for name, (steps, values) in plain.metrics.items():
        if not name.startswith("time/"):
            np.testing.assert_array_equal(steps, with_films.metrics[name][0])
            np.testing.assert_array_equal(values, with_films.metrics[name][1])


def test_tensorboard_has_the_films_also_after_a_resume(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    filmed = [lambda agent: rlop.Video(agent, Dial, tmp_path)]
    trained(tmp_path, callbacks=filmed, steps=10)
    trained(tmp_path, callbacks=filmed, steps=20, resume=True)
    events = EventAccumulator(str(tmp_path / "video"), size_guidance={"images": 0})
    events.Reload()
    films = events.Images("eval/video")
    assert [film.step for film in films] == [0, 10, 20]
    assert films[0].encoded_image_string.startswith(b"GIF89a")
    assert (films[0].width, films[0].height) == (318, 424)


def test_an_environment_that_fails_leaves_out_its_film_and_the_training_goes_on(tmp_path, caplog):
    _, history = trained(tmp_path, callbacks=[lambda agent: rlop.Video(agent, Broken, tmp_path)])
    assert history.steps[-1] == 20
    assert not films_in(tmp_path / "video")
    assert "the dial is stuck" in caplog.text
    assert "no film at step 10" in caplog.text


def test_an_environment_without_pictures_is_refused_before_any_work(tmp_path):
    agent = DQN(dial_data().spec, hidden=[8])
    with pytest.raises(rlop.InputError, match="environment Blind: expected pictures"):
        rlop.Video(agent, Blind, tmp_path)
    with pytest.raises(rlop.InputError, match="run = 1"):
        rlop.Video(agent, Dial, tmp_path, run=1)


def test_films_of_a_configuration_need_evaluations():
    from rlop.training.run import from_args, run

    arguments = ["--data", "gridworld", "--steps", "10", "--video_every", "1"]
    experiment, _ = from_args([*arguments, "--eval_every", "0"], "configs/gridworld/demo.yaml")
    with pytest.raises(rlop.InputError, match="video_every = 1: expected evaluations"):
        run(experiment)


def test_large_pictures_lose_pixels_small_ones_grow_and_gray_ones_gain_colors():
    assert frame_of(np.zeros((480, 640, 3), np.uint8)).shape == (240, 320, 3)
    assert frame_of(np.zeros((84, 84), np.uint8)).shape == (252, 252, 3)
    frame = frame_of(np.array([[0.0, 1.0]]))
    assert frame.shape == (160, 320, 3)
    np.testing.assert_array_equal(frame[0, [159, 160]], [[0] * 3, [255] * 3])


def test_a_film_keeps_its_frames():
    frames = [np.full((4, 5, 3), shade, np.uint8) for shade in (0, 90, 200)]
    assert gif(frames)[:6] == b"GIF89a"
