"""`nasplug.sklearn`: how long an import and a fit take, and how well a time limit is kept.

    python benchmarks/estimators.py             # about three minutes
    python benchmarks/estimators.py --quick     # one table

Imports are those of a fresh process that has torch already; the least of five counts. Fits are with default options on tables
that come with scikit-learn, three quarters of the rows, without a limit and with limits; scores are on the other rows. On a
machine that does something else, wall-clock seconds are longer than CPU seconds, and the limit counts the former.

The last line is one JSON object: ``import_seconds``, ``scikit_learn_seconds`` (its share of that), ``fits``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from typing import Any

from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.model_selection import train_test_split

from nasplug.sklearn import SmallNetworkClassifier, SmallNetworkRegressor

TABLES: dict[str, tuple[Any, Any]] = {
    "iris": (load_iris, SmallNetworkClassifier),
    "breast cancer": (load_breast_cancer, SmallNetworkClassifier),
    "diabetes": (load_diabetes, SmallNetworkRegressor),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "linear=False": {"linear": False},
    "time_limit=3": {"time_limit": 3.0},
    "time_limit=6": {"time_limit": 6.0},
}
IMPORT = """
import time, torch
began = time.process_time(), time.perf_counter()
import sklearn.base
between = time.process_time()
import nasplug.sklearn
print(time.process_time() - began[0], between - began[0], time.perf_counter() - began[1])
"""


def imports() -> tuple[float, float, float]:
    """CPU seconds of the import, those of scikit-learn in it, and seconds by the clock: the median of five."""
    found = []
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
        found.append(tuple(float(word) for word in done.stdout.split()))
    return sorted(found)[2]  # type: ignore[return-value]


def fitted(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """One fit."""
    load, estimator = TABLES[name]
    x, y = load(return_X_y=True, as_frame=True)
    x, x_test, y, y_test = train_test_split(x, y, random_state=0)
    cpu, clock = time.process_time(), time.perf_counter()
    model = estimator(random_state=0, **options).fit(x, y)
    return {
        "cpu": time.process_time() - cpu,
        "clock": time.perf_counter() - clock,
        "steps": model.steps_,
        "parameters": model.network_.parameter_count,
        "score": float(model.score(x_test, y_test)),
    }


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one table")
    quick = parser.parse_args().quick
    whole, scikit, clock = imports()
    print(
        f"import nasplug.sklearn beside torch: {whole:.2f} CPU seconds ({clock:.2f} by the clock), of which scikit-learn's own "
        f"{scikit:.2f}"
    )
    fitted("iris", {"levels": 1, "steps": 2, "folds": 1, "linear": False})  # plugins are loaded once
    fits = {}
    print(f"{'table':14} {'options':14} {'CPU s':>6} {'clock s':>8} {'steps':>6} {'parameters':>11} {'score':>6}")
    for name in list(TABLES)[: 1 if quick else None]:
        for words, options in OPTIONS.items():
            one = fits[f"{name}, {words}"] = fitted(name, options)
            print(
                f"{name:14} {words:14} {one['cpu']:6.1f} {one['clock']:8.1f} {one['steps']:6} {one['parameters']:11} "
                f"{one['score']:6.3f}",
                flush=True,
            )
    print(json.dumps({"import_seconds": whole, "scikit_learn_seconds": scikit, "fits": fits}))


if __name__ == "__main__":
    main()
