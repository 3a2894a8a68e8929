"""From preprocessed stores of every modality, and every alignment, to motifs."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
import xarray as xr

from neuropipe.analyses import ntf
from neuropipe.assemble.cohort import Input, cohort
from neuropipe.errors import ConfigError
from neuropipe.simulate.planted_calcium import planted_calcium

FAST = {"rank": 2, "restarts": 2, "significance": "none", "communities": {"restarts": 1}}
CHANNELS = [f"{line}{side}" for line in ("F", "FC", "C", "CP", "P", "PO") for side in "12z"]
CHANNELS += [f"{line}{side}" for line in ("AF", "O") for side in "7834"]
NAMES = {
    "eeg": [f"{name}.alpha" for name in CHANNELS],  # rows of band power
    "meg": [f"MEG {100 * k + 111:04d}" for k in range(26)],
    "fmri": [f"7Networks_LH_Vis_{k}" for k in range(1, 27)],
    "ieeg": [f"LA{k}-LA{k + 1}" for k in range(1, 27)],  # rows of a bipolar reference
    "calcium": [f"N{k:03d}" for k in range(26)],
}
ROWS = {"eeg": "channel", "meg": "channel", "ieeg": "channel", "fmri": "parcel", "calcium": "roi"}


def text(values: Sequence[str]) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = list(values)
    return array


def tree_of(
    modality: str,
    subject: str,
    values: np.ndarray,
    rate: float,
    *,
    names: Sequence[str] | None = None,
    events: Sequence[tuple[str, float, float]] = (("on", 5.0, 5.0),),
    ok: np.ndarray | None = None,
    **coords: Sequence[str],
) -> xr.DataTree:
    """Return a preprocessed store of traces (n_rows, n_times)."""
    row = ROWS[modality]
    names = NAMES[modality] if names is None else names
    ids = np.arange(len(names)) if modality == "calcium" else text(names)
    labels = {"label": names} if modality == "calcium" else {}
    finite = np.isfinite(values.T)
    ds = xr.Dataset(
        {
            "activity": (("time", row), values.T.astype(np.float32), {"units": "1"}),
            "valid": (("time", row), finite),
            f"{row}_ok": (row, np.ones(len(names), dtype=bool) if ok is None else ok),
        },
        coords={
            "time": np.arange(values.shape[1]) / rate,
            row: ids,
            **{name: (row, text(column)) for name, column in {**labels, **coords}.items()},
        },
        attrs={
            "schema": f"neuropipe.{modality}",
            "recording": f"sub-{subject}_{modality}",
            "subject_id": subject,
            "species": "Homo sapiens",
        },
    )
    table = xr.Dataset(
        {
            "onset": ("event", [event[1] for event in events]),
            "duration": ("event", [event[2] for event in events]),
            "label": ("event", text([event[0] for event in events])),
        }
    )
    return xr.DataTree.from_dict({"/": ds, "/events": table})


def planted(modality: str, rate: float, n_subjects: int = 4) -> tuple[np.ndarray, xr.Dataset]:
    """Return traces (subject, row, time) with one planted motif, and the truth by row name."""
    data, truth = planted_calcium(
        3, n_neurons=26, n_subjects=n_subjects, duration=120.0, fs=rate, n_motifs=1, missing=0.0
    )
    names = NAMES[modality]
    truth = truth.assign_coords(neuron=names, subject=[f"p{k}" for k in range(n_subjects)])
    return data["activity"].values, truth


def codes(ds: xr.Dataset) -> list[str]:
    return [issue["code"] for issue in json.loads(ds.attrs["issues"])]


def found_in(ds: xr.Dataset, truth: xr.Dataset, **changes) -> dict[str, float]:
    result = ntf.fit(ds, ntf.Settings(**{**FAST, **changes}), 0)
    assert result["neuron"].values.tolist() == sorted(ds["neuron"].values.tolist())
    assert result.attrs["align"] == ds.attrs["align"]
    return ntf.score(result, truth)


@pytest.mark.parametrize("modality", ["eeg", "meg"])
def test_channel_envelopes_of_a_cohort(modality: str) -> None:
    values, truth = planted(modality, 10.0)
    names = [*NAMES[modality], "EOG"]
    kinds = [*[modality] * 26, "eog"]
    ok = np.ones((4, 27), dtype=bool)
    ok[1, 4] = False  # a bad channel of one subject
    trees = [
        tree_of(modality, f"p{k}", np.vstack((one, one[:1])), 10.0, names=names, ok=ok[k],
                ch_type=kinds)
        for k, one in enumerate(values)
    ]  # fmt: skip
    where = {"where": f"ch_type == '{modality}'"}
    ds = cohort(trees, Input.model_validate({"units": where, "epochs": ["on"]}))
    assert ds["neuron"].values.tolist() == sorted(NAMES[modality])
    assert set(ds["unit_kind"].values.tolist()) == {"channel"}
    assert np.isnan(ds["activity"].sel(subject="p1", neuron=names[4])).all()
    assert ds.attrs["time_aligned"] == 1 and ds.attrs["align"] == "absolute"
    assert ds["epoch_name"].values.tolist() == ["on"]
    found = found_in(ds, truth)
    assert found["pair_auc"] > 0.95 and found["subject_cosine"] > 0.95


def test_parcels_of_fmri_at_the_rate_of_the_scanner() -> None:
    """Blood flow is slow: one volume in two seconds, windows in frames become minima."""
    values, truth = planted("fmri", 0.5)
    values[2, 7] = np.nan  # a parcel that the field of view of one subject does not cover
    values[:, :, 30] = np.nan  # a censored volume
    network = ["Vis"] * 26
    trees = [
        tree_of("fmri", f"p{k}", one, 0.5, network=network, region=NAMES["fmri"])
        for k, one in enumerate(values)
    ]
    ds = cohort(trees, Input())
    assert set(ds["unit_kind"].values.tolist()) == {"parcel"}
    assert ds["region"].values.tolist() == ds["neuron"].values.tolist()
    slow = {"affinity": {"window_s": 40.0, "bin_s": 2.0, "max_gap_s": 4.0}}
    part = ntf.affinity_tensor(ds, ntf.AffinitySettings(**slow["affinity"]))
    assert part.attrs["bin_width_s"] == pytest.approx(2.0)
    assert "SHORT_DERIVATIVE_WINDOW" in codes(part)
    assert bool(part["time_observed"].all()), "one censored volume is a gap that is closed"
    touched = (part["neuron_i"] == NAMES["fmri"][7]) | (part["neuron_j"] == NAMES["fmri"][7])
    assert not part["pair_observed"].sel(subject="p2")[touched].any()
    assert part["pair_observed"].sel(subject="p1").all()
    found = found_in(ds, truth, **slow)
    assert found["pair_auc"] > 0.8


def test_high_gamma_of_one_patient() -> None:
    """Contacts have no shared names: one recording, its rows by their own names."""
    values, truth = planted("ieeg", 100.0, n_subjects=1)
    values[:, :, :50] = values[:, :, -50:] = np.nan  # half a filter at both ends
    tree = tree_of("ieeg", "p0", values[0], 100.0, anat_label=["hippocampus"] * 26)
    with pytest.raises(ConfigError, match=r"sit elsewhere.*scope: recording.*align: single"):
        cohort([tree], Input())
    ds = cohort([tree], Input.model_validate({"scope": "recording"}))
    assert ds.attrs["align"] == "single" and ds["recording"].values.tolist() == ["sub-p0_ieeg"]
    assert not ds["labelled"].any()
    found = found_in(ds, truth)
    assert found["pair_auc"] > 0.95 and found["interval_iou"] > 0.6


def test_the_affinity_of_fast_recordings_is_made_in_blocks_of_bounded_size(monkeypatch) -> None:
    values, _ = planted("ieeg", 100.0, n_subjects=1)
    tree = tree_of("ieeg", "p0", values[0], 100.0)
    ds = cohort([tree], Input.model_validate({"scope": "recording"}))
    whole = ntf.affinity_tensor(ds)["affinity"]
    frames = 8 * ds.sizes["time"]
    monkeypatch.setattr("neuropipe.analyses.ntf.kernels.affinity.BLOCK_BYTES", 7 * frames)
    np.testing.assert_array_equal(ntf.affinity_tensor(ds)["affinity"], whole)


# --- alignment -------------------------------------------------------------------------------

ORDERS = ((0, 1, 2), (2, 0, 1), (1, 2, 0), (0, 2, 1))


def shuffled_protocols() -> tuple[list[xr.DataTree], xr.Dataset]:
    """Return worms that saw three stimuli of 40 s, each in another order."""
    values, truth = planted("calcium", 4.0)
    trees = []
    for subject, (one, order) in enumerate(zip(values, ORDERS, strict=True)):
        pieces = np.split(one, 3, axis=1)
        events = [("abc"[piece], 40.0 * k, 40.0) for k, piece in enumerate(order)]
        traces = np.concatenate([pieces[piece] for piece in order], axis=1)
        trees.append(tree_of("calcium", f"p{subject}", traces, 4.0, events=events))
    return trees, truth


def test_epochs_bring_animals_with_other_protocols_together() -> None:
    trees, truth = shuffled_protocols()
    apart = cohort(trees, Input(epochs=["a", "b", "c"]))
    assert apart.attrs["time_aligned"] == 0 and "TIME_NOT_ALIGNED" in codes(apart)
    together = cohort(trees, Input(align="epochs", epochs=["a", "b", "c"]))
    assert together.attrs["time_aligned"] == 1 and codes(together) == []
    assert together["epoch_start"].values.tolist() == [0.0, 40.0, 80.0]
    found = found_in(together, truth)
    assert found["pair_auc"] > 0.95 and found["interval_iou"] > 0.6
    worse = found_in(apart, truth)
    assert worse["interval_iou"] < found["interval_iou"] - 0.2
    issues = codes(ntf.fit(apart, ntf.Settings(**FAST), 0))
    assert issues.count("TIME_NOT_ALIGNED") == 1


def test_epochs_in_canonical_order_are_the_recording_that_was_cut() -> None:
    values, truth = planted("calcium", 4.0)
    trees, _ = shuffled_protocols()
    found = cohort(trees, Input(align="epochs", epochs=["a", "b", "c"]))
    expected = np.stack([one[np.argsort(NAMES["calcium"])] for one in values])
    np.testing.assert_array_equal(found["activity"].values, expected.astype(np.float32))
    assert found["subject"].values.tolist() == truth["subject"].values.tolist()


def test_one_animal_of_a_cohort_stands_alone() -> None:
    trees, truth = shuffled_protocols()
    active = int(truth["subject_strength"].values[0].argmax())
    ds = cohort([trees[active]], Input.model_validate({"scope": "recording", "epochs": ["a"]}))
    assert ds.attrs["align"] == "single" and ds.attrs["time_aligned"] == 1
    result = ntf.fit(ds, ntf.Settings(**FAST), 0)
    assert result.sizes["subject"] == 1
    np.testing.assert_allclose(result["subject_factor"], 1.0)
    assert ntf.score(result, truth)["pair_auc"] > 0.95
    assert "TIME_NOT_ALIGNED" not in codes(result)
