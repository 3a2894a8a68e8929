"""Which modules decide which product: the code whose change makes a product stale."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

from neuropipe.analyses.registry import Analysis
from neuropipe.config.recordings import MODALITIES

__all__ = [
    "CONNECTOME_CODE",
    "FIGURE_CODE",
    "PREPROCESS_CODE",
    "QUALITY_CODE",
    "assemble_code",
    "figure_code",
    "ingest_code",
]

# Modules of the store and of ingest that decide no value of the store of a recording.
_WITHOUT_EFFECT = {
    "neuropipe.store": (
        "__init__",
        "atomic",
        "code",
        "connectome",
        "layout",
        "pieces",
        "provenance",
        "validate",
    ),
    "neuropipe.io": ("__init__", "connectome", "scan"),
}
# What one assembler alone takes from other packages.
_ALSO_ASSEMBLE = {
    "neuropipe.assemble.conditions": (
        "neuropipe.preprocess.fmri",
        "neuropipe.preprocess.fmri_clean",
        "neuropipe.preprocess.fmri_motion",
        "neuropipe.preprocess.fmri_parcels",
        "neuropipe.store.scaling",
    ),
}
CHANNEL_MODALITIES = ("eeg", "meg", "ieeg")
BIDS_MODALITIES = (*CHANNEL_MODALITIES, "fmri")
FIGURE_CODE = ("neuropipe.plotting",)
PREPROCESS_CODE = ("neuropipe.preprocess", "neuropipe.store.scaling", "neuropipe.store.zarr")
CONNECTOME_CODE = (
    "neuropipe.io.connectome",
    "neuropipe.io.checks",
    "neuropipe.store.atlas",
    "neuropipe.store.atlases",
    "neuropipe.store.connectome",
    "neuropipe.store.labels",
)
QUALITY_CODE = ("neuropipe.report.quality", "neuropipe.store.scaling", *FIGURE_CODE)


def _modules_of(package: str) -> list[str]:
    """Return the modules and folders directly in a package that decide stores."""
    folder = Path(str(importlib.util.find_spec(package).origin)).parent  # type: ignore[union-attr]
    names = {p.stem for p in folder.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    names |= {p.name for p in folder.iterdir() if p.is_dir() and p.name == "atlases"}
    return [f"{package}.{name}" for name in sorted(names - {*_WITHOUT_EFFECT[package]})]


@functools.cache
def ingest_code(modality: str) -> tuple[str, ...]:
    """Return the modules that decide a store: the store layer, what all readers share, and the
    readers of the modality, those of installed packages too.
    """  # noqa: D205 - one sentence
    from neuropipe.io.registry import readers

    others = {f"neuropipe.io.{name}" for name in MODALITIES if name != modality}
    if modality not in CHANNEL_MODALITIES:
        others.add("neuropipe.io.channels")
    if modality not in BIDS_MODALITIES:
        others.add("neuropipe.io.bids")
    modules = {*_modules_of("neuropipe.store"), *_modules_of("neuropipe.io")} - others
    for reader in readers().values():
        if modality in reader.modalities and not reader.open.startswith("neuropipe."):
            modules.add(reader.open.partition(":")[0])
    return tuple(sorted(modules))


def assemble_code(analysis: Analysis) -> tuple[str, ...]:
    """Return the modules that decide an input dataset."""
    module = analysis.assemble.partition(":")[0]
    own = module.startswith("neuropipe.assemble.")
    shared = (
        "neuropipe.preprocess.binning",
        "neuropipe.preprocess.resample",
        "neuropipe.preprocess.sampling",
        "neuropipe.preprocess.steps",
        "neuropipe.store.atlas",
        "neuropipe.store.connectome",
        *_ALSO_ASSEMBLE.get(module, ()),
    )
    return ("neuropipe.assemble" if own else module, *shared)


def figure_code(analysis: Analysis) -> tuple[str, ...]:
    """Return the modules that decide the figures and the methods text of an analysis."""
    return (*analysis.code_modules, "neuropipe.analyses.methods_text", *FIGURE_CODE)
