from __future__ import annotations

import itertools
import re

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from neuropipe.plotting import palette
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.panels import (
    Epoch,
    adjacency_heatmap,
    horizontal_bars,
    note,
    shade_epochs,
    shade_intervals,
    stacked_traces,
    time_raster,
)
from neuropipe.plotting.save import MAX_PATH_POINTS, _points, rasterise_heavy, save_figure
from neuropipe.plotting.style import apply_style

# Machado, Oliveira & Fernandes 2009, deuteranopia at severity 1, for linear RGB.
DEUTERANOPIA = np.array(
    [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]
)
RGB_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def linear(color):
    rgb = np.array(to_rgb(color))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(linear_rgb):
    """CIE Lab (D65) of linear RGB."""
    xyz = RGB_TO_XYZ @ np.clip(linear_rgb, 0, 1) / RGB_TO_XYZ.sum(axis=1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def least_distance(colors, simulation):
    seen = [lab(simulation @ linear(color)) for color in colors]
    return min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2))


def test_lab_of_white_and_primary_red():
    np.testing.assert_allclose(lab(linear("white")), [100, 0, 0], atol=0.01)
    np.testing.assert_allclose(lab(linear("#FF0000")), [53.24, 80.09, 67.20], atol=0.05)


def test_palette_stays_distinct_under_deuteranopia():
    """A distance of 10 in Lab is seen at a glance; red and green of equal lightness have less."""
    assert least_distance(palette.CATEGORICAL, np.eye(3)) >= 20
    assert least_distance(palette.CATEGORICAL, DEUTERANOPIA) >= 10
    assert least_distance(palette.CATEGORICAL[:4], DEUTERANOPIA) >= 15
    assert least_distance(("#2ca02c", "#d62728"), DEUTERANOPIA) < least_distance(
        ("#2ca02c", "#d62728"), np.eye(3)
    )


def test_sequential_map_rises_in_lightness_also_under_deuteranopia():
    colors = mpl.colormaps[palette.SEQUENTIAL](np.linspace(0, 1, 32))[:, :3]
    for simulation in (np.eye(3), DEUTERANOPIA):
        lightness = [lab(simulation @ linear(color))[0] for color in colors]
        assert (np.diff(lightness) > 0).all()


def test_no_two_of_sixteen_categories_look_the_same():
    styles = palette.category_styles([str(i) for i in range(16)])
    assert len({tuple(style.values()) for style in styles.values()}) == 16


def test_style_ignores_the_users_settings():
    with mpl.rc_context({"font.size": 20, "axes.grid": True}), apply_style():
        assert mpl.rcParams["font.size"] == 8
        assert not mpl.rcParams["axes.grid"]
        assert mpl.rcParams["svg.fonttype"] == "none"
    assert mpl.rcParams["svg.fonttype"] == mpl.rcParamsDefault["svg.fonttype"]


@apply_style()
def example(points=50):
    table = pd.DataFrame({"time": np.arange(points) / 4, "value": np.sin(np.arange(points))})
    figure = ReportFigure(title="Title & more", caption="Caption.", table=table, height_mm=50)
    axes = figure.subplots()
    axes.plot(table["time"], table["value"])
    shade_epochs(axes, [Epoch("odour", 2, 4), Epoch("odour", 6, 8)], names=True)
    axes.set(xlabel="Time (s)", ylabel="Activity (SD)")
    return figure


def test_saved_files_are_the_same_every_time(tmp_path):
    first = save_figure(example(), tmp_path / "a", "time-course")
    second = save_figure(example(), tmp_path / "b", "time-course")
    names = ["fig-time-course.svg", "fig-time-course.pdf", "fig-time-course.tsv"]
    assert [path.name for path in first] == names
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes()
    assert not list(tmp_path.glob("*/*.partial*"))


def test_saving_again_changes_nothing(tmp_path):
    figure = example()
    save_figure(figure, tmp_path, "a")
    before = (tmp_path / "fig-a.svg").read_bytes()
    save_figure(figure, tmp_path, "a")
    assert (tmp_path / "fig-a.svg").read_bytes() == before


def test_svg_holds_text_and_no_date(tmp_path):
    save_figure(example(), tmp_path, "a")
    svg = (tmp_path / "fig-a.svg").read_text(encoding="utf-8")
    assert ">Time (s)</text>" in svg
    assert ">odour</text>" in svg
    assert "dc:date" not in svg
    assert "Title &amp; more" in svg
    assert b"CreationDate" not in (tmp_path / "fig-a.pdf").read_bytes()
    width = float(re.search(r'width="([0-9.]+)pt"', svg)[1])
    assert width == pytest.approx(174 / 25.4 * 72, abs=0.1)


def test_table_is_written_as_tsv(tmp_path):
    save_figure(example(), tmp_path, "a")
    table = pd.read_csv(tmp_path / "fig-a.tsv", sep="\t")
    assert list(table.columns) == ["time", "value"]
    assert len(table) == 50


def test_figure_without_table_has_no_tsv(tmp_path):
    figure = example()
    figure.table = None
    assert [path.suffix for path in save_figure(figure, tmp_path, "a")] == [".svg", ".pdf"]


def test_heavy_lines_become_pixels_in_the_vector_file(tmp_path):
    figure = example(points=30_000)
    save_figure(figure, tmp_path, "a")
    svg = (tmp_path / "fig-a.svg").read_text(encoding="utf-8")
    assert "data:image/png" in svg
    assert len(svg) < 300_000
    assert ">Time (s)</text>" in svg


def test_only_as_many_artists_as_needed_are_rasterised():
    figure = ReportFigure()
    axes = figure.subplots()
    for size in (15_000, 9_000, 3_000):
        axes.plot(np.zeros(size))
    axes.pcolormesh(np.zeros((200, 100)))
    axes.scatter(np.zeros(10), np.zeros(10))
    assert rasterise_heavy(figure) == 2
    left = sum(_points(a) for a in (*axes.lines, *axes.collections) if not a.get_rasterized())
    assert left <= MAX_PATH_POINTS


@pytest.mark.parametrize("slug", ["", "a b", "../a", "A"])
def test_slug_must_be_a_portable_name(slug, tmp_path):
    with pytest.raises(ValueError, match="slug"):
        save_figure(example(), tmp_path, slug)


def test_failed_save_leaves_no_file(tmp_path, monkeypatch):
    figure = example()

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        save_figure(figure, tmp_path, "a")
    assert list(tmp_path.iterdir()) == []


@apply_style()
def test_panels_take_missing_and_constant_data():
    figure = ReportFigure(height_mm=120)
    axes = figure.subplots(3, 2).ravel()
    matrix = np.random.default_rng(0).random((6, 6))
    matrix[2] = np.nan
    image = adjacency_heatmap(axes[0], matrix, [1, 0, 2, 5], [(2, "#0072B2")], vmax=1)
    assert image.get_array().shape == (4, 4)
    horizontal_bars(axes[1], [1.0, np.nan], ["a", "b"], color="#0072B2")
    stacked_traces(
        axes[2],
        np.arange(5),
        [[1, 2, 3, np.nan, 1], [2, 2, 2, 2, 2], [np.nan] * 5],
        ["a", "b", "c"],
        colors=["k", "k", "k"],
    )
    assert np.isfinite(axes[2].lines[1].get_ydata()).all()
    raster = time_raster(axes[3], np.full((2, 4), np.nan), np.arange(4) + 0.5, vmax=0)
    assert raster.get_extent() == [0, 4, 1.5, -0.5]
    shade_intervals(axes[4], [[1, 2], [np.nan, np.nan]])
    assert len(axes[4].patches) == 1
    note(axes[5], "Nothing to draw.")
    figure.draw_without_rendering()
