"""EEG, MEG and intracranial stores through their chains, and into a cohort."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from neuropipe.assemble.cohort import Input, cohort
from neuropipe.code_sets import PREPROCESS_CODE, QUALITY_CODE, ingest_code
from neuropipe.config.load import check_model
from neuropipe.config.models import PreprocessConfig
from neuropipe.errors import ConfigError, DataError
from neuropipe.plan import has_steps
from neuropipe.preprocess.chain import preprocess
from neuropipe.simulate.planted_channels import planted_channels
from neuropipe.store.code import module_fingerprints
from neuropipe.store.recording import write_recording
from neuropipe.store.schema import check_tree
from neuropipe.store.series import Block, SeriesSpec
from neuropipe.store.zarr import open_store, write_tree

MODALITIES = ("eeg", "meg", "ieeg")


def config(**blocks) -> PreprocessConfig:
    """Return the checked configuration, as a YAML file gives it."""
    model, problems = check_model(PreprocessConfig, blocks, "preprocess")
    assert not problems, problems
    return model


def problems_of(**blocks) -> str:
    return "\n".join(check_model(PreprocessConfig, blocks, "preprocess")[1])


def stored(folder: Path, modality: str, **given) -> xr.DataTree:
    """Write a planted recording as ingest does, and open it lazily."""
    tree, _ = planted_channels(modality, **given)
    raw = tree["raw"].to_dataset(inherit=False)
    signal = raw["signal"].values
    path = folder / f"{tree.attrs['recording']}.zarr"
    known = {"recording": tree.attrs["recording"], "subject_id": tree.attrs["subject_id"]}
    half = len(signal) // 2
    write_recording(
        path,
        modality=modality,
        attrs={**known, "line_freq": raw.attrs["line_freq"], "coord_frame": "head"},
        raw=raw.drop_vars(["signal", "observed", "segment_start"], errors="ignore").assign_attrs(
            {}
        ),
        series=[SeriesSpec("signal", ("time", "channel"), signal.shape, signal.dtype)],
        blocks=iter([Block("signal", 0, signal[:half]), Block("signal", half, signal[half:])]),
        groups={"events": tree["events"].to_dataset(inherit=False)},
    )
    return open_store(path)


def steps(tree: xr.DataTree) -> list[str]:
    names = [entry["step"] for entry in json.loads(tree.attrs["pipeline"])]
    return [name for name in names if name != "ingest"]


def codes(tree: xr.DataTree) -> list[str]:
    return [entry["code"] for entry in json.loads(tree.attrs["issues"])]


EXPECTED = {
    "eeg": ["source", "notch", "bandpass", "bad_channels", "reference"],
    "meg": ["source", "notch", "bandpass", "bad_channels"],
    "ieeg": ["source", "notch", "bad_channels", "reference"],
}


@pytest.mark.parametrize("modality", MODALITIES)
def test_defaults_from_store_to_store(modality, tmp_path):
    source = stored(tmp_path, modality, seconds=60.0, rate=200.0)
    done = preprocess(source, config())
    assert steps(done) == EXPECTED[modality]
    assert [issue for issue in check_tree(done) if issue.severity == "error"] == []
    assert done["activity"].dtype == np.float32
    assert done["activity"].attrs["line_freq"] == 50.0
    np.testing.assert_array_equal(
        np.isfinite(done["activity"].values) >= done["valid"].values, True
    )
    assert done["events"].sizes["event"] > 10
    write_tree(done, tmp_path / "done.zarr")
    back = open_store(tmp_path / "done.zarr")
    xr.testing.assert_equal(back.to_dataset().load(), done.to_dataset())
    assert {"line_freq", "coord_frame"} <= set(back["activity"].attrs)
    again = preprocess(stored(tmp_path / "b", modality, seconds=60.0, rate=200.0), config())
    xr.testing.assert_identical(again.to_dataset(), done.to_dataset())


def test_a_lazy_store_and_a_loaded_tree_give_the_same(tmp_path):
    given = {"seconds": 50.0, "rate": 100.0, "gap": (20.0, 25.0)}
    settings = config(eeg={"bandpass_hz": [1, 40], "resample_hz": 50})
    lazy = preprocess(stored(tmp_path, "eeg", **given), settings)
    tree, _ = planted_channels("eeg", **given)
    loaded = preprocess(tree, settings)
    xr.testing.assert_equal(lazy.to_dataset(), loaded.to_dataset())
    gap = (lazy["time"].values > 20.0) & (lazy["time"].values < 25.0)
    assert gap.any() and not lazy["valid"].values[gap].any()


def test_the_source_is_not_changed():
    tree, _ = planted_channels("ieeg", seconds=30.0, rate=500.0)
    copy = tree.copy(deep=True)
    preprocess(tree, config(ieeg={"high_gamma": {}}))
    xr.testing.assert_identical(tree, copy)


def test_every_switch_of_eeg_at_once(tmp_path):
    settings = config(
        keep_steps=True,
        eeg={
            "line_hz": 50,
            "bandpass_hz": [1, 45],
            "bad_channels": {"z": 4, "interpolate": True},
            "ica": {"components": 8},
            "band_power": {"bands_hz": {"alpha": [8, 13], "beta": [15, 30]}, "resample_hz": 50},
            "resample_hz": 25,
        },
    )
    tree, truth = planted_channels("eeg", seconds=60.0, rate=200.0)
    done = preprocess(tree, settings, seed=7)
    assert steps(done) == [
        "source", "notch", "bandpass", "bad_channels", "ica", "interpolate", "reference",
        "band_power", "resample",
    ]  # fmt: skip
    assert list(done["proc"].children) == steps(done)
    assert done.attrs["rate"] == 25.0
    assert f"{truth.flat}.alpha" in done["channel"].values
    ica = next(e for e in json.loads(done.attrs["pipeline"]) if e["step"] == "ica")
    assert ica["parameters"]["seed"] == 7
    write_tree(done, tmp_path / "a.zarr")
    assert open_store(tmp_path / "a.zarr")["activity"].shape == done["activity"].shape


def test_everything_off_leaves_si_values():
    tree, truth = planted_channels("eeg", seconds=10.0, rate=100.0, dtype="float64")
    settings = config(
        eeg={"line_hz": None, "bandpass_hz": None, "bad_channels": None, "reference": None}
    )
    done = preprocess(tree, settings)
    np.testing.assert_array_equal(done["activity"].values, tree["raw/signal"].values[:, :19])
    assert done.attrs["all_valid"]
    ok = done["channel_ok"].values
    assert done["channel"].values[~ok].tolist() == [truth.stated]


def test_alpha_survives_the_chain_and_mains_do_not():
    tree, truth = planted_channels("eeg", seconds=60.0, rate=200.0)
    done = preprocess(tree, config(eeg={"bandpass_hz": [1, None], "reference": None}))
    here = done["channel"].values.tolist().index("O1")
    assert done["channel_ok"].values[here]
    valid = done["valid"].values[:, here]

    def power(values: np.ndarray, hz: float) -> float:
        time = done["time"].values[valid]
        return abs(np.mean(values * np.exp(-2j * np.pi * hz * time)))

    after = done["activity"].values[valid, here]
    clean = truth.signal[valid, here]
    assert power(after, 10.0) == pytest.approx(power(clean, 10.0), rel=0.02)
    dirty = np.asarray(
        tree["raw/signal"].values[valid, here] * tree["raw/scale_factor"].values[here]
    )
    assert power(after, 50.0) < 0.02 * power(dirty, 50.0)


def test_an_unknown_line_frequency_is_an_issue():
    tree, _ = planted_channels("ieeg", seconds=20.0, rate=200.0, line_freq=float("nan"))
    done = preprocess(tree, config())
    assert "LINE_FREQ_UNKNOWN" in codes(done) and "notch" not in steps(done)
    told = preprocess(tree, config(ieeg={"line_hz": 50}))
    assert "LINE_FREQ_UNKNOWN" not in codes(told) and "notch" in steps(told)


def test_a_recording_too_short_for_its_filter_is_refused_with_the_remedy():
    tree, _ = planted_channels("eeg", seconds=20.0, rate=100.0)
    with pytest.raises(DataError, match=r"33.01 s long.*raise its lower edge"):
        preprocess(tree, config())


def cohort_stores(tmp_path: Path, **eeg) -> list[xr.DataTree]:
    made = []
    for subject, drop in (("e01", ("Fz", "O2")), ("e02", ("T7",))):
        source = stored(
            tmp_path, "eeg", seconds=60.0, rate=200.0, subject=subject, drop=drop,
            seed=len(drop),
        )  # fmt: skip
        done = preprocess(source, config(eeg=eeg))
        write_tree(done, tmp_path / f"{subject}_done.zarr")
        made.append(open_store(tmp_path / f"{subject}_done.zarr"))
    return made


def test_two_subjects_with_different_channels_make_a_cohort(tmp_path):
    stores = cohort_stores(tmp_path, bandpass_hz=[1, 40], resample_hz=50)
    ds = cohort(stores, Input())
    names = ds["neuron"].values.tolist()
    assert names == sorted(names)
    assert set(ds["unit_kind"].values) == {"channel"}
    table = ds["labelled"].to_pandas()
    assert table.index.tolist() == ["e01", "e02"]
    left_out = {entry["reason"] for entry in json.loads(ds.attrs["excluded"])}
    assert left_out == {"channel_ok is False"}
    assert not table.loc["e01", "O2"] and table.loc["e02", "O2"]
    assert not table.loc["e02", "T7"] and table.loc["e01", "T7"]
    assert table.loc["e01", "Cz"] and table.loc["e02", "Cz"]
    for store in stores:
        subject = store.attrs["subject_id"]
        values = np.where(store["valid"].values, store["activity"].values, np.nan)
        column = store["channel"].values.tolist().index("Cz")
        found = ds["activity"].sel(subject=subject, neuron="Cz").values
        np.testing.assert_array_equal(found, values[:, column])
    assert ds.attrs["time_aligned"] == 1
    assert np.isnan(ds["activity"].sel(subject="e02", neuron="T7").values).all()


def test_band_power_rows_are_shared_by_subjects(tmp_path):
    power = {"bands_hz": {"alpha": [8, 13]}, "resample_hz": 25}
    ds = cohort(cohort_stores(tmp_path, bandpass_hz=[1, 40], band_power=power), Input())
    assert all(name.endswith(".alpha") for name in ds["neuron"].values)


def test_contacts_have_no_shared_names_but_a_region():
    tree, _ = planted_channels("ieeg", seconds=20.0, rate=200.0)
    done = preprocess(tree, config())
    with pytest.raises(ConfigError, match="intracranial contacts sit elsewhere"):
        cohort([done, done], Input())
    alone = cohort([done], Input(scope="recording"))
    assert "hippocampus" in alone["region"].values


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ({"eeg": {"bandpas_hz": [1, 40]}}, "Did you mean 'bandpass_hz'"),
        ({"eeg": {"bandpass_hz": [40, 1]}}, "must end above its start"),
        ({"eeg": {"bandpass_hz": 40}}, "bandpass_hz"),
        ({"eeg": {"reference": "cz"}}, "reference"),
        ({"eeg": {"ica": {"method": "infomax"}}}, "fastica"),
        ({"meg": {"bad_channels": {"interpolate": True}}}, "no coil orientations"),
        ({"ieeg": {"bad_channels": {"interpolate": True}}}, "interpolate: false"),
        ({"ieeg": {"high_gamma": {}, "band_power": {"bands_hz": {"a": [1, 2]}}}}, "both be on"),
        ({"eeg": {"band_power": {"bands_hz": {"gamma": [30, 80]}}}}, "takes out part of the band"),
        ({"eeg": {"band_power": {"bands_hz": {"a": [13, 8]}}}}, "must end above its start"),
        ({"eeg": {"band_power": {}}}, "bands_hz"),
        ({"eeg": {"resample_hz": 0}}, "greater than 0"),
    ],
)
def test_faults_of_the_configuration_are_named(blocks, expected):
    assert expected in problems_of(**blocks)


def test_memory_stays_near_the_size_of_the_result(tmp_path):
    source = stored(tmp_path, "eeg", seconds=300.0, rate=1000.0, dtype="int16")
    settings = config(eeg={"bandpass_hz": [1, 40]})
    preprocess(planted_channels("eeg", seconds=20.0)[0], settings)  # imports are not counted
    tracemalloc.start()
    done = preprocess(source, settings)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    size = done["activity"].size
    # Two copies in float32, three masks, and a block of 8 MiB in a few copies.
    assert peak < size * (4 + 4 + 3) + 64 * 2**20, peak / size


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_plan_knows_the_modality_and_the_code_that_decides_it(modality):
    assert has_steps(modality)
    decided = module_fingerprints(PREPROCESS_CODE)
    assert {"neuropipe.preprocess.filtering", "neuropipe.store.scaling"} <= set(decided)
    assert "neuropipe.store.scaling" in module_fingerprints(QUALITY_CODE)
    assert "neuropipe.io.ingest" in ingest_code(modality)


def test_the_plan_gives_a_seed_to_chains_that_draw_numbers(tmp_path):
    from neuropipe.plan import make_plan
    from neuropipe.study import load_study

    (tmp_path / "config").mkdir()
    rows = "subject\tmodality\tpath\na\teeg\tx.edf\nb\tmeg\ty.fif\n"
    (tmp_path / "config" / "recordings.tsv").write_text(rows)

    def settings(text: str) -> dict[str, dict]:
        (tmp_path / "config" / "config.yaml").write_text(f"study: x\n{text}")
        plan = make_plan(load_study(tmp_path))
        return {name.rsplit("/", 1)[-1]: job.settings for name, job in plan.items()
                if job.rule == "preprocess_recording"}  # fmt: skip

    plain = settings("seed: 1\n")
    assert not any("seed" in found for found in plain.values())
    drawn = settings("seed: 1\npreprocess: {eeg: {ica: {}}}\n")
    other = settings("seed: 2\npreprocess: {eeg: {ica: {}}}\n")
    assert drawn["sub-a_eeg"]["seed"] != other["sub-a_eeg"]["seed"]
    assert drawn["sub-b_meg"] == plain["sub-b_meg"]


def test_the_steps_of_the_command_line_run_on_a_store(tmp_path):
    from argparse import Namespace

    from neuropipe.cli.step_stores import preprocess as step
    from neuropipe.cli.step_stores import quality

    source = stored(tmp_path, "ieeg", seconds=20.0, rate=200.0)
    path = tmp_path / f"{source.attrs['recording']}.zarr"
    marker = path.with_suffix(".report.json")
    marker.write_text(json.dumps({"content_sha256": source.attrs["content_sha256"]}))
    out = tmp_path / "done" / "sub-e01_ieeg.zarr"
    step(Namespace(input=str(path), output=str(out)), {"preprocess": {"ieeg": {}}})
    report = json.loads(out.with_suffix(".json").read_text())
    assert {entry["code"] for entry in report["issues"]} == {"BAD_CHANNEL", "CHANNELS_LEFT_OUT"}
    figures = tmp_path / "figures"
    quality(Namespace(raw=str(path), processed=str(out), output=str(figures)), {})
    cards = json.loads((figures / "figures.json").read_text())["figures"]
    assert [card["slug"] for card in cards] == [
        "traces", "overview", "spectrum", "variance", "places", "events",
    ]  # fmt: skip
