"""The session of the demo study: spikes with behaviour, depth electrodes and EEG on one clock."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neuropipe.simulate.bids_files import BidsRecording, write_bids_recording, write_bids_root
from neuropipe.simulate.channel_files import EEG_NAMES, SimulatedChannels, write_edf
from neuropipe.simulate.spike_files import SimulatedSpikes, write_spike_nwb
from neuropipe.simulate.states_and_clusters import (
    STEP_S,
    StatesAndClusters,
    states_and_clusters,
)

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["BIN_S", "BLOCK_S", "LATENT_BIN_S", "write_session"]

SUBJECT, SESSION = "d01", "a"
SAMPLE_RATE_HZ = 30_000.0
BIN_S, LATENT_BIN_S, BLOCK_S = 0.3, 0.05, 4.0  # as in config/config.yaml
CONTACT_MICROVOLTS, SCALP_VOLTS = 50.0, 1e-5
SPEED_EVERY = 5  # steps per sample of the running speed


class _Spikes(SimulatedSpikes):
    """Units whose region follows their cluster, but for every fifth unit."""

    @property
    def quality(self) -> list[str]:
        """All units are good ones."""
        return ["good"] * len(self.samples)

    @property
    def region(self) -> list[str]:
        """Two regions, each with a few units of the other's cluster."""
        half = len(self.samples) // 2
        return [("CA1", "VISp")[int((k >= half) != (k % 5 == 4))] for k in range(2 * half)]


def write_session(folder: Path, *, seed: int, duration_s: float) -> dict[str, xr.Dataset]:
    """Write the three recordings of the session below ``raw/`` and ``bids/`` of a study folder.

    Parameters
    ----------
    folder : Path
        Study folder.
    seed : int
        Seed of everything.
    duration_s : float
        Length, seconds.

    Returns
    -------
    dict
        Name of an analysis -> truth of its result.
    """
    made = states_and_clusters(seed, duration_s=duration_s)
    _write_spikes(made, folder / "raw", duration_s)
    _write_contacts(made, folder / "bids")
    _write_scalp(made, folder / "raw" / f"{SUBJECT}.edf")
    return {
        "bicluster": _clusters_truth(made),
        "gp_vae": _latents_truth(made),
        "hmm_glm": _states_truth(made),
    }


def _write_spikes(made: StatesAndClusters, folder: Path, duration_s: float) -> None:
    """Write units as NWB, and a table of the running speed, which follows the first latent."""
    samples = tuple(
        np.unique(np.round(times * SAMPLE_RATE_HZ).astype(np.int64)) for times in made.spike_times
    )
    spikes = _Spikes(samples, SAMPLE_RATE_HZ, duration_s, np.zeros((0, 2)))
    write_spike_nwb(spikes, folder / f"{SUBJECT}-units.nwb", subject=SUBJECT)
    time = made.truth["time"].values[::SPEED_EVERY]
    speed = 8.0 + 4.0 * made.truth["trajectory"].values[::SPEED_EVERY, 0]
    with (folder / f"{SUBJECT}-running.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["time_s", "speed"])
        writer.writerows(
            (f"{t:.3f}", f"{max(v, 0.0):.3f}") for t, v in zip(time, speed, strict=True)
        )


def _write_contacts(made: StatesAndClusters, root: Path) -> None:
    """Write two shanks as BIDS (BrainVision with its sidecars)."""
    names = tuple(f"{'AB'[k % 2]}{k // 2 + 1}" for k in range(made.contacts.shape[1]))
    recording = BidsRecording(
        datatype="ieeg",
        names=names,
        types=("SEEG",) * len(names),
        bad=(),
        rate_hz=1.0 / STEP_S,
        microvolts=CONTACT_MICROVOLTS * made.contacts,
        events=((0.0, 0.0, "start", 1),),
        position_mm={
            name: (30.0 - 60.0 * (k % 2) + 3.5 * (k // 2), -20.0, 10.0)
            for k, name in enumerate(names)
        },
        anat_label={
            name: ("Left-Hippocampus", "ctx-lh-temporal")[k % 2] for k, name in enumerate(names)
        },
    )
    write_bids_root(root, {SUBJECT: ("31", "F", "human")})
    write_bids_recording(root, recording, {"sub": SUBJECT, "ses": SESSION, "task": "rest"})


def _write_scalp(made: StatesAndClusters, path: Path) -> None:
    """Write the scalp channels as EDF+, in whole seconds."""
    rate = 1.0 / (STEP_S * made.scalp_step)
    n_channels = made.scalp.shape[1]
    whole = int(len(made.scalp) // rate * rate)
    channels = SimulatedChannels(
        values=SCALP_VOLTS * made.scalp[:whole],
        rate_hz=rate,
        names=EEG_NAMES[:n_channels],
        types=("eeg",) * n_channels,
        units=("V",) * n_channels,
        bad=(),
        events=((0, 1),),
        line_hz=float("nan"),
        positions=np.full((n_channels, 3), np.nan),
    )
    write_edf(channels, path)


def _binned(truth: xr.Dataset, width_s: float) -> xr.Dataset:
    """Return the truth on bins of `width_s`: means, and the state of the middle."""
    steps = round(width_s / STEP_S)
    whole = truth.isel(time=slice(0, truth.sizes["time"] // steps * steps))
    found = whole[["trajectory", "log_rate"]].coarsen(time=steps).mean()
    middle = whole["state"].values[steps // 2 :: steps]
    return found.assign(state=("time", middle))


def _clusters_truth(made: StatesAndClusters) -> xr.Dataset:
    import xarray as xr

    steps = _binned(made.truth, BIN_S)
    log_rate = steps["log_rate"].values.T + np.log(BIN_S)  # per bin
    return xr.Dataset(
        {
            "unit_cluster": ("unit", made.truth["unit_cluster"].values),
            "time_state": ("time", steps["state"].values),
            "log_rate": (("unit", "time"), log_rate),
            "trajectory": (("time", "latent"), steps["trajectory"].values),
        },
        coords={"time": steps["time"].values},
    )


def _latents_truth(made: StatesAndClusters) -> xr.Dataset:
    import xarray as xr

    steps = _binned(made.truth, LATENT_BIN_S)
    per_block = round(BLOCK_S / LATENT_BIN_S)
    n_blocks = steps.sizes["time"] // per_block
    cut = slice(0, n_blocks * per_block)
    values = steps["trajectory"].values[cut].reshape(n_blocks, per_block, -1)
    rate = np.exp(steps["log_rate"].values[cut]).reshape(n_blocks, per_block, -1)
    return xr.Dataset(
        {
            "latent_value": (("latent", "trial", "time"), np.moveaxis(values, 2, 0)),
            "rate": (("trial", "time", "unit"), rate),
        },
        coords={
            "latent": steps["latent"].values,
            "time": (np.arange(per_block) + 0.5) * LATENT_BIN_S,
        },
    )


def _states_truth(made: StatesAndClusters) -> xr.Dataset:
    import xarray as xr

    truth = made.truth[["weight", "connection", "connection_probability_global"]]
    truth = truth.rename(state_kind="state")
    path = made.truth["state"].values[:: made.scalp_step]
    return xr.Dataset(
        {**truth.data_vars, "state_sequence": (("trial", "time"), path[None])},
        coords={"connection_type": ["inhibitory", "absent", "excitatory"]},
    )
