#!/usr/bin/env python3
"""Writes src/eval/testdata/few_labels_reference.json: what Python's libraries make of small columns.

    pip install numpy scipy scikit-learn mapie ppi-python
    python scripts/make_few_labels_reference.py src/eval/testdata/few_labels_reference.json

- maps: scikit-learn's IsotonicRegression (out_of_bounds="clip") and numpy's polyfit, at scores between and beyond the rows;
- conformal: the intervals of MAPIE's SplitConformalRegressor around a map that is given;
- ppi: ppi-python's intervals of a mean with lambda 1, tuned and given, its classical interval, and with weights of rows.

ppi-python's interval with weights is not that of a weighted mean: adding a constant to all scores changes its width. It is
asked for scores from which their weighted means were taken, where both agree.
"""

import json
import sys
import warnings

import numpy as np
from mapie.regression import SplitConformalRegressor
from ppi_py import classical_mean_ci, ppi_mean_ci, ppi_mean_pointestimate
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.isotonic import IsotonicRegression

warnings.filterwarnings("ignore")
RANDOM = np.random.default_rng(25)


def numbers(values):
    return [float(value) for value in np.atleast_1d(values)]


def columns(rows, decimals, spread=1.0):
    """A judge's scores and people's, on the scale 1..5."""
    judge = np.round(RANDOM.uniform(1, 5, rows), decimals)
    human = np.clip(np.round(1 + 4 * ((judge - 1) / 4) ** 2 + spread * RANDOM.normal(size=rows)), 1, 5)
    return judge, human


def maps():
    cases = []
    for rows, decimals, spread in [(40, 1, 1.0), (25, 0, 1.5), (12, 3, 0.5), (5, 2, 2.0), (30, 1, 6.0)]:
        judge, human = columns(rows, decimals, spread)
        at = np.concatenate([[0.0, 6.0, judge[0]], np.round(RANDOM.uniform(0.5, 5.5, 12), 3)])
        isotonic = IsotonicRegression(out_of_bounds="clip").fit(judge, human).predict(at)
        slope, intercept = np.polyfit(judge, human, 1)
        line = intercept + slope * at if slope > 0 else None
        cases.append({
            "judge": numbers(judge), "human": numbers(human), "at": numbers(at), "isotonic": numbers(isotonic),
            "affine": None if line is None else numbers(line),
        })
    return cases


class Given(RegressorMixin, BaseEstimator):
    """A line that needs no fitting."""

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def predict(self, X):
        return 0.5 + 0.8 * np.asarray(X)[:, 0]


def conformal():
    cases = []
    for rows, level in [(11, 0.9), (19, 0.9), (40, 0.9), (40, 0.8), (21, 0.95), (25, 0.95), (33, 0.5)]:
        judge, human = columns(rows, 2)
        at = np.round(RANDOM.uniform(1, 5, 6), 2)
        regressor = SplitConformalRegressor(Given().fit(None), confidence_level=level, prefit=True)
        regressor.conformalize(judge[:, None], human)
        _, intervals = regressor.predict_interval(at[:, None])
        cases.append({
            "judge": numbers(judge), "human": numbers(human), "level": level, "at": numbers(at),
            "low": numbers(intervals[:, 0, 0]), "high": numbers(intervals[:, 1, 0]),
        })
    return cases


def mean_ci(*arguments, **options):
    low, high = ppi_mean_ci(*arguments, **options)
    return [float(np.ravel(low)[0]), float(np.ravel(high)[0])]


def ppi():
    cases = []
    for rows, more, level, bias, noise in [(20, 60, 0.95, 0.5, 0.6), (12, 20, 0.9, -1.0, 0.2), (30, 90, 0.8, 0.0, 3.0)]:
        human = np.round(RANDOM.normal(3, 1, rows), 2)
        judge = np.round(human + bias + noise * RANDOM.normal(size=rows), 2)
        unlabelled = np.round(RANDOM.normal(3 + bias, np.hypot(1, noise), more), 2)
        weights = np.round(RANDOM.uniform(0.2, 3, rows + more), 2)
        alpha, given = 1 - level, 0.37
        case = {
            "human": numbers(human), "judge": numbers(judge), "unlabelled": numbers(unlabelled), "level": level,
            "weights": numbers(weights), "given": given,
            "labels": [float(end) for end in classical_mean_ci(human, alpha=alpha)],
            "ppi": mean_ci(human, judge, unlabelled, alpha=alpha, lam=1),
            "tuned": mean_ci(human, judge, unlabelled, alpha=alpha),
            "of_given": mean_ci(human, judge, unlabelled, alpha=alpha, lam=given),
        }
        w, v = weights[:rows], weights[rows:]
        point = float(np.ravel(ppi_mean_pointestimate(human, judge, unlabelled, lam=given, w=w, w_unlabeled=v))[0])
        middle = (v * unlabelled).sum() / v.sum()
        centred = (human - point, judge - middle, unlabelled - middle)
        low, high = mean_ci(*centred, alpha=alpha, lam=given, w=w, w_unlabeled=v)
        case["weighted"] = [point + low, point + high]
        cases.append(case)
    return cases


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    reference = {"maps": maps(), "conformal": conformal(), "ppi": ppi()}
    with open(sys.argv[1], "w") as file:
        json.dump(reference, file, indent=None, separators=(",", ":"))
        file.write("\n")
