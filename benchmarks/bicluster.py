"""Bi-clustering: acceptance on the simulator, Geweke and calibration tests, speed, peers.

    python benchmarks/bicluster.py acceptance --seeds 0 1 2 3 4 [--warmup 500 --draws 1500]
    python benchmarks/bicluster.py geweke --draws 20000 [--length 10]
    python benchmarks/bicluster.py sbc --replicates 200
    python benchmarks/bicluster.py speed [--large]
    python benchmarks/bicluster.py growth
    python benchmarks/bicluster.py peers --seeds 0 1 2
    python benchmarks/bicluster.py null --seeds 0 1 2
    python benchmarks/bicluster.py families --seeds 0
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
from poisson_hmm import PoissonHmm, fit_poisson_hmm

from neuropipe.analyses import bicluster
from neuropipe.analyses.bicluster.baseline_model import gain_per_spike, mean_rate_log_density
from neuropipe.analyses.bicluster.calibration import QUANTITIES, geweke, simulation_ranks
from neuropipe.analyses.bicluster.chain_state import Priors, Problem, Scheme
from neuropipe.analyses.bicluster.prepare import prepare
from neuropipe.analyses.bicluster.starts import initial_state
from neuropipe.analyses.bicluster.sweep import Sweep
from neuropipe.simulate.planted_biclusters import planted_biclusters
from neuropipe.stats.chain_diagnostics import ess_bulk
from neuropipe.stats.clustering_scores import adjusted_rand_score

EFFECTIVE = ("log_joint", "n_clusters", "n_states", "dispersion_mean", "log_rate_norm")
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
# Slower dynamics for calibration: few draws of the prior explode within 40 bins.
CALM = replace(TAME, m_d=0.5, q0=0.03)


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
            scores, exploded = geweke(
                problem, priors, scheme, np.random.default_rng(arguments.seed), chains=chains,
                sweeps=arguments.length, labels=labels, cap=10.0,
            )  # fmt: skip
            known = np.abs(scores[np.isfinite(scores)])
            every.append(known)
            print(f"{title}: largest {known.max():.1f}, {(known > 2).sum()} of {known.size} above "
                  f"2, {exploded} of {chains} chains exploded, "
                  f"{time.process_time() - began:.0f} CPU s\n  {scores[0].round(1)}\n"
                  f"  {scores[1].round(1)}", flush=True)  # fmt: skip
    pooled = np.concatenate(every)
    print(f"all: largest {pooled.max():.1f}, {100 * (pooled > 2).mean():.1f} % above 2")


def holm(values: np.ndarray) -> np.ndarray:
    """Return p values corrected for their number (Holm 1979)."""
    order = np.argsort(values)
    stepped = np.maximum.accumulate(values[order] * np.arange(values.size, 0, -1))
    found = np.empty_like(values)
    found[order] = np.minimum(stepped, 1.0)
    return found


def sbc(arguments: argparse.Namespace) -> None:
    from scipy.stats import chisquare

    problem, rng = Problem.of(np.zeros((6, 40))), np.random.default_rng(arguments.seed)
    scheme = Scheme(p=1, n_states_max=3, n_inner=2, sm_every=5, family=arguments.family)
    began, ranks, lags = time.process_time(), [], []
    for _ in range(arguments.replicates):
        rank, lag = simulation_ranks(problem, CALM, scheme, rng, sweeps=arguments.sweeps, kept=19)
        ranks.append(rank)
        lags.append(lag)
    names, lag = [*QUANTITIES, "log likelihood"], np.nanmean(lags, axis=0)
    rows = []
    for name, column in zip(names, np.array(ranks).T, strict=True):
        if name == "log r" and scheme.poisson:
            continue  # not in the model
        seen = np.histogram(column, bins=10, range=(-0.5, 19.5))[0]
        rows.append({"quantity": name, "ranks": seen.tolist(), "p": chisquare(seen).pvalue,
                     "lag 1": lag[names.index(name)]})  # fmt: skip
    table = pd.DataFrame(rows)
    table["Holm"] = holm(table["p"].to_numpy())
    print(f"{scheme.family}: {arguments.replicates} replicates of 6 x 40, {arguments.sweeps} "
          f"sweeps, {time.process_time() - began:.0f} CPU s")  # fmt: skip
    print(table.round(4).to_string(index=False))
    print(f"smallest Holm-corrected p {table['Holm'].min():.4f} (demand: > 0.01)", flush=True)


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


def _peer_labels(counts: np.ndarray) -> dict[str, tuple[Any, Any, float]]:
    """Return labels of units and of bins and the CPU seconds of every simple method."""
    from scipy.ndimage import gaussian_filter1d
    from sklearn.cluster import KMeans, SpectralBiclustering

    smooth = gaussian_filter1d(np.sqrt(counts), 5.0, axis=1)
    smooth = (smooth - smooth.mean(1, keepdims=True)) / smooth.std(1, keepdims=True)
    means = {k: KMeans(k, n_init=10, random_state=0) for k in (2, 3)}
    spectral = SpectralBiclustering(n_clusters=(3, 2), random_state=0)
    runs = {
        "k-means, numbers given": lambda: (
            means[3].fit_predict(smooth), means[2].fit_predict(smooth.T)
        ),
        "SpectralBiclustering, numbers given": lambda: (
            spectral.fit(smooth - smooth.min()).row_labels_, spectral.column_labels_
        ),
        "hmmlearn PoissonHMM, BIC": lambda: (None, _hmm_states(counts, 5)),
    }  # fmt: skip
    found = {}
    for name, run in runs.items():
        began = time.process_time()
        units, bins = run()
        found[name] = units, bins, time.process_time() - began
    return found


def peers(arguments: argparse.Namespace) -> None:
    rows = []
    for seed in arguments.seeds:
        data, truth = planted_biclusters(seed)
        found = _peer_labels(data["counts"].values)
        began = time.process_time()
        result = bicluster.fit(data, settings(arguments), seed)
        spent = time.process_time() - began
        found["bicluster"] = result["unit_cluster"].values, result["time_state"].values, spent
        for method, (units, bins, seconds) in found.items():
            pairs = ((units, truth["unit_cluster"]), (bins, truth["time_state"]))
            ari = [np.nan if a is None else adjusted_rand_score(a, b.values) for a, b in pairs]
            rows.append({"seed": seed, "method": method, "units": ari[0], "states": ari[1],
                         "CPU s": seconds})  # fmt: skip
        sizes = {name: float(result["ess_bulk"].sel(quantity=name)) / spent for name in EFFECTIVE}
        print(f"seed {seed}: effective draws per CPU s "
              f"{', '.join(f'{k} {v:.2f}' for k, v in sizes.items())}; "
              f"converged {result.attrs['converged']}", flush=True)  # fmt: skip
        _print_held_out(result, data, settings(arguments), seed)
    table = pd.DataFrame(rows)
    print(table.round(3).to_string(index=False))
    print(table.groupby("method")[["units", "states", "CPU s"]].mean().round(3).to_string())


def _print_held_out(
    result: xr.DataTree, data: xr.Dataset, used: bicluster.Settings, seed: int
) -> None:
    """Print bits per held-out spike over constant negative binomial rates, with errors."""
    ready = prepare(data, used, seed)
    train, held = ready.problem.counts, ready.held
    density = result["log_likelihood/counts"].values
    began = time.process_time()
    hmm, states = fit_poisson_hmm(train, 10)
    spent = time.process_time() - began
    mean = np.where(train >= 0, train, 0).sum(1) / (train >= 0).sum(1)
    flat = PoissonHmm(np.maximum(mean, 1e-6)[None], np.ones(1), np.ones((1, 1)))
    values = {
        "bicluster": np.logaddexp.reduce(density, axis=0) - np.log(len(density)),
        f"Poisson HMM, {states} states by BIC ({spent:.0f} CPU s)": hmm.log_density(
            train, ready.counts
        ),
        "Poisson of constant rates": flat.log_density(train, ready.counts),
    }
    base = mean_rate_log_density(train, ready.counts)
    for name, value in values.items():
        gain, error = gain_per_spike(
            value - base, held, float(ready.counts[held].sum()), used.heldout.block_bins
        )
        print(f"  held out, {name}: {gain:+.4f} +- {error:.4f} bits per spike over constant "
              "negative binomial rates", flush=True)  # fmt: skip


def growth(arguments: argparse.Namespace) -> None:
    """Print CPU time and memory of a sweep while bins or units double, and the exponents."""
    import resource

    cases = {
        "bins": [(60, 1000), (60, 2000), (60, 4000), (60, 8000)],
        "units": [(30, 2000), (60, 2000), (120, 2000), (240, 2000)],
        "largest": [(201, 10_000)],
    }
    for along, sizes in cases.items():
        spent = []
        for n_units, n_bins in sizes:
            data, truth = planted_biclusters(0, n_per=n_units // 3, T=n_bins)
            problem, rng = Problem.of(data["counts"].values), np.random.default_rng(0)
            labels = truth["unit_cluster"].values
            state = initial_state(problem, Priors(), Scheme(), rng, 0, labels)
            sweep = Sweep(problem, Priors(), Scheme(sm_every=0))
            sweep(state, rng)
            began = time.process_time()
            for _ in range(3):
                sweep(state, rng)
            spent.append((time.process_time() - began) / 3)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
            print(f"{n_units} units x {n_bins} bins: {spent[-1]:.3f} CPU s per sweep, "
                  f"{1e6 * spent[-1] / n_units / n_bins:.2f} us per entry, peak {peak:.2f} GB",
                  flush=True)  # fmt: skip
        if len(sizes) > 1:
            axis = np.log([one[0 if along == "units" else 1] for one in sizes])
            print(f"exponent in {along}: {np.polyfit(axis, np.log(spent), 1)[0]:.2f} (demand: 1)")


def null(arguments: argparse.Namespace) -> None:
    """Independent negative binomial units of constant rate: nothing to find."""
    shares, gains = [], []
    for seed in arguments.seeds:
        rng = np.random.default_rng(seed)
        mean, size = rng.gamma(4.0, 0.4, (20, 1)), 5.0
        counts = rng.poisson(rng.gamma(size, mean / size, (20, 300)))
        data = _dataset(counts, np.full(20, ""))
        result = bicluster.fit(data, settings(arguments), seed)
        states = result["posterior/state_label"].values.reshape(-1, 300)
        largest = np.array([np.bincount(one).max() / one.size for one in states])
        shares.append(float((largest > 0.9).mean()))
        gain, error = (float(result[f"held_out_bits_per_spike{end}"]) for end in ("", "_se"))
        gains.append((gain, error))
        spread = result["posterior/log_rate_spread"].values
        print(f"seed {seed}: P(one state holds > 90 %) {shares[-1]:.2f} (demand: >= 0.8), largest "
              f"state holds {largest.mean():.2f}; held out {gain:+.4f} +- {error:.4f} bits per "
              f"spike (demand: <= 0 within 2 s.e.); clusters "
              f"{np.bincount(result['posterior/n_clusters'].values.ravel()).argmax()}, sd of log "
              f"rates over time {spread.mean():.3f}, R-hat "
              f"{result['rhat'].values[:3].round(2).tolist()}", flush=True)  # fmt: skip
    print(f"demand met by {sum(one >= 0.8 for one in shares)} of {len(shares)} data sets (states) "
          f"and {sum(g <= 2 * e for g, e in gains)} (held out)")  # fmt: skip


def families(arguments: argparse.Namespace) -> None:
    """Both families on Poisson and on overdispersed counts: prediction and acceptance."""
    for truth in ("poisson", "negbin"):
        for seed in arguments.seeds:
            data, true = planted_biclusters(seed, family=truth, r=3.0)
            for family in ("negbin", "poisson"):
                result = bicluster.fit(data, settings(arguments, family=family), seed)
                accepted = np.nanmean(result["sample_stats/accept_trajectory"].values)
                loading = np.nanmean(result["sample_stats/accept_loading"].values)
                eta = np.corrcoef(
                    result["log_rate_mean"].values.ravel(), true["log_rate"].values.ravel()
                )[0, 1]
                print(f"{truth} counts, seed {seed}, family {family}: held out "
                      f"{float(result['held_out_bits_per_spike']):+.4f} +- "
                      f"{float(result['held_out_bits_per_spike_se']):.4f} bits per spike, "
                      f"acceptance of trajectories {accepted:.2f}, of labels and loadings "
                      f"{loading:.2f}, correlation of log rates {eta:.3f}", flush=True)  # fmt: skip


def _dataset(counts: np.ndarray, regions: np.ndarray) -> xr.Dataset:
    return xr.Dataset(
        {"counts": (("unit", "time"), counts)},
        coords={"unit": [f"u{i:02d}" for i in range(len(counts))],
                "time": 0.5 * np.arange(counts.shape[1]) + 0.25,
                "region": ("unit", regions.astype(str))},
        attrs={"bin_width_s": 0.5},
    )  # fmt: skip


def real(arguments: argparse.Namespace) -> None:
    """Fit the paper's recording: 63 units x 720 bins of 0.5 s."""
    folder = Path(arguments.data)
    counts = pd.read_csv(folder / "Y.csv", header=None).to_numpy()
    codes = pd.read_csv(folder / "Lab_neuron.csv", header=None).to_numpy().ravel()
    regions = np.array(["CA1", "LP", "VISp"])[codes - 1]
    movie = pd.read_csv(folder / "Lab_states.csv", header=None).to_numpy().ravel()
    data = _dataset(counts, regions)
    used = settings(arguments, rho=0.415, n_states_max=arguments.states)
    began = time.process_time()
    result = bicluster.fit(data, used, 1)
    print(f"{time.process_time() - began:.0f} CPU s")
    if arguments.keep:
        result.to_netcdf(Path(arguments.keep) / "result-real.nc", engine="h5netcdf")
    draws = result["posterior/cluster_label"].values.reshape(-1, len(counts))
    states = result["posterior/state_label"].values.reshape(-1, counts.shape[1])
    for name, point, drawn, true in (
        ("clusters against regions", result["unit_cluster"], draws, regions),
        ("states against movie", result["time_state"], states, movie),
    ):
        values = [adjusted_rand_score(one, true) for one in drawn]
        low, high = np.quantile(values, [0.025, 0.975])
        print(f"{name}: ARI {adjusted_rand_score(point.values, true):.2f}, draws {low:.2f} to "
              f"{high:.2f}, {int(point.max()) + 1} groups; 95 % of labels by chance below "
              f"{_chance(point.values, true, point.dims == ('time',)):.2f}")  # fmt: skip
    _print_held_out(result, data, used, 1)
    hmm, number = fit_poisson_hmm(counts.astype(float), 10)
    path = hmm.smooth(counts.astype(float))[0].argmax(axis=1)
    print(f"Poisson HMM, {number} states: against movie ARI {adjusted_rand_score(path, movie):.2f}")
    print(result["region_by_cluster"].to_pandas().to_string())
    rhat = dict(zip(result["quantity"].values, result["rhat"].values.round(2), strict=True))
    print(f"R-hat {rhat}; {result.attrs['issues']}")


def _chance(labels: np.ndarray, true: np.ndarray, ordered: bool) -> float:
    """Return the 95 % quantile of the ARI of shuffled labels; of shifted ones if they follow on."""
    rng, found = np.random.default_rng(0), []
    for _ in range(500):
        moved = np.roll(labels, rng.integers(labels.size)) if ordered else rng.permutation(labels)
        found.append(adjusted_rand_score(moved, true))
    return float(np.quantile(found, 0.95))


COMMANDS = {
    "acceptance": acceptance, "geweke": run_geweke, "sbc": sbc, "speed": speed, "growth": growth,
    "peers": peers, "null": null, "families": families, "real": real,
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
    parser.add_argument("--states", type=int, default=20, help="most states of `real`")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--keep", default="", help="folder for the results")
    parser.add_argument("--data", default="../shared/data/spikes/neuropixels_counts")
    arguments = parser.parse_args()
    COMMANDS[arguments.command](arguments)


if __name__ == "__main__":
    main()
