"""scikit-learn's estimators: `SmallNetworkClassifier` and `SmallNetworkRegressor`. Needs neither Ray nor MLflow."""

from __future__ import annotations

from collections.abc import Mapping

from nasplug.sklearn.estimators import InputError, SmallNetworkClassifier, SmallNetworkRegressor

__all__ = ["EXCEPTIONS", "InputError", "SmallNetworkClassifier", "SmallNetworkRegressor"]

EXCEPTIONS: Mapping[str, str] = {
    "check_sample_weight_equivalence_on_dense_data": "a row of weight 2 weighs as two, but it is one row: it is in one fold "
    "and one batch, and means and scales of columns count it once",
}
"""Checks of scikit-learn's `check_estimator` that are not passed, and why; all others are."""
