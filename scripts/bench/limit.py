"""The limit of any implementation: the matrix products of an update, on tensors that are ready."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import torch

from scripts.bench.problems import CONVOLUTIONS, SAMPLES, Problem

Product = tuple[int, int, int]  # rows, inner, columns of `[rows, inner] @ [inner, columns]`


class Layer(NamedTuple):
    """A hidden layer as a matrix product: a convolution is one at every position of its window."""

    positions: int
    fan_in: int
    units: int


def dense(n_in: int, hidden: tuple[int, ...]) -> list[Layer]:
    return [Layer(1, *pair) for pair in zip((n_in, *hidden), hidden)]


def q_layers(problem: Problem) -> list[Layer]:
    """Return the hidden layers of a discrete agent's network.

    Heads are left out: a few columns take no arithmetic to speak of.
    """
    if problem.network == "mlp":
        return dense(problem.obs[0], problem.hidden)
    size, layers = problem.obs[1], []
    for channels, filters, kernel, stride in CONVOLUTIONS[problem.network]:
        size = (size - kernel) // stride + 1
        layers.append(Layer(size * size, channels * kernel * kernel, filters))
    return layers + dense(size * size * layers[-1].units, problem.hidden)


def forward(layers: list[Layer], rows: int) -> list[Product]:
    return [(rows * layer.positions, layer.fan_in, layer.units) for layer in layers]


def weight_gradients(layers: list[Layer], rows: int) -> list[Product]:
    return [(layer.fan_in, rows * layer.positions, layer.units) for layer in layers]


def input_gradients(layers: list[Layer], rows: int) -> list[Product]:
    return [(rows * layer.positions, layer.units, layer.fan_in) for layer in layers]


def training(layers: list[Layer], rows: int) -> list[Product]:
    """Forward and both backward products; nothing asks for the gradient of the observations."""
    return (
        forward(layers, rows) + weight_gradients(layers, rows) + input_gradients(layers[1:], rows)
    )


def products(problem: Problem) -> Counter[Product]:
    """Count how often an update needs each product at the least.

    Continuous CQL: both critics learn from B (3 K + 1) pairs, are asked for the gradient of B
    actions, and their targets value B pairs; the policy learns at B states and is evaluated at B
    more, once a state.
    """
    rows = problem.batch
    if problem.kind != "cql":
        layers = q_layers(problem)
        return Counter(training(layers, rows) + forward(layers, rows))
    critic, policy = (
        dense(n, problem.hidden) for n in (problem.obs[0] + problem.actions, problem.obs[0])
    )
    one = training(critic, rows * (3 * SAMPLES + 1)) + forward(
        critic, rows
    )  # the latter for the target network
    one += forward(critic, rows) + input_gradients(critic, rows)  # the policy's loss
    return Counter(2 * one + training(policy, rows) + forward(policy, rows))


def gflop(problem: Problem) -> float:
    """Arithmetic of these products, a multiplication and an addition counted as two."""
    return sum(2 * m * k * n * count for (m, k, n), count in products(problem).items()) / 1e9


def build(problem: Problem, dtype: torch.dtype = torch.float32) -> Callable[[], object]:
    """All products of one update, one after another, each into a tensor that is there already."""
    work = []
    for (m, k, n), count in products(problem).items():
        left, right = torch.randn(m, k).to(dtype), torch.randn(k, n).to(dtype)
        work += [(left, right, torch.empty(m, n, dtype=dtype))] * count

    def update() -> None:
        for left, right, out in work:
            torch.mm(left, right, out=out)

    return update
