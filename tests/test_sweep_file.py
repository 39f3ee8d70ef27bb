"""The file of a sweep, and the configurations that it means."""

import pytest

from rlop.sweep.file import configurations, find_suite, over, read_sweep
from rlop.types import InputError

BASE = """
data: "gridworld?size=4&steps=300"
steps: 6
agent: {hidden: [8], batch_size: 8}
"""


@pytest.fixture
def write(tmp_path):
    (tmp_path / "base.yaml").write_text(BASE)

    def written(text):
        path = tmp_path / "sweep.yaml"
        path.write_text(text)
        return str(path)

    return written


def changes_of(path, *arguments):
    return [item.changes for item in configurations(read_sweep(path, arguments))]


def test_a_grid_has_all_combinations_for_each_row_of_zip(write):
    path = write("""
config: base.yaml
zip: {data: [chain, gridworld], steps: [3, 5]}
grid: {agent.backup: [max, mc]}
""")
    found = configurations(read_sweep(path, ["--agent.lr", "0.5"]))
    rows = [(item.values["data"], item.values["steps"]) for item in found]
    assert rows == [("chain", 3)] * 2 + [("gridworld", 5)] * 2
    assert [item.values["agent"]["backup"] for item in found] == ["max", "mc"] * 2
    assert {item.values["agent"]["lr"] for item in found} == {0.5}
    # The first key of zip tells the others, so that names need only that.
    assert found[0].named == {"data": "chain", "agent.backup": "max"}


def test_a_section_as_a_value_is_merged_into_the_one_that_is_there(write):
    path = write("""
config: base.yaml
set: {agent.batch_size: 4}
grid: {agent: [{name: BC}, {name: DQN, hidden: [2, 2]}]}
""")
    agents = [item.values["agent"] for item in configurations(read_sweep(path, []))]
    assert agents == [
        {"name": "BC", "hidden": [8], "batch_size": 4},
        {"name": "DQN", "hidden": [2, 2], "batch_size": 4},
    ]


def test_drawn_combinations_differ_and_come_again(write):
    path = write("grid: {seeds: [1, 2, 3], steps: [7, 8]}\nrandom: 5\nseed: 3\n")
    drawn = changes_of(path)
    assert drawn == changes_of(path)
    assert len({tuple(changes.items()) for changes in drawn}) == 5


def test_numbers_are_drawn_between_two_ends_with_few_digits(write):
    path = write("grid: {agent.lr: {low: 1.0e-5, high: 1.0e-2}}\nrandom: 40\n")
    numbers = [changes["agent.lr"] for changes in changes_of(path)]
    assert all(1e-5 <= number <= 1e-2 for number in numbers)
    assert all(float(f"{number:.4g}") == number for number in numbers)
    # Uniform in the logarithm: about a third of them in the lowest of three decades.
    assert 5 <= sum(number < 1e-4 for number in numbers) <= 22


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: 5", "expected grid or zip"),
        ("grid: {seeds: 3}", "grid.seeds = 3: expected a list"),
        ("grid: {seeds: []}", "grid.seeds = .*expected a list"),
        ("grid: {seeds: {low: 1, high: 2}}", "grid.seeds = .*expected a list"),
        ("random: 2\ngrid: {agent.lr: {low: 2, high: 1}}", "grid.agent.lr.*expected less"),
        ("random: 3\ngrid: {seeds: [1, 2]}", "random = 3: only 2"),
        ("zip: {seeds: [1, 2], steps: [1]}", "seeds has 2, steps has 1"),
        ("grid: {seeds: [1]}\nzip: {seeds: [2]}", "seeds: found in grid and zip"),
        ("grid: {seeds: [1]}\nrandm: 2", "unknown key 'randm', did you mean 'random'"),
        ("grid: {seeds: [1]}\nconfig: nothing.yaml", "nothing.yaml: no such file"),
        ("grid: {seeds: [1]}\nset: {resume: true}", "resume: of one training"),
    ],
)
def test_a_mistake_in_the_file_is_one_line(write, text, message):
    with pytest.raises(InputError, match=message) as raised:
        changes_of(write(text))
    assert "\n" not in str(raised.value)


def test_too_many_combinations_are_refused_before_they_are_made(write):
    many = list(range(400))
    with pytest.raises(InputError, match="160,000 combinations"):
        changes_of(write(f"grid: {{seeds: {many}, steps: {many}}}"))


def test_a_key_that_varies_cannot_be_given_for_all(write):
    with pytest.raises(InputError, match="--steps: the sweep varies it"):
        changes_of(write("grid: {steps: [1, 2]}"), "--steps", "3")


def test_over_is_a_grid_in_the_words_of_the_command_line(tmp_path):
    (tmp_path / "base.yaml").write_text(BASE)
    lists = [["agent.hidden", "[8]", "[8,8]"], ["agent.backup", "max", "mc"]]
    source = over(str(tmp_path / "base.yaml"), lists, ["--steps", "2"])
    found = configurations(source)
    assert [item.changes["agent.hidden"] for item in found] == [[8], [8], [8, 8], [8, 8]]
    assert {item.values["steps"] for item in found} == {2}


@pytest.mark.parametrize("lists", [[["steps"]], [["steps", "1"], ["steps", "2"]]])
def test_over_needs_all_values_of_a_key_after_one(tmp_path, lists):
    with pytest.raises(InputError, match="--over steps: "):
        over(str(tmp_path / "base.yaml"), lists, [])


def test_an_unknown_name_lists_the_shipped_sweeps():
    with pytest.raises(InputError, match="nothing: no such sweep, expected a file or one of"):
        find_suite("nothing")
