"""Colored digits: a color that predicts the label starves the shape, and misleads when it turns.

Row 38: Pezeshki, Kaba, Bengio, Courville, Precup and Lajoie, "Gradient Starvation: A Learning
Proclivity in Neural Networks", arXiv:2011.09468, after Arjovsky et al., arXiv:1907.02893. A digit
is "high" from 5 on. Its color agrees with the label on 90 % of the train digits and on 10 % of the
test digits. Cross-entropy fits the color first; decoupling (a penalty on the squared outputs) shall
learn the shape too.

Setting: networks 128-128-1 (8 x 8 pixels in two colors) on 800 digits, 400 steps of Adam. The
coefficients of decoupling and of weight decay are the best of four each on 400 validation digits
whose colors are random, so that both have the same budget and neither sees the reversed colors.

Control: colors that are random in training too.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from rlop.experiments.digits import load_digits
from rlop.experiments.fit import child_seeds, fit, network, orders, predict
from rlop.experiments.outcome import Outcome
from rlop.optim import Adam

N = 800
VALIDATION = 400
EPOCHS = 50
BATCH = 100
REVERSED = 0.9  # share of the test digits whose color contradicts the label
CONTRADICTING = 0.1  # of the train digits
COEFFICIENTS = (0.01, 0.1, 1.0, 10.0)  # of the squared outputs
DECAYS = (1e-4, 1e-3, 1e-2, 1e-1)
NETWORKS = 2
ARMS = 1 + len(COEFFICIENTS) + len(DECAYS)  # cross-entropy first


def run(seed: int) -> Outcome:
    """Train all arms on colors that agree; test on reversed ones."""
    return compared(seed, CONTRADICTING)


def control(seed: int) -> dict[str, float]:
    """Train on random colors."""
    return dict(compared(seed, 0.5).values)


def compared(seed: int, contradicting: float) -> Outcome:
    """Train every arm, choose the coefficients, and measure on reversed colors."""
    data_seed, color_seed, net_seed, order_seed = child_seeds(seed, 4)
    data = load_digits(N, data_seed)
    generator = Generator().manual_seed(color_seed)
    labels = 2.0 * (data.y >= 5) - 1
    held_out = 2.0 * (data.y_test >= 5) - 1
    x = colored(data.x, labels, contradicting, generator)
    validation = colored(data.x_test, held_out, 0.5, generator)[:VALIDATION]
    test = colored(data.x_test, held_out, REVERSED, generator)[VALIDATION:]

    net = trained(x, labels, child_seeds(net_seed, NETWORKS) * ARMS, order_seed)
    scores = score(net, validation, held_out[:VALIDATION])
    reversed_scores = score(net, test, held_out[VALIDATION:])
    first_decay = 1 + len(COEFFICIENTS)
    decoupled = reversed_scores[1 + int(scores[1:first_decay].argmax())].item()
    decayed = reversed_scores[first_decay + int(scores[first_decay:].argmax())].item()
    plain = reversed_scores[0].item()

    values = {
        "accuracy on reversed colors, decoupled - cross-entropy": decoupled - plain,
        "accuracy on reversed colors, decoupled - weight decay": decoupled - decayed,
    }
    curves = {
        "decoupled": (COEFFICIENTS, reversed_scores[1:first_decay].tolist()),
        "weight decay": (DECAYS, reversed_scores[first_decay:].tolist()),
        "cross-entropy": ([DECAYS[0], COEFFICIENTS[-1]], [plain, plain]),
    }
    return Outcome(values, curves, x="coefficient", y="accuracy on reversed colors", log="x")


def colored(x: Tensor, labels: Tensor, contradicting: float, generator: Generator) -> Tensor:
    """Write each digit into the channel of its color, `[N, 64] -> [N, 128]`."""
    against = torch.rand(len(x), generator=generator) < contradicting
    first = (labels > 0) != against
    return torch.cat([x * first[:, None], x * ~first[:, None]], 1)


def trained(x: Tensor, labels: Tensor, seeds: list[int], order_seed: int) -> nn.Module:
    """Train all arms at once; the networks of an arm stand side by side."""
    runs = len(seeds)
    coef = torch.zeros(ARMS)
    coef[1 : 1 + len(COEFFICIENTS)] = torch.tensor(COEFFICIENTS)
    decay = torch.zeros(ARMS)
    decay[1 + len(COEFFICIENTS) :] = torch.tensor(DECAYS)
    coef, decay = coef.repeat_interleave(NETWORKS), decay.repeat_interleave(NETWORKS)
    net = network(seeds, 128, (128,), 1)

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        f = net(x)[..., 0]
        norm = sum(p.flatten(1).square().sum(-1) for p in net.parameters())
        return F.softplus(-y * f).mean(-1) + coef / 2 * f.square().mean(-1) + decay / 2 * norm

    batches = orders(runs, N, BATCH, EPOCHS, order_seed)
    fit(net, Adam(net.parameters(), lr=1e-3), x, labels.expand(runs, -1), batches, loss)
    return net


def score(net: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """Return the accuracy of each arm, mean of its networks, `[ARMS]`."""
    right = predict(net, x, ARMS * NETWORKS)[..., 0] * labels > 0
    return right.float().mean(-1).view(ARMS, NETWORKS).mean(1)
