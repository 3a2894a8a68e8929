"""``units.where`` and ``span_s``."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from neuropipe.assemble.selection import evaluate_where, select_rows, select_span
from neuropipe.errors import ConfigError

COLUMNS = {
    "neuron_class": np.array(["sensory", "inter", "motor", ""], dtype=object),
    "depth": np.array([1.0, 2.0, np.nan, -4.0]),
    "is_cell": np.array([True, False, True, True]),
    "plane": np.array([0, 1, 1, 2]),
}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("neuron_class != 'motor'", [1, 1, 0, 1]),
        ("neuron_class == 'motor' or depth < 0", [0, 0, 1, 1]),
        ("is_cell", [1, 0, 1, 1]),
        ("not is_cell", [0, 1, 0, 0]),
        ("is_cell == True and plane >= 1", [0, 0, 1, 1]),
        ("0 < plane <= 1", [0, 1, 1, 0]),
        ("depth > -5", [1, 1, 0, 1]),
        ("depth == depth", [1, 1, 0, 1]),
        ("neuron_class in ['inter', 'motor']", [0, 1, 1, 0]),
        ("plane not in (1, 2)", [1, 0, 0, 0]),
        ("not (is_cell and plane == 0) and depth != 2", [0, 0, 1, 1]),
    ],
)
def test_comparisons_over_rows(where, expected):
    np.testing.assert_array_equal(evaluate_where(where, COLUMNS), np.array(expected, dtype=bool))


@pytest.mark.parametrize(
    "where",
    [
        "__import__('os').system('true')",
        "depth.sum() > 1",
        "depth[0] > 1",
        "depth + 1 > 2",
        "(lambda: 1)()",
        "[x for x in plane]",
        "is_cell if plane else depth",
        "plane in range(3)",
        "plane is 1",
        "'text'",
        "plane == f'{plane}'",
        "depth >",
        "",
        "plane == None",
        "(y := plane) == 1",
    ],
)
def test_nothing_but_comparisons_is_allowed(where):
    with pytest.raises(ConfigError, match=r"input\.units\.where"):
        evaluate_where(where, COLUMNS)


def test_an_unknown_coordinate_is_answered_with_the_closest_name():
    with pytest.raises(ConfigError, match="Did you mean 'neuron_class'"):
        evaluate_where("neuron_clas == 'motor'", COLUMNS)


def test_text_is_not_compared_with_numbers():
    with pytest.raises(ConfigError, match="text with a number"):
        evaluate_where("neuron_class == 1", COLUMNS)
    with pytest.raises(ConfigError, match="text with a number"):
        evaluate_where("plane == '1'", COLUMNS)


def test_a_column_alone_must_be_true_or_false():
    with pytest.raises(ConfigError, match="true or false"):
        evaluate_where("plane", COLUMNS)


def dataset() -> xr.Dataset:
    return xr.Dataset(
        {"activity": (("time", "roi"), np.zeros((10, 4)))},
        coords={"time": np.arange(10) * 0.5, "roi": np.arange(4), "plane": ("roi", [0, 1, 1, 2])},
    )


def test_rows_are_chosen_by_coordinates_of_the_store():
    assert select_rows(dataset(), "roi", "plane == 1 or roi == 3").tolist() == [
        False, True, True, True,
    ]  # fmt: skip
    assert select_rows(dataset(), "roi", None).all()


def test_span_is_half_open():
    assert select_span(dataset(), (1.0, 3.0))["time"].values.tolist() == [1.0, 1.5, 2.0, 2.5]
    assert select_span(dataset(), None).sizes["time"] == 10
    with pytest.raises(ConfigError, match="must end after"):
        select_span(dataset(), (3.0, 1.0))
