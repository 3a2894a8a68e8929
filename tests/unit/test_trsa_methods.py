"""The methods text says how patterns were made and keeps its grammar."""

from __future__ import annotations

import json

import pytest

from neuropipe.analyses import trsa
from neuropipe.analyses.trsa.methods import text
from neuropipe.analyses.trsa.methods_patterns import patterns_sentences

GLM = {
    "how": "glm", "noise": "ar1", "runs": 12, "confounds": "24p", "csf_wm": True, "detrend": True,
    "high_pass_hz": 0.008, "fd_threshold_mm": 0.5, "residuals": True, "regions": "aal.nii.gz",
    "software": "nilearn 0.13",
}  # fmt: skip
TRIALS = {
    "how": "trial_mean", "runs": 8, "window_s": [-0.2, 0.5], "baseline_s": [None, 0.0],
    "folds": 8, "keep_time": True, "bin_ms": None,
}  # fmt: skip


def said(facts: dict) -> str:
    return patterns_sentences({"making": json.dumps(facts)})


@pytest.mark.parametrize(
    ("facts", "parts"),
    [
        (GLM, ("general linear model of each run (12 runs)", "Glover (1999)", "24 motion terms",
               "fitted with nilearn 0.13 to every row",
               "cosines up to 0.008 Hz", "displacement above 0.5 mm", "autoregression of order 1",
               "Regions come from the image aal.nii.gz.")),
        (GLM | {"noise": "ols", "confounds": "none", "csf_wm": False, "detrend": False,
                "high_pass_hz": None, "fd_threshold_mm": None, "runs": 1, "residuals": False},
         ("(1 run)", "together with a constant, by ordinary least squares", "were not kept")),
        ({"how": "window_mean", "runs": 2, "lag_s": 5.0, "fd_threshold_mm": 0.5,
          "where": "relative_intensity > 0.2"},
         ("both 5 s later", "2 runs", "above 0.5 mm do not count", "`relative_intensity > 0.2`")),
        (TRIALS, ("from -0.2 to 0.5 s", "with their time axis", "8 folds",
                  "the mean from the beginning of the window to 0 s was taken off")),
        (TRIALS | {"baseline_s": None, "bin_ms": "20", "keep_time": False, "folds": 1},
         ("bins of 20 ms", "no baseline", "averaged over the time", "1 fold ")),
        ({}, ("",)),
    ],
)  # fmt: skip
def test_the_making_of_patterns_is_told(facts, parts):
    found = said(facts)
    for part in parts:
        assert part in found
    assert bool(found) == bool(facts)


def test_numbers_agree_with_their_nouns_and_works_are_cited():
    data = trsa.simulate(
        0, n_conditions=6, n_categories=3, n_layers=1, n_subjects=1, n_channels=8, n_models=1
    )[0]
    settings = trsa.Settings(rdm={"permutations": 0}, inference={"bootstrap": 0, "permutations": 5})
    found = trsa.fit(data.assign_attrs(making=json.dumps(GLM)), settings, 0)
    body = text(settings, found)
    assert "6 conditions in 1 subject and 1 region hold" in body
    assert "1 model RDM was compared" in body
    assert "(s)" not in body
    for work in ("Glover GH (1999)", "Satterthwaite TD et al. (2013)", "Walther A et al. (2016)"):
        assert f"- {work}" in body
    bare = text(settings, found.assign_attrs(making="{}", versions='{"nilearn": "0.13.1"}'))
    assert "Glover" not in bare
    assert "Satterthwaite TD" not in bare
    assert "Software: nilearn 0.13.1." in bare
