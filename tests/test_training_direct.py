"""The direct way to the code of a compiled graph: taken where wrappers only hand tensors on."""

import functools

import pytest
import torch

from rlop.training.compile import Compiled
from rlop.training.direct import call_and_look


class Inner:
    """Stands for what Inductor compiles: adds the second tensor to the first."""

    def __init__(self, result):
        self.result = result
        self.current_callable = self.add

    def __call__(self, given):
        return self.current_callable(given)

    def add(self, given):
        given[0].add_(given[1])
        given.clear()
        return self.result


def wrapped(inner, hand_on):
    """Wrap the code as PyTorch does, with a function of the arguments that it gets."""

    @functools.wraps(inner, assigned=())
    def graph(*arguments):
        return inner(hand_on(arguments))

    return graph


@pytest.mark.parametrize(
    ("hand_on", "result", "is_direct"),
    [
        (list, (), True),
        (lambda given: [tensor.clone() for tensor in given], (), False),
        (lambda given: given[::-1], (), False),
        (list, (torch.zeros(1),), False),  # the wrapper might have to put it somewhere
    ],
    ids=["handed on", "copied", "in another order", "something returned"],
)
def test_wrappers_that_do_more_than_hand_tensors_on_stay(hand_on, result, is_direct):
    inner = Inner(result)
    graph = wrapped(inner, lambda given: list(hand_on(given)))
    code, returned = call_and_look(graph, [torch.zeros(1), torch.ones(1)])
    assert returned is result
    assert code.__name__ == ("direct" if is_direct else "wrapped")
    assert inner.current_callable == inner.add  # as it was

    total = torch.zeros(1)
    expected = torch.zeros(1)
    code([total, torch.ones(1)])
    graph(expected, torch.ones(1))
    assert torch.equal(total, expected)


def test_a_graph_whose_code_cannot_be_seen_is_called_as_it_is():
    total = torch.zeros(1)
    code, _ = call_and_look(lambda sum, x: sum.add_(x), [total, torch.ones(1)])
    code([total, torch.ones(1)])
    assert total.item() == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # of its import
@pytest.mark.parametrize("shares", [False, True])
def test_the_code_under_pytorch_s_own_wrappers_is_found_where_no_tensors_share_memory(shares):
    """Where a sum shares memory with what is added to it, the wrappers pass on what holds both."""
    memory = torch.zeros(8)
    total = memory[:4]
    source = memory[:4] if shares else torch.ones(4)

    step = 2 if shares else 1  # PyTorch's cache knows graphs, not which tensors share memory

    def update(rows, noise):
        total.add_(step)
        total.add_(source[rows])

    graph = Compiled(update)
    rows = torch.arange(4)
    for _ in range(3):
        graph(rows, {})
    assert graph.code.__name__ == ("wrapped" if shares else "direct")
    assert total.tolist() == ([28.0] * 4 if shares else [6.0] * 4)
