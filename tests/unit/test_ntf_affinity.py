"""The affinity kernels against plain loops over their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from neuropipe.analyses.ntf.kernels.affinity import (
    AFFINITY_MODES,
    Traces,
    derivatives,
    fill_short_gaps,
    odd_frames,
    pair_affinity,
    pair_index,
    scaled_derivatives,
)

RATE = 4.0
WINDOW = 9
BIN = 4


def make_traces(seed: int, n_neurons: int = 6, n_times: int = 63, pause: bool = True) -> Traces:
    rng = np.random.default_rng(seed)
    values = np.cumsum(rng.standard_normal((n_neurons, n_times)), axis=1)
    values[2] = 3.7  # silent
    values[4] = np.nan  # not identified
    values[1, 10] = np.nan  # isolated frame
    if pause:
        values[:, 30:37] = np.nan
    return fill_short_gaps(values, max_gap=3, min_segment=5)


def slope(y: list[float], t: int, dt: float) -> float:
    """First derivative of the parabola through 5 frames (interior frames only)."""
    return sum(k * y[t + k] for k in range(-2, 3)) / (10 * dt)


def moving(values: list[float], t: int, segment: tuple[int, int]) -> float:
    low, high = max(t - WINDOW // 2, segment[0]), min(t + WINDOW // 2 + 1, segment[1])
    return sum(values[low:high]) / (high - low)


def windowed(x: list[float], y: list[float], t: int, segment: tuple[int, int]):
    """Moving covariance and the two moving SDs, with the variance floor."""
    mean_x, mean_y = moving(x, t, segment), moving(y, t, segment)
    cov = moving([a * b for a, b in zip(x, y, strict=True)], t, segment) - mean_x * mean_y
    spread = [
        math.sqrt(max(moving([v * v for v in z], t, segment) - m * m, 1e-6))
        for z, m in ((x, mean_x), (y, mean_y))
    ]
    return cov, *spread


def brute_differential(u, d, i, j, segments) -> list[float]:
    out = [0.0] * len(u[i])
    for start, stop in segments:
        t = start
        while t < stop:
            end = t + 1
            while end < stop and all(np.sign(d[k][end]) == np.sign(d[k][end - 1]) for k in (i, j)):
                end += 1
            inside = range(t, end)
            energy = sum(u[i][s] ** 2 + u[j][s] ** 2 for s in inside)
            if energy > 0:
                cross = 2 * sum(u[i][s] * u[j][s] for s in inside) / energy
                level = sum(u[i][s] for s in inside) * sum(u[j][s] for s in inside)
                for s in inside:
                    out[s] = cross * math.sqrt(level) / (end - t)
            t = end
    return out


def brute_windowed(x, y, segments, excess: bool) -> list[float]:
    out = [0.0] * len(x)
    for segment in segments:
        for t in range(*segment):
            cov, sx, sy = windowed(x, y, t, segment)
            if excess:
                out[t] = max(0.0, cov / (sx * sy)) * math.sqrt(sx * sy)
            else:
                out[t] = min(abs(cov) / (sx * sy), 1.0)
    return out


def standardise(row: np.ndarray, recorded: np.ndarray) -> list[float]:
    used = row[recorded]
    spread = used.std()
    out = np.zeros_like(row)
    if spread > 1e-9:
        out[recorded] = (used - used.mean()) / spread
    return out.tolist()


def brute(mode: str, traces: Traces, i: int, j: int) -> list[float]:
    d = derivatives(traces, window=5, dt=1 / RATE)
    u, _ = scaled_derivatives(traces, d, quantile=0.95, dt=1 / RATE)
    if mode == "differential":
        return brute_differential(u.tolist(), d.tolist(), i, j, traces.segments)
    if mode == "excess":
        return brute_windowed(u[i].tolist(), u[j].tolist(), traces.segments, excess=True)
    rows = traces.values if mode == "abs_corr" else d
    x, y = (standardise(rows[k], traces.recorded) for k in (i, j))
    return brute_windowed(x, y, traces.segments, excess=False)


@pytest.mark.parametrize("pause", [False, True])
@pytest.mark.parametrize("mode", AFFINITY_MODES)
def test_affinity_equals_plain_loops(mode: str, pause: bool) -> None:
    traces = make_traces(1, pause=pause)
    n_neurons, n_times = traces.values.shape
    first, second = pair_index(n_neurons)
    n_bins = n_times // BIN
    out = np.zeros((first.size, n_bins), dtype=np.float32)
    silent = pair_affinity(
        traces,
        first,
        second,
        mode=mode,
        rate_hz=RATE,
        deriv_window=5,
        window=WINDOW,
        bin_frames=BIN,
        scale_quantile=0.95,
        out=out,
        block=4,
    )
    assert silent.tolist() == [False, False, True, False, False, False]
    assert out.max() > 0.05
    for p, (i, j) in enumerate(zip(first, second, strict=True)):
        if 4 in (i, j):
            assert not out[p].any()
            continue
        full = brute(mode, traces, i, j)
        for b in range(n_bins):
            frames = range(b * BIN, (b + 1) * BIN)
            expected = sum(full[t] for t in frames) / BIN
            if not all(traces.recorded[t] for t in frames):
                expected = 0.0
            assert out[p, b] == pytest.approx(expected, abs=2e-6), (mode, i, j, b)


@pytest.mark.parametrize("mode", AFFINITY_MODES)
def test_affinity_lies_between_0_and_1_and_ignores_sign_and_gain(mode: str) -> None:
    traces = make_traces(2)
    changed = Traces(
        traces.values * np.array([1.0, -3.0, 1.0, 0.2, 1.0, -1.0])[:, None],
        traces.present,
        traces.recorded,
        traces.segments,
    )
    first, second = pair_index(6)
    results = []
    for one in (traces, changed):
        out = np.zeros((first.size, 15), dtype=np.float32)
        pair_affinity(
            one,
            first,
            second,
            mode=mode,
            rate_hz=RATE,
            deriv_window=5,
            window=WINDOW,
            bin_frames=BIN,
            scale_quantile=0.95,
            out=out,
        )
        results.append(out)
    assert results[0].min() >= 0
    assert results[0].max() <= 1
    np.testing.assert_allclose(results[0], results[1], atol=1e-6)


def test_derivative_is_that_of_a_local_parabola() -> None:
    traces = make_traces(3, pause=False)
    found = derivatives(traces, window=5, dt=0.25)
    y = traces.values[0].tolist()
    for t in range(2, len(y) - 2):
        assert found[0, t] == pytest.approx(slope(y, t, 0.25))


def test_the_ends_of_a_stretch_look_no_more_alike_than_its_middle() -> None:
    """Derivatives read off the edge of a parabola made noise co-fluctuate at every end."""
    values = np.random.default_rng(0).standard_normal((40, 600))
    traces = fill_short_gaps(values, max_gap=3, min_segment=11)
    size = np.abs(derivatives(traces, window=11, dt=0.25)).mean(axis=0)
    assert size[[*range(5), *range(-5, 0)]].max() < 1.3 * size[5:-5].mean()
    first, second = pair_index(40)
    for mode, most in (("excess", 2.0), ("differential", 1.2)):
        out = np.zeros((first.size, 150), dtype=np.float32)
        options = {"rate_hz": RATE, "deriv_window": 11, "window": 61, "bin_frames": BIN}
        pair_affinity(traces, first, second, mode=mode, scale_quantile=0.95, out=out, **options)
        level = out.mean(axis=0)
        assert level[[0, 1, -2, -1]].mean() < most * level[10:-10].mean(), mode


def test_short_gaps_are_interpolated_and_long_ones_make_a_neuron_missing() -> None:
    values = np.tile(np.arange(40.0), (4, 1))
    values[0, 10:13] = np.nan
    values[1, 10:14] = np.nan
    values[2, :3] = np.nan
    filled = fill_short_gaps(values, max_gap=3, min_segment=5)
    assert filled.present.tolist() == [True, False, True, True]
    np.testing.assert_allclose(filled.values[0], np.arange(40.0))
    assert filled.values[2, :4].tolist() == [3, 3, 3, 3]
    assert filled.segments == ((0, 40),)


def test_a_pause_of_the_recording_splits_it_and_removes_no_neuron() -> None:
    values = np.random.default_rng(0).standard_normal((4, 60))
    values[:, 20:30] = np.nan
    values[:, 45] = np.nan  # short: interpolated
    values[:, 57:] = np.nan
    filled = fill_short_gaps(values, max_gap=2, min_segment=5)
    assert filled.present.all()
    assert filled.segments == ((0, 20), (30, 57))
    assert not filled.values[:, 20:30].any()
    assert np.isfinite(filled.values).all()


def test_a_short_pause_at_an_end_is_not_filled_in() -> None:
    values = np.random.default_rng(0).standard_normal((4, 40))
    values[:, :2] = np.nan
    values[:, 39:] = np.nan
    assert fill_short_gaps(values, max_gap=3, min_segment=5).segments == ((2, 39),)


@pytest.mark.parametrize("hole", [(), (18, 19), (20,)])
def test_pieces_that_meet_are_stretches_of_their_own(hole: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).standard_normal((4, 40))
    values[:, hole] = np.nan
    values[:, 31] = np.nan  # inside a piece: interpolated
    found = fill_short_gaps(values, max_gap=3, min_segment=5, joins=(20,)).segments
    assert found == ((0, 18 if 19 in hole else 20), (21 if 20 in hole else 20, 40))


@pytest.mark.parametrize("mode", ["excess", "differential", "abs_dcorr"])
def test_nothing_runs_across_the_joins_of_pieces(mode: str) -> None:
    """A step of every neuron at the join would make all of them co-fluctuate around it."""
    values = np.random.default_rng(0).standard_normal((5, 80))
    first, second = pair_index(5)
    found = []
    for piece in (values, values + np.where(np.arange(80) < 36, 0.0, 50.0)):
        traces = fill_short_gaps(piece, max_gap=3, min_segment=5, joins=(36,))
        out = np.zeros((first.size, 20), dtype=np.float32)
        options = {"rate_hz": RATE, "deriv_window": 5, "window": WINDOW, "bin_frames": BIN}
        pair_affinity(traces, first, second, mode=mode, scale_quantile=0.95, out=out, **options)
        found.append(out)
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_stretches_shorter_than_the_derivative_window_are_not_used() -> None:
    values = np.random.default_rng(0).standard_normal((4, 60))
    values[:, 4:30] = np.nan
    filled = fill_short_gaps(values, max_gap=2, min_segment=5)
    assert filled.segments == ((30, 60),)


def test_a_recording_without_data_has_no_neuron() -> None:
    filled = fill_short_gaps(np.full((4, 20), np.nan), max_gap=2, min_segment=5)
    assert not filled.present.any()
    assert filled.segments == ()


@pytest.mark.parametrize(
    ("seconds", "rate", "least", "frames"),
    [(2.5, 4.0, 5, 11), (15.0, 4.0, 3, 61), (2.5, 1.0, 5, 5), (1.0, 3.0, 1, 3)],
)
def test_windows_are_odd(seconds: float, rate: float, least: int, frames: int) -> None:
    assert odd_frames(seconds, rate, least) == frames
