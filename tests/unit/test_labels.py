"""Atlas and label resolution."""

from __future__ import annotations

import csv
import math
import os
import random
from pathlib import Path

import pytest

from neuropipe.errors import ConfigError, MissingInput
from neuropipe.store.atlas import load_atlas, shipped_atlases
from neuropipe.store.labels import resolve_labels

ATLAS = load_atlas("celegans-300")
REAL = Path(os.environ.get("NEUROPIPE_REAL_DATA") or Path(__file__).parents[3] / "shared/data")


def test_atlas_has_300_names_in_plain_string_order():
    assert len(ATLAS) == 300
    assert list(ATLAS.names) == sorted(ATLAS.names)
    start = ATLAS.names.index("AS1")
    assert ATLAS.names[start : start + 4] == ("AS1", "AS10", "AS11", "AS2")
    assert ATLAS.version
    assert "celegans-300" in shipped_atlases()


def test_can_neurons_are_added_on_request():
    with_can = load_atlas("celegans-300", include_can=True)
    assert set(with_can.names) - set(ATLAS.names) == {"CANL", "CANR"}
    assert list(with_can.names) == sorted(with_can.names)


def test_atlas_knows_class_type_and_sides():
    row = ATLAS.index["SMDVL"]
    assert (ATLAS.classes[row], ATLAS.lr[row], ATLAS.dv[row]) == ("SMD", "L", "V")
    assert ATLAS.type_of("AVAL") == "inter"
    assert ATLAS.type_of("VB2") == "motor"
    assert ATLAS.type_of("AWCR") == "sensory"
    assert ATLAS.class_of("nobody") == ""
    assert set(ATLAS.types) == {"sensory", "inter", "motor"}


def test_atlas_can_be_a_file_of_the_same_form(tmp_path):
    path = tmp_path / "mine.tsv"
    path.write_text("# version: 7\nname\tclass\nB2\tB\nB10\tB\n", encoding="utf-8")
    atlas = load_atlas(path)
    assert atlas.names == ("B10", "B2")
    assert atlas.version == "7"


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("name\tkind\nA\tB\n", "'class' is missing"),
        ("name\tclass\nA\tB\nA\tB\n", "more than once"),
        ("name\tclass\n", "no names"),
    ],
)
def test_faulty_atlas_file_is_refused(tmp_path, text, fragment):
    path = tmp_path / "bad.tsv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=fragment):
        load_atlas(path)


def test_unknown_atlas_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="celegans-300"):
        load_atlas("celegans-302")
    with pytest.raises(MissingInput):
        load_atlas(tmp_path / "absent.tsv")


@pytest.mark.parametrize(
    ("source", "label"),
    [
        ("AVAL", "AVAL"),
        ("  aval ", "AVAL"),
        ("VB02", "VB2"),
        ("VB2", "VB2"),
        ("AS10", "AS10"),
        ("DVA", "DVA"),
        ("I3", "I3"),
    ],
)
def test_exact_names(source, label):
    table = resolve_labels([source], ATLAS)
    assert table.label == (label,)
    assert table.label_source == (source,)
    assert table.issues == ()
    assert table.neuron_class == (ATLAS.class_of(label),)


@pytest.mark.parametrize("source", ["", None, "merge", "12", "3.0", "None", math.nan, " ", "?"])
def test_silently_unlabelled(source):
    table = resolve_labels([source], ATLAS)
    assert table.label == ("",)
    assert table.label_candidates == ("",)
    assert table.issues == ()


@pytest.mark.parametrize(
    ("source", "candidates"),
    [
        ("AIM?", "AIML,AIMR"),
        ("AIM", "AIML,AIMR"),
        ("SMBD?", "SMBDL,SMBDR"),
        ("SMDD", "SMDDL,SMDDR"),
        ("SMB??", "SMBDL,SMBDR,SMBVL,SMBVR"),
        ("SIA?R", "SIADR,SIAVR"),
        ("SMDL", "SMDDL,SMDVL"),
        ("RME?", "RMED,RMEL,RMER,RMEV"),
        ("AVL?", "AVL"),
        ("AVAL?", "AVAL"),
        ("DD?", "DD1,DD2,DD3,DD4,DD5,DD6"),
        ("VB1?", "VB1,VB10,VB11"),
    ],
)
def test_ambiguous_names_list_their_candidates(source, candidates):
    table = resolve_labels([source], ATLAS)
    assert table.label == ("",)
    assert table.label_candidates == (candidates,)
    assert [issue.code for issue in table.issues] == ["AMBIGUOUS_LABEL"]


@pytest.mark.parametrize(
    ("source", "hint"),
    [("VA010", "VA10"), ("VB002", "VB2"), ("AVAM", "AVM"), ("I03", "I3"), ("AV?", "AVM")],
)
def test_unknown_names_keep_their_source_and_get_a_hint_only(source, hint):
    table = resolve_labels([source], ATLAS)
    assert table.label == ("",)
    assert table.label_source == (source,)
    assert [issue.code for issue in table.issues] == ["UNKNOWN_LABEL"]
    assert table.issues[0].hint == f"nearest name: {hint}"


def test_muscle_has_no_near_name():
    table = resolve_labels(["intestine"], ATLAS)
    assert table.issues[0].code == "UNKNOWN_LABEL"
    assert table.issues[0].hint == ""


def test_duplicate_keeps_the_highest_confidence():
    table = resolve_labels(["AVAL", "aval", "RIML"], ATLAS, [2.0, 4.0, 1.0])
    assert table.label == ("", "AVAL", "RIML")
    assert table.label_candidates == ("AVAL", "", "")
    assert [issue.code for issue in table.issues] == ["DUPLICATE_LABEL"]


@pytest.mark.parametrize("confidence", [None, [3.0, 3.0], [math.nan, math.nan]])
def test_duplicates_of_equal_confidence_are_all_unlabelled(confidence):
    table = resolve_labels(["VB2", "VB02"], ATLAS, confidence)
    assert table.label == ("", "")
    assert [issue.code for issue in table.issues] == ["DUPLICATE_LABEL"]


def test_stated_confidence_wins_over_none():
    assert resolve_labels(["AVAL", "AVAL"], ATLAS, [math.nan, 1.0]).label == ("", "AVAL")


def test_resolve_assigns_the_only_free_candidate():
    labels = ["AIML", "AIM?", "RIM?"]
    assert resolve_labels(labels, ATLAS).label == ("AIML", "", "")
    table = resolve_labels(labels, ATLAS, ambiguous="resolve")
    assert table.label == ("AIML", "AIMR", "")
    assert table.label_inferred == (False, True, False)
    assert [issue.code for issue in table.issues] == ["AMBIGUOUS_LABEL"] * 2


def test_resolve_gives_a_contested_name_to_nobody():
    table = resolve_labels(["AIML", "AIM?", "AIM?"], ATLAS, ambiguous="resolve")
    assert table.label == ("AIML", "", "")


def test_resolve_does_not_take_the_name_of_a_lost_duplicate():
    table = resolve_labels(["AIMR", "AIMR", "AIML", "AIM?"], ATLAS, ambiguous="resolve")
    assert table.label == ("", "", "AIML", "")


@pytest.mark.parametrize("policy", ["leave", "resolve"])
def test_order_of_traces_does_not_change_labels(policy):
    labels = ["AIML", "AIM?", "VB02", "VB2", "SMD?", "SMDDL", "SMDVL", "SMDVR", "junk", ""]
    confidence = [float(i % 3) for i in range(len(labels))]
    base = resolve_labels(labels, ATLAS, confidence, policy).label
    order = list(range(len(labels)))
    random.Random(1).shuffle(order)
    moved = resolve_labels(
        [labels[i] for i in order], ATLAS, [confidence[i] for i in order], policy
    ).label
    assert moved == tuple(base[i] for i in order)


def test_other_number_of_confidences_is_an_error():
    with pytest.raises(ValueError, match="2 labels but 1"):
        resolve_labels(["AVAL", "AVAR"], ATLAS, [1.0])


def _real(name):
    path = REAL / "calcium/celegans_dag2023" / f"{name}-labels.csv"
    if not path.is_file():
        pytest.skip(f"real data absent: {path}")
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_reference_numbers_of_two_real_recordings():
    found, exact = {}, {}
    for name, total, labelled, spelled, ambiguous in (
        ("2022-08-02-31", 104, 101, 100, 3),
        ("2022-08-02-38", 110, 105, 105, 5),
    ):
        rows = _real(name)
        sources = [row["label"] for row in rows]
        table = resolve_labels(sources, ATLAS, [float(row["confidence"]) for row in rows])
        assert len(rows) == total
        found[name] = {label for label in table.label if label}
        exact[name] = {s for s, t in zip(sources, table.label, strict=True) if t and s == t}
        assert len([label for label in table.label if label]) == labelled
        assert len(exact[name]) == spelled
        assert [issue.code for issue in table.issues] == ["AMBIGUOUS_LABEL"] * ambiguous
    first, second = found.values()
    assert len(first & second) == 84
    # 121 names are spelled exactly as in the atlas in either table; VB02, which becomes VB2,
    # is the 122nd.
    spelled_first, spelled_second = exact.values()
    assert len(spelled_first | spelled_second) == 121
    assert len(first | second) == 122
