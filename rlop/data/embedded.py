"""Data sets that need no file: rolled out on a small environment whose exact solution is known."""

from __future__ import annotations

from inspect import signature
from typing import Any
from urllib.parse import parse_qsl

from rlop.checks import nearest
from rlop.data.dataset import Dataset
from rlop.types import InputError

IDS = {"gridworld": "rlop/GridWorld-v0", "chain": "rlop/Chain-v0"}


def read_embedded(source: str, **options: Any) -> Dataset:
    """`gridworld` or `chain`, with options as keywords or in a query: `gridworld?size=8&steps=20000&epsilon=0.5`.

    The options are those of the environment (`rlop.envs.gridworld`, `rlop.envs.chain`) and of
    `rlop.data.generate.generate`: steps (20,000 unless given), epsilon, gamma, max_episode_steps, start. `seed` draws
    both the environment and the data, unless `data_seed` is given for the latter. `spec.env_id` and `spec.env_kwargs`
    rebuild the very same environment; `infos` holds the states.

    Raises:
        InputError: an unknown name or option (with the nearest one), or an impossible value.
    """
    import rlop.envs
    from rlop.data.generate import generate
    from rlop.envs.make import time_limit

    name, _, query = source.partition("?")
    make = getattr(rlop.envs, name)
    build = {key: item.default for key, item in signature(make).parameters.items()}
    roll = {key: item.default for key, item in signature(generate).parameters.items() if key not in ("mdp", "seed")}
    roll |= {"steps": 20_000, "max_episode_steps": time_limit(IDS[name])}
    known = {**build, **roll, "data_seed": 0}
    options = {**dict(parse_qsl(query, keep_blank_values=True)), **options}
    values = {key: _value(name, key, value, known) for key, value in options.items()}
    env_kwargs = {key: value for key, value in values.items() if key in build or key == "max_episode_steps"}
    roll |= {key: value for key, value in values.items() if key in roll}
    seed = values.get("data_seed", values.get("seed", 0))
    mdp = make(**{key: value for key, value in env_kwargs.items() if key in build})
    data = generate(mdp, **roll, seed=seed)
    return Dataset.from_arrays(
        data["observations"],
        data["actions"],
        data["rewards"],
        data["terminals"],
        data["timeouts"],
        data["next_observations"],
        n_actions=mdp.n_actions,
        env_id=IDS[name],
        env_kwargs=env_kwargs,
        name=source,
        infos={key.removeprefix("infos/"): value for key, value in data.items() if key.startswith("infos/")},
    )


def _value(name: str, key: str, value: Any, known: dict[str, Any]) -> Any:
    """An option's value, from text to the type of its default; `0.1,0.5` is several numbers."""
    if key not in known:
        raise InputError(f"{name}: no option {key!r}{nearest(key, known)}")
    kind = type(known[key])
    if not isinstance(value, str) or kind is str:
        return value
    try:
        return tuple(map(float, value.split(","))) if kind is float and "," in value else kind(value)
    except ValueError as error:
        raise InputError(f"{name}: {key} = {value!r}: expected {kind.__name__}") from error
