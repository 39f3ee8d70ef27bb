"""The dashboards of TensorBoard's tab "Custom Scalars": which curves stand together."""

from __future__ import annotations

from collections.abc import Mapping

from tensorboard.plugins.custom_scalar import layout_pb2

# Dashboard -> title of a chart -> regular expressions of its curves.
DASHBOARDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "Learning": {
        "Return": (r"eval/return$", r"rollout/return$"),
        "Normalized score": (r"eval/normalized_score$",),
        "TD loss": (r"loss/td",),
        "All losses": (r"loss/",),
        "Action values on the data, and their targets": (r"q/",),
        "Error to the optimal values": (r"eval/q_error",),
    },
    "Representation": {
        "Rank: srank": (r"rank/srank",),
        "Rank: entropy of the singular values": (r"rank/effective_rank",),
        "Share of dormant and dead units": (r"units/dormant", r"units/dead"),
        "Norm of the features": (r"feature/norm",),
        "Dot product of consecutive features": (r"feature/dot",),
        "Cosine of consecutive features": (r"feature/cosine",),
        "Norm of the head": (r"head/norm",),
    },
    "Regularizers": {
        "Penalties, unweighted": (r"reg/",),
        "Norm of the gradient": (r"grad/",),
        "Distance of the weights from their start": (r"weights/travel",),
    },
    "System": {
        "Updates per second": (r"time/steps_per_s",),
        "Runs that have not diverged": (r"run/active",),
    },
}


def layout() -> layout_pb2.Layout:
    """Build the layout; charts without a curve stay empty."""
    categories = []
    for dashboard, charts in DASHBOARDS.items():
        content = []
        for title, tags in charts.items():
            lines = layout_pb2.MultilineChartContent(tag=tags)
            content.append(layout_pb2.Chart(title=title, multiline=lines))
        categories.append(layout_pb2.Category(title=dashboard, chart=content))
    return layout_pb2.Layout(category=categories)
