"""The figure of a report: a matplotlib figure that carries its caption and its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ReportFigure"]

MM_PER_INCH = 25.4
WIDTHS_MM = {"narrow": 85, "medium": 114, "wide": 174}


class ReportFigure(Figure):
    """Figure with a title, a caption that says what good and bad look like, and its numbers.

    Parameters
    ----------
    title : str
        Heading above the figure.
    caption : str
        What is drawn, the meaning of error bars, n, and what good and bad look like.
    table : pandas.DataFrame
        The numbers behind the figure, written as TSV next to it.
    width : {"narrow", "medium", "wide"}
        85, 114 or 174 mm.
    height_mm : float
        Height in millimetres.
    """

    def __init__(
        self,
        *args: Any,
        title: str = "",
        caption: str = "",
        table: pd.DataFrame | None = None,
        width: str = "wide",
        height_mm: float = 80.0,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("figsize", (WIDTHS_MM[width] / MM_PER_INCH, height_mm / MM_PER_INCH))
        kwargs.setdefault("layout", "constrained")
        super().__init__(*args, **kwargs)
        self.title, self.caption, self.table = title, caption, table

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.title!r}, {len(self.axes)} panels)"

    def _repr_png_(self) -> bytes:
        """Return the picture that Jupyter shows, whatever its backend."""
        from io import BytesIO

        stream = BytesIO()
        self.savefig(stream, format="png", dpi=150)
        return stream.getvalue()
