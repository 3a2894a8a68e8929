"""A small recording of each modality in a real format, for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

from neuropipe.simulate.bids_files import write_seeg_dataset
from neuropipe.simulate.channel_files import simulate_channels, write_brainvision, write_fif
from neuropipe.simulate.fmri_files import simulate_fmri, write_bids_fmri
from neuropipe.simulate.spike_files import simulate_spikes, write_spike_nwb

__all__ = ["source_of"]


def source_of(modality: str, folder: Path) -> Path:
    """Write a recording of spikes, eeg, meg, ieeg or fmri; return the path that ingest gets."""
    folder.mkdir(parents=True, exist_ok=True)
    if modality == "spikes":
        write_spike_nwb(simulate_spikes((2.0, 8.0, 0.0), 20.0, trials=3, seed=3), folder / "a.nwb")
        return folder / "a.nwb"
    if modality == "eeg":
        write_brainvision(simulate_channels(), folder / "a.vhdr")
        return folder / "a.vhdr"
    if modality == "meg":
        write_fif(simulate_channels(kind="meg", n_channels=9), folder / "a_raw.fif")
        return folder / "a_raw.fif"
    if modality == "ieeg":
        write_seeg_dataset(folder)
        return next(folder.rglob("*_ieeg.vhdr"))
    write_bids_fmri(simulate_fmri(parcels=4, n_times=30, shape=(8, 9, 5)), folder)
    return next(folder.rglob("*_bold.nii.gz"))
