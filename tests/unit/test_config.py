"""Configuration: strict types, every problem at once, the closest key, presets, overrides."""

from __future__ import annotations

import pytest
from pydantic import Field

from neuropipe.config.load import (
    check_model,
    merge,
    presets,
    read_yaml,
    set_key,
    validate_study,
    with_preset,
)
from neuropipe.config.models import IngestOverride, PreprocessConfig
from neuropipe.config.sidecars import EventTable
from neuropipe.config.strict import StrictModel
from neuropipe.config.template import settings_rows
from neuropipe.errors import ConfigError, MissingInput


def problems(**raw):
    config, found = validate_study({"study": "x"} | raw, "config.yaml")
    assert (config is None) == bool(found)
    return "\n".join(found)


def test_defaults_are_valid():
    config, found = validate_study({"study": "x"}, "config.yaml")
    assert not found
    assert config.preprocess.calcium.dff.window_s == 60


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"sed": 1}, "sed: unknown key. Did you mean 'seed'?"),
        ({"preprocess": {"calcium": {"normalize": "zscore"}}}, "Did you mean 'normalise'?"),
        ({"preprocess": {"calcium": {"dff": {"windows_s": 3}}}}, "Did you mean 'window_s'?"),
        ({"preprocess": {"calcium": {"resample": {}}}}, "resample.dt_s: is missing"),
        ({"seed": "1"}, "Write a number without quotes"),
        ({"seed": True}, "seed: input should be a valid integer, found true"),
        ({"preprocess": {"calcium": {"normalise": "None"}}}, "Write null (no quotes)"),
        ({"preprocess": {"calcium": {"resample": {"dt_s": -1}}}}, "greater than 0, found -1"),
        ({"preprocess": {"calcium": {"smooth": {"kind": "moving", "tau_s": 1}}}}, "`window_s`"),
        ({"ingest": {"compression": "gzp"}}, 'found "gzp"'),
        ({"study": ""}, "study: string should have at least 1 character"),
        ({"analyses": ["ntf"]}, "analyses: expected `label: settings` lines"),
    ],
)
def test_fault_is_named_with_key_value_and_remedy(raw, message):
    text = problems(**raw)
    assert message in text
    assert text.startswith("config.yaml: ")


def test_all_problems_come_at_once():
    text = problems(sed=1, seed="x", ingest={"strickt": True})
    assert len(text.splitlines()) == 3


def test_integers_pass_as_floats_and_null_switches_off():
    config, _ = validate_study(
        {"study": "x", "preprocess": {"calcium": {"dff": {"window_s": 30}, "neuropil": None}}}, "c"
    )
    assert config.preprocess.calcium.dff.window_s == 30
    assert config.preprocess.calcium.neuropil is None


def test_preset_lies_under_the_users_keys_and_analyses_of_the_user_select():
    given = {"preset": "worm", "preprocess": {"calcium": {"normalise": "robust"}}}
    merged = with_preset(given, "c")
    assert merged["preprocess"]["calcium"]["normalise"] == "robust"
    assert merged["preprocess"]["calcium"]["resample"] == {"dt_s": 0.3333}
    assert with_preset({"preset": "worm", "analyses": {}}, "c")["analyses"] == {}


def test_unknown_preset_is_answered_with_the_closest():
    with pytest.raises(ConfigError, match="Did you mean 'worm'"):
        with_preset({"preset": "wrom"}, "c")


@pytest.mark.parametrize("name", sorted(presets()))
def test_shipped_presets_are_valid(name):
    merged = with_preset({"study": "x", "preset": name}, "c")
    assert validate_study(merged, "c")[1] == []


def test_presets_of_the_architecture():
    assert set(presets()) >= {"worm", "decision", "ieeg", "fmri", "meg"}
    settings = validate_study(with_preset({"study": "x", "preset": "ieeg"}, "c"), "c")[0].preprocess
    assert settings.ieeg.reference == "bipolar"
    assert settings.ieeg.high_gamma.resample_hz == 100
    atlas = {"preprocess": {"fmri": {"parcellation": {"atlas": "a.nii.gz"}}}}
    raw = with_preset({"study": "x", "preset": "fmri"} | atlas, "c")
    settings = validate_study(raw, "c")[0].preprocess
    assert settings.fmri.confounds == "24p"
    assert settings.fmri.parcellation.atlas == "a.nii.gz"


def test_yaml_faults(tmp_path):
    path = tmp_path / "c.yaml"
    with pytest.raises(MissingInput, match="neuropipe init"):
        read_yaml(path)
    for text, message in [
        ("a: 1\na: 2\n", "line 2: the key 'a' stands twice"),
        ("a: [1\n", "not valid YAML"),
        ("- 1\n", "holds list"),
        ("!!python/object/apply:os.system ['true']\n", "not valid YAML"),
    ]:
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_yaml(path)


def test_merge_goes_into_mappings_and_replaces_lists():
    assert merge({"a": {"b": 1, "c": [1, 2]}}, {"a": {"c": [3]}}) == {"a": {"b": 1, "c": [3]}}


def test_set_keeps_types_and_refuses_nonsense():
    raw: dict = {}
    set_key(raw, "analyses.ntf.rank=[3, 4]")
    set_key(raw, "preprocess.calcium.normalise=null")
    assert raw == {
        "analyses": {"ntf": {"rank": [3, 4]}},
        "preprocess": {"calcium": {"normalise": None}},
    }
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        set_key(raw, "analyses.ntf.rank")


def test_a_bare_path_is_a_table_with_usual_columns():
    assert EventTable.model_validate("e.tsv") == EventTable(path="e.tsv")
    assert IngestOverride.model_validate({"trials": "t.csv"}).trials.path == "t.csv"
    assert IngestOverride.model_validate({"behavior": {"a": "b.csv"}}).behavior["a"].path == "b.csv"


def test_settings_of_blocks_that_are_off_by_default_are_listed():
    class Member(StrictModel):
        name: str = Field(description="Name.")
        count: int = Field(3, description="Count.")

    class Holder(StrictModel):
        several: list[Member] = Field(default_factory=list, description="Several.")
        named: dict[str, Member] = Field(default_factory=dict, description="Named.")
        maybe: Member | None = Field(None, description="One, or none.")

    rows = {key: default for key, default, _ in settings_rows(Holder)}
    assert rows == {
        "several": "[]", "several[].name": "required", "several[].count": "3",
        "named": "{}", "named.NAME.name": "required", "named.NAME.count": "3",
        "maybe": "null", "maybe.name": "required", "maybe.count": "3",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "states: input should be greater than or equal to 1, found 0"),
        ([0, 2], "states.0: input should be greater than or equal to 1, found 0"),
        ([2, "a"], 'states.1: input should be a valid integer, found "a"'),
        ([], "states: list should have at least 1 item after validation, not 0, found []"),
    ],
)
def test_a_wrong_value_is_told_of_the_form_that_it_has(value, text):
    from neuropipe.analyses.hmm_glm.spec import Settings

    assert check_model(Settings, {"states": value})[1] == [text]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([8, 12], "`key: value` lines, found [8, 12]. Keys: bands_hz, resample_hz"),
        ({"bands_hz": {"alpha": [8]}}, "bands_hz.alpha: holds too few values, found [8]"),
        ({"bands_hz": {"alpha": "8-12"}}, 'bands_hz.alpha: input should be a list, found "8-12"'),
    ],
)
def test_a_value_of_another_shape_is_told_with_the_shape(value, text):
    (problem,) = check_model(PreprocessConfig, {"eeg": {"band_power": value}})[1]
    assert problem.endswith(text)
