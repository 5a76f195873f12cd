"""Modes of `swat` and baselines side by side: error against size over many functions, and how sure the order is.

    python benchmarks/swat_compare.py FOLDERS... [--against LABEL] [--sizes N...] [--functions FILE.csv] [--pictures FOLDER]
    python benchmarks/swat_compare.py --quick

FOLDERS are `<store>/<study>`: a study over functions of CORNN and its baselines. Rows are labelled by what made them: `latent`,
`switch`, `untrained`, `direct`; "latent + admm" where a discretizer came after; "dense" for another method without penalties;
"direct, 3000 steps" where an earlier folder has "direct". `--sizes` compares networks of at most so many non-zeros, whatever
their level; without it levels are kept apart. `--against` is the label that errors are compared with.
`--functions` writes one row per function, label, level and depth, `--pictures` draws functions.png, levels.png and depths.png.
`--quick` makes two small studies for itself: to see that it runs. The last line is JSON: the rows of the table.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from swat_figures import draw
from swat_tables import at_most, by_function, studies, table, told

from nasplug.errors import ConfigError
from nasplug.study import Study

QUICK: dict[str, Any] = {
    "study": "searched",
    "task": {"use": "cornn", "function": {"choice": ["Booth", "Sphere"]}, "train": 100, "test": 50},
    "method": {"use": "swat", "mode": {"choice": ["latent", "direct"]}, "depth": 2, "sharpness": None},
    "penalties": [{"use": "swat_levels", "level": 1.0, "size": "medium"}],
    "temperature": {"use": "linear", "start": 1.0, "end": 0.01, "until": 0.4},
    "train": {"steps": 60, "batch": 50, "lr": 0.02},
    "seeds": 2,
    "mlflow": None,
}
DENSE: dict[str, Any] = {
    "method": {"use": "edges", "mode": "l1", "activation": "tanh", "hidden": [7, 7]},
    "penalties": [],
    "temperature": None,
}


def quick(store: Path) -> list[Path]:
    """A study of two modes and its dense baseline, of seconds."""
    made = (QUICK, QUICK | DENSE | {"study": "dense"})
    return [Study.from_dict({**one, "store": str(store)}).run("serial").folder for one in made]


def compare(
    folders: list[Path], against: str, sizes: list[int] | None, rows: Path | None, pictures: Path | None
) -> list[dict[str, Any]]:
    """Print the table, write what is asked for; the table's rows as plain data."""
    frame = studies(folders)
    each = by_function(frame if sizes is None else at_most(frame, sizes))
    found = table(each, against)
    print(told(found))
    if rows is not None:
        rows.parent.mkdir(parents=True, exist_ok=True)
        each.to_csv(rows, index=False)
        print(rows)
    for path in draw(each, found, pictures, against) if pictures is not None else ():
        print(path)
    plain: list[dict[str, Any]] = json.loads(found.to_json(orient="records"))
    return plain


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--against", default="direct", metavar="LABEL")
    parser.add_argument("--sizes", nargs="+", type=int, metavar="N", help="limits of non-zeros, in the place of levels")
    parser.add_argument("--functions", type=Path, metavar="FILE.csv")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER")
    parser.add_argument("--quick", action="store_true", help="compare two small studies made for it: to see that it runs")
    given = parser.parse_args(arguments)
    if given.quick == bool(given.folders):
        parser.error("give the folders of studies, or --quick")
    with tempfile.TemporaryDirectory() as temporary:
        try:
            folders = quick(Path(temporary)) if given.quick else given.folders
            found = compare(folders, given.against, given.sizes, given.functions, given.pictures)
        except ConfigError as error:
            parser.error(str(error))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
