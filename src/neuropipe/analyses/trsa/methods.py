"""The methods paragraph: what was done, with the numbers of this result, ready to paste."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neuropipe.analyses.methods_text import (
    changed_sentence,
    counted,
    paragraph,
    software_sentence,
)
from neuropipe.analyses.trsa.methods_patterns import patterns_sentences
from neuropipe.analyses.trsa.model_scores import FLEXIBLE_DRAWS
from neuropipe.analyses.trsa.spec import (
    ACCURACY_DRAWS,
    NOISE_KINDS,
    DescriptorSettings,
    Settings,
)

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["text"]

REFERENCES = {
    "Kriegeskorte": "Kriegeskorte N, Mur M, Bandettini P (2008). Representational similarity "
    "analysis. Frontiers in Systems Neuroscience 2, 4.",
    "Lin": "Lin B, Kriegeskorte N (2024). The topology and geometry of neural representations. "
    "PNAS 121, e2317881121.",
    "Schütt": "Schütt HH et al. (2023). Statistical inference on representational geometries. "
    "eLife 12, e82566.",
    "Walther": "Walther A et al. (2016). Reliability of dissimilarity measures for multi-voxel "
    "pattern analysis. NeuroImage 137, 188-200.",
    "Diedrichsen": "Diedrichsen J et al. (2020). Comparing representational geometries using "
    "whitened unbiased-distance-matrix similarity. arXiv:2007.02789.",
    "Schäfer": "Schäfer J, Strimmer K (2005). A shrinkage approach to large-scale covariance "
    "matrix estimation. Statistical Applications in Genetics and Molecular Biology 4, 32.",
    "Ledoit": "Ledoit O, Wolf M (2004). A well-conditioned estimator for large-dimensional "
    "covariance matrices. Journal of Multivariate Analysis 88, 365-411.",
    "Glover": "Glover GH (1999). Deconvolution of impulse response in event-related BOLD fMRI. "
    "NeuroImage 9, 416-429.",
    "Satterthwaite et al.": "Satterthwaite TD et al. (2013). An improved framework for confound "
    "regression and filtering for control of motion artifact in the preprocessing of resting-state "
    "functional connectivity data. NeuroImage 64, 240-256.",
    "Smith": "Smith SM, Nichols TE (2009). Threshold-free cluster enhancement. NeuroImage 44, "
    "83-98.",
    "Carrière": "Carrière M, Cuturi M, Oudot S (2017). Sliced Wasserstein kernel for persistence "
    "diagrams. Proceedings of ICML 34, 664-673.",
    "Edelsbrunner": "Edelsbrunner H, Letscher D, Zomorodian A (2002). Topological persistence and "
    "simplification. Discrete and Computational Geometry 28, 511-533.",
}
MEASURES = {
    "euclidean": "squared Euclidean distances",
    "euclidean_root": "Euclidean distances",
    "correlation": "correlation distances (1 - Pearson r over channels)",
    "cosine": "cosine distances",
    "mahalanobis": "squared Mahalanobis distances",
    "crossnobis": "cross-validated squared Mahalanobis distances (crossnobis, Walther et al. 2016; "
    "unbiased, so that equal patterns have 0 on average and estimates may be negative) over {runs} "
    "runs or folds",
    "poisson_kl": "symmetrised Poisson divergences (gamma prior of mean 1 and weight 0.1)",
    "poisson_cv": "cross-validated symmetrised Poisson divergences (gamma prior of mean 1 and "
    "weight 0.1) over {runs} folds",
    "given": "dissimilarities that were given",
}
NOISE = {
    "none": "",
    "diag": "Channels were divided by their noise standard deviation. ",
    "shrinkage_diag": "Patterns were whitened with the noise covariance of channels, shrunk "
    "towards its diagonal (Schäfer and Strimmer 2005). ",
    "shrinkage_eye": "Patterns were whitened with the noise covariance of channels, shrunk towards "
    "a scaled identity (Ledoit and Wolf 2004). ",
    "full": "Patterns were whitened with the sample covariance of the noise of channels. ",
}
COMPARATORS = {
    "cosine": "cosine similarity",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "kendall_tau_a": "Kendall's tau a",
    "rho_a": "rho a (Spearman correlation expected under random breaking of ties)",
    "cosine_w": "whitened cosine similarity (Diedrichsen et al. 2020)",
    "pearson_w": "whitened Pearson correlation (Diedrichsen et al. 2020)",
}
SCALES = {
    "rank": "average ranks brought to [0, 1]",
    "minmax": "values brought to [0, 1]",
    "none": "values as they are",
}
TESTS = {
    "signs of subjects": "random signs of subjects",
    "permuted conditions": "permuted conditions of the models, the same in all subjects",
}
DISTANCES = {
    "bottleneck": "Diagrams were compared by the bottleneck distance. ",
    "sliced_wasserstein": "Diagrams were compared by the sliced Wasserstein distance (Carrière et "
    "al. 2017). ",
}
RULES = {
    "gt": "pairs below {what} {u:g} (lengths ramped from {what} {l:g})",
    "p_shortest": "the {p:g} of shortest pairs",
    "k_nearest": "pairs of which one is among the {k} nearest of the other",
    "p_nearest": "pairs of which one is among the nearest {p:g} of the other",
}


def _rdm_text(settings: Settings, result: xr.Dataset) -> str:
    measure = str(result.attrs["measure"])
    text = (
        f"Representational dissimilarity matrices (RDMs, Kriegeskorte et al. 2008) of "
        f"{counted(result.sizes['condition'], 'condition')} in "
        f"{counted(result.sizes['subject'], 'subject')} and "
        f"{counted(result.sizes['region'], 'region')} hold "
        f"{MEASURES.get(measure, measure).format(runs=result.attrs['runs'])}, divided by the "
        "number of channels. "
    )
    if measure in ("crossnobis", "mahalanobis"):
        given = [model for model in settings.models if model.kind in NOISE_KINDS]
        text += (
            f"Patterns were whitened with the noise {given[0].kind} of the file {given[0].path}. "
            if given and settings.rdm.noise != "none"
            else NOISE[settings.rdm.noise]
        )
    if settings.rdm.remove_mean:
        text += "Each condition's mean over channels was taken away. "
    if settings.time is not None:
        text += (
            f"Movies have windows of {settings.time.window_s:g} s in steps of "
            f"{settings.time.step_s:g} s. "
        )
    if "p_discriminability" in result:
        text += (
            f"The mean dissimilarity was compared with {settings.rdm.permutations} permutations of "
            "condition labels within runs. "
        )
    return text


def _descriptor_text(settings: Settings) -> str:
    chosen = settings.descriptor
    cells = ", ".join(f"({lower:g}, {upper:g})" for lower, upper in chosen.cells)
    what = {"quantile": "quantile", "absolute": "threshold"}[chosen.threshold_mode]
    graph = RULES[chosen.geodesic.rule].format(what=what, **chosen.geodesic.model_dump())
    text = (
        f"Each RDM was scaled by itself ({SCALES[chosen.prescale]}) and transformed to "
        f"geo-topological descriptors (RGTM, Lin and Kriegeskorte 2024) with lower and upper "
        f"{what}s {cells}: 0 below the lower, 1 above the upper, linear between. "
        f"{_smooth_text(chosen)}Geodesic "
        f"descriptors (RGDM) are shortest paths over the graph of {graph}"
        f"{', ranked' if chosen.geodesic.rank else ''}. "
    )
    if chosen.homology:
        text += (
            "Persistent homology of the Vietoris-Rips filtration of the scaled RDMs was computed "
            "in degrees 0 and 1 (Edelsbrunner et al. 2002). "
        )
    if chosen.homology_distance != "none":
        text += DISTANCES[chosen.homology_distance]
    return text


def _smooth_text(chosen: DescriptorSettings) -> str:
    if chosen.smooth is None:
        return ""
    return (
        f"A smooth variant is 1 / (1 + exp(-{chosen.smooth.slope:g} (d - "
        f"{chosen.smooth.centre:g}))). "
    )


def _model_text(settings: Settings, result: xr.Dataset) -> str:
    if "model_score" not in result:
        return ""
    method, inference = str(result.attrs["comparator"]), settings.inference
    text = (
        f"{_models_were(result.sizes['model'])} compared with the subjects' by "
        f"{COMPARATORS[method]}; the noise ceiling is that of the mean RDM of all subjects (upper) "
        "and of the others (lower). "
    )
    if inference.bootstrap and "p_vs_zero" in result:
        over = str(result.attrs["resampled"]).replace(", ", "s and ")
        text += (
            f"Tests use {inference.bootstrap} bootstrap resamples of {over}s, with the variance "
            "corrected as by Schütt et al. 2023 (t tests with Satterthwaite's degrees of freedom; "
            f"one-sided against 0 and against the lower ceiling, two-sided between models; "
            f"correction for several models: {inference.correction}). "
        )
    if any(model.kind not in ("fixed", *NOISE_KINDS) for model in settings.models):
        text += (
            "Flexible models were fitted to other subjects and conditions than those they were "
            f"scored on; {FLEXIBLE_DRAWS} resamples at most, the variance of random divisions "
            "taken away. "
        )
    if "p_permutation" in result:
        text += (
            f"Relatedness was tested by {inference.permutations} permutations of condition labels, "
            "also with the largest score over all models, regions and times. "
        )
    if "p_cluster" in result:
        how = (
            "threshold-free cluster enhancement (Smith and Nichols 2009)"
            if inference.cluster == "tfce"
            else f"clusters of scores above {inference.cluster:g}"
        )
        text += f"Courses over time were tested by random signs of subjects and {how}. "
    return text


def _models_were(count: int) -> str:
    return f"{counted(count, 'model RDM')} {'was' if count == 1 else 'were'}"


def _region_text(settings: Settings, result: xr.Dataset) -> str:
    if "identification_accuracy" not in result:
        return ""
    how = (
        "the nearest mean descriptor"
        if settings.identify.classifier == "nearest_centroid"
        else f"the highest {COMPARATORS[settings.identify.classifier]} with the mean descriptor"
    )
    text = (
        f"The region of each subject's descriptor was identified by {how} of the other subjects "
        "(Lin and Kriegeskorte 2024); standard errors come from up to "
        f"{ACCURACY_DRAWS} resamples of subjects, with all their regions, and of conditions. The "
        f"map over thresholds has steps of {settings.descriptor.grid_step:g}"
    )
    if "accuracy_nested" in result:
        text += "; the accuracy of chosen thresholds uses those best among the other subjects alone"
    if "accuracy_map_pvalue" in result:
        text += "; it was tested by its largest accuracy under regions permuted within subjects"
    text += ". "
    if "accuracy_noise" in result:
        levels = ", ".join(f"{level:g}" for level in settings.identify.noise_levels)
        text += (
            f"Identification was repeated with normal noise of {levels} standard deviations of all "
            "entries added to the RDMs. "
        )
    return text


def _map_text(settings: Settings, result: xr.Dataset) -> str:
    if "searchlight_score" not in result or settings.searchlight is None:
        return ""
    near = settings.searchlight
    size = (
        f"of radius {near.radius_mm:g} mm"
        if near.nearest is None
        else f"of the {near.nearest} nearest channels"
    )
    along = ""
    if near.surfaces:
        along = " (distances along the surface, over edges and unfolded pairs of triangles)"
    body = (
        f"Searchlights {size}{along} with at least {near.min_voxels} channels, noise normalised "
        "per channel, were compared with the models. "
    )
    if "searchlight_pvalue" in result:
        how = result["searchlight_pvalue"].attrs.get("test", "")
        body += f"Maps were tested by the largest score over all centres under {TESTS[how]}. "
    return body


def text(settings: Settings, result: xr.Dataset) -> str:
    """Return the methods paragraph with references.

    Parameters
    ----------
    settings : Settings
        Those of the result.
    result : xarray.Dataset
        Result of the analysis.
    """
    parts = (
        patterns_sentences(result.attrs),
        _rdm_text(settings, result),
        _descriptor_text(settings),
        _model_text(settings, result),
        _region_text(settings, result),
        _map_text(settings, result),
        changed_sentence(settings),
        software_sentence(result.attrs),
    )
    return paragraph(tuple(part.strip() for part in parts), REFERENCES)
