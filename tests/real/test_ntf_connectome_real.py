"""Communities of real worms beside a published connectome."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from real_data import DAG, ROOT, WORM_FOLDER, needs

from neuropipe.analyses import ntf
from neuropipe.assemble.cohort import Input, cohort
from neuropipe.config.models import ConnectomeConfig, IngestConfig, LabelConfig, PreprocessConfig
from neuropipe.config.recordings import Recording
from neuropipe.io.connectome.ingest import read_connectome
from neuropipe.io.ingest import ingest_recording
from neuropipe.preprocess.chain import preprocess
from neuropipe.store.zarr import open_store

WHITE = ROOT / "connectome" / "aconnectome_white_1986_whole.csv"
pytestmark = [needs(WORM_FOLDER), needs(WHITE), pytest.mark.recovery]
WORM = "2022-08-02-31"


@pytest.fixture(scope="module")
def wired(tmp_path_factory) -> xr.Dataset:
    """One worm, ten minutes, its identified neurons, with White et al. 1986."""
    source = WORM_FOLDER / f"{WORM}-data.h5"
    name = "sub-a_calcium"
    settings = IngestConfig.model_validate(
        {
            "readers": {"hdf5": DAG},
            "overrides": {name: {"names_table": str(WORM_FOLDER / f"{WORM}-labels.csv")}},
        }
    )
    row = Recording(name=name, subject="a", modality="calcium", path=str(source),
                    species="Caenorhabditis elegans", reader="hdf5")  # fmt: skip
    path = tmp_path_factory.mktemp("stores") / f"{name}.zarr"
    ingest_recording(row, source, settings, path)
    steps = {"calcium": {"resample": {"dt_s": 0.6}, "normalise": "zscore"}}
    tree = preprocess(open_store(path), PreprocessConfig.model_validate(steps))
    white = read_connectome(ConnectomeConfig(path=str(WHITE)), LabelConfig())
    rules = Input(scope="recording", connectome="white", span_s=(0.0, 600.0))
    data = cohort([tree], rules, connectome=white)
    classed = data["neuron_class"].values.astype(str) != ""
    return data.isel(neuron=classed, neuron_2=classed)


def test_communities_of_a_worm_are_compared_with_white_1986(wired: xr.Dataset) -> None:
    settings = ntf.Settings(rank=4, restarts=3, communities={"null_draws": 50})
    found = ntf.fit(wired, settings, 0)
    assert wired.sizes["neuron"] > 40
    weights = wired["connectome_weight"]
    for kind in ("chemical", "gap"):
        values = weights.sel(kind=kind).values
        assert np.isfinite(values).mean() > 0.9
        one = found.sel(kind=kind)
        has = np.isfinite(one["wiring_pvalue"].values)
        assert has.sum() >= 3
        labels = found["community"].values[:, 0]
        for r, c in np.argwhere(has):
            members = np.flatnonzero(labels[r] == c)
            inside = values[np.ix_(members, members)]
            np.fill_diagonal(inside, np.nan)
            np.testing.assert_allclose(
                one["wiring_weight"].values[r, c], np.nanmean(inside), rtol=1e-5
            )
        # Exchangeable sets are drawn around what the strengths let expect.
        spread = one["wiring_null"].values[has]
        assert (np.abs(spread[:, 1]) < spread[:, 2] - spread[:, 0]).all()
    print(ntf.wiring_table(found).round(3).to_string())
