"""
Seven measures of rank on the same features
===========================================

Features of dimension 32 whose singular values fall by a constant factor. The measures differ in
what they count as a direction, and the picture shows by how much: none is *the* rank.
"""

import matplotlib.pyplot as plt
import torch

import rlop

torch.manual_seed(0)
left = torch.linalg.qr(torch.randn(256, 32)).Q
right = torch.linalg.qr(torch.randn(32, 32)).Q

falls = torch.linspace(1.0, 0.5, 26)
measured: dict[str, list[float]] = {}
for fall in falls:
    features = left @ torch.diag(fall ** torch.arange(32)) @ right
    for name, value in rlop.rank_measures(features).items():
        measured.setdefault(name, []).append(float(value))

colors = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
styles = ["-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1))]
figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
figure.suptitle("Measures of rank as the singular values fall faster")
ranks = [name for name in measured if "rank" in name or "ratio" in name]
for place, name in enumerate(ranks):
    label = name.rpartition("/")[2].replace("_", " ")
    axis.plot(falls, measured[name], color=colors[place], linestyle=styles[place], label=label)
axis.set(xlabel="each singular value over the one before", ylabel="rank of 32 features")
axis.invert_xaxis()
axis.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
plt.show()
