"""The HMM-GLM on recordings that the project did not make: spikes, EEG, fMRI."""

from __future__ import annotations

import time

import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from real_data import ROOT, needs

from neuropipe.analyses import hmm_glm
from neuropipe.analyses.hmm_glm.methods import text
from neuropipe.analyses.hmm_glm.spec import ANALYSIS
from neuropipe.analyses.hmm_glm.summary import headline, summary
from neuropipe.assemble.trials import Input, trials
from neuropipe.config.models import IngestConfig, PreprocessConfig
from neuropipe.config.recordings import Recording
from neuropipe.io.ingest import ingest_recording
from neuropipe.plotting.save import save_figure
from neuropipe.preprocess.chain import preprocess
from neuropipe.store.provenance import read_dataset, write_dataset
from neuropipe.store.zarr import open_store

COUNTS = ROOT / "spikes/neuropixels_counts"
EEG = ROOT / "eeg_meg/eeglab/eeglab_data.set"
HAXBY = ROOT / "fmri/haxby2001_1slice/sub001/BOLD"
REGIONS = {1: "CA1", 2: "LP", 3: "VISp"}
BIN_S, LIMIT_S = 0.5, 60.0  # CPU time of the fit and all its outputs


@pytest.fixture(scope="module")
def neuropixels():
    """Return counts of 63 units and the label of every bin, 0 spontaneous, 1 movie."""
    counts = np.loadtxt(COUNTS / "Y.csv", delimiter=",").astype(np.int64).T
    label = np.loadtxt(COUNTS / "Lab_states.csv").astype(int)
    region = np.loadtxt(COUNTS / "Lab_neuron.csv").astype(int)
    data = xr.Dataset(
        {"counts": (("trial", "time", "unit"), counts[None])},
        coords={
            "trial": [0],
            "time": BIN_S * (np.arange(len(counts)) + 0.5),
            "unit": np.array([f"u{k:02d}" for k in range(counts.shape[1])], dtype=object),
            "region": ("unit", np.array([REGIONS[k] for k in region], dtype=object)),
        },
        attrs={"bin_width_s": BIN_S, "all_valid": 1, "time_reference": "session"},
    )
    return data, label


def outputs(result, settings, folder):
    """Write everything that the workflow writes of a result."""
    write_dataset(result, folder / "result.nc", {"settings": {}})
    figures = hmm_glm.figures(result)
    assert tuple(figures) == ANALYSIS.figure_slugs
    for slug, figure in figures.items():
        assert all(path.stat().st_size for path in save_figure(figure, folder, slug))
    assert len(summary(result)) == result.sizes["state"]
    assert "hidden Markov model" in text(settings, result)
    print(headline(result))


def purity(result, label):
    """Return the share of bins that carry the most frequent label of their state."""
    path = result["state_viterbi"].values[0]
    return sum(np.bincount(label[path == s]).max() for s in np.unique(path)) / label.size


def scores(result):
    name = "bits_per_spike" if "bits_per_spike" in result else None
    name = name or "held_out_log_likelihood"
    means = result[name].mean("fold").values
    return ", ".join(
        f"{n}: {value:.4g}" for n, value in zip(result["n_states"].values, means, strict=True)
    )


@needs(COUNTS)
def test_states_of_a_population_separate_movie_from_rest(neuropixels, tmp_path):
    data, label = neuropixels
    settings = hmm_glm.Settings(states=[1, 2, 4, 6], restarts=3, history={"bins": 0})
    began = time.process_time()
    result = hmm_glm.fit(data, settings, seed=0)
    outputs(result, settings, tmp_path)
    spent = time.process_time() - began
    found = purity(result, label)
    print(f"bits/spike {scores(result)}; used {result.attrs['n_states']}; purity {found:.3f} "
          f"(all bins one label: {max(label.mean(), 1 - label.mean()):.3f}); {spent:.0f} s CPU"
    )  # fmt: skip
    assert spent < LIMIT_S
    assert result.attrs["n_states"] == 6
    assert result["bits_per_spike"].sel(n_states=6).min() > 0.03
    assert found > 0.9


@needs(COUNTS)
def test_coupling_of_many_units_in_few_bins_leaves_one_state(neuropixels, tmp_path):
    """64 weights per unit and state from 720 bins: held-out data tell that two are too many."""
    data, label = neuropixels
    settings = hmm_glm.Settings(states=[1, 2], restarts=1, max_iter=25, cv_folds=3)
    began = time.process_time()
    result = hmm_glm.fit(data, settings, seed=0)
    outputs(result, settings, tmp_path)
    spent = time.process_time() - began
    print(f"bits/spike {scores(result)}; used {result.attrs['n_states']}; purity "
          f"{purity(result, label):.3f}; {spent:.0f} s CPU")  # fmt: skip
    assert spent < LIMIT_S
    assert result.attrs["n_states"] == 1
    assert result["bits_per_spike"].sel(n_states=1).min() > 0.03


def store_of(source, out, modality, run=""):
    name = f"sub-01_run-{run}_{modality}" if run else f"sub-01_{modality}"
    row = Recording(name=name, subject="01", modality=modality, path="x", run=run)
    ingest_recording(row, source, IngestConfig(), out / f"{name}.zarr")
    return open_store(out / f"{name}.zarr")


@needs(EEG)
def test_states_of_alpha_power_in_eeg(tmp_path):
    """A vector autoregression per state on the power of 8 to 12 Hz."""
    tree = store_of(EEG, tmp_path, "eeg")
    power = {"bands_hz": {"alpha": (8, 12)}, "resample_hz": 8}
    config = PreprocessConfig(eeg={"bandpass_hz": (1, 40), "band_power": power})
    data = trials([preprocess(tree, config)], Input())
    settings = hmm_glm.Settings(
        states=[1, 2, 3], restarts=2, cv_folds=3, max_iter=40, prior="gaussian",
        history={"basis": "lags", "bins": 1},
    )  # fmt: skip
    result = hmm_glm.fit(data, settings, seed=0)
    outputs(result, settings, tmp_path)
    gain = result["held_out_log_likelihood"] - result["held_out_log_likelihood"].sel(n_states=1)
    print(f"EEG {dict(data.sizes)}: nats/bin {scores(result)}; used {result.attrs['n_states']}; "
          f"visits last {result['dwell_time_mean_s'].values.round(2)} s")  # fmt: skip
    assert result.attrs["family"] == "gaussian"
    assert result.attrs["n_states"] > 1
    assert gain.sel(n_states=result.attrs["n_states"]).mean() > 0.1
    assert read_dataset(tmp_path / "result.nc")["event_label"].size > 100


@needs(HAXBY)
def test_states_of_parcels_in_fmri(tmp_path):
    """The usual model of fMRI: no history, a covariance of all parcels in each state."""
    image = nib.load(HAXBY / "task001_run001/bold_1slice.nii.gz")
    blocks = 4 * (np.arange(40)[:, None] // 10) + np.arange(20) // 5 + 1
    atlas = np.repeat(blocks[:, :, None], 2, axis=2).astype(np.int16)
    nib.save(nib.Nifti1Image(atlas, image.affine), tmp_path / "atlas.nii.gz")
    stores = []
    config = PreprocessConfig(
        fmri={"confounds": "none", "parcellation": {"atlas": str(tmp_path / "atlas.nii.gz")}}
    )
    for run in range(1, 5):
        bold = HAXBY / f"task001_run{run:03d}/bold_1slice.nii.gz"
        stores.append(preprocess(store_of(bold, tmp_path, "fmri", str(run)), config))
    data = trials(stores, Input(scope="session"))
    settings = hmm_glm.Settings(
        states=[1, 2, 3], restarts=2, cv_folds=4, history={"bins": 0}, covariance="full"
    )
    result = hmm_glm.fit(data, settings, seed=0)
    outputs(result, settings, tmp_path)
    print(f"fMRI {dict(data.sizes)}: nats/bin {scores(result)}; used {result.attrs['n_states']}; "
          f"visits last {result['dwell_time_mean_s'].values.round(1)} s")  # fmt: skip
    assert result["covariance"].dims == ("state", "receiver", "sender")
    assert result.sizes["trial"] == 4
    assert np.isfinite(result["held_out_log_likelihood"]).all()
