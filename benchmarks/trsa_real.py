"""The representational analysis on public recordings: a heading ring, objects, an EEG."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from scipy.ndimage import uniform_filter1d

from neuropipe.analyses import trsa
from neuropipe.analyses.trsa import stages
from neuropipe.analyses.trsa.descriptors import descriptor_vectors
from neuropipe.analyses.trsa.kernels.compare import compare
from neuropipe.analyses.trsa.kernels.homology import rips_bars
from neuropipe.analyses.trsa.kernels.pairs import to_pairs
from neuropipe.analyses.trsa.kernels.transform import prescale
from neuropipe.analyses.trsa.summary import headline, tables

CATEGORIES = ["face", "house", "cat", "bottle", "scissors", "shoe", "chair", "scrambledpix"]
BINS, SHUFFLES, PLANES, CLOCK_HZ = 16, 200, 7, 1e4
SMOOTH, LAG = 5, 8  # frames of about 90 ms


def save_figures(result: xr.Dataset, folder: Path | None, tag: str) -> None:
    from neuropipe.plotting.style import apply_style

    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    with apply_style():
        for slug, figure in trsa.figures(result).items():
            figure.savefig(folder / f"{tag}-{slug}.png", dpi=110)


def heading_trial(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return red fluorescence (frame, wedge), as dF/F, and heading (degrees) of its frames."""
    import scipy.io

    source = scipy.io.loadmat(path, simplify_cells=True)
    ball, traces = source["positionDat"], source["RROIaveMax"].T.astype(float)
    start = ball["t"][0] - ball["tVR"][0] / CLOCK_HZ
    at = ball["tFrameGrab"][::PLANES] / CLOCK_HZ + start
    count = min(len(at), len(traces))
    turned = np.interp(at[:count], ball["t"], np.unwrap(np.deg2rad(ball["OffsetRot"])))
    traces = uniform_filter1d(traces, SMOOTH, axis=0)
    activity = traces / np.quantile(traces, 0.1, axis=0) - 1
    inside = (at[:count] >= ball["t"][0]) & (at[:count] <= ball["t"][-1])
    heading = np.roll(np.rad2deg(turned), LAG) % 360  # the indicator is late
    return activity[:count][inside][LAG:], heading[inside][LAG:]


def _bump(traces: np.ndarray) -> np.ndarray:
    wedge = np.exp(2j * np.pi * np.arange(traces.shape[1]) / traces.shape[1])
    return traces @ wedge


def _aligned(traces: np.ndarray, heading: np.ndarray) -> np.ndarray:
    """Return heading plus the offset of the bump, which is another in every trial.

    The offset is one number per trial; the null of shifted headings gets one in the same way.
    """
    offset = np.angle((_bump(traces) * np.exp(-1j * np.deg2rad(heading))).sum())
    return (heading + np.rad2deg(offset)) % 360


def ring_data(trials: list[tuple[np.ndarray, np.ndarray]], shifts: np.ndarray | None) -> xr.Dataset:
    values, labels, runs = [], [], []
    for k, (traces, heading) in enumerate(trials):
        moved = _aligned(traces, heading if shifts is None else np.roll(heading, shifts[k]))
        strong = np.abs(_bump(traces)) > np.quantile(np.abs(_bump(traces)), 0.3)
        traces, moved = traces[strong], moved[strong]
        values.append(traces)
        labels.append((moved // (360 / BINS)).astype(int) % BINS)
        # Alternating quarters of every trial are the two folds.
        runs.append((np.arange(len(moved)) * 4 // len(moved)) % 2)
    names = np.array([f"{k:02d}" for k in range(BINS)])[np.concatenate(labels)]
    return xr.Dataset(
        {"patterns": (("observation", "channel"), np.concatenate(values))},
        coords={
            "condition": ("observation", names),
            "run": ("observation", [f"{r:02d}" for r in np.concatenate(runs)]),
        },
        attrs={"modality": "calcium", "units": "dF/F"},
    )


def longest_bar(values: np.ndarray) -> float:
    """Return the longest loop bar, relative to the largest dissimilarity."""
    clean = np.where(np.isfinite(values), values, np.nanmax(values))
    _, h1 = rips_bars(prescale(clean, "minmax"))
    return float((h1[:, 1] - h1[:, 0]).max()) if len(h1) else 0.0


def ring(data: Path, figures: Path | None = None) -> None:
    """Heading in 16 bins of one fly, by descriptors and by persistent homology."""
    files = sorted((data / "calcium/fly_heading").glob("*.mat"))
    angle = 2 * np.pi * np.arange(BINS) / BINS
    arc = np.abs(angle[:, None] - angle)
    model = to_pairs(np.minimum(arc, 2 * np.pi - arc))
    settings = trsa.Settings(
        rdm={"measure": "correlation", "permutations": 0},
        inference={"bootstrap": 0, "permutations": 0},
        descriptor={"homology": True, "prescale": "minmax"},
    )
    rng = np.random.default_rng(0)
    for name, words in (("stripe", ("_1x_",)), ("all", ("_1x_", "_Dark_"))):
        trials = [heading_trial(path) for path in files if any(word in path.name for word in words)]
        observed = ring_data(trials, None)
        part = stages.rdm(observed, settings, 0, {})
        raw = part["rdm"].values[0, 0]
        vectors = descriptor_vectors(raw, settings.descriptor)
        print(f"{name}: {len(trials)} trials, {BINS} headings, correlation distance; Spearman with "
              "distance on the ring, and 95 % of shifted headings")  # fmt: skip
        null: dict[str, list[float]] = {key: [] for key in [*vectors, "H1"]}
        while len(null["H1"]) < SHUFFLES:
            shifts = np.array([rng.integers(60, len(h) - 60) for _, h in trials])
            drawn = ring_data(trials, shifts)
            if np.unique(drawn["condition"]).size < BINS:
                continue  # a rotation of the trials that leaves a heading unseen
            shuffled = stages.rdm(drawn, settings, 0, {})["rdm"].values[0, 0]
            for key, row in descriptor_vectors(shuffled, settings.descriptor).items():
                null[key].append(compare(row, model, "spearman").item())
            null["H1"].append(longest_bar(shuffled))
        for key, row in vectors.items():
            found = compare(row, model, "spearman").item()
            p = (np.sum(np.array(null[key]) >= found) + 1) / (SHUFFLES + 1)
            print(
                f"  {key:18} {found:6.3f}  null 95 % {np.nanquantile(null[key], 0.95):6.3f}  p = "
                f"{p:.3f}"
            )
        bar = longest_bar(raw)
        p = (np.sum(np.array(null["H1"]) >= bar) + 1) / (SHUFFLES + 1)
        print(
            f"  longest H1 bar     {bar:6.3f}  null 95 % {np.quantile(null['H1'], 0.95):6.3f}  p = "
            f"{p:.3f}"
        )
        result = trsa.fit(observed, settings, 0)
        save_figures(result, figures, f"ring{name}")


def haxby_runs(data: Path, folder: Path) -> list[Any]:
    from neuropipe.config.models import IngestConfig
    from neuropipe.config.recordings import Recording
    from neuropipe.io.ingest import ingest_recording
    from neuropipe.store.zarr import open_store

    layout = {
        "events": "bold_events.tsv", "confounds": "bold_moest.txt", "mask": "all",
        "confound_columns": ["rot_x", "rot_y", "rot_z", "trans_x", "trans_y", "trans_z"],
    }  # fmt: skip
    stores = []
    images = sorted(
        (data / "fmri/haxby2001_1slice/sub001/BOLD").glob("task001_run*/bold_1slice.nii.gz")
    )
    for k, image in enumerate(images):
        name = f"sub-1_run-{k + 1:02d}_fmri"
        row = Recording(name=name, subject="1", modality="fmri", path="x", run=f"{k + 1:02d}")
        config = IngestConfig(readers={"nifti": layout})
        ingest_recording(row, image, config, folder / f"{name}.zarr")
        stores.append(open_store(folder / f"{name}.zarr"))
    return stores


def object_models(labels: list[str]) -> xr.DataArray:
    """Return animate against other, faces and houses against other, scrambled against other."""
    groups = {
        "animate": {"face", "cat"}, "face": {"face"}, "house": {"house"},
        "scrambled": {"scrambledpix"},
    }  # fmt: skip
    squares = []
    for members in groups.values():
        inside = np.array([label in members for label in labels])
        squares.append((inside[:, None] != inside).astype(float))
    dims = ("model", "condition", "condition_2")
    coords = {"model": list(groups), "condition": labels, "condition_2": labels}
    return xr.DataArray(np.stack(squares), dims=dims, coords=coords)


def haxby(data: Path, figures: Path | None = None) -> None:
    """Eight categories, 12 runs, one slice: by window means and by the GLM."""
    from neuropipe.assemble.conditions import Input, conditions
    from neuropipe.config.models import FmriPreprocess

    with tempfile.TemporaryDirectory() as folder:
        stores = haxby_runs(data, Path(folder))
        fmri = FmriPreprocess(confounds="6p", csf_wm=False, fd_threshold_mm=None)
        for estimate in ("window_mean", "glm"):
            wanted = {
                "labels": CATEGORIES, "glm": {"estimate": estimate},
                "units": {"where": "relative_intensity > 0.2"},
            }  # fmt: skip
            made = conditions(stores, Input.model_validate(wanted), fmri=fmri)
            recipe = made.drop_vars(["noise_residuals", "noise_dof"], errors="ignore")
            plain = trsa.Settings(
                rdm={"noise": "diag"}, inference={"bootstrap": 0, "permutations": 0}
            )
            one = trsa.fit(recipe, plain, 0)
            print(f"{estimate}: {one['n_channels'].item()} voxels, SD over runs: mean crossnobis "
                  f"{one['mean_dissimilarity'].item():.3f}, null 95 % "
                  f"{one['null_dissimilarity_95'].item():.3f}, p = "
                  f"{one['p_discriminability'].item():.4f} "
                  "(spec .28, .04, p < .01)")  # fmt: skip
        full = made.assign(model_rdms=object_models(CATEGORIES))
        kinds = {name: "animate" if name in ("face", "cat") else "other" for name in CATEGORIES}
        settings = trsa.Settings(searchlight={"radius_mm": 9.0, "min_voxels": 6}, categories=kinds)
        begin = time.process_time()
        result = trsa.fit(full, settings, 0)
        print(f"whole analysis {time.process_time() - begin:.1f} s CPU; {headline(result)}")
        print(f"mean crossnobis {result['mean_dissimilarity'].item():.3f}, null 95 % "
              f"{result['null_dissimilarity_95'].item():.3f}, p = "
              f"{result['p_discriminability'].item():.4f}, "
              f"shrinkage {result['noise_shrinkage'].item():.2f}")  # fmt: skip
        print(tables(result)["models.csv"].to_string(index=False))
        print([issue["code"] for issue in json.loads(result.attrs["issues"])])
        save_figures(result, figures, "haxby")


def eeg(data: Path, figures: Path | None = None) -> None:
    """Squares at two places and answers after them: a movie of 32 channels."""
    from neuropipe.assemble.conditions import Input, conditions
    from neuropipe.config.models import IngestConfig, PreprocessConfig
    from neuropipe.config.recordings import Recording
    from neuropipe.io.ingest import ingest_recording
    from neuropipe.preprocess.chain import preprocess
    from neuropipe.store.zarr import open_store

    with tempfile.TemporaryDirectory() as folder:
        row = Recording(name="sub-1_eeg", subject="1", modality="eeg", path="x")
        store = Path(folder) / "sub-1_eeg.zarr"
        source = data / "eeg_meg/eeglab/eeglab_data.set"
        ingest_recording(row, source, IngestConfig(), store)
        tree = open_store(store)
        tree = preprocess(tree, PreprocessConfig(eeg={"bandpass_hz": (1.0, 40.0), "line_hz": None}))
        events = tree["events"].to_dataset()
        kinds = _event_kinds(source)
        # The table of events has no place of the stimulus; the file has.
        assert [k.split("-")[0] for k in kinds] == events["label"].values.tolist()
        events = events.assign(kind=(events["label"].dims, kinds))
        tree["events"] = xr.DataTree(events)
        labels = sorted(set(kinds))
        print({label: int((kinds == label).sum()) for label in labels})
        wanted = {
            "labels": labels,
            "column": "kind",
            "window_s": (-0.2, 0.6),
            "folds": 8,
            "keep_time": True,
        }
        made = conditions([tree], Input.model_validate(wanted), seed=1)
    settings = trsa.Settings(time={"window_s": 0.03, "step_s": 0.015}, inference={"bootstrap": 0})
    begin = time.process_time()
    result = trsa.fit(made, settings, 0)
    movie = result["rdm"].values[0, 0].mean(axis=1)
    at = result["time"].values
    before = movie[at < 0]
    pairs = result["rdm"].values[0, 0][at >= 0].max(axis=0)
    print(f"whole analysis {time.process_time() - begin:.1f} s CPU; mean crossnobis peaks at "
          f"{at[movie.argmax()]:.3f} s with {movie.max():.3f}; before the event "
          f"{before.mean():.3f} +- "
          f"{before.std(ddof=1):.3f}; largest pair {pairs.max():.3f}")  # fmt: skip
    same = result["time_time"].values[0, 0]
    after = at >= 0.1
    print(f"time generalisation: after 0.1 s {same[np.ix_(after, after)].mean():.2f}, before 0 "
          f"{same[np.ix_(at < 0, at < 0)].mean():.2f}")  # fmt: skip
    print([issue["code"] for issue in json.loads(result.attrs["issues"])])
    save_figures(result, figures, "eeg")


def _event_kinds(path: Path) -> np.ndarray:
    """Return labels of four kinds: stimulus or answer, by the place of the stimulus."""
    import scipy.io

    source = scipy.io.loadmat(path, simplify_cells=True)
    source = source.get("EEG", source)
    current, kinds = "1", []
    for event in sorted(source["event"], key=lambda event: event["latency"]):
        if event["type"] == "square":
            current = f"{int(event['position'])}"
        kinds.append(f"{event['type']}-{current}")
    return np.array(kinds)


CASES: dict[str, Callable[[Path, Path | None], None]] = {"ring": ring, "haxby": haxby, "eeg": eeg}
