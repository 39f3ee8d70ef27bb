"""Curves with bands, and the PNG they are drawn into."""

import builtins
import math
import struct
from importlib.util import find_spec

import numpy as np
import pytest
from helpers.report import record, two_settings
from hypothesis import given
from hypothesis import strategies as st

from rlop.report import figures
from rlop.report.figures import band
from rlop.report.statistics import mean_ci
from rlop.report.tables import figure, report
from rlop.types import InputError

needs_matplotlib = pytest.mark.skipif(
    find_spec("matplotlib") is None, reason="needs the extra 'report'"
)


def png_size(path):
    """Width and height of a PNG that is not empty."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(data) > 10_000
    return struct.unpack(">II", data[16:24])


def growing_curves(groups):
    """Curves over seven decades, with and without negative values, and flat ones."""
    hparams = [{"dr3": group, "seed": seed} for group in range(groups) for seed in range(2)]
    ones = np.arange(1, len(hparams) + 1)
    rows = []
    for step in range(0, 4_000_000, 1_000_000):
        grown = ones * 10.0 ** (step / 5e5)
        metrics = {"wide": grown, "signed": grown - 2 * ones, "flat": ones, "one": ones}
        rows.append((step, metrics))
    rows[1][1]["flat"] = np.where(ones == 2, math.nan, ones)
    return record(hparams, rows)


def test_a_band_by_hand():
    a = (np.array([0, 10]), np.array([1.0, 4.0]))
    b = (np.array([0, 20]), np.array([3.0, 8.0]))
    diverged = (np.array([0, 20]), np.array([math.nan, math.nan]))
    steps, mean, half = band([a, b, diverged])
    assert steps.tolist() == [0, 10, 20]
    assert mean.tolist() == [2, 4, 8]
    assert half[0] == pytest.approx(12.7062047)  # s = sqrt 2 over sqrt 2
    assert np.isnan(half[1:]).all()
    assert np.isnan(band([diverged])[1]).all()


@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3), min_size=2, max_size=6))
def test_a_band_is_the_interval_of_the_table(values):
    _, mean, half = band([(np.arange(3), np.array(run)) for run in values])
    for step in range(3):
        expected = mean_ci([run[step] for run in values])
        interval = (mean[step], mean[step] - half[step], mean[step] + half[step])
        assert interval == pytest.approx(expected, abs=1e-9)


@needs_matplotlib
@pytest.mark.parametrize(
    ("names", "columns", "rows"),
    [
        (["wide"], 1, 1),
        (["wide", "flat", "signed"], 3, 1),
        (["wide", "flat", "signed", "one"], 2, 2),
    ],
)
def test_a_figure_has_a_panel_per_metric(tmp_path, names, columns, rows):
    path = figure(growing_curves(3), names, tmp_path / "a.png")
    width, height = png_size(path)
    assert width == 555 * columns
    assert 390 * rows < height < 390 * rows + 200
    assert list(tmp_path.iterdir()) == [path]


@needs_matplotlib
def test_the_same_curves_give_the_same_bytes(tmp_path):
    first = figure(two_settings(), ["loss"], tmp_path / "a.png")
    second = figure([two_settings()], ["loss"], tmp_path / "b.png")
    assert first.read_bytes() == second.read_bytes()


@needs_matplotlib
def test_many_groups_and_a_single_point_can_be_drawn(tmp_path):
    png_size(figure(growing_curves(16), ["flat"], tmp_path / "a.png"))
    point = record([{"seed": 0}], [(0, {"a": [1.0]})])
    png_size(figure(point, ["a"], tmp_path / "b.png"))


@needs_matplotlib
def test_axes_are_logarithmic_where_values_span_decades(monkeypatch, tmp_path):
    scales = {}
    panel = figures._panel

    def recorded_panel(axis, name, *rest):
        panel(axis, name, *rest)
        scales[name] = axis.get_yscale()

    monkeypatch.setattr(figures, "_panel", recorded_panel)
    figure(growing_curves(1), ["wide", "signed", "flat"], tmp_path / "a.png")
    assert scales == {"wide": "log", "signed": "symlog", "flat": "linear"}


@needs_matplotlib
def test_a_report_names_its_picture(tmp_path):
    rows = [(step, {"a": [1.0, 3.0]}) for step in (0, 50)]
    record([{"seed": 0}, {"seed": 1}], rows, tmp_path)
    text = report(tmp_path, png=tmp_path / "curves.png")
    assert text.endswith(f"\npicture: {tmp_path / 'curves.png'}")
    png_size(tmp_path / "curves.png")


@needs_matplotlib
@pytest.mark.parametrize(
    ("names", "message"), [(["nothing"], "never logged"), ([], "expected at least one name")]
)
def test_a_figure_of_nothing_is_refused(tmp_path, names, message):
    with pytest.raises(InputError, match=message):
        figure(two_settings(), names, tmp_path / "a.png")


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    real_import = builtins.__import__

    def without_matplotlib(name, *rest, **options):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real_import(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    with pytest.raises(InputError, match=r"pip install 'rlop\[report\]'"):
        figure(two_settings(), ["loss"], tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
