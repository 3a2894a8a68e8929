"""A study as one object in a notebook: names by tab, tables by name, figures in one line."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

    from neuropipe.plotting.figure import ReportFigure
    from neuropipe.study import Study

__all__ = ["StudyView", "plot"]

# A plot of a store shows what the eye can follow.
MOST_ROWS, SPAN_S = 20, 30.0


class Names(Mapping[str, Any]):
    """What exists under names; each is opened when it is asked for.

    ``view.recordings["sub-<TAB>`` completes in IPython and Jupyter.
    """

    def __init__(
        self, what: str, names: Callable[[], list[str]], opener: Callable[[str], Any]
    ) -> None:
        self._what, self._names, self._open = what, names, opener

    def __getitem__(self, name: str) -> Any:
        known = self._names()
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"There is {', '.join(known)}."
            hint = hint if known else "There is none yet; `neuropipe run` makes them."
            raise ConfigError(f"{name}: no such {self._what}. {hint}")
        return self._open(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def __contains__(self, name: object) -> bool:
        return name in self._names()

    def __repr__(self) -> str:
        names = self._names()
        listed = "".join(f"\n  {name}" for name in names)
        return f"{len(names)} {self._what}{'' if len(names) == 1 else 's'}{listed}"

    def _ipython_key_completions_(self) -> list[str]:
        return self._names()


class StudyView:
    """A study folder, opened to look around in it.

    Parameters
    ----------
    folder : Path or str
        The study folder.

    Attributes
    ----------
    recordings : Names
        Ingested stores by the name of their recording.
    preprocessed : Names
        Preprocessed stores.
    results : Names
        Results by ``<collection>/<label>``.

    Raises
    ------
    ConfigError, MissingInput
        If the folder holds no valid study.

    Examples
    --------
    >>> import neuropipe
    >>> view = neuropipe.open_study("demo")  # doctest: +SKIP
    >>> figure = neuropipe.plot(view.results["cohort-worm/ntf"], "activity")  # doctest: +SKIP
    """

    def __init__(self, folder: Path | str = ".") -> None:
        from neuropipe.study import load_study

        self.folder = Path(folder)
        self._study: Study = load_study(folder)
        self.recordings = Names("store", lambda: self._stores(False), lambda n: self._store(n))
        self.preprocessed = Names(
            "preprocessed store", lambda: self._stores(True), lambda n: self._store(n, True)
        )
        self.results = Names("result", self._results, self._result)

    def _path(self, name: str, preprocessed: bool) -> Path:
        from neuropipe.store import layout

        row = self._study.recording(name)
        made = layout.preprocessed_store(row) if preprocessed else layout.store_file(row)
        return self.folder / made

    def _stores(self, preprocessed: bool) -> list[str]:
        names = [row.name for row in self._study.recordings]
        return [name for name in names if self._path(name, preprocessed).exists()]

    def _store(self, name: str, preprocessed: bool = False) -> Any:
        from neuropipe.store.zarr import open_store

        return open_store(self._path(name, preprocessed))

    def _results(self) -> list[str]:
        from neuropipe.store import layout

        pairs = [(c.name, run.label) for run in self._study.runs for c in run.collections]
        return [f"{c}/{n}" for c, n in pairs if (self.folder / layout.result_file(c, n)).is_file()]

    def _result(self, name: str) -> Any:
        from neuropipe.store import layout
        from neuropipe.store.provenance import read_dataset

        collection, _, label = name.partition("/")
        return read_dataset(self.folder / layout.result_file(collection, label))

    @property
    def table(self) -> pd.DataFrame:
        """All metrics of all results, as `neuropipe.results`."""
        import neuropipe

        return neuropipe.results(self.folder)

    def _rows(self) -> list[tuple[str, str, str]]:
        """Return name, what it is, and what exists of it."""
        ingested, done = set(self._stores(False)), set(self._stores(True))
        rows = []
        for row in self._study.recordings:
            made = [("ingested", ingested), ("preprocessed", done)]
            states = [word for word, names in made if row.name in names]
            rows.append((row.name, row.modality, ", ".join(states) or "not ingested"))
        have = set(self._results())
        for run in self._study.runs:
            for collection in run.collections:
                name = f"{collection.name}/{run.label}"
                rows.append((name, run.analysis.name, "done" if name in have else "not run"))
        return rows

    def __repr__(self) -> str:
        rows = self._rows()
        width = max((len(name) for name, *_ in rows), default=0)
        lines = [f"{name:<{width}}  {kind:<10} {state}" for name, kind, state in rows]
        head = f"Study {self._study.config.study!r} in {self.folder}"
        return "\n".join([head, *(f"  {line}" for line in lines)])

    def _repr_html_(self) -> str:
        cells = "".join(
            "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>"
            for row in self._rows()
        )
        head = "<tr><th>name</th><th>kind</th><th>state</th></tr>"
        title = escape(f"Study {self._study.config.study!r} in {self.folder}")
        return f"<table><caption>{title}</caption>{head}{cells}</table>"


def plot(
    data: Any,
    figure: str | None = None,
    *,
    rows: list[int] | slice | None = None,
    span_s: tuple[float, float] | None = None,
) -> ReportFigure:
    """Draw a store, or a figure of a result, in one line.

    Parameters
    ----------
    data : xarray.DataTree or xarray.Dataset
        As `open` or `open_result` returns it.
    figure : str, optional
        Of a result: which figure of its report section; default: the first.
    rows : list of int or slice, optional
        Of a store: which rows, by position; default: the first 20.
    span_s : tuple of float, optional
        Of a store: first and last moment, seconds; default: the first 30 s.

    Returns
    -------
    ReportFigure
        With title, caption and numbers; shown by Jupyter, saved by ``savefig``.

    Raises
    ------
    ConfigError
        If the result has no such figure.
    DataError
        If it is neither a store nor a result of the workflow.
    """
    attrs = getattr(data, "attrs", {})
    if "schema" in attrs:
        return _plot_store(data, slice(MOST_ROWS) if rows is None else rows, span_s)
    record = json.loads(attrs.get("provenance", "{}"))
    if "analysis" not in record:
        raise DataError(
            "neither a store nor a result of the workflow; figures of what `fit` returned are in "
            "neuropipe.analyses.<analysis>.figures(result)"
        )
    from neuropipe.analyses.registry import get_analysis, load_object

    known = load_object(get_analysis(record["analysis"]).figures)(data)
    name = next(iter(known)) if figure is None else figure
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"One of {', '.join(known)}."
        raise ConfigError(f"{name}: no such figure of {record['analysis']}. {hint}")
    return known[name]


def _plot_store(
    tree: Any, rows: list[int] | slice, span_s: tuple[float, float] | None
) -> ReportFigure:
    from neuropipe.plotting.figure import ReportFigure
    from neuropipe.plotting.style import apply_style

    ds = tree["raw"].to_dataset() if "raw" in tree.children else tree.to_dataset()
    draw = _spikes if "spike_time" in ds else _traces
    with apply_style():
        name = str(tree.attrs.get("recording", "") or tree.attrs["schema"])
        figure = ReportFigure(title=name, height_mm=100)
        axes = figure.subplots()
        start, stop = draw(axes, tree, ds, rows, span_s)
        if "events" in tree.children and "onset" in tree["events"]:
            for onset in np.asarray(tree["events"]["onset"].values, dtype=float):
                if start <= onset <= stop:
                    axes.axvline(onset, color="0.6", lw=0.6, zorder=0)
        axes.set_xlim(start, stop)
        axes.set_xlabel("time (s)")
        axes.set_title(name)
    return figure


def _window(span_s: tuple[float, float] | None, first: float, last: float) -> tuple[float, float]:
    return (first, min(last, first + SPAN_S)) if span_s is None else span_s


def _traces(axes: Any, tree: Any, ds: Any, rows: Any, span_s: Any) -> tuple[float, float]:
    from neuropipe.plotting.panels import stacked_traces
    from neuropipe.store.scaling import physical

    name = next(
        str(n) for n in ("activity", *ds.data_vars) if n in ds and ds[n].dims[:1] == ("time",)
    )
    time = np.asarray(ds["time"].values)
    start, stop = _window(span_s, float(time[0]), float(time[-1]))
    here = slice(*np.searchsorted(time, [start, np.nextafter(stop, np.inf)]))
    values = physical(ds, rows, here, name)
    labels = _labels(ds, str(ds[name].dims[-1]), rows)
    stacked_traces(axes, time[here], values.T, labels, colors=["C0"] * len(labels))
    axes.set_ylabel(f"{name}, SD of each row")
    return start, stop


def _labels(ds: Any, row: str, rows: Any) -> list[str]:
    """Return names of rows: of neurons where they are known."""
    names = [str(value) for value in ds[row].values[rows]]
    known = [str(value) for value in ds["label"].values[rows]] if "label" in ds else names
    return [label or name for label, name in zip(known, names, strict=True)]


def _spikes(axes: Any, tree: Any, ds: Any, rows: Any, span_s: Any) -> tuple[float, float]:
    from neuropipe.store.spikes import spikes_between

    observed = np.asarray(ds["observed"].values)
    start, stop = _window(span_s, float(observed.min()), float(observed.max()))
    times, units = spikes_between(tree, start, stop)
    chosen = np.arange(ds.sizes["unit"])[rows]
    trains = [times[units == unit] for unit in chosen]
    axes.eventplot(trains, colors="C0", linelengths=0.8, linewidths=0.6)
    axes.set_yticks(range(len(chosen)), [str(value) for value in ds["unit"].values[chosen]])
    axes.invert_yaxis()
    axes.set_ylabel("unit")
    return start, stop
