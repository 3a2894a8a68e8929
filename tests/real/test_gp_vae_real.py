"""The GP-VAE latents of a heading circuit: calcium of 16 wedges and a ball on a finer clock."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import scipy.io
from real_data import CALCIUM, needs

from neuropipe.analyses import gp_vae
from neuropipe.analyses.gp_vae.prepare import prepare
from neuropipe.assemble.multimodal import Input, multimodal
from neuropipe.config.load import check_model
from neuropipe.config.models import IngestConfig, PreprocessConfig
from neuropipe.config.recordings import Recording
from neuropipe.io.ingest import ingest_recording
from neuropipe.preprocess.chain import preprocess
from neuropipe.store.zarr import open_store

FOLDER = CALCIUM / "fly_heading"
# In the first two recordings with a stripe the fly hardly turns.
FILES = sorted(FOLDER.glob("*_1x_*.mat"))[2:]
CLOCK_HZ, PLANES, STEP_S, LIMIT_S = 10_000.0, 7, 0.1, 30.0
pytestmark = needs(FOLDER)


def ingested(path, folder, run):
    """Return a preprocessed recording, the ball as cosine and sine of its heading."""
    source = scipy.io.loadmat(path, simplify_cells=True)
    ball = source["positionDat"]
    angle = np.deg2rad(ball["OffsetRot"])
    ball["cosine"], ball["sine"] = np.cos(angle), np.sin(angle)
    copy = folder / f"run-{run}.mat"
    scipy.io.savemat(copy, {"positionDat": ball, "RROIaveMax": source["RROIaveMax"]})
    stream = {
        name: {"path": f"positionDat.{name}", "time": "positionDat.t", "stream": "ball"}
        for name in ("cosine", "sine")
    }
    clock = {
        "path": "positionDat.tFrameGrab", "rate_hz": CLOCK_HZ, "every": PLANES,
        "offset_s": float(ball["t"][0] - ball["tVR"][0] / CLOCK_HZ),
    }  # fmt: skip
    reader = {
        "kind": "fluorescence",
        "datasets": {"traces": "RROIaveMax", "time": clock, "behavior": stream},
    }
    name = f"sub-fly1_run-{run}_calcium"
    row = Recording(name=name, subject="fly1", modality="calcium", path="x", run=run)
    store = folder / f"{name}.zarr"
    ingest_recording(row, copy, IngestConfig(readers={"matlab": reader}), store)
    chain = PreprocessConfig(calcium={"dff": None, "resample": {"dt_s": STEP_S}})
    return preprocess(open_store(store), chain)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return blocks of 5 s of four recordings."""
    folder = tmp_path_factory.mktemp("fly")
    stores = [ingested(path, folder, str(run)) for run, path in enumerate(FILES)]
    block = {
        "scope": "session", "modalities": ["calcium", "behavior"], "behavior": ["cosine", "sine"],
        "trials": {"by": "blocks", "block_s": 5.0},
    }  # fmt: skip
    given, problems = check_model(Input, block, "input")
    assert not problems, problems
    return multimodal(stores, given).load()


@pytest.fixture(scope="module")
def result(data):
    given = gp_vae.Settings(
        latents={"shared": 2, "private": 1}, restarts=1, split=[0.67, 0.0, 0.33], max_epochs=40,
        prior={"length_scale_s": [0.3, 2.5]},
    )  # fmt: skip
    start = time.process_time()
    found = gp_vae.fit(data, given, 0)
    used = time.process_time() - start
    print(f"{dict(data['calcium'].sizes)}, {dict(data['behavior'].sizes)}: {used:.1f} CPU s")
    assert used < LIMIT_S
    return found


def test_each_modality_keeps_its_clock(data, result):
    assert json.loads(data.attrs["modalities"]) == ["calcium", "behavior"]
    assert data.sizes["unit_calcium"] == 16
    assert data.sizes["time_behavior"] > 5 * data.sizes["time_calcium"]
    assert result["prediction_behavior"].shape == data["behavior"].shape
    assert np.isfinite(result["latent_mean"].values).any(axis=(1, 2)).all()


def circular_error(estimate, truth):
    """Return the median absolute circular difference, degrees."""
    angle = [np.arctan2(one[..., 1], one[..., 0]) for one in (estimate, truth)]
    difference = np.angle(np.exp(1j * (angle[0] - angle[1])))
    return float(np.degrees(np.nanmedian(np.abs(difference))))


def test_held_out_heading_is_decoded_from_calcium(data, result):
    """From wedges alone, in blocks that no fit has seen."""
    fitted = gp_vae.load(result)
    prepared = prepare(data, gp_vae.Settings.model_validate_json(result.attrs["fit_settings"]), 0)
    parts = prepared.take(prepared.trials("test"))
    posterior = fitted.posterior({**parts, "behavior": parts["behavior"].drop()})
    one, channels = parts["behavior"], prepared.channels["behavior"]
    predicted, _ = fitted.predict("behavior", one, posterior.moments["behavior"])
    estimate = predicted * channels.sd + channels.mean
    truth = np.where(one.valid, one.values * channels.sd + channels.mean, np.nan)
    error = circular_error(estimate, truth)
    others = [circular_error(np.roll(estimate, k, 0), truth) for k in range(1, len(truth))]
    null = float(np.mean(others))
    print(f"heading from calcium: {error:.0f} degrees, latents of other blocks {null:.0f}")
    assert error < 60  # chance is 90
    assert error < 0.7 * null


def test_scores_are_above_their_nulls(result):
    scores = result["score"].sel(split="test")
    for metric, name in (("r2", "calcium"), ("from_calcium_r2", "behavior")):
        found, null = (
            float(scores.sel(metric=f"{key}{metric}", modality=name)) for key in ("", "null_")
        )
        print(f"{name} {metric}: {found:.2f}, null {null:.2f}")
        assert found > null + 0.3
