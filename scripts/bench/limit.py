"""A lower bound on the cost of an update: its matrix products, on preallocated tensors."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple, TypeAlias

import torch

from scripts.bench.measure import Update
from scripts.bench.problems import ACTORS, CONVOLUTIONS, CRITICS, SAMPLES, Problem

Product: TypeAlias = tuple[int, int, int]  # m, k, n of `[m, k] @ [k, n]`


class Layer(NamedTuple):
    """A hidden layer as a matrix product, for a convolution at every position of its window."""

    positions: int
    fan_in: int
    units: int


def dense(n_in: int, hidden: tuple[int, ...]) -> list[Layer]:
    """Return the fully connected layers of these widths."""
    return [Layer(1, fan_in, units) for fan_in, units in zip((n_in, *hidden), hidden)]


def q_layers(problem: Problem) -> list[Layer]:
    """Return the hidden layers of a discrete agent's network.

    Heads are omitted: their few columns hardly matter.
    """
    if problem.network == "mlp":
        return dense(problem.obs[0], problem.hidden)

    layers = []
    size = problem.obs[1]
    for channels, filters, kernel, stride in CONVOLUTIONS[problem.network]:
        size = (size - kernel) // stride + 1
        layers.append(Layer(size * size, channels * kernel * kernel, filters))

    return layers + dense(size * size * layers[-1].units, problem.hidden)


def forward(layers: list[Layer], rows: int) -> list[Product]:
    """Return the products of a forward pass."""
    return [(rows * layer.positions, layer.fan_in, layer.units) for layer in layers]


def weight_gradients(layers: list[Layer], rows: int) -> list[Product]:
    """Return the products that give the gradients of the weights."""
    return [(layer.fan_in, rows * layer.positions, layer.units) for layer in layers]


def input_gradients(layers: list[Layer], rows: int) -> list[Product]:
    """Return the products that give the gradients of the layers' inputs."""
    return [(rows * layer.positions, layer.units, layer.fan_in) for layer in layers]


def training(layers: list[Layer], rows: int) -> list[Product]:
    """Return the products of a training step.

    The first layer's input gradient is omitted: no gradient of the observations is needed.
    """
    return [
        *forward(layers, rows),
        *weight_gradients(layers, rows),
        *input_gradients(layers[1:], rows),
    ]


def products(problem: Problem) -> Counter[Product]:
    """Count how often an update needs each product, at least.

    In continuous CQL, both critics are trained on B (3 K + 1) pairs and differentiated with respect
    to B actions, and their target networks evaluate B pairs; the policy is trained at B states and
    evaluated at B more, once per state.
    """
    rows = problem.batch
    if problem.kind in ACTORS:
        return Counter(actor_products(problem))
    if problem.kind != "cql":
        layers = q_layers(problem)
        return Counter(training(layers, rows) + forward(layers, rows))

    critic = dense(problem.obs[0] + problem.actions, problem.hidden)
    of_critic = training(critic, rows * (3 * SAMPLES + 1))
    of_critic += forward(critic, rows)  # the target network
    of_critic += forward(critic, rows) + input_gradients(critic, rows)  # the policy's loss
    policy = dense(problem.obs[0], problem.hidden)
    of_policy = training(policy, rows) + forward(policy, rows)

    return Counter(2 * of_critic + of_policy)


def actor_products(problem: Problem) -> list[Product]:
    """Return the products of an update of the other agents with continuous actions, at least.

    BC trains its policy at B states; the others have critics besides.
    Every critic is trained on B pairs, and its target network evaluates B. TD3+BC and ReBRAC
    evaluate the target policy; its training in every second update is omitted. IQL trains its value
    and its policy, and evaluates the value at s'. EDAC trains its policy through all critics, and
    differentiates their action slopes again.
    """
    rows = problem.batch
    critic = dense(problem.obs[0] + problem.actions, problem.hidden)
    of_states = dense(problem.obs[0], problem.hidden)
    of_critic = training(critic, rows) + forward(critic, rows)
    if problem.kind == "bc":
        return training(of_states, rows)
    if problem.kind == "iql":
        return 2 * of_critic + 2 * training(of_states, rows) + forward(of_states, rows)
    if problem.kind != "edac":
        return 2 * of_critic + forward(of_states, rows)

    slopes = input_gradients(critic, rows)
    of_critic += slopes + forward(critic, rows) + weight_gradients(critic, rows)
    of_critic += forward(critic, rows) + slopes  # the policy's loss
    return CRITICS * of_critic + training(of_states, rows) + forward(of_states, rows)


def gflop(problem: Problem) -> float:
    """Count the arithmetic of these products, a multiplication and an addition as two."""
    operations = 0
    for (m, k, n), count in products(problem).items():
        operations += 2 * m * k * n * count
    return operations / 1e9


def build(problem: Problem, dtype: torch.dtype = torch.float32) -> Update:
    """Return a call of all products of one update, each into a tensor that exists already."""
    work = []
    for (m, k, n), count in products(problem).items():
        left = torch.randn(m, k).to(dtype)
        right = torch.randn(k, n).to(dtype)
        out = torch.empty(m, n, dtype=dtype)
        work += [(left, right, out)] * count

    def update() -> None:
        for left, right, out in work:
            torch.mm(left, right, out=out)

    return update
