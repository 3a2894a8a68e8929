"""Searchlight maps: on surfaces, as images, and the test of a mean map of few subjects."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from pydantic import ValidationError

from neuropipe.analyses import trsa
from neuropipe.analyses.trsa import stages
from neuropipe.analyses.trsa.kernels.pairs import to_square
from neuropipe.analyses.trsa.map_files import map_files
from neuropipe.errors import DataError, MissingInput

SIZES = {
    "n_conditions": 8, "n_categories": 4, "n_layers": 1, "n_runs": 3, "n_models": 1,
}  # fmt: skip
QUICK = {
    "rdm": {"permutations": 0},
    "descriptor": {"grid_step": 0.5},
    "inference": {"bootstrap": 0, "permutations": 20},
}
OBLIQUE = np.array(
    [[-2.6, -1.5, 0.0, 30.0], [1.5, -2.6, 0.0, -20.0], [0.0, 0.0, 3.5, 5.0], [0.0, 0.0, 0.0, 1.0]]
)


def settings(near: dict, **changes) -> trsa.Settings:
    return trsa.Settings(**{**QUICK, "searchlight": near, **changes})


def planted(signal: np.ndarray, subjects: int, seed: int = 0, **sizes) -> xr.Dataset:
    """Return patterns of channels that follow the model where ``signal`` is true, else noise."""
    data = trsa.simulate(
        seed, **SIZES | {"n_subjects": subjects, "n_channels": signal.size, "noise": 0.5} | sizes
    )[0]
    values = data["patterns"].values
    noise = np.random.default_rng(seed + 1).normal(size=values.shape)
    values[..., ~signal] = noise[..., ~signal]
    return data


def volume(subjects: int, shape=(8, 6, 3), seed: int = 0, *, corner=True, **sizes) -> xr.Dataset:
    """Return patterns of voxels of an oblique volume whose first corner follows the model."""
    place = np.argwhere(np.ones(shape, dtype=bool))
    signal = corner & (place[:, 0] < 3) & (place[:, 1] < 3)
    data = planted(signal, subjects, seed, **sizes)
    position = place @ OBLIQUE[:3, :3].T + OBLIQUE[:3, 3]
    axes = {name: ("channel", position[:, k]) for k, name in enumerate("xyz")}
    stated = {"affine": OBLIQUE.ravel().tolist(), "volume_shape": [10.0, 9.0, 4.0]}
    return data.assign_coords(axes).assign_attrs(stated)


NEAR = {"radius_mm": 4.5, "min_voxels": 5, "permutations": 99}


@pytest.fixture(scope="module")
def two() -> xr.Dataset:
    return trsa.fit(volume(2, n_conditions=16), settings(NEAR), 0)


def test_a_map_of_two_subjects_is_tested_by_permuted_conditions(two):
    p = two["searchlight_pvalue"]
    assert p.attrs["test"] == "permuted conditions"
    place = np.argwhere(np.ones((8, 6, 3), dtype=bool))
    inside, far = (place[:, :2] < 2).all(axis=1), (place[:, :2] > 4).any(axis=1)
    order = [int(np.flatnonzero(np.isclose(two["x"], x) & np.isclose(two["y"], y)
                                & np.isclose(two["z"], z))[0])
             for x, y, z in place @ OBLIQUE[:3, :3].T + OBLIQUE[:3, 3]]  # fmt: skip
    values = p.values[0, order]
    assert (values[inside] <= 0.05).mean() > 0.8
    assert (values[far] > 0.05).all()
    caption = trsa.figures(two)["searchlight"].caption
    assert "for other conditions in these subjects alone" in caption


def test_the_mean_map_meets_the_means_of_permuted_models(two):
    """The same p by hand: RDMs of all neighbourhoods, models with permuted conditions."""
    data = volume(2, n_conditions=16)
    near = NEAR | {"keep_rdms": True, "permutations": 0}
    kept = trsa.fit(data, settings(near), 0)
    rdms = np.apply_along_axis(_ranks, -1, kept["searchlight_rdm"].values)
    model = to_square(kept["model_rdm"].values[:1])[0]
    upper, rng = np.triu_indices(16, 1), np.random.default_rng(1)
    null = []
    for _ in range(200):
        order = rng.permutation(16)
        row = _ranks(model[np.ix_(order, order)][upper])
        null.append((rdms @ row).mean(axis=0).max() / row.size)
    observed = (rdms @ _ranks(model[upper])).mean(axis=0) / row.size
    np.testing.assert_allclose(observed, kept["searchlight_score"].values[0], atol=1e-10)
    by_hand = (np.array(null)[:, None] >= observed).mean(axis=0)
    # Two samples of 200 and 100 permutations: the difference has an SD of at most 0.06.
    assert np.abs(by_hand - two["searchlight_pvalue"].values[0]).max() < 0.25
    assert np.abs(by_hand - two["searchlight_pvalue"].values[0]).mean() < 0.05


def _ranks(row: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    ranks = rankdata(row)
    return (ranks - ranks.mean()) / ranks.std()


def test_maps_of_noise_pass_as_often_as_they_may():
    """Family-wise errors of three subjects at 0.1: 4 of 40 expected, 9 or fewer in 99 %."""
    quick = settings(NEAR | {"permutations": 19})
    found = []
    for seed in range(40):
        data = volume(3, (4, 4, 2), 100 + seed, corner=False)
        part = stages.rdm(data, quick, seed, {})
        from neuropipe.analyses.trsa.checks import ordered
        from neuropipe.analyses.trsa.map_group import searchlight_group

        group = searchlight_group(ordered(data), part, quick, seed)
        found.append(float(group["searchlight_pvalue"].min()))
    assert sum(p <= 0.1 for p in found) <= 9
    assert sum(p <= 0.5 for p in found) >= 10  # and it is not conservative beyond use


def test_nifti_maps_lie_on_the_grid_of_the_data(two, tmp_path):
    files = map_files(two)
    assert sorted(files) == ["searchlight_layer-0_p.nii.gz", "searchlight_layer-0_score.nii.gz"]
    assert files == map_files(two)
    (tmp_path / "score.nii.gz").write_bytes(files["searchlight_layer-0_score.nii.gz"])
    image = nib.load(tmp_path / "score.nii.gz")
    assert image.shape == (10, 9, 4)
    np.testing.assert_allclose(image.affine, OBLIQUE, atol=1e-5)
    values = np.asarray(image.dataobj)
    assert np.isfinite(values).sum() == two.sizes["centre"]
    for centre in (0, 20, two.sizes["centre"] - 1):
        position = [float(two[axis][centre]) for axis in "xyz"]
        i, j, k = np.rint(np.linalg.inv(OBLIQUE) @ [*position, 1.0]).astype(int)[:3]
        np.testing.assert_allclose(
            values[i, j, k], two["searchlight_score"].values[0, centre], rtol=1e-6
        )
    # Without the grid of the data positions on axes still make an image, others none.
    bare = two.copy()
    bare["searchlight_score"].attrs = {}
    assert map_files(bare) == {}
    with pytest.raises(DataError, match="no regular grid"):
        trsa.searchlight_image(bare, "layer-0")
    assert map_files(two.drop_vars("searchlight_score")) == {}
    assert gzip.decompress(files["searchlight_layer-0_p.nii.gz"])[:4]


# --- surfaces --------------------------------------------------------------------------------

COLUMNS, ROWS = 21, 10


def fold(side: float) -> tuple[np.ndarray, np.ndarray]:
    """Return places and triangles of two banks 2 mm apart that meet in the depth."""
    place = np.arange(COLUMNS) - COLUMNS // 2
    x = side * 40 + np.where(place < 0, -1.0, 1.0)
    points = [[x[c], 2.0 * r, -2.0 * np.abs(place[c])] for r in range(ROWS) for c in range(COLUMNS)]
    corner = (np.arange(ROWS - 1)[:, None] * COLUMNS + np.arange(COLUMNS - 1)).ravel()
    right, up = corner + 1, corner + COLUMNS
    triangles = [np.stack([corner, right, up], 1), np.stack([right, up + 1, up], 1)]
    return np.array(points), np.concatenate(triangles)


def write_surface(path, points, triangles):
    arrays = [
        nib.gifti.GiftiDataArray(points.astype(np.float32), "NIFTI_INTENT_POINTSET"),
        nib.gifti.GiftiDataArray(triangles.astype(np.int32), "NIFTI_INTENT_TRIANGLE"),
    ]
    nib.save(nib.gifti.GiftiImage(darrays=arrays), path)


@pytest.fixture(scope="module")
def surfaces(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("surfaces")
    paths = {}
    for side, sign in (("left", -1.0), ("right", 1.0)):
        paths[side] = str(folder / f"{side}.surf.gii")
        write_surface(paths[side], *fold(sign))
    return paths


def cortex(subjects: int = 2) -> xr.Dataset:
    """Return vertices of both hemispheres and a few voxels; one bank of the left one is planted."""
    count = COLUMNS * ROWS
    structure = np.array(["CORTEX_LEFT"] * count + ["CORTEX_RIGHT"] * count + [""] * 27)
    vertex = np.concatenate([np.arange(count), np.arange(count), np.full(27, -1)])
    voxels = np.argwhere(np.ones((3, 3, 3), dtype=bool)) * 3.0
    position = np.concatenate([np.full((2 * count, 3), np.nan), voxels])
    signal = (structure == "CORTEX_LEFT") & (vertex % COLUMNS < 8)
    data = planted(signal, subjects, n_conditions=16)
    # Two vertices of each hemisphere have no data: the middle wall.
    data["patterns"][{"channel": [3, count + 3]}] = np.nan
    axes = {name: ("channel", position[:, k]) for k, name in enumerate("xyz")}
    return data.assign_coords(structure=("channel", structure), vertex=("channel", vertex), **axes)


@pytest.fixture(scope="module")
def bank(surfaces) -> xr.Dataset:
    near = {"radius_mm": 5.0, "min_voxels": 5, "permutations": 59, "surfaces": surfaces}
    return trsa.fit(cortex(), settings(near), 0)


def test_a_planted_bankdoes_not_spread_to_the_other_bank(bank):
    score, vertex = bank["searchlight_score"].values[0], bank["vertex"].values
    left = bank["structure"].values == "CORTEX_LEFT"
    column = vertex % COLUMNS
    inside, opposite = left & (column < 5), left & (column > 14)
    assert score[inside].min() > 0.4
    # 2 mm away through the white matter, more than 20 mm along the surface.
    assert np.abs(score[opposite]).max() < 0.5
    assert np.abs(score[opposite]).mean() < 0.15
    assert (bank["searchlight_pvalue"].values[0, inside] <= 0.05).all()
    assert np.isfinite(score[vertex < 0]).all()  # the voxels have neighbourhoods of their own
    points = fold(-1.0)[0]
    np.testing.assert_allclose(bank["z"].values[left], points[vertex[left], 2], atol=1e-5)


def test_maps_of_surfaces_are_gifti_columns_and_figures(bank, tmp_path):
    files = map_files(bank)
    words = {f"hemi-{h}_{v}.func.gii" for h in "LR" for v in ("score", "p")}
    words |= {f"{v}.nii.gz" for v in ("score", "p")}
    assert set(files) == {f"searchlight_layer-0_{word}" for word in words}
    (tmp_path / "a.func.gii").write_bytes(files["searchlight_layer-0_hemi-L_score.func.gii"])
    image = nib.load(tmp_path / "a.func.gii")
    assert image.meta["AnatomicalStructurePrimary"] == "CortexLeft"
    column = image.agg_data()
    assert column.shape == (COLUMNS * ROWS,)
    assert np.flatnonzero(np.isnan(column)).tolist() == [3]
    figure = trsa.figures(bank)["searchlight"]
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[:3] == ["left, from outside", "right, from outside", "from above"]
    one = bank.isel(centre=np.flatnonzero(bank["structure"].values == "CORTEX_LEFT"))
    titles = [axes.get_title(loc="left") for axes in trsa.figures(one)["searchlight"].axes]
    assert titles[:2] == ["left, from outside", "left, from inside"]
    assert set(map_files(one)) == {
        f"searchlight_layer-0_hemi-L_{v}.func.gii" for v in ("score", "p")
    }
    with pytest.raises(DataError, match="no centre of the searchlight is a vertex of the right"):
        trsa.searchlight_surface(one, "layer-0", "right")
    with pytest.raises(DataError, match="are vertices"):
        trsa.searchlight_image(one, "layer-0")


def test_the_nearest_vertices_make_equal_neighbourhoods(surfaces):
    near = {"nearest": 12, "min_voxels": 5, "permutations": 0, "surfaces": surfaces}
    found = trsa.fit(cortex(1), settings(near), 0)
    assert found.sizes["centre"] == 2 * (COLUMNS * ROWS - 1) + 27
    text = trsa.figures(found)["searchlight"].caption
    assert "Not tested" in text


def test_surfaces_that_do_not_fit_are_named(surfaces, tmp_path):
    near = {"radius_mm": 5.0, "min_voxels": 5, "permutations": 0}
    with pytest.raises(DataError, match=r"channels \(CORTEX_LEFT, CORTEX_RIGHT\) have no place"):
        trsa.fit(cortex(1), settings(near), 0)
    gone = near | {"surfaces": {"left": str(tmp_path / "gone.surf.gii")}}
    with pytest.raises(MissingInput, match=r"surfaces\.left: .*gone.surf.gii: no such file"):
        trsa.fit(cortex(1), settings(gone), 0)
    (tmp_path / "text.surf.gii").write_text("nothing")
    text = near | {"surfaces": {"left": str(tmp_path / "text.surf.gii")}}
    with pytest.raises(DataError, match="no GIFTI file"):
        trsa.fit(cortex(1), settings(text), 0)
    points, triangles = fold(-1.0)
    write_surface(tmp_path / "small.surf.gii", points[:60], triangles[(triangles < 60).all(axis=1)])
    small = near | {"surfaces": surfaces | {"left": str(tmp_path / "small.surf.gii")}}
    with pytest.raises(DataError, match="has 60 vertices, the data name vertex 209"):
        trsa.fit(cortex(1), settings(small), 0)
    with pytest.raises(ValidationError, match="left"):
        settings(near | {"surfaces": {"lh": "a.surf.gii"}})
    assert set(settings(near | {"surfaces": surfaces}).files) == set(surfaces.values())
