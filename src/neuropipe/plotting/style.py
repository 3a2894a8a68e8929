"""Switch the style of the package on for a block of code or a function."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["STYLE_FILE", "apply_style"]

STYLE_FILE = Path(__file__).with_name("style.mplstyle")
KEPT = ("backend", "backend_fallback", "interactive", "toolbar", "webagg", "datapath")


@contextmanager
def apply_style() -> Iterator[None]:
    """Draw with the style of the package, whatever the user's matplotlibrc says.

    Works as ``with apply_style():`` and as the decorator ``@apply_style()``; needed both where a
    figure is built and where it is saved (`save.save_figure` does the latter).
    """
    import matplotlib as mpl

    settings = {k: v for k, v in mpl.rcParamsDefault.items() if not k.startswith(KEPT)}
    settings |= mpl.rc_params_from_file(STYLE_FILE, use_default_template=False)
    with mpl.rc_context(settings):
        yield
