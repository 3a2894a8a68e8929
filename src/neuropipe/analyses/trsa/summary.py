"""The result as tidy tables, one sentence, and numbers that compare across collections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["headline", "metrics", "names_of", "summary", "tables"]

ALPHA = 0.05
BASELINE = 1  # the first cell, after the raw RDM
MODEL_COLUMNS = (
    "p_vs_zero",
    "p_vs_ceiling",
    "p_permutation",
    "p_permutation_family",
    "p_signed_rank",
)


def names_of(values: xr.DataArray) -> list[str]:
    """Return the names along a coordinate as text."""
    return [str(value) for value in values.values.tolist()]


def count_text(number: int, noun: str) -> str:
    """Return a number with its noun, such as ``1 subject`` or ``3 subjects``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _still(values: xr.DataArray) -> xr.DataArray:
    """Return courses as their mean after time 0."""
    if "time" not in values.dims:
        return values
    after = values["time"].values >= 0
    return values.isel(time=np.flatnonzero(after if after.any() else ~after)).mean("time")


def model_table(result: xr.Dataset) -> pd.DataFrame:
    """Return one row per region and model.

    Returns
    -------
    pandas.DataFrame
        ``region``, ``model``, ``score`` (mean over subjects; of movies after time 0), ``se``
        (corrected), ``lower_ceiling``, ``upper_ceiling``, and the p-values; of movies p-values
        are the smallest over time.
    """
    import pandas as pd

    columns = ["region", "model", "score", "se", "lower_ceiling", "upper_ceiling", *MODEL_COLUMNS]
    if "model_score" not in result:
        return pd.DataFrame(columns=columns)
    score = _still(result["model_score"]).mean("subject")
    ceiling = _still(result["noise_ceiling"])
    rows = []
    for region in names_of(result["region"]):
        for model in names_of(result["model"]):
            one: dict[str, Any] = {"region": region, "model": model}
            one["score"] = float(score.sel(region=region, model=model))
            one["se"] = np.nan
            if "variance_components" in result:
                variance = _still(result["variance_components"]).sel(source="corrected")
                one["se"] = float(np.sqrt(variance.sel(region=region, model=model)))
            one["lower_ceiling"], one["upper_ceiling"] = ceiling.sel(region=region).values.tolist()
            for name in MODEL_COLUMNS:
                p = (
                    result[name].sel(region=region, model=model).values
                    if name in result
                    else np.nan
                )
                one[name] = float(np.nanmin(p)) if np.isfinite(p).any() else np.nan
            rows.append(one)
    return pd.DataFrame(rows, columns=columns)


def identification_table(result: xr.Dataset) -> pd.DataFrame:
    """Return one row per descriptor: accuracy, error, distance ratio, p against geometry."""
    import pandas as pd

    columns = ["descriptor", "accuracy", "se", "chance", "distance_ratio", "p_vs_geometry"]
    if "identification_accuracy" not in result:
        return pd.DataFrame(columns=columns)
    frame = pd.DataFrame(
        {
            "descriptor": names_of(result["descriptor"]),
            "accuracy": result["identification_accuracy"].values,
            "se": result["accuracy_se"].values,
            "chance": 1 / result.sizes["region"],
            "distance_ratio": result["distance_ratio"].values,
            "p_vs_geometry": result["accuracy_pvalue"].values[BASELINE],
        }
    )
    if "accuracy_nested" in result:
        nested = {"descriptor": "chosen inside", "accuracy": float(result["accuracy_nested"])}
        frame = pd.concat([frame, pd.DataFrame([nested | {"chance": frame["chance"][0]}])])
    return frame.reset_index(drop=True)


def tables(result: xr.Dataset) -> dict[str, pd.DataFrame]:
    """Return the tables beside ``summary.tsv`` by file name."""
    return {"models.csv": model_table(result), "identification.csv": identification_table(result)}


def summary(result: xr.Dataset) -> pd.DataFrame:
    """Return one row per subject and region.

    Returns
    -------
    pandas.DataFrame
        ``subject``, ``region``, ``channels``, ``shrinkage``, ``mean_dissimilarity``,
        ``p_discriminability``, ``best_model``, ``best_score``.
    """
    import pandas as pd

    rdms = _still(result["rdm"])
    scores = _still(result["model_score"]) if "model_score" in result else None
    rows = []
    for subject in names_of(result["subject"]):
        for region in names_of(result["region"]):
            place = {"subject": subject, "region": region}
            values = rdms.sel(place).values
            if not np.isfinite(values).any():
                continue
            best, top = "", np.nan
            if scores is not None:
                own = scores.sel(place).values
                if np.isfinite(own).any():
                    k = int(np.nanargmax(own))
                    best, top = str(result["model"].values[k]), float(own[k])
            p = (
                result["p_discriminability"].sel(place)
                if "p_discriminability" in result
                else np.nan
            )
            rows.append(
                {
                    **place,
                    "channels": int(result["n_channels"].sel(place))
                    if "n_channels" in result
                    else 0,
                    "shrinkage": float(result["noise_shrinkage"].sel(place))
                    if "noise_shrinkage" in result
                    else np.nan,
                    "mean_dissimilarity": float(np.nanmean(values)),
                    "p_discriminability": float(p),
                    "best_model": best,
                    "best_score": top,
                }
            )
    return pd.DataFrame(rows)


def headline(result: xr.Dataset) -> str:
    """Return one sentence with the numbers of the result and no claim about them."""
    sizes = result.sizes
    text = (
        f"{count_text(sizes['condition'], 'condition')} in "
        f"{count_text(sizes['subject'], 'subject')} and {count_text(sizes['region'], 'region')}, "
        f"{result.attrs['measure']} RDMs"
    )
    table = model_table(result)
    if len(table):
        best = table.loc[table["score"].idxmax()]
        text += (
            f"; best model {best['model']} ({best['region']}): {result.attrs['comparator']} "
            f"{best['score']:.2f}"
        )
        if np.isfinite(best["lower_ceiling"]):
            text += f", noise ceiling {best['lower_ceiling']:.2f} to {best['upper_ceiling']:.2f}"
    if "identification_accuracy" in result:
        accuracy = result["identification_accuracy"].values
        text += (
            f"; regions identified by geometry {100 * accuracy[BASELINE]:.0f} %, "
            f"by RGDM {100 * accuracy[-1]:.0f} % (chance {100 / sizes['region']:.0f} %)"
        )
    return text + "."


def _metric(name: str, value: float, unit: str, n: int, error: float = np.nan) -> dict[str, Any]:
    return {
        "metric": name, "value": float(value), "unit": unit,
        "low": float(value - 1.96 * error), "high": float(value + 1.96 * error), "n": int(n),
    }  # fmt: skip


def metrics(result: xr.Dataset) -> list[dict[str, Any]]:
    """Return the numbers of the study's comparison table; low and high are 95 % intervals."""
    subjects, nan = result.sizes["subject"], np.nan
    models, identified = model_table(result), identification_table(result)
    best = models.loc[models["score"].idxmax()] if len(models) else None
    accuracy = identified.set_index("descriptor")["accuracy"] if len(identified) else None
    found = [
        _metric("conditions", result.sizes["condition"], "1", subjects),
        _metric("regions", result.sizes["region"], "1", subjects),
        _metric("mean_dissimilarity", float(result["rdm"].mean()), _unit(result), subjects),
        _metric(
            "best_model_score",
            nan if best is None else best["score"],
            result.attrs["comparator"],
            0 if best is None else subjects,
            nan if best is None else best["se"],
        ),
        _metric("lower_noise_ceiling", nan if best is None else best["lower_ceiling"],
                result.attrs["comparator"], 0 if best is None else subjects),
    ]  # fmt: skip
    for name, row in (("geometry", BASELINE), ("rgdm", -1)):
        known = accuracy is not None
        value = result["identification_accuracy"].values[row] if known else nan
        error = result["accuracy_se"].values[row] if known else nan
        one = _metric(f"identification_{name}", value, "1", subjects if known else 0, error)
        found.append(one | {"low": max(one["low"], 0.0), "high": min(one["high"], 1.0)})
    return found


def _unit(result: xr.Dataset) -> str:
    return str(result["rdm"].attrs.get("units", "1"))
