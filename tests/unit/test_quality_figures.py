"""Data-quality figures: rows and stretches are chosen by the stated rules."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from neuropipe.config.models import IngestConfig
from neuropipe.config.recordings import Recording
from neuropipe.errors import DataError
from neuropipe.io.ingest import ingest_recording
from neuropipe.report.quality import figures
from neuropipe.report.quality.spikes import interval_histogram
from neuropipe.report.quality.traces import (
    bin_means,
    choose_rows,
    correlation_order,
    median_rate,
    signal_to_noise,
    spectra,
    stretch,
)
from neuropipe.simulate.spike_files import simulate_spikes, write_spike_nwb
from neuropipe.store.zarr import open_store

SLUGS = ["traces", "overview", "spectrum", "missing"]


def stores(
    n_times: int = 1200, n_rows: int = 40, rate: float = 3.0, gap: bool = True, seed: int = 0
) -> tuple[xr.DataTree, xr.DataTree]:
    """Transients with a slow decay and growing noise; a gap; every second row named."""
    rng = np.random.default_rng(seed)
    time = np.arange(n_times) / rate
    onsets = rng.random((n_times, n_rows)) < 0.004
    decay = np.exp(-np.arange(0, 30, 1 / rate) / 6)
    clean = np.stack([np.convolve(column, decay)[:n_times] for column in onsets.T], axis=1)
    noise = np.linspace(0.02, 0.6, n_rows)
    values = 200 + 80 * clean + 80 * noise * rng.normal(size=clean.shape)
    if gap:
        values[100:140, :5] = np.nan
        values[:, -1] = np.where(np.arange(n_times) < 300, values[:, -1], np.nan)
    label = [f"N{n:02d}" if n % 2 else "" for n in range(n_rows)]
    coords = {"time": time, "roi": np.arange(n_rows), "label": ("roi", np.array(label, object))}
    series = xr.DataArray(values, dims=("time", "roi"), attrs={"units": "a.u."})
    raw = xr.DataTree.from_dict({"/raw": xr.Dataset({"fluorescence": series}, coords)})
    raw.attrs |= {"schema": "neuropipe.calcium", "recording": "sub-w01_calcium"}
    scaled = (values - np.nanmean(values, 0)) / np.nanstd(values, 0)
    activity = xr.DataArray(
        scaled, dims=("time", "roi"), attrs={"source_series": "fluorescence", "units": "s.d."}
    )
    processed = xr.Dataset({"activity": activity, "valid": np.isfinite(activity)}, coords)
    return raw, xr.DataTree(processed.assign_attrs(raw.attrs))


def test_four_figures_with_caption_and_numbers() -> None:
    found = figures(*stores())
    assert list(found) == SLUGS
    for figure in found.values():
        assert figure.title
        assert "Good:" in figure.caption
        assert "Bad:" in figure.caption
        assert len(figure.table) > 0
        for axes in figure.axes:
            labelled = axes.get_xlabel() or axes.get_shared_x_axes() or axes.get_ylabel()
            assert labelled


def test_drawing_changes_neither_store() -> None:
    raw, processed = stores()
    before = raw.copy(deep=True), processed.copy(deep=True)
    figures(raw, processed)
    assert raw.identical(before[0])
    assert processed.identical(before[1])


def test_figures_are_the_same_bytes_twice(tmp_path: Path) -> None:
    save = pytest.importorskip("neuropipe.plotting.save")
    for folder in ("a", "b"):
        for slug, figure in figures(*stores(n_times=300)).items():
            save.save_figure(figure, tmp_path / folder, slug)
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
        # A page of 20 recordings stays below 10 MB.
        assert path.stat().st_size < 125_000 or path.suffix == ".tsv", path.name


def test_best_median_and_worst_row_by_signal_to_noise() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(4000, 5))
    pulse = np.zeros(4000)
    pulse[1000:1400] = 1
    gain = np.array([0.0, 40.0, 10.0, 5.0, 80.0])
    values = noise + gain * pulse[:, None]
    assert choose_rows(values) == {"best": 4, "median": 2, "worst": 0}
    # Known: noise has sd 1, so the ratio of a strong pulse is its height; differences of the
    # noise give that sd to about 2 % at 4000 samples.
    assert signal_to_noise(values)[4] == pytest.approx(80 + 1.5, rel=0.05)


def test_signal_to_noise_does_not_depend_on_gain_or_offset() -> None:
    values = np.random.default_rng(2).gamma(1.0, size=(500, 3))
    np.testing.assert_allclose(signal_to_noise(7 * values - 3), signal_to_noise(values))


def test_empty_and_constant_rows_come_last() -> None:
    values = np.random.default_rng(3).normal(size=(200, 3))
    values[:, 0] = np.nan
    values[:, 1] = 5.0
    ratio = signal_to_noise(values)
    assert ratio[0] == -np.inf
    assert ratio[1] == 0
    assert choose_rows(values)["worst"] == 0


def test_quantised_row_does_not_win_with_no_noise() -> None:
    values = np.random.default_rng(5).normal(size=(1000, 1)) > 2.0
    assert 0 < signal_to_noise(values.astype(float))[0] < 20


def test_rows_without_samples_are_drawn_last() -> None:
    values = np.random.default_rng(6).normal(size=(300, 5))
    values[:, [0, 2]] = np.nan
    assert set(correlation_order(values)[-2:]) == {0, 2}


def test_normalised_activity_is_in_standard_deviations() -> None:
    raw, processed = stores(n_times=100)
    del processed["activity"].attrs["units"]
    processed.attrs["pipeline"] = '[{"step": "source"}, {"step": "normalise"}]'
    labels = [axes.get_ylabel() for axes in figures(raw, processed)["traces"].axes]
    assert "activity (s.d.)" in labels


@pytest.mark.parametrize(
    ("rate", "duration", "expected"),
    [(20.0, 100.0, (45.0, 55.0)), (3.0, 600.0, (240.0, 360.0)), (3.0, 60.0, (0.0, 60.0))],
)
def test_stretch_is_the_middle_of_the_recording(
    rate: float, duration: float, expected: tuple[float, float]
) -> None:
    time = np.linspace(0, duration, round(duration * rate) + 1)
    assert median_rate(time) == pytest.approx(rate)
    assert stretch(time, rate) == pytest.approx(expected)


def test_caption_states_the_stretch_and_the_names() -> None:
    found = figures(*stores())
    assert "the middle 120 s" in found["traces"].caption
    assert "20 of them with an identified name" in found["overview"].caption


def test_named_rows_come_first_in_order_of_their_names() -> None:
    table = figures(*stores())["overview"].table
    named = list(table.loc[table["labelled"], "row"])
    assert named == sorted(named)
    assert list(table["labelled"]) == sorted(table["labelled"], reverse=True)


def test_correlation_order_puts_the_common_course_first() -> None:
    rng = np.random.default_rng(4)
    common = rng.normal(size=500)
    values = np.stack([c * common + 0.1 * rng.normal(size=500) for c in (1, -1, 1, 1)], axis=1)
    assert correlation_order(values)[-1] == 1


def test_bin_means_keep_gaps() -> None:
    time = np.concatenate([np.arange(0, 50.0), np.arange(70, 100.0)])
    edges, means = bin_means(time, np.ones((80, 1)))
    centres = (edges[1:] + edges[:-1]) / 2
    inside = (centres > 51) & (centres < 69)
    assert np.isnan(means[inside]).all()
    assert (means[centres < 49] == 1).all()


def test_spectrum_finds_a_line_and_integrates_to_one() -> None:
    time = np.arange(4096) / 20.0
    values = np.sin(2 * np.pi * 2.5 * time)[:, None] + np.zeros(2)
    frequency, power = spectra(time, values)
    assert frequency[np.argmax(power[0])] == pytest.approx(2.5, abs=frequency[0])
    assert np.sum(power[0]) * frequency[0] == pytest.approx(1.0)


def test_missing_share_counts_what_is_missing() -> None:
    table = figures(*stores())["missing"].table.set_index("row")
    assert table.loc["roi 0", "missing_before"] == pytest.approx(40 / 1200)
    assert table.loc["N39", "missing_after"] == pytest.approx(900 / 1200)


@pytest.mark.parametrize(("n_times", "n_rows"), [(1, 1), (2, 2), (12, 3), (300, 1)])
def test_tiny_recordings_are_drawn(n_times: int, n_rows: int) -> None:
    with np.errstate(invalid="ignore"):
        pair = stores(n_times=n_times, n_rows=n_rows, gap=False)
    drawn = figures(*pair)
    for figure in drawn.values():
        figure.draw_without_rendering()
    assert "traces" in drawn


def test_all_missing_is_drawn() -> None:
    raw, processed = stores(n_times=50, gap=False)
    empty = processed.to_dataset()
    empty["activity"] = empty["activity"] * np.nan
    drawn = figures(raw, xr.DataTree(empty))
    for figure in drawn.values():
        figure.draw_without_rendering()
    assert "traces" in drawn


def test_a_modality_without_entry_has_no_figures() -> None:
    raw, processed = stores(n_times=50)
    raw.attrs["schema"] = "neuropipe.other"
    assert figures(raw, processed) == {}


def test_store_without_series_is_an_error_that_names_it() -> None:
    raw, processed = stores(n_times=50)
    with pytest.raises(DataError, match=re.escape("sub-w01_calcium")):
        figures(raw, xr.DataTree(processed.to_dataset().drop_vars("activity")))
    with pytest.raises(DataError, match="no group /raw"):
        figures(xr.DataTree(xr.Dataset(attrs=raw.attrs)), processed)


def spike_store(tmp_path: Path, rates: tuple[float, ...] = (2.0, 8.0, 20.0, 0.0)) -> xr.DataTree:
    """Ingest simulated spikes of the given rates."""
    spikes = simulate_spikes(rates)
    write_spike_nwb(spikes, tmp_path / "a.nwb")
    row = Recording(name="sub-01_spikes", subject="01", modality="spikes", path="a.nwb")
    ingest_recording(row, tmp_path / "a.nwb", IngestConfig(), tmp_path / "sub-01_spikes.zarr")
    return open_store(tmp_path / "sub-01_spikes.zarr")


def test_spike_figures_need_no_preprocessed_store(tmp_path: Path) -> None:
    found = figures(spike_store(tmp_path))
    assert list(found) == ["raster", "rate", "intervals", "units"]
    for figure in found.values():
        assert figure.title
        assert "Good:" in figure.caption
        assert "Bad:" in figure.caption
        assert len(figure.table)
    raster = found["raster"].table
    assert raster["time"].between(25, 35).all()
    assert len(raster) == sum(((t >= 25) & (t < 35)).sum() for t in simulate_spikes().times)
    units = found["units"].table
    assert list(units["n_spikes"]) == sorted(len(t) for t in simulate_spikes().times)[::-1]
    assert list(units["unit"]) == ["12", "11", "10", "13"]
    np.testing.assert_allclose(units["rate"], units["n_spikes"] / 60)


def test_a_lonely_spike_still_gives_figures(tmp_path: Path) -> None:
    tree = spike_store(tmp_path)
    alone = tree["raw"].to_dataset().isel(spike=[0])
    counts = xr.zeros_like(alone["n_spikes"])
    counts[0] = 1
    time = float(alone["spike_time"][0])
    bounds = {name: alone[name] * 0 + time for name in ("observed", "obs_start", "obs_stop")}
    raw = xr.DataTree.from_dict({"/raw": alone.assign(n_spikes=counts, **bounds)})
    raw.attrs |= tree.attrs
    found = figures(raw)
    assert len(found) == 4
    for figure in found.values():
        figure.canvas.draw()


def test_share_of_short_intervals() -> None:
    share, short = interval_histogram(np.array([0.0, 0.001, 0.1, 0.2, 0.3]))
    assert short == 0.25
    assert share.sum() == pytest.approx(1)
    assert np.isnan(interval_histogram(np.array([1.0]))[1])
