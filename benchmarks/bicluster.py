"""Bi-clustering: acceptance on the simulator, Geweke and calibration tests, speed, peers.

    python benchmarks/bicluster.py acceptance --seeds 0 1 2 3 4 [--warmup 500 --draws 1500]
    python benchmarks/bicluster.py geweke --draws 20000 [--length 10]
    python benchmarks/bicluster.py sbc --replicates 200
    python benchmarks/bicluster.py speed [--large]
    python benchmarks/bicluster.py peers --seeds 0 1 2
    python benchmarks/bicluster.py real --data ../shared/data/spikes/neuropixels_counts

Times are CPU seconds of one core.
"""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from neuropipe.analyses import bicluster
from neuropipe.analyses.bicluster.calibration import QUANTITIES, geweke, simulation_ranks
from neuropipe.analyses.bicluster.chain_state import Priors, Problem, Scheme
from neuropipe.analyses.bicluster.starts import initial_state
from neuropipe.analyses.bicluster.sweep import Sweep
from neuropipe.simulate.planted_biclusters import planted_biclusters
from neuropipe.stats.chain_diagnostics import ess_bulk
from neuropipe.stats.clustering_scores import adjusted_rand_score

DEMANDS = {
    "unit_ari": "mean >= 0.95, min >= 0.85",
    "state_ari": "mean >= 0.75, min >= 0.60",
    "clusters": "3 in 4 of 5",
    "large_states": "2 or 3",
    "log_rate_correlation": ">= 0.93",
    "log_rate_coverage": "0.90 to 0.98",
    "dispersion_coverage": ">= 0.80",
}
# Wide priors, and narrow ones with finite fourth moments for means and second moments.
GEWEKE_PRIORS = {
    "narrow": Priors(
        m_d=-0.5, v_d=0.25, v_c=0.25, a_r=4.0, h_r=1.0, nu_extra=30.0, q0=0.1, rho=0.4
    ),
    "wide": Priors(m_d=-0.5, v_d=1.0, v_c=1.0, a_r=2.0, h_r=0.5, nu_extra=8.0, q0=0.1, rho=0.2),
}
TAME = GEWEKE_PRIORS["narrow"]


def settings(arguments: argparse.Namespace, **model: Any) -> bicluster.Settings:
    names = ("warmup", "draws", "chains", "thin")
    mcmc = {name: getattr(arguments, name) for name in names}
    return bicluster.Settings(model=model, mcmc=mcmc)


def acceptance(arguments: argparse.Namespace) -> None:
    rows = []
    for seed in arguments.seeds:
        data, truth = bicluster.simulate(seed=seed, family=arguments.family)
        began = time.process_time()
        result = bicluster.fit(data, settings(arguments, family=arguments.family), seed)
        spent = time.process_time() - began
        found = {name: round(value, 3) for name, value in bicluster.score(result, truth).items()}
        rhat = result["rhat"].values[:3].round(2).tolist()
        rows.append({"seed": seed, **found, "held_out": float(result["held_out_bits_per_spike"])})
        print(f"seed {seed}: {found} R-hat {rhat} converged {result.attrs['converged']} "
              f"agreement {result['chain_agreement'].values.min():.2f} "
              f"{spent:.0f} CPU s", flush=True)  # fmt: skip
        if arguments.keep:
            result.to_netcdf(Path(arguments.keep) / f"result-{seed}.nc", engine="h5netcdf")
    table = pd.DataFrame(rows).set_index("seed")
    print(table.to_string())
    for name, demand in DEMANDS.items():
        print(f"{name}: mean {table[name].mean():.3f}, min {table[name].min():.3f} ({demand})")


def geweke_cases() -> dict[str, tuple[Scheme, np.ndarray | None, dict[str, Any]]]:
    base = Scheme(p=1, n_states_max=3, n_inner=1, sm_every=0)
    labels = np.array([0, 0, 1, 1])
    valid, start = np.ones((4, 12), bool), np.zeros(12, bool)
    valid[1, 3:6], valid[:, 9], start[7] = False, False, True
    offset = np.linspace(-0.5, 0.5, 48).reshape(4, 12)
    return {
        "negbin": (base, None, {}),
        "negbin, states blocked": (replace(base, collapsed=False, n_inner=2), None, {}),
        "negbin, split-merge": (replace(base, sm_every=1), None, {}),
        "negbin, states blocked, split-merge": (
            replace(base, collapsed=False, n_inner=2, sm_every=1), None, {}
        ),
        "negbin, masked, trials, offset, p=2": (
            replace(base, p=2), None, {"valid": valid, "start": start, "offset": offset}
        ),
        "negbin, Dirichlet process, split-merge": (
            replace(base, partition="dp", sm_every=1), None, {}
        ),
        "negbin, full coupling": (replace(base, coupling="full", fix_labels=True), labels, {}),
        "poisson": (replace(base, family="poisson", n_inner=2), None, {}),
        "poisson, split-merge": (
            replace(base, family="poisson", n_inner=2, sm_every=1), None, {}
        ),
        "poisson, full coupling": (
            replace(base, family="poisson", coupling="full", fix_labels=True, n_inner=2), labels, {}
        ),
    }  # fmt: skip


def run_geweke(arguments: argparse.Namespace) -> None:
    print("z-scores of", ", ".join(QUANTITIES), "(means; second moments); demand: all below 4, at "
          "most 5 % above 2")  # fmt: skip
    every = []
    for kind, priors in GEWEKE_PRIORS.items():
        for name, (scheme, labels, shape) in geweke_cases().items():
            title = f"{name}, {kind} priors"
            if arguments.case not in title:
                continue
            began = time.process_time()
            problem = Problem.of(np.zeros((4, 12)), **shape)
            chains = arguments.draws // arguments.length
            scores = geweke(
                problem, priors, scheme, np.random.default_rng(arguments.seed), chains=chains,
                sweeps=arguments.length, labels=labels, cap=10.0,
            )  # fmt: skip
            known = np.abs(scores[np.isfinite(scores)])
            every.append(known)
            print(f"{title}: largest {known.max():.1f}, {(known > 2).sum()} of {known.size} above "
                  f"2, {time.process_time() - began:.0f} CPU s\n  {scores[0].round(1)}\n"
                  f"  {scores[1].round(1)}", flush=True)  # fmt: skip
    pooled = np.concatenate(every)
    print(f"all: largest {pooled.max():.1f}, {100 * (pooled > 2).mean():.1f} % above 2")


def sbc(arguments: argparse.Namespace) -> None:
    from scipy.stats import chisquare

    problem, rng = Problem.of(np.zeros((6, 40))), np.random.default_rng(arguments.seed)
    scheme = Scheme(p=1, n_states_max=3, n_inner=2, sm_every=5)
    ranks = np.array(
        [
            simulation_ranks(problem, TAME, scheme, rng, sweeps=arguments.sweeps, kept=19)
            for _ in range(arguments.replicates)
        ]
    )
    values = []
    for name, column in zip(QUANTITIES, ranks.T, strict=True):
        seen = np.histogram(column, bins=10, range=(0, 1 + 1e-9))[0]
        values.append(chisquare(seen).pvalue)
        print(f"{name}: ranks {seen.tolist()}, p = {values[-1]:.3f}")
    print(f"smallest p {min(values):.4f}, Holm-corrected {min(1.0, min(values) * len(values)):.3f} "
          "(demand: > 0.01)")  # fmt: skip


def speed(arguments: argparse.Namespace) -> None:
    cases = [(10, 500, 100), (10, 1000, 30), (20, 500, 30)]
    if arguments.large:
        cases += [(66, 10_000, 3), (100, 20_000, 2)]
    for n_per, n_bins, sweeps in cases:
        data, truth = planted_biclusters(0, n_per=n_per, T=n_bins)
        problem = Problem.of(data["counts"].values)
        scheme, rng = Scheme(sm_every=0), np.random.default_rng(0)
        labels = truth["unit_cluster"].values
        state = initial_state(problem, Priors(), scheme, rng, 0, labels)
        sweep, drawn = Sweep(problem, Priors(), scheme), []
        for _ in range(2):
            sweep(state, rng)
        began = time.process_time()
        for _ in range(sweeps):
            sweep(state, rng)
            drawn.append(np.log(state.dispersion).mean())
        spent = (time.process_time() - began) / sweeps
        entries = problem.counts.size
        print(f"{3 * n_per} units x {n_bins} bins: {spent:.4f} CPU s per sweep, "
              f"{1e6 * spent / entries:.2f} us per entry", flush=True)  # fmt: skip
        if sweeps >= 100:
            size = ess_bulk(np.array(drawn)[None])
            print(f"  mean log dispersion: {size / sweeps / spent:.1f} effective draws per CPU s")


def _hmm_states(counts: np.ndarray, most: int) -> np.ndarray:
    """Return the states of hmmlearn's Poisson HMM, their number by BIC."""
    from hmmlearn.hmm import PoissonHMM

    fits = []
    for k in range(1, most + 1):
        model = PoissonHMM(n_components=k, random_state=0, n_iter=100).fit(counts.T)
        fits.append((model.bic(counts.T), model.predict(counts.T)))
    return min(fits, key=lambda one: one[0])[1]


def peers(arguments: argparse.Namespace) -> None:
    from scipy.ndimage import gaussian_filter1d
    from sklearn.cluster import KMeans, SpectralBiclustering

    for seed in arguments.seeds:
        data, truth = planted_biclusters(seed)
        counts = data["counts"].values
        smooth = gaussian_filter1d(np.sqrt(counts), 5.0, axis=1)
        smooth = (smooth - smooth.mean(1, keepdims=True)) / smooth.std(1, keepdims=True)
        spectral = SpectralBiclustering(n_clusters=(3, 2), random_state=0).fit(
            smooth - smooth.min()
        )
        units = {
            "k-means (3 given)": KMeans(3, n_init=10, random_state=0).fit_predict(smooth),
            "SpectralBiclustering (3 given)": spectral.row_labels_,
        }
        states = {
            "k-means (2 given)": KMeans(2, n_init=10, random_state=0).fit_predict(smooth.T),
            "SpectralBiclustering (2 given)": spectral.column_labels_,
        }
        try:
            states["hmmlearn PoissonHMM (BIC)"] = _hmm_states(counts, 5)
        except ImportError:
            print("hmmlearn is not installed")
        began = time.process_time()
        result = bicluster.fit(data, settings(arguments), seed)
        name = f"bicluster ({time.process_time() - began:.0f} CPU s)"
        units[name], states[name] = result["unit_cluster"].values, result["time_state"].values
        for kind, found, true in (
            ("units", units, "unit_cluster"),
            ("states", states, "time_state"),
        ):
            for method, labels in found.items():
                value = adjusted_rand_score(labels, truth[true].values)
                print(f"seed {seed} {kind}: ARI {value:.2f} {method}", flush=True)


def real(arguments: argparse.Namespace) -> None:
    """Fit the paper's recording: 63 units x 720 bins of 0.5 s."""
    folder = Path(arguments.data)
    counts = pd.read_csv(folder / "Y.csv", header=None).to_numpy()
    regions = pd.read_csv(folder / "Lab_neuron.csv", header=None).to_numpy().ravel()
    movie = pd.read_csv(folder / "Lab_states.csv", header=None).to_numpy().ravel()
    data = xr.Dataset(
        {"counts": (("unit", "time"), counts)},
        coords={"unit": [f"u{i:02d}" for i in range(len(counts))],
                "time": 0.5 * np.arange(counts.shape[1]) + 0.25,
                "region": ("unit", regions.astype(str))},
        attrs={"bin_width_s": 0.5},
    )  # fmt: skip
    result = bicluster.fit(data, settings(arguments, rho=0.415, n_states_max=20), 1)
    draws = result["posterior/cluster_label"].values.reshape(-1, len(counts))
    states = result["posterior/state_label"].values.reshape(-1, counts.shape[1])
    for name, point, drawn, true in (
        ("clusters against regions", result["unit_cluster"], draws, regions),
        ("states against movie", result["time_state"], states, movie),
    ):
        values = [adjusted_rand_score(one, true) for one in drawn]
        low, high = np.quantile(values, [0.025, 0.975])
        print(f"{name}: ARI {adjusted_rand_score(point.values, true):.2f}, draws {low:.2f} to "
              f"{high:.2f}, {int(point.max()) + 1} groups")  # fmt: skip
    print(f"held out: {float(result['held_out_bits_per_spike']):.4f} +- "
          f"{float(result['held_out_bits_per_spike_se']):.4f} bits per spike over constant rates; "
          f"R-hat {result['rhat'].values.round(2).tolist()}; {result.attrs['issues']}")  # fmt: skip
    if arguments.keep:
        result.to_netcdf(Path(arguments.keep) / "result-real.nc", engine="h5netcdf")


COMMANDS = {
    "acceptance": acceptance, "geweke": run_geweke, "sbc": sbc, "speed": speed, "peers": peers,
    "real": real,
}  # fmt: skip


def main() -> None:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--warmup", type=int, default=500)
    parser.add_argument("--draws", type=int, default=1500)
    parser.add_argument("--thin", type=int, default=3)
    parser.add_argument("--family", default="negbin")
    parser.add_argument("--case", default="", help="part of the name of a Geweke case")
    parser.add_argument("--length", type=int, default=10, help="sweeps of a Geweke chain")
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--sweeps", type=int, default=400)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--keep", default="", help="folder for the results")
    parser.add_argument("--data", default="../shared/data/spikes/neuropixels_counts")
    arguments = parser.parse_args()
    COMMANDS[arguments.command](arguments)


if __name__ == "__main__":
    main()
