"""The stages of the NTF connectomes: what they accept, what they refuse, what they return."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from pydantic import ValidationError

from neuropipe.analyses import ntf
from neuropipe.analyses.ntf import stages
from neuropipe.analyses.ntf.kernels.affinity import fill_short_gaps
from neuropipe.analyses.ntf.significance import activity_parts, shifted
from neuropipe.analyses.ntf.spec import ANALYSIS
from neuropipe.errors import DataError, Issue, issues_from_json, issues_to_json
from neuropipe.simulate.planted_calcium import planted_calcium

FAST = {"restarts": 2, "communities": {"null_draws": 10, "restarts": 1}}


def settings(**changes) -> ntf.Settings:
    return ntf.Settings(**{"rank": 2, **FAST, **changes})


def codes(result: xr.Dataset) -> set[str]:
    return {issue.code for issue in issues_from_json(result.attrs["issues"])}


@pytest.fixture(scope="module")
def data() -> xr.Dataset:
    made, _ = planted_calcium(0, n_neurons=24, n_subjects=3, duration=80, n_motifs=1)
    return made.assign(
        neuron_class=("neuron", np.array(["sensory", "inter"] * 12, dtype=object)),
        epoch_name=("epoch", np.array(["odour"], dtype=object)),
        epoch_start=("epoch", [10.0]),
        epoch_stop=("epoch", [20.0]),
        epoch_subject=("epoch", np.array(["*"], dtype=object)),
    )


@pytest.fixture(scope="module")
def result(data: xr.Dataset) -> xr.Dataset:
    return ntf.fit(data, settings(), 0)


def test_result_has_the_declared_variables(data: xr.Dataset, result: xr.Dataset) -> None:
    dims = {
        "component_weight": ("component",),
        "pair_factor": ("component", "pair"),
        "component_adjacency": ("component", "neuron", "neuron_2"),
        "time_factor": ("component", "time_bin"),
        "subject_factor": ("component", "subject"),
        "community": ("component", "level", "neuron"),
        "community_strength": ("component", "level", "community_id"),
        "community_pvalue": ("component", "level", "community_id"),
        "active_interval": ("component", "interval", "bound"),
        "dynamic_strength": ("time_bin", "subject", "component"),
        "pair_observed": ("pair", "subject"),
        "cv_error": ("rank", "fold"),
        "fms_restart": ("rank", "restart", "restart_2"),
        "loss_history": ("restart", "iteration"),
        "reconstruction_error": ("subject",),
        "explained_variance": (),
        "activity": ("subject", "neuron", "time"),
        "neuron_class": ("neuron",),
        "epoch_start": ("epoch",),
    }
    for name, expected in dims.items():
        assert result[name].dims == expected, name
    assert result["activity"].dtype == np.float32
    assert result.attrs["converged"] == 1
    assert result.attrs["rank_selected"] == 2
    assert result["time_bin"].values[:2].tolist() == [0.375, 1.375]
    assert result["neuron_i"].values[0] == "N000"
    assert result["neuron_j"].values[0] == "N001"
    assert 0 < float(result["explained_variance"]) < 1


def test_active_intervals_lie_in_the_recording(result: xr.Dataset) -> None:
    start, stop = result["active_interval"].values[0, 0]
    assert -0.2 <= start < stop <= 80


def test_result_survives_a_netcdf_file(result: xr.Dataset, tmp_path) -> None:
    result.to_netcdf(tmp_path / "result.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "result.nc", engine="h5netcdf") as again:
        xr.testing.assert_equal(again.load(), result)


def test_stages_through_files_equal_the_chain(data: xr.Dataset, tmp_path) -> None:
    chosen = settings(rank=[1, 2])
    expected = ntf.fit(data, chosen, 3)
    data.to_netcdf(tmp_path / "input.nc", engine="h5netcdf")
    opened = xr.open_dataset(tmp_path / "input.nc", engine="h5netcdf")
    parts: dict[str, list[xr.Dataset]] = {}
    for stage in ANALYSIS.stages:
        found = []
        for k, key in enumerate(ANALYSIS.scatter(chosen).get(stage, [{}])):
            part = getattr(stages, stage)(opened, chosen, 3, parts, **key)
            path = tmp_path / f"{stage}-{k}.nc"
            part.to_netcdf(path, engine="h5netcdf")
            found.append(xr.open_dataset(path, engine="h5netcdf"))
        parts[stage] = found
    xr.testing.assert_equal(parts["communities"][0].load(), expected)
    for part in [opened, *(part for found in parts.values() for part in found)]:
        part.close()


def test_order_of_names_and_dims_changes_nothing(data: xr.Dataset, result: xr.Dataset) -> None:
    rng = np.random.default_rng(0)
    moved = data.isel(neuron=rng.permutation(24), subject=[2, 0, 1]).transpose(
        "time", "neuron", "subject", ...
    )
    before = moved.copy(deep=True)
    found = ntf.fit(moved, settings(), 0)
    xr.testing.assert_identical(moved, before)
    xr.testing.assert_equal(found, result)


def test_a_seed_fixes_the_result_and_another_one_changes_it(
    data: xr.Dataset, result: xr.Dataset
) -> None:
    xr.testing.assert_identical(ntf.fit(data, settings(), 0), result)
    other = ntf.fit(data, settings(), 1)
    assert not np.array_equal(other["loss_history"], result["loss_history"])


def test_rank_is_chosen_from_a_list_and_its_measures_are_kept(data: xr.Dataset) -> None:
    found = ntf.fit(data, settings(rank=[3, 1]), 0)
    assert found["rank"].values.tolist() == [1, 3]
    assert np.isfinite(found["cv_error"]).all()
    assert found.attrs["rank_selected"] in (1, 3)
    assert found.sizes["component"] == found.attrs["rank_selected"]


def test_ranks_beyond_the_tensor_are_left_out_of_auto(data: xr.Dataset) -> None:
    short = data.isel(time=slice(0, 48), neuron=slice(0, 6))  # 12 bins, 15 pairs
    found = ntf.fit(short, settings(rank=[1, 13], restarts=1), 0)
    assert found.attrs["rank_selected"] == 1
    assert "RANK_TOO_LARGE" in codes(found)
    with pytest.raises(DataError, match="rank 13 is too large: the tensor allows 12"):
        ntf.fit(short, settings(rank=13), 0)


def test_one_animal_is_factorised_with_folds_in_time(data: xr.Dataset) -> None:
    found = ntf.fit(data.isel(subject=[0]), settings(rank=[1, 2]), 0)
    assert found.sizes["subject"] == 1
    assert np.isfinite(found["cv_error"]).all()
    np.testing.assert_allclose(found["subject_factor"], 1.0)


def test_an_animal_with_three_neurons_is_dropped_and_named(data: xr.Dataset) -> None:
    poor = data.copy(deep=True)
    poor["activity"][1, 3:] = np.nan
    poor["activity"][1, :3] = poor["activity"][0, 20:23].fillna(0.0).values + np.arange(320)
    found = ntf.fit(poor, settings(), 0)
    assert found["subject"].values.tolist() == ["S00", "S02"]
    assert json.loads(found.attrs["dropped_subjects"]) == ["S01"]
    assert "SUBJECT_DROPPED" in codes(found)


def test_a_neuron_that_no_animal_has_is_marked(data: xr.Dataset) -> None:
    without = data.copy(deep=True)
    without["activity"][:, 5] = np.nan
    found = ntf.fit(without, settings(), 0)
    assert (found["community"].isel(neuron=5) == -2).all()
    others = np.delete(np.arange(24), 5)
    assert np.isnan(found["component_adjacency"].values[:, 5, others]).all()
    assert (found["community"].isel(neuron=others) > -2).all()


def test_a_constant_trace_is_silent(data: xr.Dataset) -> None:
    constant = data.copy(deep=True)
    constant["activity"][0, 7] = 0.1
    part = stages.affinity(constant, settings(), 0, {})
    assert bool(part["silent"].sel(neuron="N007", subject="S00"))
    touched = (part["neuron_i"] == "N007") | (part["neuron_j"] == "N007")
    assert not part["affinity"].isel(subject=0)[touched].any()
    assert "SILENT_NEURON" in codes(part)


def test_a_pause_of_one_animal_is_masked_in_time(data: xr.Dataset) -> None:
    paused = data.copy(deep=True)
    paused["activity"][2, :, 100:160] = np.nan
    part = stages.affinity(paused, settings(), 0, {})
    assert (~part["time_observed"].values[:, 2]).sum() == 15
    assert part["time_observed"].values[:, :2].all()
    assert not part["affinity"].values[:, 25:40, 2].any()
    found = ntf.fit(paused, settings(), 0)
    assert np.isfinite(found["time_factor"]).all()


def test_bins_that_nobody_was_recorded_in_are_nan_and_never_active(
    data: xr.Dataset, monkeypatch
) -> None:
    paused = data.copy(deep=True)
    paused["activity"][:, :, 100:160] = np.nan
    monkeypatch.setattr("neuropipe.analyses.ntf.significance.SHIFT_DRAWS", 3)
    options = {"bootstrap": 2, "significance": "circular_shift"}
    found = ntf.fit(paused, settings(**options), 0)
    pause = slice(25, 40)
    assert np.isnan(found["time_factor"][:, pause]).all()
    assert np.isnan(found["time_factor_interval"][:, pause]).all()
    others = found["time_factor"].drop_isel(time_bin=np.r_[pause])
    np.testing.assert_allclose((others**2).sum("time_bin"), 1.0, rtol=1e-5)
    start, stop = found["active_interval"].transpose("bound", ...).values
    assert not ((start < 39.8) & (stop > 25.0)).any()
    assert np.isfinite(found["reconstruction_error"]).all()
    assert np.isfinite(found["component_adjacency"]).any()


def test_stretches_shorter_than_the_moving_window_are_an_issue(data: xr.Dataset) -> None:
    paused = data.copy(deep=True)
    paused["activity"][2, :, 40:60] = np.nan
    part = stages.affinity(paused, settings(), 0, {})
    (found,) = (
        one for one in issues_from_json(part.attrs["issues"]) if one.code == "SHORT_STRETCHES"
    )
    assert found.path == "S02"
    assert found.message.startswith("1 recorded stretches")
    assert "SHORT_STRETCHES" not in codes(stages.affinity(data, settings(), 0, {}))
    other = settings(affinity={"mode": "differential"})
    assert "SHORT_STRETCHES" not in codes(stages.affinity(paused, other, 0, {}))


def test_epochs_put_side_by_side_do_not_touch(data: xr.Dataset) -> None:
    step = np.where(data["time"] < 40, 0.0, 3.0 * float(np.nanmax(data["activity"])))
    pieces = data.drop_dims("epoch").assign(
        epoch_name=("epoch", np.array(["odour", "light"], dtype=object)),
        epoch_start=("epoch", [0.0, 40.0]),
        epoch_stop=("epoch", [40.0, 80.0]),
        epoch_subject=("epoch", np.array(["*", "*"], dtype=object)),
    )
    pieces = pieces.assign_attrs(align="epochs")
    stepped = pieces.assign(activity=pieces["activity"] + xr.DataArray(step, dims="time"))
    plain, moved = (stages.affinity(one, settings(), 0, {}) for one in (pieces, stepped))
    np.testing.assert_allclose(plain["affinity"], moved["affinity"], atol=1e-5)
    joined = stages.affinity(stepped.assign_attrs(align="absolute"), settings(), 0, {})
    gain = joined["affinity"] - plain["affinity"]
    assert float(gain.isel(time_bin=slice(36, 44)).mean()) > 0.02, "the join would show"


def test_unaligned_time_is_an_issue_for_several_animals_only(data: xr.Dataset) -> None:
    free = data.assign_attrs(time_aligned=0)
    assert "TIME_NOT_ALIGNED" in codes(stages.affinity(free, settings(), 0, {}))
    alone = stages.affinity(free.isel(subject=[0]), settings(), 0, {})
    assert "TIME_NOT_ALIGNED" not in codes(alone)
    assert "TIME_NOT_ALIGNED" not in codes(stages.affinity(data, settings(), 0, {}))


def test_issues_of_the_input_are_told_once(data: xr.Dataset) -> None:
    told = [
        Issue("RECORDING_LEFT_OUT", "sub-w09_calcium", "no labels", "give a names table"),
        Issue("TIME_NOT_ALIGNED", "input.align", "no common events"),
    ]
    free = data.assign_attrs(time_aligned=0, issues=issues_to_json(told))
    found = issues_from_json(ntf.fit(free, settings(), 0).attrs["issues"])
    assert found[:2] == told
    assert [issue.code for issue in found].count("TIME_NOT_ALIGNED") == 1


def test_nulls_too_few_for_any_significance_are_an_issue(result: xr.Dataset) -> None:
    assert "TOO_FEW_NULLS" in codes(result), "10 null graphs"

    def found(draws: int, test: str) -> list[Issue]:
        changed = settings(significance=test, communities={"null_draws": draws})
        return stages._null_issues(changed)

    (issue,) = found(19, "circular_shift")
    assert "1/(19+1) = 0.05" in issue.message
    assert "at least 20" in issue.hint
    assert found(20, "permute") == found(5, "none") == []


def test_a_fit_that_stops_early_is_an_issue_not_an_error(data: xr.Dataset) -> None:
    found = ntf.fit(data, settings(max_iter=2, tol=1e-12), 0)
    assert found.attrs["converged"] == 0
    assert "NOT_CONVERGED" in codes(found)
    assert not found["restart_converged"].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.isel(neuron=slice(0, 3)), "3 neurons; need 4"),
        (lambda d: d.isel(time=slice(0, 36)), "9 bins"),
        (lambda d: d.isel(neuron=[0, 0, 1, 2, 3]), "neuron names must be unique.*N000"),
        (lambda d: d.isel(subject=[0, 0]), "subject names must be unique.*S00"),
        (lambda d: d.isel(time=[0, 1, 2, *range(4, 300)]), "not uniform.*resample"),
        (lambda d: d.assign(activity=d["activity"] * np.nan), "no pair.*S00: 0, S01: 0"),
        (lambda d: d.drop_vars("activity"), "need activity"),
        (lambda d: d.drop_vars("neuron"), "coordinate 'neuron' is missing"),
    ],
)
def test_unusable_input_is_refused_with_counts(data: xr.Dataset, change, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ntf.fit(change(data), settings(), 0)


def test_a_tensor_above_the_memory_limit_gives_the_same_result(
    data: xr.Dataset, result: xr.Dataset, caplog
) -> None:
    with caplog.at_level("INFO", logger="neuropipe"):
        part = stages.affinity(data, settings(max_memory_gb=1e-5), 0, {})
    assert "is kept in a temporary file" in caplog.text
    assert isinstance(part["affinity"].data, np.memmap)
    xr.testing.assert_equal(ntf.fit(data, settings(max_memory_gb=1e-5), 0), result)


def test_a_full_disk_is_an_error_with_remedies(data: xr.Dataset, monkeypatch) -> None:
    import shutil

    usage = shutil.disk_usage("/")._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataError, match=r"coarser affinity.bin_s, a subset of neurons"):
        stages.affinity(data, settings(max_memory_gb=1e-5), 0, {})


def test_dynamic_connectome_is_the_model_at_that_time(result: xr.Dataset) -> None:
    found = ntf.dynamic_connectome(result, 20.3, "S01")
    assert found.dims == ("neuron", "neuron_2")
    at = int(np.abs(result["time_bin"].values - 20.3).argmin())
    weights = (
        result["component_weight"].values
        * result["time_factor"].values[:, at]
        * result["subject_factor"].sel(subject="S01").values
    )
    expected = np.einsum("r,rij->ij", weights, result["component_adjacency"].values)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_bootstrap_adds_intervals(data: xr.Dataset) -> None:
    found = ntf.fit(data, settings(bootstrap=4), 0)
    low, high = found["time_factor_interval"].transpose("quantile", ...).values
    assert (low <= high).all()
    assert found["subject_factor_interval"].dims == ("component", "subject", "quantile")
    assert float(found["pair_inclusion"].max()) <= 1


def connectome(data: xr.Dataset, kinds=("chemical", "gap")) -> xr.Dataset:
    n = data.sizes["neuron"]
    weight = np.random.default_rng(0).poisson(2.0, (len(kinds), n, n)).astype(float)
    weight[:, 3] = np.nan
    return data.assign(connectome_weight=(("kind", "neuron", "neuron_2"), weight)).assign_coords(
        kind=list(kinds), neuron_2=data["neuron"].values
    )


def test_a_connectome_adds_the_comparison_and_changes_nothing_else(
    data: xr.Dataset, result: xr.Dataset
) -> None:
    wired = connectome(data)
    found = ntf.fit(wired, settings(), 0)
    xr.testing.assert_equal(found[list(result.data_vars)], result)
    assert found["wiring_weight"].dims == ("component", "community_id", "kind")
    assert found["wiring_null"].dims == ("component", "community_id", "kind", "wiring_quantile")
    assert found.attrs["wiring_draws"] == 2000
    labels = found["community"].values[:, 0]
    members = np.flatnonzero(labels[0] == 0)
    members = members[members != 3]
    expected = wired["connectome_weight"].sel(kind="chemical").values[np.ix_(members, members)]
    expected = expected[~np.eye(members.size, dtype=bool)]
    first = found.isel(component=0).sel(community_id=0, kind="chemical")
    assert float(first["wiring_weight"]) == pytest.approx(expected.mean())
    assert int(first["wiring_pairs"]) == expected.size
    single, family = found["wiring_pvalue"].values, found["wiring_pvalue_family"].values
    has = np.isfinite(single)
    assert has.any()
    assert (family[has] >= single[has]).all()
    turned = wired.isel(
        neuron=np.random.default_rng(1).permutation(24), neuron_2=slice(None, None, -1)
    )
    xr.testing.assert_equal(ntf.fit(turned, settings(), 0), found)


def test_a_connectome_of_few_of_the_neurons_is_an_issue(data: xr.Dataset) -> None:
    wired = connectome(data)
    wired["connectome_weight"][:, 5:] = np.nan
    wired["connectome_weight"][:, :, 5:] = np.nan
    found = ntf.fit(wired, settings(), 0)
    told = [i for i in issues_from_json(found.attrs["issues"]) if i.code == "FEW_IN_CONNECTOME"]
    assert [issue.path for issue in told] == [
        "input.connectome: chemical",
        "input.connectome: gap",
    ]
    assert told[0].message.startswith("5 of 24 neurons were measured")


def test_shifted_traces_give_pvalues(data: xr.Dataset, monkeypatch) -> None:
    monkeypatch.setattr("neuropipe.analyses.ntf.significance.SHIFT_DRAWS", 5)
    found = ntf.fit(data, settings(significance="circular_shift"), 0)
    p = found["community_pvalue"].values
    assert np.nanmin(p) >= 1 / 6
    assert (np.isfinite(p) == np.isfinite(found["community_strength"].values)).all()
    none = ntf.fit(data, settings(significance="none"), 0)
    assert np.isnan(none["community_pvalue"]).all()
    np.testing.assert_array_equal(none["community"], found["community"])


def test_shifted_traces_have_the_steps_of_the_traces_and_no_jump() -> None:
    values = np.random.default_rng(0).standard_normal((5, 120)).cumsum(axis=1)
    values[:, 60:] += 1000.0
    values[3] = np.nan
    values[:, 90:100] = np.nan
    traces = fill_short_gaps(values, max_gap=2, min_segment=5, joins=(60,))
    moved = shifted(traces, np.zeros(120, np.int64), np.random.default_rng(1))
    assert moved.segments == traces.segments
    assert not moved.values[3].any()
    assert not moved.values[:, ~traces.recorded].any()
    known = [0, 1, 2, 4]
    steps = [
        np.concatenate([np.diff(one.values[known, a:b], axis=1) for a, b in traces.segments], 1)
        for one in (traces, moved)
    ]
    assert np.abs(steps[1]).max() <= np.abs(steps[0]).max() + 1e-9
    assert not np.allclose(steps[0], steps[1])


def test_traces_are_shifted_within_the_parts_of_the_recording() -> None:
    """A neuron that is busy while a component is active is busy then in shifted traces too."""
    active = np.zeros((3, 20), dtype=bool)
    active[0, 5:13] = active[1, 10:18] = True
    active[2, 0] = True  # too short to shift anything in
    parts = activity_parts(active, n_times=85, bin_frames=4, least=8)
    expected = np.repeat([0] * 5 + [1] * 5 + [2] * 3 + [3] * 5 + [0] * 2, 4)
    same = parts[:80, None] == parts[:80]
    np.testing.assert_array_equal(same, expected[:, None] == expected)
    assert (parts[80:] == parts[79]).all()
    values = np.random.default_rng(0).standard_normal((6, 85)).cumsum(axis=1)
    traces = fill_short_gaps(values, max_gap=0, min_segment=5)
    moved = shifted(traces, parts, np.random.default_rng(1))
    for part in np.unique(parts):
        frames = np.flatnonzero(parts == part)
        frames = frames[frames > 0]
        for one, two in zip(
            np.diff(traces.values, prepend=0.0), np.diff(moved.values, prepend=0.0), strict=True
        ):
            found = np.setdiff1d(np.round(two[frames], 9), np.round(one[frames], 9))
            assert found.size <= 1, "only the first step of the recording may have come here"


@pytest.mark.parametrize(
    "wrong",
    [
        {"rank": "5"},
        {"rank": 0},
        {"rank": []},
        {"rank": [2, 2]},
        {"rank": True},
        {"restarts": 2.5},
        {"affinity": {"mode": "cosine"}},
        {"seed": 1},
        {"max_memory_gb": 0},
    ],
)
def test_wrong_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        ntf.Settings(**wrong)


def test_every_setting_is_described_and_defaults_are_those_of_the_method() -> None:
    def check(schema: dict) -> None:
        for name, entry in schema.get("properties", {}).items():
            assert entry.get("description"), name

    full = ntf.Settings.model_json_schema()
    check(full)
    for definition in full["$defs"].values():
        check(definition)
    assert ntf.Settings().model_dump() == {
        "affinity": {
            "mode": "excess",
            "deriv_window_s": 2.5,
            "scale_quantile": 0.95,
            "window_s": 15,
            "bin_s": 1,
            "max_gap_s": 1,
        },
        "rank": "auto",
        "max_rank": 12,
        "cv_folds": 4,
        "restarts": 8,
        "max_iter": 300,
        "inner": 3,
        "tol": 1e-5,
        "ridge": 0.01,
        "bootstrap": 0,
        "communities": {
            "backend": "wsbm",
            "weights": "exponential",
            "resolution": 1.0,
            "k_max": 10,
            "restarts": 4,
            "min_size": 3,
            "null_draws": 200,
            "samples": 0,
        },
        "significance": "permute",
        "max_memory_gb": "auto",
    }


def test_ranks_become_jobs_and_stages_get_their_keys() -> None:
    assert ANALYSIS.scatter(ntf.Settings(max_rank=3))["rank"] == [{"rank": r} for r in (1, 2, 3)]
    assert ANALYSIS.scatter(ntf.Settings(rank=[4, 2]))["rank"] == [{"rank": 2}, {"rank": 4}]
    assert ANALYSIS.scatter(ntf.Settings(rank=5))["rank"] == []
    assert set(ANALYSIS.for_stage(ntf.Settings(), "affinity")) == {"affinity", "max_memory_gb"}
    assert "max_rank" not in ANALYSIS.for_stage(ntf.Settings(), "rank")


def test_importing_the_settings_loads_no_heavy_package() -> None:
    code = (
        "import sys, neuropipe.analyses.ntf.spec; "
        "heavy = {'xarray', 'pandas', 'scipy', 'numba', 'matplotlib', 'sklearn', 'torch'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_face_is_lazy_and_keeps_its_functions() -> None:
    import neuropipe.analyses.ntf.figures  # noqa: F401 - binds a module of the same name

    assert callable(ntf.figures)
    for name in ntf.__all__:
        assert getattr(ntf, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        _ = ntf.fitt
