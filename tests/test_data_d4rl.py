from __future__ import annotations

import os
import sys
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlop.data import load_dataset, normalized_score, write_hdf5
from rlop.data.formats import d4rl, download
from rlop.data.formats.d4rl import count_timeouts, find
from rlop.data.scores import source_of, sources
from rlop.types import InputError

SETTINGS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PEN = "pen-human-v0"  # 100 steps at most


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The folder of data sets, and a network that ends here."""
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "d4rl"


@pytest.fixture
def offline(monkeypatch):
    def refuse(url, path):
        raise InputError(f"{url}: no network in tests")

    monkeypatch.setattr(d4rl, "fetch", refuse)


def arrays(rows, terminals=(), timeouts=None, seed=0, **changes):
    rng = np.random.default_rng(seed)
    made = {
        "observations": rng.standard_normal((rows, 3)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (rows, 2)).astype(np.float32),
        "rewards": rng.standard_normal(rows).astype(np.float32),
        "terminals": np.isin(np.arange(rows), terminals),
    }
    if timeouts is not None:
        made["timeouts"] = np.isin(np.arange(rows), timeouts)
    return {**made, **changes}


def put(name, made):
    """Write a file where the data set's would be."""
    path = os.path.join(os.environ["D4RL_DATASET_DIR"], source_of(name).url.rpartition("/")[2])
    write_hdf5(path, made, {}, overwrite=True)
    return path


def twin(made, limit, keep):
    """D4RL's loop: rows kept, and whether each is a time-out."""
    rows, cut, step = [], [], 0
    for i in range(len(made["rewards"]) - 1):
        last = bool(made["timeouts"][i]) if "timeouts" in made else step == limit - 1
        if last and not keep:
            step = 0
            continue
        if last or made["terminals"][i]:
            step = 0
        rows.append(i)
        cut.append(last)
        step += 1  # also after a reset: the next row counts as the second
    return rows, cut


def same_as_twin(data, made, limit, keep):
    rows, cut = twin(made, limit, keep)
    for ours, theirs in (("obs", "observations"), ("action", "actions"), ("reward", "rewards")):
        assert np.array_equal(getattr(data, ours), made[theirs][rows]), ours
    assert np.array_equal(data.next_obs, made["observations"][np.array(rows) + 1])
    assert np.array_equal(data.terminated, made["terminals"][rows])
    if keep:
        expected = np.array(cut) & ~data.terminated
        assert np.array_equal(data.truncated[:-1], expected[:-1])


# ---- reading


@SETTINGS
@given(
    st.integers(3, 450),
    st.lists(st.integers(0, 449), max_size=6),
    st.none() | st.lists(st.integers(0, 449), max_size=6),
    st.booleans(),
)
def test_transitions_are_those_of_d4rl(rows, terminals, timeouts, keep):
    made = arrays(rows, terminals, timeouts)
    put(PEN, made)
    if not twin(made, 100, keep)[0]:
        with pytest.raises(InputError, match="no row has a known successor"):
            load_dataset(f"d4rl:{PEN}", terminate_on_end=keep)
        return
    same_as_twin(load_dataset(f"d4rl:{PEN}", terminate_on_end=keep), made, 100, keep)


@SETTINGS
@given(
    st.integers(1, 60), st.lists(st.integers(0, 59), max_size=9), st.integers(2, 9), st.booleans()
)
def test_counted_timeouts_are_d4rls(rows, terminals, limit, keep):
    made = arrays(
        rows + 1, [row for row in terminals if row < rows]
    )  # D4RL never looks at the very last row
    kept, cut = twin(made, limit, keep)
    expected = (
        sorted(set(range(rows)) - set(kept))
        if not keep
        else [row for row, last in zip(kept, cut) if last]
    )
    assert (
        np.flatnonzero(count_timeouts(made["terminals"], limit, keep)[:rows]).tolist() == expected
    )


def test_counter_by_hand():
    over = np.isin(np.arange(14), [5])
    # 0 1 2 3x | 4 5(terminal) | 6 is counted as the second row, so 8 is dropped instead of 9; 9 10 11 12x | 13
    assert np.flatnonzero(count_timeouts(over, 4)).tolist() == [3, 8, 12]
    # kept time-outs too are followed by a second row: 3 | 4 5(terminal) | 6 7 8 | 9 10 11 | 12 13
    assert np.flatnonzero(count_timeouts(over[:, None], 4, keep=True)).tolist() == [3, 8, 11]
    # a terminal row on the last step is dropped, and the next row is then the first
    assert np.flatnonzero(count_timeouts(np.isin(np.arange(9), [3]), 4)).tolist() == [3, 7]
    with pytest.raises(ValueError, match="limit: expected at least 2, got 1"):
        count_timeouts(over, 1)


def test_flags_win_over_the_limit():
    made = arrays(250, timeouts=[7])
    put(PEN, made)
    assert len(load_dataset(f"d4rl:{PEN}")) == 248
    assert load_dataset(f"d4rl:{PEN}", terminate_on_end=True).truncated.nonzero()[0].tolist() == [
        7,
        248,
    ]


def test_stored_keeps_timeouts_with_their_true_next_observation():
    made = arrays(30, [4], [9, 19])
    made["next_observations"] = made["observations"] + 100
    put("hopper-medium-v2", made)
    data = load_dataset("d4rl:hopper-medium-v2", next_obs="stored")
    assert len(data) == 30
    assert np.array_equal(data.next_obs, made["next_observations"])
    assert data.truncated.nonzero()[0].tolist() == [9, 19, 29]
    assert len(load_dataset("d4rl:hopper-medium-v2")) == 27


def test_columns_of_shape_n_1_float64_and_scalars():
    made = arrays(20, [3], [9])
    shaped = {key: made[key].reshape(-1, 1) for key in ("rewards", "terminals", "timeouts")}
    path = put(PEN, {**made, **shaped, "observations": made["observations"].astype(np.float64)})
    with h5py.File(path, "a") as file:
        file["metadata/algorithm"], file["metadata/iteration"] = "SAC", 7
        file["infos/goal"] = np.arange(40.0).reshape(20, 2)
        file["infos/deep/er"] = np.zeros(3)
    data = load_dataset(f"d4rl:{PEN}", infos=True)
    same_as_twin(data, made, 100, False)
    assert data.obs.dtype == np.float32
    assert data.infos["goal"][:, 0].tolist() == [2.0 * i for i in range(19) if i != 9]


def test_name_and_environment():
    put("antmaze-umaze-v2", arrays(20))
    data = load_dataset("d4rl:antmaze-umaze-v2")
    assert data.name == "d4rl:antmaze-umaze-v2"
    assert (data.spec.env_id, data.spec.env_kwargs) == ("AntMaze_UMaze-v4", {"layout": "d4rl"})
    other = load_dataset("d4rl:antmaze-umaze-v2", env_id="E-v0").spec
    assert (other.env_id, other.env_kwargs) == ("E-v0", {})
    put("maze2d-umaze-v1", arrays(20))
    assert load_dataset("d4rl:maze2d-umaze-v1").spec.env_id is None


def test_discrete_actions():
    put("minigrid-fourrooms-v0", arrays(20, actions=np.arange(20) % 3))
    assert load_dataset("d4rl:minigrid-fourrooms-v0").spec.n_actions == 3
    assert load_dataset("d4rl:minigrid-fourrooms-v0", n_actions=7).spec.n_actions == 7


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewards": None}, r"pen-v0_demos_clipped\.hdf5: no 'rewards', which D4RL's layout has"),
        ({"rewards": np.zeros(9)}, r"pen-v0_demos_clipped\.hdf5: rewards: 9 rows, expected 20$"),
        ({"terminals": np.zeros(9)}, r"terminals: 9 rows, expected 20$"),
        ({"timeouts": np.zeros(9)}, r"timeouts: 9 rows, expected 20$"),
        ({"rewards": np.array(3.0)}, r"rewards: 1 rows, expected 20$"),
        ({"rewards": np.zeros((20, 2))}, r"rewards: shape"),
        (
            {"observations": np.full((20, 3), np.nan)},
            r"observations: 19 of 19 rows hold NaN|20 of 20 rows",
        ),
        ({"actions": np.zeros((0, 2))}, r"actions: 0 rows, expected 20$"),
        ({"infos/goal": np.zeros(3)}, r"goal: 3 rows, expected 20$"),
    ],
)
def test_wrong_contents_are_named(change, message, keep):
    put(PEN, {key: value for key, value in {**arrays(20), **change}.items() if value is not None})
    with pytest.raises(InputError, match=message) as error:
        load_dataset(f"d4rl:{PEN}", infos=True, terminate_on_end=keep)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "hoper-medium-v2",
            {},
            r"^'hoper-medium-v2': no such D4RL data set, did you mean 'hopper-medium-v2'\?$",
        ),
        ("hopper-medium-v7", {}, r"did you mean 'hopper-medium-v[012]'"),
        (PEN, {"next_obs": "auto"}, r"next_obs = 'auto': expected shifted or stored"),
        (
            PEN,
            {"next_obs": "stored", "terminate_on_end": True},
            r"terminate_on_end = true: expected next_obs",
        ),
        (
            PEN,
            {"terminate_on_ends": True},
            r"d4rl:pen-human-v0: no option 'terminate_on_ends', did you mean 'term",
        ),
        (PEN, {"time_limit": 3}, r"no option 'time_limit'"),
        (
            PEN,
            {"download": False},
            r"^d4rl:pen-human-v0: no file .*pen-v0_demos_clipped.hdf5; put there what is at http",
        ),
        (
            PEN,
            {},
            r"^d4rl:pen-human-v0: no file .*, and no download: http://rail.*pen-v0.*: no network in tests$",
        ),
    ],
)
def test_wrong_names_and_options(name, options, message, offline, folder):
    with pytest.raises(InputError, match=message):
        load_dataset(f"d4rl:{name}", **options)
    assert not folder.exists()


def test_not_hdf5_and_default_folder(monkeypatch, tmp_path, folder, offline):
    path = tmp_path / "home" / ".d4rl" / "datasets" / "hopper_medium-v2.hdf5"
    path.parent.mkdir(parents=True)
    path.write_text("no")
    assert find("hopper-medium-v2") == path
    folder.mkdir()
    (folder / path.name).write_text("this comes first")
    assert find("hopper-medium-v2") == folder / path.name
    monkeypatch.delenv("D4RL_DATASET_DIR")
    assert find("hopper-medium-v2") == path
    with pytest.raises(InputError, match=r"hopper_medium-v2\.hdf5: not an HDF5 file"):
        load_dataset("d4rl:hopper-medium-v2")


@pytest.mark.parametrize("next_obs", ["shifted", "stored"])
def test_a_file_cut_short(next_obs):
    path = put("hopper-medium-v2", arrays(5000))
    os.truncate(path, 20_000)
    with pytest.raises(
        InputError, match=r"hopper_medium-v2\.hdf5: damaged or cut short \(.*truncated"
    ) as error:
        load_dataset("d4rl:hopper-medium-v2", next_obs=next_obs)
    assert "\n" not in str(error.value)


def test_a_folder_that_cannot_be_made(monkeypatch, tmp_path, server):
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "taken"))
    about = source_of("hopper-medium-v2")
    monkeypatch.setattr(d4rl, "source_of", lambda name: about._replace(url=server.url))
    with pytest.raises(
        InputError, match=r"^d4rl:hopper-medium-v2: no file .*taken/file\.hdf5, and no download: "
    ):
        load_dataset("d4rl:hopper-medium-v2")


# ---- downloading


class Server(ThreadingHTTPServer):
    """Serves `content` at every address; `fault` says how it misbehaves."""

    daemon_threads = True

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.fault, self.asked = content, "", []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/x/file.hdf5"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        content, fault = self.server.content, self.server.fault
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        if fault == "404":
            return self.send_error(404)
        start = int(asked[6:-1]) if asked and fault != "no ranges" else 0
        if start and start >= len(content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            begin = start + (fault == "wrong range")
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        length = len(content) - start - (100 if fault == "short length" else 0)
        if fault != "no length":
            self.send_header("Content-Length", str(length + (100 if fault == "long length" else 0)))
        self.end_headers()
        body = (
            content[start : len(content) // 2] if fault == "truncated" else content[start:][:length]
        )
        self.wfile.write(body)
        return None

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    write_hdf5(tmp_path / "source.hdf5", arrays(5000, [10], [50]), {})
    made = Server((tmp_path / "source.hdf5").read_bytes())
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "deep" / "file.hdf5"


def names(path):
    return sorted(item.name for item in path.parent.iterdir()) if path.parent.exists() else []


def test_download(server, target, capsys):
    download.download(server.url, target)
    assert target.read_bytes() == server.content
    assert names(target) == ["file.hdf5"]
    assert f"downloading {server.url} -> {target} (0." in capsys.readouterr().err


def test_a_data_set_is_fetched_once(server, monkeypatch, folder):
    about = source_of("hopper-medium-v2")
    monkeypatch.setattr(d4rl, "source_of", lambda name: about._replace(url=server.url))
    data = load_dataset("d4rl:hopper-medium-v2")
    assert len(data) == 5000 - 2
    assert len(load_dataset("d4rl:hopper-medium-v2")) == 5000 - 2
    assert len(server.asked) == 1
    assert [path.name for path in folder.iterdir()] == ["file.hdf5"]


@pytest.mark.parametrize("fault", ["truncated", "long length"])
def test_a_broken_transfer_is_continued(server, target, fault):
    server.fault = fault
    with pytest.raises(
        InputError, match=r"broke off after .* bytes.*file\.hdf5\.part, run again to continue"
    ) as error:
        download.download(server.url, target)
    assert "\n" not in str(error.value)
    assert names(target) == ["file.hdf5.part"]
    have = target.with_name("file.hdf5.part").stat().st_size
    assert have == len(server.content) // (2 if fault == "truncated" else 1)
    server.fault = ""
    download.download(server.url, target)
    assert server.asked[1] == f"bytes={have}-"
    assert len(server.asked) == (
        2 if fault == "truncated" else 3
    )  # a part that is complete is asked for anew
    assert target.read_bytes() == server.content
    assert names(target) == ["file.hdf5"]


@pytest.mark.parametrize("fault", ["no ranges", "wrong range"])
def test_servers_that_cannot_continue_start_again(server, target, fault):
    target.parent.mkdir()
    target.with_name("file.hdf5.part").write_bytes(b"something else")
    server.fault = fault
    download.download(server.url, target)
    assert target.read_bytes() == server.content


def test_without_a_length_the_file_itself_tells(server, target):
    server.fault = "no length"
    download.download(server.url, target)
    assert target.read_bytes() == server.content


@pytest.mark.parametrize("fault", ["short length", "not HDF5"])
def test_what_is_no_whole_hdf5_file_is_thrown_away(server, target, fault):
    server.fault = fault
    server.content = b"<html>please log in</html>" if fault == "not HDF5" else server.content
    with pytest.raises(
        InputError, match=r"bytes received are not a whole HDF5 file; nothing is kept$"
    ):
        download.download(server.url, target)
    assert names(target) == []


def test_errors_of_the_server_leave_nothing(server, target):
    server.fault = "404"
    with pytest.raises(InputError, match=r"file\.hdf5: 404 Not Found$"):
        download.download(server.url, target)
    assert names(target) == []


def test_nobody_there(target):
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as closed:
        url = f"http://127.0.0.1:{closed.server_address[1]}/file.hdf5"
    with pytest.raises(InputError, match=rf"^{url}: .*refused"):
        download.download(url, target)
    assert not target.parent.exists()


def test_an_interruption_keeps_what_has_come(server, target, monkeypatch):
    monkeypatch.setattr(download, "CHUNK", 1000)
    copy = download._copy

    def interrupted(response, file, advance):
        def stop(n):
            if file.tell() > 5000:
                raise KeyboardInterrupt

        return copy(response, file, stop)

    monkeypatch.setattr(download, "_copy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        download.download(server.url, target)
    assert names(target) == ["file.hdf5.part"]
    part = target.with_name("file.hdf5.part").read_bytes()
    assert len(part) > 5000
    assert server.content.startswith(part)
    monkeypatch.setattr(download, "_copy", copy)
    download.download(server.url, target)
    assert target.read_bytes() == server.content


def test_two_at_once(server, target, monkeypatch):
    second = []

    def meanwhile(response, file, advance):
        with pytest.raises(InputError, match="another process is downloading it") as error:
            download.download(server.url, target)
        second.append(error)
        return copy(response, file, advance)

    copy = download._copy
    monkeypatch.setattr(download, "_copy", meanwhile)
    download.download(server.url, target)
    assert len(second) == 1
    assert target.read_bytes() == server.content


def test_bar_on_a_terminal(server, target, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    download.download(server.url, target)
    assert target.exists()
    assert "downloading" in capsys.readouterr().err


# ---- the package d4rl itself, where it can be imported


@pytest.fixture
def original(monkeypatch, tmp_path):
    monkeypatch.setenv("D4RL_SUPPRESS_IMPORT_ERROR", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return __import__("d4rl")
        except Exception as error:  # it raises a plain Exception where MuJoCo 2.1 is missing
            pytest.skip(f"d4rl: {str(error).splitlines()[0]}")


LIKE = [
    f"{env}_{level}"
    for env in ("halfcheetah", "hopper", "walker2d")
    for level in ("random", "medium", "expert")
]


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("file", LIKE)
def test_the_original_returns_the_same(original, shared_data, file, counted, recwarn):
    from gym.spaces import Box

    with h5py.File(shared_data / "d4rl_like" / f"{file}-like.hdf5") as source:
        made = {key: source[key][()] for key in source if isinstance(source[key], h5py.Dataset)}
    if counted:
        del made["timeouts"]
    for name in (f"{file.replace('_', '-')}-v2", PEN, "maze2d-open-v0"):
        path = put(name, made)
        env = original.offline_env.OfflineEnv()
        env.observation_space, env.action_space = (
            Box(-9, 9, made[key].shape[1:]) for key in ("observations", "actions")
        )
        env._max_episode_steps = source_of(name).limit
        for keep in (False, True):
            theirs = original.qlearning_dataset(env, env.get_dataset(path), terminate_on_end=keep)
            ours = load_dataset(f"d4rl:{name}", terminate_on_end=keep)
            pairs = {
                "obs": "observations",
                "action": "actions",
                "next_obs": "next_observations",
                "reward": "rewards",
            }
            for key, other in {**pairs, "terminated": "terminals"}.items():
                column = getattr(ours, key)
                assert np.array_equal(column, theirs[other]), (name, keep, key)
                assert column.dtype == theirs[other].dtype
    returns = np.array([-300.0, 0.0, 4000.0])
    name = f"{file.replace('_', '-')}-v2"
    np.testing.assert_allclose(
        normalized_score(returns, name), 100 * original.get_normalized_score(name, returns)
    )


def test_the_original_has_the_same_table(original):
    assert {name: source.url for name, source in sources().items()} == original.infos.DATASET_URLS
    scores = {name: source.scores for name, source in sources().items() if source.scores}
    infos = original.infos
    assert scores == {
        name: (infos.REF_MIN_SCORE[name], infos.REF_MAX_SCORE[name]) for name in infos.REF_MIN_SCORE
    }
