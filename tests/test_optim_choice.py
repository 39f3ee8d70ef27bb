"""What all optimizers share: saved states, the run axis, frozen runs, their configuration."""

import copy
import pickle

import pytest
import torch

from rlop.optim import RMD, SGD, SMD, Adam, optimizer_maker, optimizer_options
from rlop.types import InputError

MAKERS = {
    "adam": lambda p, lr: Adam(p, lr),
    "sgd": lambda p, lr: SGD(p, lr, 0.9),
    "smd": lambda p, lr: SMD(p, lr, torch.linspace(1.2, 3.0, len(lr)), reference="init"),
    "entropy": lambda p, lr: SMD(p, lr, potential="entropy"),
    "rmd": lambda p, lr: RMD(p, lr, 2.0, q=1.5),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_saved_state_continues_identically_and_step_reads_grad(name):
    torch.manual_seed(0)
    start = torch.rand(2, 3)
    grads = [torch.randn(2, 3) for _ in range(6)]
    p, q = (start.clone().requires_grad_() for _ in range(2))
    first = MAKERS[name]([p], torch.tensor([0.1, 0.2]))
    second = MAKERS[name]([q], torch.tensor([0.7, 0.7]))
    for grad in grads[:3]:
        first.apply([grad])

    second.load_state_dict(copy.deepcopy(first.state_dict()))
    with torch.no_grad():
        q.copy_(p)
    for grad in grads[3:]:
        first.apply([grad])
        q.grad = grad
        second.step()
    assert torch.equal(p, q)
    with pytest.raises(ValueError, match="closures"):
        first.step(lambda: 0.0)


def test_slacks_are_part_of_the_saved_state_and_keep_their_gradient():
    index = torch.tensor([[0, 1], [1, 2]])
    first, second = (RMD([torch.zeros(2, 3)], 0.1, 2.0) for _ in range(2))
    first.allot(4)
    first.relax(index, torch.randn(2, 2))

    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert torch.equal(first.read(index), second.read(index))
    assert second.read(index).requires_grad


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
@pytest.mark.parametrize("name", MAKERS)
def test_a_copied_optimizer_makes_the_same_steps(name, clone):
    gradient = torch.randn(2, 3)
    original = MAKERS[name]([torch.rand(2, 3)], torch.tensor([0.1, 0.2]))
    original.apply([gradient])

    copied = clone(original)
    original.apply([gradient])
    copied.apply([gradient])
    (ours,), (theirs,) = (o.param_groups[0]["params"] for o in (original, copied))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", MAKERS)
def test_a_run_alone_equals_itself_among_others(name):
    torch.manual_seed(0)
    start, lr = torch.rand(3, 4) + 0.1, torch.tensor([0.1, 0.01, 0.03])
    grads = [torch.randn(3, 4) for _ in range(20)]
    many = start.clone()
    together = MAKERS[name]([many], lr)
    for grad in grads:
        together.apply([grad])

    for run in range(3):
        row = slice(run, run + 1)
        alone = start[row].clone()
        single = MAKERS[name]([alone], lr[row])
        if name == "smd":
            single.param_groups[0]["q"].copy_(together.param_groups[0]["q"][row])
        for grad in grads:
            single.apply([grad[row]])
        torch.testing.assert_close(alone, many[row], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", MAKERS)
def test_a_frozen_run_keeps_its_bits_whatever_it_remembers(name):
    """Momentum goes on in its velocity, but the weights must not follow."""
    torch.manual_seed(0)
    w = torch.rand(2, 3) + 0.1
    optimizer = MAKERS[name]([w], torch.tensor([0.1, 0.1]))
    for _ in range(5):
        optimizer.apply([torch.randn(2, 3)])
    frozen = w.clone()

    # What `clip_runs` makes of a run that is frozen: a gradient of 0.
    gradient = torch.tensor([[1.0, -1.0, 0.5], [0.0, 0.0, 0.0]])
    for _ in range(5):
        optimizer.apply([gradient], torch.tensor([True, False]))
    assert torch.equal(w[1], frozen[1])
    assert (w[0] != frozen[0]).all()


# --- the choice in a configuration ---


def test_options_and_constants_reach_the_optimizer_that_takes_them():
    parameters, lr = [torch.zeros(2, 3)], torch.ones(2)
    numbers = {"optimizer.lam": torch.tensor([1.0, 2.0]), "optimizer.q": torch.full((2,), 2.0)}
    constants = {"form": "unsigned", "betas": (0.1, 0.2), "eps": 1e-3}

    rmd = optimizer_maker(optimizer_options({"rmd": {"lam": [1.0, 2.0]}}), numbers, **constants)
    optimizer = rmd(parameters, lr)
    assert isinstance(optimizer, RMD)
    assert optimizer.unsigned
    assert optimizer.param_groups[0]["lam"].tolist() == [1.0, 2.0]

    adam = optimizer_maker(optimizer_options("adam"), {}, **constants)(parameters, lr)
    assert adam.param_groups[0]["betas"] == (0.1, 0.2)
    assert adam.param_groups[0]["eps"] == 1e-3
    assert optimizer_options({"sgd": None}).momentum == 0.0
    assert optimizer_options({"smd": {"q": 1.1}}).q == 1.1


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ("adamw", "did you mean 'adam'"),
        ({"sgd": {}, "rmd": {"lam": 1}}, "expected one"),
        ({}, "expected one"),
        ("rmd", "lam: missing"),
        ({"rmd": {"lam": 0}}, "lam = 0"),
        ({"rmd": {"lam": [1, -1]}}, r"lam\[1\] = -1"),
        ({"smd": {"q": 1.0}}, "q = 1"),
        ({"smd": {"potential": "entropie"}}, "'entropy'"),
        ({"smd": {"potential": "entropy", "q": 3}}, "takes no q"),
        ({"sgd": {"momentum": 1.0}}, "momentum = 1"),
        ({"sgd": {"nesterov": True}}, "unknown key 'optimizer.sgd.nesterov'"),
        ({"sgd": 0.9}, "expected a mapping"),
    ],
)
def test_bad_choices_are_one_line_that_names_them(optimizer, message):
    with pytest.raises(InputError, match=message) as caught:
        optimizer_options(optimizer)
    assert "optimizer" in str(caught.value)
    assert "\n" not in str(caught.value)
