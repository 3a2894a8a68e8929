"""Write a figure as SVG, PDF and table: the same figure gives the same bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from neuropipe.plotting.style import apply_style
from neuropipe.store.atomic import atomic_path, write_text

if TYPE_CHECKING:
    from matplotlib.artist import Artist

    from neuropipe.plotting.figure import ReportFigure

__all__ = ["MAX_PATH_POINTS", "RASTER_DPI", "rasterise_heavy", "save_figure"]

MAX_PATH_POINTS = 20_000
RASTER_DPI = 200
SLUG = re.compile(r"[a-z0-9]+([-_][a-z0-9]+)*")


def _points(artist: Artist) -> int:
    """Return the number of path points that an artist adds to a vector file."""
    from matplotlib.collections import Collection, QuadMesh
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    if isinstance(artist, QuadMesh):
        return 4 * artist.get_coordinates()[..., 0].size
    if isinstance(artist, Collection):
        vertices = [len(path.vertices) for path in artist.get_paths()]
        copies = len(artist.get_offsets()) if len(vertices) == 1 else 1
        return sum(vertices) * max(copies, 1)
    if isinstance(artist, Line2D):
        return len(artist.get_xdata(orig=False))
    return len(artist.get_path().vertices) if isinstance(artist, Patch) else 0


def _artists(figure: ReportFigure) -> Iterator[Artist]:
    for axes in figure.axes:
        yield from (*axes.lines, *axes.collections, *axes.patches)


def rasterise_heavy(figure: ReportFigure, limit: int = MAX_PATH_POINTS) -> int:
    """Turn the heaviest artists to pixels inside the vector file until `limit` points are left.

    Parameters
    ----------
    figure : ReportFigure
        Changed in place: text, axes and light artists stay vector.
    limit : int
        Path points that may stay vector.

    Returns
    -------
    int
        Number of artists turned to pixels.
    """
    weighed = sorted(
        ((_points(artist), artist) for artist in _artists(figure) if not artist.get_rasterized()),
        key=lambda pair: -pair[0],
    )
    total = sum(points for points, _ in weighed)
    turned = 0
    for points, artist in weighed:
        if total <= limit:
            break
        artist.set_rasterized(True)
        total -= points
        turned += 1
    return turned


def save_figure(figure: ReportFigure, folder: Path | str, slug: str) -> list[Path]:
    """Write ``fig-<slug>.svg``, ``.pdf`` and, if the figure has a table, ``.tsv``.

    Text stays text, no file holds a date, and each file appears whole or not at all.

    Parameters
    ----------
    figure : ReportFigure
        Its layout is computed once and then frozen.
    folder : Path
        Made if absent.
    slug : str
        Lower-case words joined by ``-`` or ``_``.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    ValueError
        If the slug would not make a portable file name.
    """
    if not SLUG.fullmatch(slug):
        raise ValueError(f"slug {slug!r}: expected lower-case letters, digits, '-' and '_'")
    folder = Path(folder)
    written = []
    with apply_style():
        rasterise_heavy(figure)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for suffix, date in (("svg", "Date"), ("pdf", "CreationDate")):
            path = folder / f"fig-{slug}.{suffix}"
            metadata = {date: None, "Title": figure.title or slug}
            # Drawn in memory: a full disk hides behind an error of the file that is closed then.
            drawn = io.BytesIO()
            figure.savefig(drawn, format=suffix, dpi=RASTER_DPI, metadata=metadata)
            with atomic_path(path) as partial:
                partial.write_bytes(drawn.getbuffer())
            written.append(path)
    if figure.table is not None:
        path = folder / f"fig-{slug}.tsv"
        text = figure.table.to_csv(sep="\t", index=False, float_format="%.6g", lineterminator="\n")
        write_text(path, text)
        written.append(path)
    return written
