"""Quality figures of channels: what is read, which rule chooses it, and what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.signal import welch

from neuropipe.config.models import PreprocessConfig
from neuropipe.errors import DataError
from neuropipe.plotting.save import save_figure
from neuropipe.preprocess.chain import preprocess
from neuropipe.report.quality import figures
from neuropipe.report.quality.channel_data import (
    min_max,
    power_spectra,
    read_channels,
    spread_over_time,
    window_starts,
)
from neuropipe.report.quality.channels import shown_channels
from neuropipe.simulate.planted_channels import planted_channels

SLUGS = ["traces", "overview", "spectrum", "variance", "places", "events"]


def stores(modality: str = "eeg", settings: dict | None = None, **given):
    tree, truth = planted_channels(modality, **{"seconds": 40.0, "rate": 200.0, **given})
    defaults = {} if modality == "ieeg" else {"bandpass_hz": (1, 40)}
    blocks = {modality: {**defaults, **(settings or {})}}
    done = preprocess(tree, PreprocessConfig.model_validate(blocks))
    return tree, done, truth


@pytest.mark.parametrize("modality", ["eeg", "meg", "ieeg"])
def test_every_figure_has_a_caption_and_numbers(modality):
    tree, done, _ = stores(modality)
    before = tree.copy(deep=True), done.copy(deep=True)
    found = figures(tree, done)
    assert list(found) == SLUGS
    for figure in found.values():
        assert figure.title
        assert "Good:" in figure.caption and "Bad:" in figure.caption
        assert len(figure.table) > 0
    assert tree.identical(before[0]) and done.identical(before[1])


def test_figures_are_small_and_the_same_bytes_twice(tmp_path):
    for folder in ("a", "b"):
        for slug, figure in figures(*stores("meg")[:2]).items():
            save_figure(figure, tmp_path / folder, slug)
            if folder == "b" and slug == "traces":
                break
    # Twenty recordings fit on a page of 10 MB.
    assert sum(path.stat().st_size for path in (tmp_path / "a").glob("*.svg")) < 500_000
    for path in sorted((tmp_path / "b").iterdir()):
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes(), path.name


@pytest.mark.parametrize(
    "given",
    [
        {"modality": "eeg", "gap": (12.0, 18.0)},
        {"modality": "eeg", "faults": False, "line_freq": float("nan")},
        {"modality": "eeg", "settings": {"bad_channels": None, "reference": None}},
        {"modality": "eeg", "settings": {"resample_hz": 50}},
        {"modality": "eeg", "settings": {"band_power": {"bands_hz": {"alpha": (8, 13)}}}},
        {"modality": "ieeg", "rate": 500.0, "settings": {"high_gamma": {}}},
        {"modality": "ieeg", "settings": {"reference": "none"}, "dtype": "float64"},
        {"modality": "ieeg", "settings": {"reference": "white_matter"}},
        {"modality": "ieeg", "seconds": 10.0},
    ],
)
def test_unusual_recordings_can_be_drawn(given):
    given = {"rate": 160.0, "seconds": 30.0, **given}
    found = figures(*stores(given.pop("modality"), given.pop("settings", None), **given)[:2])
    assert list(found) == SLUGS
    found["spectrum"].draw_without_rendering()
    found["traces"].draw_without_rendering()


def test_unplaced_and_eventless_recordings_have_no_empty_figure():
    tree, done, _ = stores("eeg")
    raw = tree["raw"].to_dataset(inherit=False)
    tree["raw"] = xr.DataTree(raw.assign_coords({a: raw[a] * np.nan for a in "xyz"}))
    del tree["events"]
    found = figures(tree, done)
    assert list(found) == SLUGS[:4]


def test_bad_channels_have_a_place_among_the_traces():
    tree, done, truth = stores("meg")
    data = read_channels(tree, done)
    shown = [data.before.names[i] for i in shown_channels(data)]
    assert {truth.noisy, truth.flat, truth.stated} <= set(shown)
    assert len(shown) == 12
    table = figures(tree, done)["variance"].table.set_index("channel")
    assert table.loc[truth.noisy, "bad_reason"] == "noisy"
    assert table.loc[truth.noisy, "robust_z"] > 5
    ticks = [t.get_text() for t in figures(tree, done)["overview"].axes[0].get_yticklabels()]
    assert {f"x {name}" for name in (truth.noisy, truth.flat, truth.stated)} <= set(ticks)


def test_the_spectrum_shows_mains_before_and_not_after():
    tree, done, _ = stores("eeg", {"bandpass_hz": (1, None)})
    table = figures(tree, done)["spectrum"].table
    assert set(table["type"]) == {"eeg"}

    def peak(side: str) -> float:
        part = table[table["side"] == side]
        near = part[(part["frequency"] > 44) & (part["frequency"] < 56)]
        return float(near["median"].max() / near["median"].median())

    assert peak("before") > 50
    assert peak("after") < 3


def test_a_spectrum_is_that_of_welch():
    rng = np.random.default_rng(0)
    tree, done, _ = stores("eeg", dtype="float64", faults=False, seconds=20.0)
    noise = rng.normal(size=tree["raw/signal"].shape) * 1e-6
    raw = tree["raw"].to_dataset(inherit=False)
    tree["raw"] = xr.DataTree(raw.assign(signal=(("time", "channel"), noise)))
    data = read_channels(tree, done)
    frequency, power = power_spectra(data.before, data.observed)
    starts = window_starts(data.observed, 8.0, 12)
    assert len(starts) == 2
    windows = [noise[round(s * 200) : round((s + 8) * 200), 0] for s in starts]
    expected = np.mean([welch(w, fs=200, nperseg=800)[1] for w in windows], axis=0)
    assert power[0, 0] == pytest.approx(expected[1])
    total = np.trapezoid(power[:, 0], frequency)
    assert total == pytest.approx(1e-12, rel=0.1)


def test_spread_is_the_sd_of_each_window_and_nan_where_missing():
    tree, done, truth = stores("eeg", dtype="float32")
    tree["raw/signal"].values[250, 2] = np.nan
    data = read_channels(tree, done)
    starts, spread = spread_over_time(data.before, data.observed)
    assert np.isnan(spread[:, 2]).any() and np.isfinite(spread[:, 0]).all()
    k = 7
    here = slice(*np.searchsorted(data.before.time, [starts[k], starts[k] + 1.0]))
    values = tree["raw/signal"].values[here, 0].astype(np.float64)
    assert spread[k, 0] == pytest.approx(values.std())
    assert (spread[:, data.before.names.index(truth.flat)] == 0).all()


def test_windows_keep_to_observed_time():
    observed = np.array([[0.0, 5.0], [7.0, 7.5], [10.0, 14.0]])
    starts = window_starts(observed, 1.0, 100)
    assert len(starts) == 9
    inside = (starts[:, None] >= observed[:, 0]) & (starts[:, None] + 1 <= observed[:, 1] + 1e-9)
    assert inside.any(axis=1).all()
    assert window_starts(observed, 6.0, 5).size == 0


def test_min_and_max_keep_every_extreme():
    values = np.random.default_rng(0).normal(size=(1003, 2))
    time, low, high = min_max(np.arange(1003.0), values, 100)
    assert len(time) == 100
    np.testing.assert_array_equal(low.min(axis=0), values.min(axis=0))
    np.testing.assert_array_equal(high.max(axis=0), values.max(axis=0))
    assert (low <= high).all() and (np.diff(time) > 0).all()


def test_only_windows_are_read(monkeypatch):
    tree, done, _ = stores("eeg", seconds=400.0, rate=100.0)
    read = []
    from neuropipe.report.quality import channel_data

    plain = channel_data.physical

    def counted(raw, rows, times):
        read.append(times.stop - times.start)
        return plain(raw, rows, times)

    monkeypatch.setattr(channel_data, "physical", counted)
    figures(tree, done)
    assert max(read) <= 1000
    assert sum(read) < 0.95 * 40_000


def test_a_store_without_its_series_is_an_error():
    tree, done, _ = stores("eeg")
    with pytest.raises(DataError, match="no /raw/signal"):
        figures(xr.DataTree(tree.to_dataset()), done)
    with pytest.raises(DataError, match="run its preprocessing again"):
        figures(tree, xr.DataTree(xr.Dataset(attrs=done.attrs)))


def test_event_numbers_are_those_of_the_table(tmp_path: Path):
    tree, done, _ = stores("eeg")
    table = figures(tree, done)["events"].table.set_index("label")
    labels = tree["events"]["label"].values
    for label in ("target", "standard"):
        assert table.loc[label, "count"] == (labels == label).sum()
    assert table.loc["target", "median_interval_s"] == pytest.approx(6.0)
