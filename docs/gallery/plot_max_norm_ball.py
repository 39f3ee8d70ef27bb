"""
How a max-norm ball moves weights
=================================

Each neuron whose weights have left the ball around their start is moved back to its surface,
straight toward its start. A neuron inside keeps its weights bit by bit.
"""

import matplotlib.pyplot as plt
import torch

from rlop.projections import max_norm

torch.manual_seed(0)
start = torch.zeros(24, 2)
trained = torch.randn(24, 2)
radius = 1.0
projected = max_norm(trained, start, radius)

figure, axis = plt.subplots(figsize=(5, 5), layout="constrained")
figure.suptitle("Weights of 24 neurons before and after the projection")
axis.add_patch(plt.Circle((0, 0), radius, fill=False, linestyle="--", color="black"))
for before, after in zip(trained, projected, strict=True):
    axis.plot(*zip(before.tolist(), after.tolist(), strict=True), color="gray", linewidth=0.8)
axis.scatter(*trained.T, marker="o", facecolors="none", edgecolors="#0072B2", label="trained")
axis.scatter(*projected.T, marker="x", color="#D55E00", label="projected")
axis.set(xlabel="first weight", ylabel="second weight", aspect="equal")
axis.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
plt.show()
