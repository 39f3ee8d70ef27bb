"""Which configurations share a process, and what the processes are called."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rlop.config.schema import build
from rlop.sweep import sizing
from rlop.sweep.file import Source, SweepFile
from rlop.sweep.launches import groups, launches, name_of
from rlop.sweep.plan import checked, make_plan
from rlop.sweep.sizing import Cost, Line, counts
from rlop.types import InputError

BASE = {
    "data": "gridworld?size=4&steps=300",
    "steps": 6,
    "seeds": 2,
    "agent": {"hidden": [8], "batch_size": 8},
}


def items_of(base=BASE, **parts):
    return checked(Source(Path("s.yaml"), base, build(SweepFile, parts)))


def plan_of(pack=100, **parts):
    return make_plan(items_of(**parts), pack, jobs=1).launches


def test_numbers_of_the_run_axis_share_a_process_and_all_else_does_not():
    grid = {
        "agent.lr": [1e-3, 1e-4],
        "agent.regularizers.dr3": [0, 0.1],
        "agent.projections.max_norm": [2, 3],
        "agent.hidden": [[8], [8, 8]],
    }
    found = plan_of(grid=grid)
    assert [launch.name for launch in found] == ["hidden=8", "hidden=8,8"]
    assert [launch.runs for launch in found] == [16, 16]  # 8 settings, 2 seeds
    assert found[0].settings[0] == "lr=0.001,dr3=0,max_norm=2"
    assert found[0].values["variants"]["lr=0.0001,dr3=0.1,max_norm=3"] == {
        "lr": 1e-4,
        "regularizers.dr3": 0.1,
        "projections.max_norm": 3,
    }


def test_options_of_a_section_are_numbers_too():
    target_noise = [{"scale": 0.1}, {"scale": 0.2}, {"scale": 0.2, "kind": "sign"}]
    found = plan_of(grid={"agent.target_noise": target_noise})
    assert [launch.settings for launch in found] == [("scale=0.1", "scale=0.2"), ()]

    strengths = [{"coef": 0.1}, {"coef": 0.2}, {"coef": 0.2, "stop_gradient": False}]
    found = plan_of(grid={"agent.regularizers.dr3": strengths})
    assert [launch.settings for launch in found] == [("dr3=0.1", "dr3=0.2"), ()]


@pytest.mark.parametrize("option", [{"backup": "mc"}, {"n_step": 3}])
def test_gamma_shares_no_process_where_returns_are_summed_with_it(option):
    base = {**BASE, "agent": {**BASE["agent"], **option}}
    sweep = build(SweepFile, {"grid": {"agent.gamma": [0.5, 0.9]}})
    items = checked(Source(Path("s.yaml"), base, sweep))
    assert [launch.name for launch in make_plan(items, 8, 1).launches] == ["gamma=0.5", "gamma=0.9"]
    assert len(plan_of(grid={"agent.gamma": [0.5, 0.9]})) == 1


def test_configurations_with_variants_keep_a_process_each():
    base = {**BASE, "variants": {"a": {}, "b": {"lr": 0.1}}}
    items = items_of(base, grid={"agent.lr": [0.2, 0.3]})
    assert [launch.runs for launch in make_plan(items, 8, 1).launches] == [4, 4]


@pytest.mark.parametrize(("pack", "sizes"), [(1, [1] * 6), (4, [3, 3]), (5, [3, 3]), (6, [6])])
def test_packs_are_balanced(pack, sizes):
    found = plan_of(pack, grid={"agent.lr": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]})
    assert [max(1, len(launch.settings)) for launch in found] == sizes
    names = {1: ["lr=0.1", "lr=0.2"], 6: ["all"]}.get(pack, ["pack1", "pack2"])
    assert [launch.name for launch in found][:2] == names


def test_names_are_short_and_differ():
    data = ["d4rl:hopper-medium-v2", "d4rl:hopper-expert-v2"]
    found = plan_of(zip={"data": data, "steps": [1, 2]})
    assert [launch.name for launch in found] == ["data=hopper-medium-v2", "data=hopper-expert-v2"]

    many = "&".join(["observation=random"] * 9)
    found = plan_of(grid={"data": [f"gridworld?{many}&steps={n}" for n in (20, 30)]})
    first, second = (launch.name for launch in found)
    assert second == f"{first}-2"
    assert len(first) == 80
    assert first.startswith("data=gridworld_observation=random_")
    assert name_of({"x": "../up/.hidden dir/ü*?"}) == "x=ü_"
    assert name_of({"agent": {"name": "BC", "hidden": [8, 8]}}) == "BC,hidden=8,8"


def test_two_settings_of_one_name_are_refused():
    with pytest.raises(InputError, match=r"the same name 'lr=0.1'"):
        plan_of(grid={"agent.lr": [0.1, 0.1 + 1e-9]})
    with pytest.raises(InputError, match=r"two configurations of .* are the same"):
        plan_of(grid={"agent.backup": ["max", "max"]})


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"agent.backup": ["max", "maxx"]}, "backup=maxx: agent.backup = 'maxx'"),
        ({"agent.lr": [0.1, -1]}, "lr=-1: agent.lr = -1"),
        ({"agent.regularizers.dr3": [0.1, -1]}, "dr3=-1: agent: regularizers.dr3"),
        ({"agent.regularizers.dr33": [0.1]}, "dr33=0.1: .*'dr33'"),
        ({"stpes": [1]}, "unknown key 'stpes', did you mean 'steps'"),
        ({"data": ["chain", "chian"]}, "data=chian: data 'chian'.*did you mean 'chain'"),
        ({"data": ["nothing.hdf5"]}, "data = 'nothing.hdf5': no such file"),
        ({"env": ["Hoper-v4"]}, "env_id = 'Hoper-v4': no such environment"),
        ({"seeds": [0]}, "seeds = 0"),
        ({"devices": ["cpu,cpu"]}, "devices = 'cpu,cpu': expected none in a sweep"),
        ({"agent.name": ["DQNN"]}, "DQNN"),
    ],
)
def test_every_value_is_checked_before_anything_starts(grid, message):
    with pytest.raises(InputError, match=f"s.yaml: .*{message}"):
        items_of(grid=grid)


# --- sizes


def cost(seconds, each, mebibytes=(100.0, 10.0)):
    return Cost(Line(seconds, each), Line(*mebibytes))


def found_groups(count=8):
    grid = {"agent.lr": [0.1 * n for n in range(1, count + 1)], "agent.hidden": [[4], [8]]}
    return groups(items_of(grid=grid))


def test_launches_are_few_and_of_about_one_length():
    both = found_groups()
    assert counts(both, [cost(1, 0), cost(1, 0)], jobs=1, room=None) == [1, 1]
    assert counts(both, [cost(1, 0), cost(1, 0)], jobs=4, room=None) == [2, 2]
    # The second takes three times as long.
    assert counts(both, [cost(1, 0), cost(3, 0)], jobs=4, room=None) == [1, 3]
    assert counts(both, [cost(1, 0), "no data"], jobs=2, room=None) == [1, 1]
    assert counts(both[:1], [cost(1, 1)], jobs=100, room=None) == [8]


def test_a_launch_fits_into_its_memory():
    both = found_groups()
    costs = [cost(1, 0), cost(1, 0, (100.0, 40.0))]
    # 3 and 1 of the configurations fit into 130 MiB, though the last needs 140.
    assert counts(both, costs, jobs=1, room=130.0) == [3, 8]


def test_a_launch_fits_into_its_share_of_the_gpu():
    both = found_groups()
    on_gpu = replace(cost(1, 0), gpu=Line(50.0, 25.0), gpu_free=250.0)
    # Four fifths are 200 MiB, in which six of the eight fit; of half of them, two.
    assert counts(both, [on_gpu, cost(1, 0)], jobs=1, room=None) == [2, 1]
    assert counts(both, [on_gpu] * 2, jobs=2, room=None) == [4, 4]
    assert counts(both, [on_gpu] * 2, jobs=2, room=None, gpu_share=1.0) == [2, 2]
    assert counts(both, [on_gpu] * 2, jobs=1, room=None, gpu_share=0.01) == [8, 8]
    assert counts(both, [on_gpu] * 2, jobs=1, room=130.0) == [3, 3]  # the machine has less


def test_a_plan_gives_each_launch_its_part_of_a_gpu():
    items = items_of(grid={"agent.lr": [0.1 * n for n in range(1, 9)]})
    on_gpu = replace(cost(1, 0), gpu=Line(50.0, 25.0), gpu_free=250.0)
    sizes = {}
    for gpus in (None, 0.5, 2.0):
        plan = make_plan(items, "auto", 1, memory=1e6, costs=[on_gpu], gpus=gpus)
        sizes[gpus] = [len(launch.settings) for launch in plan.launches]
    assert sizes == {None: [4, 4], 0.5: [2, 2, 2, 2], 2.0: [4, 4]}


def test_the_memory_of_a_gpu_is_measured_for_every_size(monkeypatch):
    peaks = iter([300.0, 1000.0])  # of one configuration and of eight
    monkeypatch.setattr(sizing, "in_child", sizing.measured_here)
    monkeypatch.setattr(sizing, "seconds_per_step", lambda agent, data: 1.0)
    monkeypatch.setattr(sizing, "gpu_memory", lambda _: sizing.GpuMemory(next(peaks), 900.0))
    (group,) = groups(items_of(grid={"agent.lr": [0.1 * n for n in range(1, 21)]}))
    found = sizing.measure(group)
    assert (found.gpu, found.gpu_free) == (Line(200.0, 100.0), 900.0)
    # 720 MiB hold five of the twenty.
    assert counts([group], [found], jobs=1, room=None) == [4]


def test_a_gpu_can_give_what_is_free_and_what_this_process_holds(monkeypatch):
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (600 * 2**20, 2**40))
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda device: 100 * 2**20)
    monkeypatch.setattr("torch.cuda.max_memory_reserved", lambda device: 150 * 2**20)
    assert sizing.gpu_memory(torch.device("cuda", 0)) == sizing.GpuMemory(peak=150.0, free=700.0)
    assert sizing.gpu_memory(torch.device("cpu")) is None


def test_without_a_measure_a_launch_holds_few_runs():
    both = found_groups(80)
    assert counts(both, ["no data"] * 2, jobs=1, room=None) == [3, 3]  # of 160 runs each
    assert [len(launch.settings) for launch in launches(both, [3, 1].__getitem__)] == [
        27,
        26,
        27,
        80,
    ]
