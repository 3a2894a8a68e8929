"""Write the demo study: configuration, sources of five modalities, and the truth of each result."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from neuropipe.simulate.demo.objects import write_objects
from neuropipe.simulate.demo.session import write_session
from neuropipe.simulate.demo.worms import write_worms

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["write_demo", "write_truth"]

SEED, WORM_SEED = 20240501, 1
SESSION_S = 96.0
# Label of the configuration -> collection that has its result.
COLLECTIONS = {
    "ntf": "cohort-worm",
    "bicluster": "sub-d01_ses-a_spikes",
    "gp_vae": "sub-d01_ses-a",
    "hmm_glm": "sub-d01_ses-a_eeg",
    "trsa": "sub-f01",
}


def write_truth(folder: Path | str, collection: str, label: str, truth: xr.Dataset) -> Path:
    """Write what a simulator planted where the figures of a result look for it.

    Parameters
    ----------
    folder : Path or str
        Study folder.
    collection, label : str
        Whose result it is the truth of.
    truth : xarray.Dataset
        As the ``simulate`` of the analysis returns it.

    Returns
    -------
    Path
        ``truth/<collection>/<label>.nc``.
    """
    from neuropipe.store.layout import truth_file
    from neuropipe.store.provenance import write_dataset

    path = Path(folder) / truth_file(collection, label)
    write_dataset(truth, path, {"simulated": True})
    return path


def write_demo(folder: Path | str) -> None:
    """Write the demo study: shipped configuration, simulated sources, truth.

    Parameters
    ----------
    folder : Path or str
        Study folder; ``config/config.yaml`` must not exist there.
    """
    from neuropipe.config.shipped import shipped

    folder = Path(folder)
    truths = {
        # Two worms have fewer repeats of a motif than six: their traces are cleaner instead.
        "ntf": write_worms(folder, seed=WORM_SEED, subjects=2, snr=6.0, missing=0.05),
        **write_session(folder, seed=SEED, duration_s=SESSION_S),
        "trsa": write_objects(folder, seed=SEED),
    }
    for label, truth in truths.items():
        write_truth(folder, COLLECTIONS[label], label, truth)
    (folder / "config").mkdir(parents=True, exist_ok=True)
    for name in ("config.yaml", "recordings.tsv"):
        shutil.copyfile(shipped(f"config/{name}"), folder / "config" / name)
