"""What is recovered from planted states and couplings, beside demands and true parameters."""

from __future__ import annotations

import functools

import numpy as np

from neuropipe.analyses import hmm_glm
from neuropipe.analyses.hmm_glm.scoring import equation_8
from neuropipe.simulate.switching_glm import connection_truth

TRAIN, TEST = slice(0, 10), slice(10, 20)
SEEDS = (0, 1, 2, 3, 4, 5)
# prior -> accuracy lost to the oracle, share of its bits, weight error, balanced accuracies
DEMANDS = {
    "none": (0.012, 0.92, 0.33, 0.95, 0.85),
    "gaussian": (0.012, 0.93, 0.30, 0.96, 0.85),
    "onehot": (0.008, 0.97, 0.18, 0.965, 0.86),
}
SHOWN = ("state_accuracy", "bits_per_spike", "weight_error", "connection_accuracy",
         "global_accuracy")  # fmt: skip


@functools.cache
def simulated(seed: int):
    return hmm_glm.simulate(seed)


def fitted(seed: int, prior: str, n_train: int = 10, fit_seed: int = 0):
    data, truth = simulated(seed)
    settings = hmm_glm.Settings(states=5, prior=prior, restarts=1)
    result = hmm_glm.fit(data.isel(trial=slice(0, n_train)), settings, seed=fit_seed)
    test = data.isel(trial=TEST)
    best = hmm_glm.oracle(truth, test, result["rate"].values)
    return result, hmm_glm.score(result, truth, test), best, truth


def balanced(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean([(found[truth == k] == k).mean() for k in (-1, 0, 1)]))


def _row(name: str, value: float, demand: float, *, most: bool = False, note: str = "") -> bool:
    met = value <= demand if most else value >= demand
    sign = "<=" if most else ">="
    print(
        f"  {name:20s} {value:.4f}  demand {sign} {demand:.4f}  {'met' if met else 'MISSED'} {note}"
    )
    return met


def acceptance() -> None:
    """Table 9.3: three variants, three seeds of the specification and three more; few data."""
    missed = []
    for prior, (lost, share, error, classes, overall) in DEMANDS.items():
        for seed in SEEDS:
            result, found, best, truth = fitted(seed, prior)
            print(f"{prior}, seed {seed}")
            limits = (
                best["state_accuracy"] - lost, share * best["bits_per_spike"], error, classes,
                overall,
            )  # fmt: skip
            for name, limit in zip(SHOWN, limits, strict=True):
                note = f"(oracle {best[name]:.4f})" if name in best else ""
                if not _row(name, found[name], limit, most=name == "weight_error", note=note):
                    missed.append((prior, seed, name))
            _rules_compared(result, truth)
            dwell = float(result["dwell_time_expected_s"].mean()) / 0.02
            if not _row("dwell off 50 bins", abs(dwell / 50 - 1), 0.10, most=True):
                missed.append((prior, seed, "dwell"))
    _few_data(missed)
    _many_units()
    print(f"missed: {missed or 'nothing'}")


def _rules_compared(result, truth) -> None:
    """Print what the published rules give, for information."""
    truth_global = truth["connection_probability_global"].values.argmax(axis=-1) - 1
    largest = result["connection_probability_global"].values.argmax(axis=-1) - 1
    ceiling = balanced(_mode_of_classes(truth["connection"].values), truth_global)
    print(
        f"  arg max of A0: {balanced(largest, truth_global):.4f}; on the true classes "
        f"of all states: {ceiling:.4f}"
    )
    weight = result["weight"].values.sum(axis=-1)
    called = float((equation_8(weight) != 0).mean())
    print(f"  rule eq8 calls {called:.3f} of the connections; {_present(truth):.3f} are there")


def _present(truth) -> float:
    return float((truth["connection"].values != 0).mean())


def _mode_of_classes(connection: np.ndarray) -> np.ndarray:
    counts = np.stack([(connection == k).sum(axis=0) for k in (-1, 0, 1)], axis=-1)
    return (counts + np.array([0.1, 0.8, 0.1])).argmax(axis=-1) - 1


def _few_data(missed: list) -> None:
    for seed in (0, 1, 2):
        (_, onehot, best, _), (_, gaussian, _, _) = (
            fitted(seed, prior, n_train=2) for prior in ("onehot", "gaussian")
        )
        print(f"two sequences, seed {seed}; gaussian {gaussian['state_accuracy']:.4f} and "
              f"{gaussian['bits_per_spike']:.4f}")  # fmt: skip
        accuracy, bits = onehot["state_accuracy"], onehot["bits_per_spike"]
        met = [
            _row("state_accuracy", accuracy, best["state_accuracy"] - 0.04),
            _row("bits_per_spike", bits, 0.80 * best["bits_per_spike"]),
            _row("above gaussian", accuracy, gaussian["state_accuracy"]),
            _row("above gaussian", bits, gaussian["bits_per_spike"]),
        ]
        if not all(met):
            missed.append(("few data", seed, ""))


def _many_units() -> None:
    for n_units in (20, 40, 80, 200):
        data, truth = hmm_glm.simulate(0, n_units=n_units, n_bins=1000, n_trials=2, bias=0.0)
        rate = data["counts"].mean(("trial", "time")).values
        found = hmm_glm.oracle(truth, data, rate)["state_accuracy"]
        _row(f"{n_units} units", found, 0.97, note=f"({rate.mean():.2f} counts per bin)")


def reliability() -> None:
    """Ten fit seeds with one score start each end within 0.5 % of the best accuracy."""
    for seed in (0, 1):
        found = [
            fitted(seed, "gaussian", fit_seed=fit_seed)[1]["state_accuracy"]
            for fit_seed in range(10)
        ]
        print(f"seed {seed}: " + " ".join(f"{value:.4f}" for value in found))
        _row("worst of 10", min(found), max(found) - 0.005)


def family_cases():
    """Return simulator, settings and number of fitted trials of every other family."""
    make = hmm_glm.Settings
    small = {"n_states": 3, "n_bins": 3000, "n_trials": 8}
    common = {"states": 3, "restarts": 1}
    lags = {"bins": 2, "basis": "lags"}
    auto = {"n_units": 12, "n_bins": 3000, "n_lags": 2, "spread": 0.1}
    return {
        "negbin": (
            hmm_glm.simulate, {**small, "n_units": 15, "family": "negbin"},
            make(family="negbin", **common), 5,
        ),
        "bernoulli": (
            hmm_glm.simulate,
            {**small, "n_units": 20, "family": "bernoulli", "bias": -1.5, "gain": 3.0},
            make(family="bernoulli", **common), 5,
        ),
        "calcium events": (
            hmm_glm.simulate,
            {**small, "n_units": 30, "family": "bernoulli", "bias": -2.5, "gain": 4.0,
             "stay": 0.99, "bin_width_s": 0.1},
            make(family="bernoulli", **common), 5,
        ),
        "gaussian": (
            hmm_glm.simulate_gaussian, {}, make(history={"bins": 0}, **common), 3,
        ),
        "gaussian, full": (
            hmm_glm.simulate_gaussian, {"spread": 0.0, "covariance": "full"},
            make(history={"bins": 0}, covariance="full", **common), 3,
        ),
        "HMM-MAR": (hmm_glm.simulate_gaussian, auto, make(history=lags, **common), 3),
        "HMM-MAR, full": (
            hmm_glm.simulate_gaussian, {**auto, "covariance": "full"},
            make(history=lags, covariance="full", **common), 3,
        ),
    }  # fmt: skip


def families() -> None:
    """Other families: state accuracy within 0.02 of the oracle."""
    for name, (simulate, size, settings, n_train) in family_cases().items():
        for seed in range(3):
            data, truth = simulate(seed, **size)
            result = hmm_glm.fit(data.isel(trial=slice(0, n_train)), settings)
            test = data.isel(trial=slice(n_train, None))
            best = hmm_glm.oracle(truth, test, result["rate"].values, settings)
            found = hmm_glm.score(result, truth, test)["state_accuracy"]
            _row(f"{name}, seed {seed}"[:20], found, best["state_accuracy"] - 0.02,
                 note=f"{name} (oracle {best['state_accuracy']:.4f})")  # fmt: skip


def global_network() -> None:
    """How often the arg max of A0 could meet 0.86 at all: classes of all states known."""
    found = []
    for seed in range(300):
        overall, connection, _ = connection_truth(np.random.default_rng(seed), 20, 5)
        found.append(balanced(_mode_of_classes(connection), overall.argmax(axis=-1) - 1))
    values = np.array(found)
    print(
        f"arg max rule on the true classes, 300 networks: mean {values.mean():.4f}, standard "
        f"deviation {values.std():.4f}, at least 0.86 in {(values >= 0.86).mean():.2f} of them"
    )
