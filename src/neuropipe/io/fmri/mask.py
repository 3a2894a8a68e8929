"""Which voxels of a volume are kept: the brain mask beside it, a given one, or one computed."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from neuropipe.errors import IngestError, Issue, Severity
from neuropipe.io.fmri.volumes import Volumes, load_image

__all__ = ["WHOLE", "choose_mask"]

WHOLE = "all"
BLOCK_BYTES = 8 << 20
AFFINE_TOLERANCE = 1e-3
# Voxels taken off and put back at the surface, as compute_epi_mask does by default.
OPENING = 2
# A brain fills more of its volume; less means that the histogram misled nilearn.
LEAST_SHARE = 0.05


def choose_mask(
    volumes: Volumes, affine: np.ndarray, given: Path | None, setting: str | None
) -> tuple[np.ndarray, list[Issue]]:
    """Return the voxels to keep, bool ``(x, y, z)``.

    Parameters
    ----------
    volumes : Volumes
        The image; without a mask file it is read once to compute a mask.
    affine : numpy.ndarray
        Of the image, ``(4, 4)``.
    given : Path or None
        Mask image.
    setting : str or None
        ``all`` keeps every voxel.

    Raises
    ------
    IngestError
        ``MASK_MISMATCH`` for another shape or place, ``EMPTY`` for a mask without voxels.
    """
    shape = volumes.shape[:3]
    if setting == WHOLE:
        return np.ones(shape, dtype=bool), []
    if given is not None:
        return _from_file(given, shape, affine), []
    return _computed(volumes, affine)


def _from_file(path: Path, shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    image = load_image(path)
    if tuple(image.shape) != tuple(shape):
        text = f"the mask has shape {tuple(image.shape)}, the volumes {tuple(shape)}"
        raise IngestError("MASK_MISMATCH", path, text, "give a mask on the grid of the image")
    if not np.allclose(image.affine, affine, atol=AFFINE_TOLERANCE):
        worst = float(np.abs(image.affine - affine).max())
        text = f"the affine of the mask differs from that of the image by up to {worst:g} mm"
        raise IngestError("MASK_MISMATCH", path, text, "give a mask on the grid of the image")
    mask = np.asarray(image.dataobj) > 0
    if not mask.any():
        text = "the mask holds no voxel"
        raise IngestError("EMPTY", path, text, "correct the mask, or `mask: all` of the reader")
    return mask


def _computed(volumes: Volumes, affine: np.ndarray) -> tuple[np.ndarray, list[Issue]]:
    """Return the mask that nilearn computes from the mean volume."""
    mean = volumes.mean(BLOCK_BYTES)
    # Opening by more than a thin image has slices would leave nothing of it.
    opening = min(OPENING, (min(volumes.shape[:3]) - 1) // 2)
    mask = _epi_mask(mean, affine, opening)
    while opening and not mask.any():
        opening -= 1
        mask = _epi_mask(mean, affine, opening)
    if not mask.any():
        text = "the mask computed from the mean volume holds no voxel"
        hint = "name a mask, or `mask: all` in ingest.readers.nifti"
        raise IngestError("EMPTY", volumes.path, text, hint)
    text = (
        f"no brain mask beside it; nilearn's compute_epi_mask (opening {opening}) keeps "
        f"{int(mask.sum())} of {mask.size} voxels"
    )
    hint = "`mask` of the reader names one, `mask: all` keeps every voxel"
    severity: Severity = "info" if mask.mean() >= LEAST_SHARE else "warning"
    return mask, [Issue("MASK_COMPUTED", str(volumes.path), text, hint, severity)]


def _epi_mask(mean: np.ndarray, affine: np.ndarray, opening: int) -> np.ndarray:
    import nibabel as nib

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        from nilearn.masking import compute_epi_mask
    image: Any = nib.Nifti1Image(mean.astype(np.float32), affine)
    with warnings.catch_warnings():
        # An empty mask is our error; the rest is about how nilearn stores its result.
        warnings.filterwarnings("ignore", message="Computed an empty mask")
        warnings.filterwarnings("ignore", message=".*cannot be stored|.*Casting data")
        try:
            found = compute_epi_mask(image, opening=opening or False)
        except ValueError:
            return np.zeros(mean.shape, dtype=bool)
    return np.asarray(found.dataobj) > 0
