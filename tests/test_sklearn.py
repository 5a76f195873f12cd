"""`nasplug.sklearn`: scikit-learn's own checks, and the life of an estimator inside scikit-learn."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from nasplug import ConfigError, Study
from nasplug.data import from_arrays
from nasplug.sklearn import EXCEPTIONS, SmallNetworkClassifier, SmallNetworkRegressor
from nasplug.sklearn.inputs import words_for

QUICK: dict[str, Any] = {"levels": 1, "steps": 60, "folds": 1, "linear": False, "method": {"train": {"lr": 0.05}}}
ROWS = 120


def classifier(**options: Any) -> SmallNetworkClassifier:
    return SmallNetworkClassifier(**QUICK | {"random_state": 0} | options)


def regressor(**options: Any) -> SmallNetworkRegressor:
    return SmallNetworkRegressor(**QUICK | {"random_state": 0} | options)


@parametrize_with_checks(
    [SmallNetworkClassifier(**QUICK), SmallNetworkRegressor(**QUICK)], expected_failed_checks=lambda estimator: dict(EXCEPTIONS)
)
def test_scikit_learns_own_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def people() -> tuple[pd.DataFrame, pd.Series[Any]]:
    """Numbers, words, truth values, dates and gaps; the label is the city and the age."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": random.integers(18, 90, ROWS).astype(float),
            "city": random.choice(["Rome", "Oslo"], ROWS),
            "member": random.random(ROWS) < 0.5,
            "since": pd.date_range("2020-01-01", periods=ROWS, freq="36h"),
        }
    )
    label = pd.Series(np.where((frame["city"] == "Oslo") ^ (frame["age"] > 75), "stays", "goes"), name="answer")
    frame.loc[::13, "age"] = np.nan
    frame.loc[5::17, "city"] = None
    return frame, label


# -- data --------------------------------------------------------------------------------------------------------------


def test_a_frame_of_words_gaps_and_dates(people: tuple[pd.DataFrame, pd.Series[Any]]) -> None:
    frame, label = people
    found = classifier().fit(frame, label)
    assert found.classes_.tolist() == ["goes", "stays"]
    assert found.feature_names_in_.tolist() == list(frame.columns)
    assert found.score(frame, label) > 0.8
    assert set(found.get_feature_names_out()) <= set(frame.columns)
    assert "city" in found.get_feature_names_out()
    unknown = frame.assign(city="Lima", age=np.nan)  # a word and a gap that training did not have there
    assert set(found.predict(unknown)) <= {"goes", "stays"}
    told = found.explain(frame.head(3))
    np.testing.assert_allclose(told.drop(columns="prediction").sum(axis=1), told["prediction"])
    named = found.network_.predict(frame)
    np.testing.assert_allclose(named["P(stays)"], found.predict_proba(frame)[:, 1], atol=1e-6)
    assert named["label"].tolist() == found.predict(frame).tolist()


def test_columns_that_are_missing_or_in_another_order_are_refused(people: tuple[pd.DataFrame, pd.Series[Any]]) -> None:
    frame, label = people
    found = classifier(steps=5).fit(frame, label)
    with pytest.raises(ValueError, match="feature names"):
        found.predict(frame.drop(columns="age"))
    with pytest.raises(ValueError, match="same order"):
        found.predict(frame[["city", "age", "member", "since"]])
    with pytest.raises(ValueError, match="'old' is not a number") as refused:
        found.predict(frame.assign(age="old"))
    assert isinstance(refused.value, ConfigError)
    with pytest.raises(ValueError, match=r"same name|unique column"):
        classifier().fit(frame[["age", "age"]], label)


@pytest.mark.parametrize("labels", [[False, True], ["no", "yes"], [3, 10], [0.5, 2.0], ["a", "b", "c"]])
def test_labels_come_back_as_they_were(labels: list[Any]) -> None:
    x = np.linspace(-1, 1, 60).reshape(-1, 1)
    y = np.asarray(labels)[np.minimum((np.arange(60) * len(labels)) // 60, len(labels) - 1)]
    if y.dtype == float:
        y = y.astype(int)  # scikit-learn takes fractions for numbers
    found = classifier().fit(x, y)
    assert found.predict(x).dtype == y.dtype
    assert found.score(x, y) > 0.8
    assert found.predict_proba(x).shape == (60, len(labels))
    assert found.predict_proba(x).sum(1) == pytest.approx(1)


def test_what_cannot_be_learned_is_said_in_plain_words() -> None:
    x = np.random.default_rng(0).normal(size=(20, 2))
    frame = pd.DataFrame(x, columns=["a", "b"])
    for labels in (np.where(x[:, 0] > 0, "yes", None), pd.Series(["no", pd.NA] * 10, dtype="string")):
        with pytest.raises(ConfigError, match="y has no label in"):
            classifier().fit(x, labels)
    with pytest.raises(ConfigError, match="one class only, 0, in"):
        classifier().fit(x, np.zeros(20, dtype=int))
    for large in (np.inf, 1e300):
        with pytest.raises(ConfigError, match="infinite values"):
            classifier().fit(frame.assign(a=np.where(x[:, 0] > 0, large, 0.5)), x[:, 0] > 0)
    with pytest.raises(ConfigError, match=r"leave it out of X: \[a\]"):
        classifier().fit(frame.assign(a=[f"name {i}" for i in range(20)]), x[:, 0] > 0)


def test_after_a_fit_that_failed_no_earlier_network_answers() -> None:
    x = np.random.default_rng(0).normal(size=(40, 2))
    found = classifier(steps=5).fit(x, np.where(x[:, 0] > 0, "yes", "no"))
    with pytest.raises(ValueError, match="time_limit"):
        found.set_params(time_limit=1e-4, steps=100).fit(x, np.where(x[:, 0] > 0, "cat", "dog"))
    with pytest.raises(NotFittedError):
        found.predict(x)


def test_names_of_classes_are_distinct() -> None:
    assert words_for(np.asarray(["a", " a", "", "b"], dtype=object)) == ("a (class 0)", "a (class 1)", " (class 2)", "b")


def test_one_column_several_targets_and_units() -> None:
    x = pd.DataFrame({"size": np.linspace(0, 10, 60)})
    y = pd.DataFrame({"price": 1e6 + 2e5 * x["size"], "rooms": x["size"] / 2})
    found = regressor(steps=200).fit(x, y)
    assert found.predict(x).shape == (60, 2)
    assert found.score(x, y) > 0.95
    assert list(found.network_.predict(x).columns) == ["price", "rooms"]
    one = regressor(steps=200).fit(x, y["price"])
    assert one.predict(x).shape == (60,)
    assert one.predict(x) == pytest.approx(y["price"], rel=0.1)


def test_sample_weights_decide() -> None:
    x = np.linspace(-1, 1, 100).reshape(-1, 1)
    y = np.tile([0, 1], 50)  # nothing can be told apart: the heavier label wins everywhere
    for heavy in (0, 1):
        weights = np.where(y == heavy, 5.0, 1.0)
        assert (classifier().fit(x, y, sample_weight=weights).predict(x) == heavy).mean() > 0.9
    with pytest.raises(ValueError, match="one class"):
        classifier().fit(x, y, sample_weight=(y == 1).astype(float))


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_parameters": 0},
        {"method": "forest"},
        {"method": {"loss": {}}},
        {"numeric": "bins"},
        {"monotone": {"x0": 2}},
        {"levels": 1.5},
        {"steps": True},
        {"folds": 0},
        {"time_limit": 0},
        {"verbose": "yes"},
    ],
)
def test_options_are_looked_at_when_it_is_fitted(wrong: dict[str, Any]) -> None:
    found = classifier(**wrong)  # not before
    with pytest.raises(ValueError, match=next(iter(wrong))):
        found.fit(np.eye(4), [0, 1, 0, 1])


def test_a_budget_of_parameters_and_a_direction() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(150, 4))
    y = x[:, 0] + np.abs(x[:, 1]) + 0.1 * random.normal(size=150)
    found = regressor(levels=6, steps=150, max_parameters=12, monotone=[1, 0, 0, 0]).fit(x, y)
    assert found.network_.parameter_count <= 12
    assert found.front_["parameters"].is_monotonic_increasing
    assert found.front_["chosen"].sum() == 1
    assert not [name for name in found.front_ if name.startswith("test_")]
    assert found.network_.record["monotone"] == {"x0": 1}
    ladder = np.zeros((50, 4))
    ladder[:, 0] = np.linspace(-9, 9, 50)
    assert (np.diff(found.predict(ladder)) >= 0).all()
    with pytest.raises(ValueError, match="1 directions for 4 columns"):
        regressor(monotone=[1]).fit(x, y)


def test_a_section_of_a_study_as_method() -> None:
    x = np.random.default_rng(0).normal(size=(60, 3))
    for method in (edges := {"use": "edges", "mode": "annealed", "hidden": [3, 2]}, {"method": edges, "temperature": None}):
        found = regressor(method=method, steps=20)
        if "method" in method:
            found.set_params(method={**method, "method": edges | {"mode": "l1"}})
        assert found.fit(x, x[:, 0]).network_.widths[-1] == 1
    with pytest.raises(ValueError, match="not installed"):
        regressor(method={"use": "forest"}).fit(x, x[:, 0])


def test_a_method_without_temperature_needs_no_word_of_it() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 3))
    found = classifier(method={"use": "edges", "mode": "l1", "hidden": [3]}, steps=10).fit(x, x[:, 0] > 0)
    assert found.predict(x).shape == (60,)


def test_a_column_that_a_fold_cannot_learn_from_is_left_out_with_a_warning() -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(60, 2)), columns=["a", "b"]).assign(late=np.nan, word=None, same=1.0)
    frame.loc[40:, ["late", "same"]] = random.normal(size=(20, 2))
    frame.loc[40:, "word"] = random.choice(["x", "y"], 20)
    label = np.where(frame["a"] > 0, "up", "down")
    model = classifier(steps=10, monotone={"late": 1, "a": 1})
    with pytest.warns(UserWarning, match="'late', 'word', 'same' have no value, or one alone") as told:
        scores = cross_val_score(model, frame, label, cv=KFold(3), error_score="raise")
    assert np.isfinite(scores).all()
    assert sum("left out" in str(one.message) for one in told) == 1  # of the fold without the last rows alone
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(frame, label)
    with pytest.raises(ConfigError, match="feature 'late' has no value in the training split"):
        from_arrays(frame.head(40)[["a", "late"]], label[:40], kind="binary", missing="indicator")


@pytest.mark.parametrize("rows", [8, 40])
def test_numbers_of_rows_are_refused_as_in_tables(rows: int) -> None:
    X = pd.DataFrame({"id": np.arange(rows), "size": np.random.default_rng(0).normal(size=rows)})
    with pytest.raises(ValueError, match=r"named like an identifier.*leave it out of X"):
        SmallNetworkRegressor().fit(X, X["size"])


def test_numbers_that_do_not_vary_are_refused() -> None:
    with pytest.raises(ValueError, match="y does not vary in the rows that count"):
        SmallNetworkRegressor().fit([[1.0], [2.0], [3.0]], [1.0, 1.0, 2.0], sample_weight=[1.0, 1.0, 0.0])


def test_a_constant_for_want_of_parameters_is_said() -> None:
    x = np.random.default_rng(0).normal(size=(80, 3))
    model = regressor(max_parameters=1, levels=2, steps=150)
    with pytest.warns(UserWarning, match=r"reads no column .* take linear=True"):
        model.fit(x, x[:, 0] + x[:, 1])
    assert len(np.unique(model.predict(x))) == 1


def test_options_that_are_numbers_of_numpy() -> None:
    x = np.random.default_rng(0).normal(size=(60, 2))
    plain = {"levels": 2, "steps": 20, "seeds": 2, "folds": 2, "max_parameters": 100, "monotone": [1, 0]}
    own = {name: np.asarray(value) if name == "monotone" else np.int64(value) for name, value in plain.items()}  # as grids give
    found = [regressor(method="edges", linear=False, **options).fit(x, x[:, 0]) for options in (plain, own)]
    pd.testing.assert_frame_equal(found[0].front_, found[1].front_)
    assert "valid_error_se" in found[1].front_  # folds were taken


@pytest.mark.slow
def test_folds_with_lines_and_a_time_limit() -> None:
    x = np.random.default_rng(0).normal(size=(80, 3))
    found = regressor(levels=2, steps=100_000, folds=2, linear=True, time_limit=4.0).fit(x, x[:, 0] - x[:, 1])
    assert 20 <= found.steps_ < 100_000
    assert "valid_error_se" in found.front_
    own = regressor(levels=1, folds=1, method={"train": {"steps": 30, "finetune": 0}}, time_limit=60.0).fit(x, x[:, 0])
    assert own.steps_ == 30  # those of the section, not of the option, are what a limit shortens
    swept = regressor(levels=1, folds=1, method={"train": {"steps": {"grid": [20, 30]}, "finetune": 0}}).fit(x, x[:, 0])
    assert swept.steps_ == 30
    with pytest.raises(ValueError, match="time_limit"):
        regressor(levels=2, steps=100, time_limit=1e-4).fit(x, x[:, 0])


def test_equal_random_states_give_equal_networks() -> None:
    x = np.random.default_rng(0).normal(size=(40, 3))
    same = [regressor(steps=20).fit(x, x[:, 0]).predict(x) for _ in range(2)]
    np.testing.assert_array_equal(*same)
    assert not np.array_equal(same[0], regressor(steps=20, random_state=1).fit(x, x[:, 0]).predict(x))


# -- inside scikit-learn -----------------------------------------------------------------------------------------------


def test_pipeline_cross_validation_and_grid(people: tuple[pd.DataFrame, pd.Series[Any]]) -> None:
    frame, label = people
    frame = frame.fillna({"age": 50.0, "city": "none"})
    columns = ColumnTransformer([("words", OneHotEncoder(sparse_output=False), ["city"]), ("numbers", "passthrough", ["age"])])
    whole = make_pipeline(columns, classifier())
    assert cross_val_score(whole, frame, label, cv=2).mean() > 0.7
    searched = GridSearchCV(whole, {"smallnetworkclassifier__steps": [1, 60]}, cv=2).fit(frame, label)
    assert searched.best_params_ == {"smallnetworkclassifier__steps": 60}
    plain = make_pipeline(StandardScaler(), classifier()).fit(frame[["age"]], frame["age"] > 50)  # arrays inside, names outside
    assert plain.get_feature_names_out().tolist() == ["age"]
    with pytest.raises(ValueError, match="length equal to number of features"):
        plain[-1].get_feature_names_out(["age", "city"])
    with pytest.raises(NotFittedError):
        clone(searched.best_estimator_.named_steps["smallnetworkclassifier"]).predict(frame)


@pytest.mark.slow
def test_a_pickle_loads_in_a_fresh_process_without_ray_and_mlflow(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(40, 3))
    found = classifier().fit(x, x[:, 0] > 0)
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(found))
    np.save(tmp_path / "x.npy", x)
    code = """
import pickle, sys
import nasplug.sklearn
assert not {"ray", "mlflow", "matplotlib", "optuna", "jinja2", "IPython"} & set(sys.modules), sorted(sys.modules)
import numpy as np
found = pickle.load(open(sys.argv[1] + "/model.pickle", "rb"))
x = np.load(sys.argv[1] + "/x.npy")
np.save(sys.argv[1] + "/p.npy", found.predict_proba(x))
found.set_params(steps=5).fit(x, x[:, 1] > 0)
assert not {"ray", "mlflow", "matplotlib", "optuna"} & set(sys.modules), sorted(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), found.predict_proba(x))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pickle", "p.npy", "x.npy"]  # no other file


@pytest.mark.parametrize(("name", "answer"), [("price", "price"), ("x1", "y0"), (None, "y0"), (3, "y0")])
def test_a_series_gives_the_answer_its_name(name: Any, answer: str) -> None:
    x = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3)), columns=["x0", "x1", "x2"])
    found = regressor(steps=20).fit(x, pd.Series(x["x0"].to_numpy(), name=name))
    assert list(found.network_.predict(x).columns) == [answer]


def test_files_only_where_asked(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(40, 3))
    found = regressor(folder=tmp_path / "kept", steps=20).fit(x, x[:, 0])
    study = Study.open(tmp_path / "kept")
    frame = pd.DataFrame(x, columns=["x0", "x1", "x2"])
    np.testing.assert_allclose(study.predict(frame)["y0"], found.predict(x), rtol=1e-5, atol=1e-6)
    with pytest.raises(ConfigError, match=r"not in this process|not installed"):
        study.task_of(str(study.best()["replica"]))


def test_it_shows_itself() -> None:
    x = np.random.default_rng(0).normal(size=(40, 3))
    found = regressor(steps=20)
    assert "SmallNetworkRegressor" in found._repr_mimebundle_()["text/html"]
    assert "Compact network" in found.fit(x, x[:, 0])._repr_mimebundle_()["text/html"]
