"""The GP-VAE latents on real recordings: a heading circuit, a reach, a worm.

Usage::

    python benchmarks/gp_vae_real.py fly --data ../shared/data --figure ring.png
    python benchmarks/gp_vae_real.py maze --data ../shared/data
    python benchmarks/gp_vae_real.py worm --data ../shared/data

"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from neuropipe.analyses.gp_vae.evaluate import evaluate, unit_scores
from neuropipe.analyses.gp_vae.fitting import fit_one
from neuropipe.analyses.gp_vae.prepare import Prepared, prepare
from neuropipe.analyses.gp_vae.spec import GroupSizes, PriorSettings, Settings

PLANES, DAQ_HZ, BLOCK_S, STRIDE = 7, 10_000.0, 5.0, 8
TURNED, FOLDS = 2.0, 3  # rad that the heading spans in recordings that are used
RING = np.exp(2j * np.pi * np.arange(16) / 16)


def read_fly(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return volume times, wedges (time, 16), row times and heading (rad), on one clock."""
    from scipy.io import loadmat

    file = loadmat(path, squeeze_me=True, struct_as_record=False)
    track = file["positionDat"]
    wedges = np.asarray(file["RROIaveMax"], float).T
    volumes = np.asarray(track.tFrameGrab, float)[::PLANES][: len(wedges)] / DAQ_HZ
    rows = np.asarray(track.t, float) - float(track.t[0]) + float(track.tVR[0]) / DAQ_HZ
    return volumes, wedges[: len(volumes)], rows, np.deg2rad(np.asarray(track.OffsetRot, float))


def fly_blocks(paths: list[Path], common: bool) -> tuple[xr.Dataset, np.ndarray, np.ndarray]:
    """Cut recordings into blocks; return input, true heading at volumes, file of each block.

    With `common` the brightness that all wedges share in a volume is divided out.
    """
    n_volumes = int(BLOCK_S / 0.0875)
    step = 0.0875
    calcium, behavior, heading, source = [], [], [], []
    fine = np.arange(0, n_volumes * step, STRIDE * 0.00833)
    for number, path in enumerate(paths):
        volumes, wedges, rows, angle = read_fly(path)
        wedges = wedges / wedges.mean(axis=1, keepdims=True) if common else wedges
        unwrapped = np.unwrap(angle)
        first = int(np.searchsorted(volumes, rows[0] + 0.1))
        for start in range(first, len(volumes) - n_volumes, n_volumes):
            piece = slice(start, start + n_volumes)
            begin = volumes[start]
            if begin + fine[-1] > rows[-1]:
                break
            calcium.append(wedges[piece])
            behavior.append(np.interp(begin + fine, rows, unwrapped)[:, None])
            heading.append(np.interp(volumes[piece], rows, unwrapped))
            source.append(number)
    data = xr.Dataset(
        {
            "calcium": (("trial", "time_calcium", "unit_calcium"), np.stack(calcium)),
            "behavior": (("trial", "time_behavior", "unit_behavior"), np.stack(behavior)),
        },
        coords={"time_calcium": np.arange(n_volumes) * step, "time_behavior": fine},
    )
    return data, np.stack(heading), np.array(source)


def circular_error(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Return the median absolute circular difference, degrees."""
    return float(np.degrees(np.median(np.abs(np.angle(np.exp(1j * (estimate - truth)))))))


def population_vector(
    values: np.ndarray, heading: np.ndarray, source: np.ndarray, train: np.ndarray, own: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the angle of the vector sum over wedges, and the offset of heading from it.

    Sign and offsets, one for all recordings or one of each (`own`), are of training blocks.
    """
    low, high = (np.quantile(values[train], q, axis=(0, 1)) for q in (0.05, 0.95))
    vector = np.angle(((values - low) / (high - low)) @ RING)
    group, found = source if own else np.zeros_like(source), []
    for sign in (1, -1):
        angle, offset = sign * vector, np.zeros(len(source))
        for one in np.unique(group):
            rows = train[group[train] == one]
            offset[group == one] = np.angle(np.exp(1j * (heading[rows] - angle[rows])).mean())
        error = circular_error(angle[train] + offset[train, None], heading[train])
        found.append((error, angle, offset))
    _, angle, offset = min(found, key=lambda one: one[0])
    return angle, offset


def with_split(prepared: Prepared, train: np.ndarray, test: np.ndarray) -> Prepared:
    split = np.full(len(prepared.split), "unused", dtype="<U10")
    split[train], split[test] = "train", "test"
    return replace(prepared, split=split)


def fly(folder: Path, figure: str | None) -> None:
    """Decode heading in blocks that were left out, as recorded and with both corrections."""
    every = sorted((folder / "calcium/fly_heading").glob("*.mat"))
    paths = [p for p in every if np.ptp(np.unwrap(read_fly(p)[3])) > TURNED]
    print(f"{len(paths)} of {len(every)} recordings in which the heading spans {TURNED:g} rad")
    for label, common, own in (
        ("as recorded, one offset", False, False),
        ("common brightness divided out", True, False),
        ("... and an offset per recording", True, True),
    ):
        data, heading, source = fly_blocks(paths, common)
        drawn = []
        for fold in range(FOLDS):
            test = np.flatnonzero(np.arange(len(source)) % FOLDS == fold)
            drawn.append(fly_fold(label, data, heading, source, test, own))
        every_heading = np.concatenate([one[2].ravel() for one in drawn])
        share = np.histogram(np.mod(every_heading, 2 * np.pi), 8, (0, 2 * np.pi))[0]
        print(f"share of volumes by eighth of the circle {np.round(share / share.sum(), 2)}")
    if figure:
        draw_ring(drawn, figure)


def fly_fold(
    label: str, data: xr.Dataset, heading: np.ndarray, source: np.ndarray, test: np.ndarray,
    own: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Fit without the blocks of one fold; print errors; return latents, readout, heading."""
    train = np.setdiff1d(np.arange(len(source)), test)
    angle, offset = population_vector(data["calcium"].values, heading, source, train, own)
    # The compass has a landmark of its own in each recording: heading counts from there.
    turned = data["behavior"].values[..., 0] - offset[:, None] * own
    heading = heading - offset[:, None] * own
    vector = angle + offset[:, None] * (not own)
    data = data.assign(
        behavior=(data["behavior"].dims, np.stack([np.cos(turned), np.sin(turned)], axis=-1))
    )
    settings = Settings(
        latents=GroupSizes(shared=2, private=1), restarts=1, heldout_units=0.0,
        prior=PriorSettings(length_scale_s=[0.3, 2.5]), max_epochs=40,
    )  # fmt: skip
    prepared = with_split(prepare(data, settings, 0), train, test)
    start = time.process_time()
    fitted = fit_one(prepared, settings, 0, latents=3, restart=0).fitted
    cpu = time.process_time() - start
    parts = prepared.take(test)
    hidden = {"calcium": parts["calcium"], "behavior": parts["behavior"].drop()}
    posterior = fitted.posterior(hidden, clocks={"volumes": prepared.data["calcium"].times})
    moments, decoder = posterior.moments["volumes"], fitted.model.decoders["behavior"]
    channels = prepared.channels["behavior"]
    readout = moments.mean @ decoder.loading.T + decoder.offset
    readout = readout * channels.sd + channels.mean
    estimate = np.arctan2(readout[..., 1], readout[..., 0])
    null = [
        circular_error(np.roll(estimate, k, axis=0), heading[test]) for k in range(1, len(test))
    ]
    scores = evaluate(fitted, prepared, np.random.default_rng(0)).table
    print(f"{label}: {len(train)} blocks to fit, {len(test)} to test, {cpu:.1f} CPU s; median "
          f"error of heading from calcium (degrees): latents "
          f"{circular_error(estimate, heading[test]):.1f}, population vector "
          f"{circular_error(vector[test], heading[test]):.1f}, latents of other blocks "
          f"{np.mean(null):.1f}; R2 of heading's cosine and sine from calcium "
          f"{scores['from_calcium_r2', 'behavior', 'test']:.2f} (other blocks "
          f"{scores['null_from_calcium_r2', 'behavior', 'test']:.2f}); of calcium from heading "
          f"{scores['from_behavior_r2', 'calcium', 'test']:.2f} "
          f"({scores['null_from_behavior_r2', 'calcium', 'test']:.2f})", flush=True)  # fmt: skip
    frame = np.linalg.svd(decoder.loading[:, :2], full_matrices=False)[2]
    return moments.mean[..., :2] @ frame.T, readout, heading[test]


def draw_ring(folds: list[tuple[np.ndarray, np.ndarray, np.ndarray]], path: str) -> None:
    from matplotlib.figure import Figure

    page = Figure(figsize=(9.5, 3.2), layout="constrained")
    left, middle, right = page.subplots(1, 3)
    style = {"s": 2, "cmap": "hsv", "vmin": 0, "vmax": 2 * np.pi}
    latents, _, heading = folds[0]
    shown = left.scatter(*latents.reshape(-1, 2).T, c=np.mod(heading.ravel(), 2 * np.pi), **style)
    left.set(xlabel="Shared latent 1 (SD)", ylabel="Shared latent 2 (SD)", title="Test blocks")
    for _, readout, truth in folds:
        color = np.mod(truth.ravel(), 2 * np.pi)
        middle.scatter(*readout.reshape(-1, 2).T, c=color, **style)
        estimate = np.mod(np.arctan2(readout[..., 1], readout[..., 0]), 2 * np.pi)
        right.plot(color, estimate.ravel(), "k.", ms=1)
    middle.set(xlabel="Cosine from calcium", ylabel="Sine from calcium", title="All folds")
    for axes in (left, middle):
        axes.set_aspect("equal")
    page.colorbar(shown, ax=middle, label="Heading (rad)")
    right.set(xlabel="Heading (rad)", ylabel="Heading from calcium (rad)", title="All folds")
    page.savefig(path, dpi=130)


REACH_BIN, REACH_BINS = 20, 10  # ms, bins of a window


def maze(folder: Path, seeds: list[int]) -> None:
    """Predict positions from spikes in windows of one reach that were left out."""
    import pandas as pd

    table = pd.read_csv(folder / "behavior/mc_maze_trial_748.csv")
    units = [c for c in table if c.startswith("unit_")]
    # Velocity differs from 0 in a few windows only: one reach has no second to score.
    moves = [c for c in table if "_pos_" in c and c.startswith(("hand_", "cursor_", "eye_"))]
    rows = len(table) // (REACH_BIN * REACH_BINS) * REACH_BIN * REACH_BINS
    shape = (-1, REACH_BINS, REACH_BIN)
    counts = np.nan_to_num(table[units].to_numpy()[:rows]).reshape(*shape, len(units))
    moved = table[moves].to_numpy()[:rows].reshape(*shape, len(moves))
    times = np.arange(REACH_BINS) * REACH_BIN / 1000
    data = xr.Dataset(
        {
            "spikes": (("trial", "time_spikes", "unit_spikes"), counts.sum(axis=2).astype(int),
                       {"bin_width_s": REACH_BIN / 1000}),
            "behavior": (("trial", "time_behavior", "unit_behavior"), moved.mean(axis=2)),
        },
        coords={"time_spikes": times, "time_behavior": times},
    )  # fmt: skip
    print(dict(data["spikes"].sizes), f"{int(counts.sum())} spikes", moves)
    settings = Settings(latents=GroupSizes(shared=3, private=0), restarts=1,
                        split=[0.67, 0.0, 0.33], prior=PriorSettings(length_scale_s=[0.04, 0.3]),
                        max_epochs=40)  # fmt: skip
    for seed in seeds:
        prepared, start = prepare(data, settings, seed), time.process_time()
        fitted = fit_one(prepared, settings, seed, latents=3, restart=0).fitted
        cpu = time.process_time() - start
        table_of = evaluate(fitted, prepared, np.random.default_rng(0)).table
        streams, null = streams_from(fitted, prepared, "spikes")
        print(f"split {seed}: positions from spikes R2 {np.round(streams, 2)} (other windows "
              f"{np.round(null, 2)}, ridge {np.round(ridge_r2(prepared, 'spikes'), 2)}); "
              f"held-out units {table_of['bits_per_spike', 'spikes', 'test']:.2f} bits/spike (null "
              f"{table_of['null_bits_per_spike', 'spikes', 'test']:.2f}); {cpu:.1f} CPU s",
              flush=True)  # fmt: skip


def streams_from(fitted, prepared: Prepared, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the R2 of each stream of behaviour in test trials from one modality, and its null.

    The null is the mean over predictions from the latents of every other trial.
    """
    parts = prepared.take(prepared.trials("test"))
    one, every = parts["behavior"], np.ones(parts["behavior"].values.shape[2], bool)
    hidden = {name: m if name == source else m.drop() for name, m in parts.items()}
    moments = fitted.posterior(hidden).moments["behavior"]
    predicted, _ = fitted.predict("behavior", one, moments)
    null = [
        unit_scores(one, np.roll(predicted, k, axis=0), every) for k in range(1, len(predicted))
    ]
    return unit_scores(one, predicted, every), np.mean(null, axis=0)


STREAMS = ["velocity", "angular_velocity", "head_angle", "worm_curvature"]
STEP_S, WORM_BLOCK_S = 0.6, 30.0
COMPONENTS = [3, 8, 16, 32]


def worm_blocks(path: Path) -> xr.Dataset:
    """Take a whole-brain recording and its behaviour through the steps of a study."""
    import tempfile

    from neuropipe.assemble.multimodal import Input, multimodal
    from neuropipe.config.load import check_model
    from neuropipe.config.models import IngestConfig, PreprocessConfig
    from neuropipe.config.recordings import Recording
    from neuropipe.io.ingest import ingest_recording
    from neuropipe.preprocess.chain import preprocess
    from neuropipe.store.zarr import open_store

    reader = {
        "kind": "fluorescence",
        "index_base": 1,
        "datasets": {
            "traces": "gcamp/trace_array_original",
            "time": "timing/timestamp_confocal",
            "behavior": {name: f"behavior/{name}" for name in STREAMS},
        },
    }
    block = {
        "scope": "recording", "modalities": ["calcium", "behavior"], "behavior": STREAMS,
        "trials": {"by": "blocks", "block_s": WORM_BLOCK_S},
    }  # fmt: skip
    given, problems = check_model(Input, block, "input")
    assert not problems, problems
    row = Recording(name="sub-1_calcium", subject="1", modality="calcium", path="x")
    chain = PreprocessConfig(calcium={"resample": {"dt_s": STEP_S}, "normalise": "zscore"})
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / f"{row.name}.zarr"
        ingest_recording(row, path, IngestConfig(readers={"hdf5": reader}), store)
        return multimodal([preprocess(open_store(store), chain)], given).load()


def without_drift(data: xr.Dataset, seconds: float = 60.0) -> xr.Dataset:
    """Subtract a running mean of the traces; the blocks follow each other without a gap."""
    from scipy.ndimage import uniform_filter1d

    values = data["calcium"].values
    flat = values.reshape(-1, values.shape[2])
    slow = uniform_filter1d(flat, round(seconds / STEP_S), axis=0)
    return data.assign(calcium=data["calcium"].copy(data=(flat - slow).reshape(values.shape)))


def ridge_r2(prepared: Prepared, source: str) -> np.ndarray:
    """Return the R2 of each stream of behaviour by ridge regression on all units of the time."""
    from scipy.ndimage import gaussian_filter1d
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold

    train, test = prepared.trials("train"), prepared.trials("test")
    units, moved = prepared.data[source].values, prepared.data["behavior"].values
    if prepared.data[source].model.counts:
        units = gaussian_filter1d(np.sqrt(units), 2, axis=1)
    blocks = np.repeat(np.arange(train.size), units.shape[1])
    flat = units[train].reshape(blocks.size, -1)
    folds = list(GroupKFold(5).split(flat, groups=blocks))
    fit = RidgeCV(np.logspace(0, 6, 13), cv=folds).fit(flat, moved[train].reshape(blocks.size, -1))
    one = prepared.data["behavior"].take(test)
    predicted = fit.predict(units[test].reshape(-1, units.shape[2])).reshape(one.values.shape)
    return unit_scores(one, predicted, np.ones(moved.shape[2], bool))


def component_r2(prepared: Prepared, stream: int, counts: list[int]) -> np.ndarray:
    """Return the R2 of one stream by ridge regression on the first principal components."""
    from sklearn.linear_model import RidgeCV

    train, test = prepared.trials("train"), prepared.trials("test")
    traces, moved = (prepared.data[name].values for name in ("calcium", "behavior"))
    flat, true = (traces[rows].reshape(-1, traces.shape[2]) for rows in (train, test))
    seen, wanted = (moved[rows, :, stream].ravel() for rows in (train, test))
    axes = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)[2]
    found = []
    for count in counts:
        fit = RidgeCV(np.logspace(-1, 6, 15)).fit(flat @ axes[:count].T, seen)
        error = ((wanted - fit.predict(true @ axes[:count].T)) ** 2).sum()
        found.append(1 - error / ((wanted - wanted.mean()) ** 2).sum())
    return np.array(found)


def worm(folder: Path, seeds: list[int], shared: int) -> None:
    whole = worm_blocks(folder / "calcium/celegans_dag2023/2022-08-02-31-data.h5")
    print({name: dict(whole[name].sizes) for name in ("calcium", "behavior")}, STREAMS)
    settings = Settings(
        latents=GroupSizes(shared=shared, private=0), restarts=1, split=[0.6, 0.0, 0.4],
        prior=PriorSettings(length_scale_s=[1.2, 15.0]), max_epochs=25,
    )  # fmt: skip
    head = STREAMS.index("head_angle")
    for label, data in (("as recorded", whole), ("drift removed", without_drift(whole))):
        for seed in seeds:
            prepared, start = prepare(data, settings, seed), time.process_time()
            fitted = fit_one(prepared, settings, seed, latents=shared, restart=0).fitted
            cpu = time.process_time() - start
            table = evaluate(fitted, prepared, np.random.default_rng(0)).table
            streams, null = streams_from(fitted, prepared, "calcium")
            ridge = ridge_r2(prepared, "calcium")
            parts = component_r2(prepared, head, COMPONENTS)
            print(f"{label}, split {seed}: held-out traces R2 {table['r2', 'calcium', 'test']:.3f} "
                  f"(null {table['null_r2', 'calcium', 'test']:.3f}); behaviour from calcium "
                  f"{np.round(streams, 2)} (null {np.round(null, 2)}, ridge {np.round(ridge, 2)}); "
                  f"head angle by ridge on the first {COMPONENTS} components {np.round(parts, 2)}; "
                  f"length scales {np.round(fitted.model.lengths, 1)} s, {cpu:.1f} CPU s",
                  flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=["fly", "maze", "worm"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--figure")
    parser.add_argument(
        "--seeds", type=int, nargs="*", default=[0, 1, 2], help="maze, worm: splits"
    )
    parser.add_argument("--shared", type=int, default=3, help="worm: shared latents")
    given = parser.parse_args()
    threadpool_limits(limits=1)
    if given.command == "fly":
        fly(given.data, given.figure)
    elif given.command == "maze":
        maze(given.data, given.seeds)
    else:
        worm(given.data, given.seeds, given.shared)


if __name__ == "__main__":
    main()
