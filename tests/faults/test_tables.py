"""Tables as people have them: read right, or refused with every cause and its remedy; never silently wrong."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasplug import ConfigError
from nasplug.data.datasets import table
from nasplug.data.encoder import Encoder
from nasplug.data.numerals import sentinels
from nasplug.data.problems import Reading
from nasplug.data.reading import examine, read

PRICES = [301.5, 255.5, 410.5, 198.5, 520.5, 333.5, 275.5, 460.5, 222.5, 389.5, 505.5, 142.5]
SIZES = [101, 82, 140, 60, 170, 110, 95, 150, 70, 130, 165, 45]


def write(folder: Path, text: str | bytes, name: str = "t.csv") -> str:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def rows(*columns: list[Any], header: str, separator: str = ",") -> str:
    return "\n".join([header, *(separator.join(map(str, row)) for row in zip(*columns, strict=True))]) + "\n"


def frame_of(path: str, **decided: Any) -> pd.DataFrame:
    return read("t", path, reading=Reading(**decided))[0]


def notes_of(path: str, **decided: Any) -> Mapping[str, str]:
    return {key.removeprefix("reading: "): text for key, text in read("t", path, reading=Reading(**decided))[1].items()}


def refused(path: str, *messages: str, **options: Any) -> str:
    """The refusal of a table, which says all of these."""
    with pytest.raises(ConfigError) as caught:
        table(path=path, **options)
    for message in messages:
        assert message in str(caught.value), f"{message!r} is not in {caught.value}"
    return str(caught.value)


# rows that do not fit their header


def test_a_value_more_in_each_row(tmp_path: Path) -> None:
    path = write(tmp_path, rows(PRICES, SIZES, [f"{i % 5},{i}" for i in range(12)], header="price,size,rooms"))
    refused(path, "line 2: 4 values, where the header names 3 columns, as in 12 of 12 rows", "'301.5,101,0,0'", target="price")


def test_single_rows_that_do_not_fit(tmp_path: Path) -> None:
    text = 'a,b\n1,2\n"x\ny",3\n4,5,6\n7\n8,9\n\n10,11\n'
    said = refused(write(tmp_path, text), "line 5: 3 values", "line 6: 1 values", target="b")
    assert "line 3:" not in said  # a quoted value may have two lines


def test_many_rows_that_do_not_fit_are_counted(tmp_path: Path) -> None:
    text = "a,b\n" + "1,2\n" * 2000 + "1,2,3\n" * 500
    said = refused(write(tmp_path, text), "line 2002, ", "497 more rows have more or fewer values", target="b")
    assert len(said) < 1000


def test_a_title_above_the_header(tmp_path: Path) -> None:
    path = write(tmp_path, "Prices of 2024\n" + rows(PRICES, SIZES, header="price,size"))
    refused(path, "line 2: 2 values, where the header names 1 columns", "Name all columns in the first line", target="price")


def test_a_quote_that_is_never_closed(tmp_path: Path) -> None:
    text = "a,b,c\n" + 'x,1,2\n"y,1,2\n' + "z,1,2\n" * 50 + 'w","1",2\n' + "v,1,2\n" * 5
    refused(write(tmp_path, text), "line 3: a quoted value goes on for 51 more lines", "Close the quote", target="c")


def test_a_quote_that_is_open_to_the_end(tmp_path: Path) -> None:
    refused(write(tmp_path, 'a,b\n1,2\n3,"4\n5,6\n7,8\n'), "line 3: a quoted value goes on", target="b")


def test_texts_of_several_lines_are_read(tmp_path: Path) -> None:
    text = "a,b\n" + "".join(f'"one, two\nthree",{i}\n' for i in range(12))
    path = write(tmp_path, text + 'x,"?"\n')
    refused(path, "column 'b' (line 26)", target="b")
    assert frame_of(path, missing_codes=["?"])["a"].tolist()[:2] == ["one, two\nthree"] * 2


def test_blank_lines_are_left_out_and_said(tmp_path: Path) -> None:
    path = write(tmp_path, "\n\na,b\n1,2\n\n3,4\n,\n,\n")
    assert frame_of(path).to_numpy().tolist() == [[1, 2], [3, 4]]
    assert notes_of(path)["blank"] == "3 rows without any value left out, the first in line 5"


# names


def test_a_target_that_comes_twice(tmp_path: Path) -> None:
    path = write(tmp_path, rows(PRICES, SIZES, PRICES, header="price,size,price"))
    refused(path, "column 'price': 2 columns have this name: the 1st and 3rd", target="price")


def test_names_that_are_the_same_but_for_spaces(tmp_path: Path) -> None:
    path = write(tmp_path, rows(PRICES, SIZES, SIZES, header="price,size, size "))
    refused(path, "column 'size': 2 columns have this name: the 2nd and 3rd", target="price")


def test_a_parquet_file_with_two_columns_of_one_name(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    made = pa.Table.from_arrays([pa.array(PRICES), pa.array(SIZES), pa.array(SIZES)], names=["price", "size", "size"])
    parquet.write_table(made, tmp_path / "t.parquet")
    refused(str(tmp_path / "t.parquet"), "column 'size': several columns have this name", target="price")


def test_the_row_numbers_of_a_program_are_left_out_and_said(tmp_path: Path) -> None:
    for start in (0, 1):
        path = write(tmp_path, rows(list(range(start, start + 12)), PRICES, SIZES, header=",price,size"))
        assert list(frame_of(path)) == ["price", "size"]
        assert "counts the rows: left out" in notes_of(path)["index"]


def test_a_column_without_a_name_needs_one_if_it_is_used(tmp_path: Path) -> None:
    path = write(tmp_path, rows(PRICES, SIZES, SIZES, header="price,,size"))
    refused(path, "column 'column 2': it has no name", "Give it one", target="price")
    assert table(path=path, target="price", features=["size"]).features == ("size",)


def test_a_comma_at_the_end_of_each_line_is_no_column(tmp_path: Path) -> None:
    assert list(frame_of(write(tmp_path, "a,b,\n1,2,\n3,4,\n"))) == ["a", "b"]


def test_a_file_without_a_header(tmp_path: Path) -> None:
    refused(write(tmp_path, rows(PRICES, SIZES, header="300.5,99")), "the first line holds numbers (300.5, 99)", target="x")
    path = write(tmp_path, rows(PRICES, SIZES, header="0,1"))  # as pandas names columns that have none
    assert table(path=path, target="0").features == ("1",)


# numbers written as text, and codes among numbers


def test_a_question_mark_among_numbers(tmp_path: Path) -> None:
    power: list[Any] = list(range(60, 144, 7))
    power[4] = "?"
    path = write(tmp_path, rows(PRICES, power, header="price,horsepower"))
    refused(path, "column 'horsepower' (line 6): '?'", 'missing_codes: ["?"]', target="price")
    assert frame_of(path, missing_codes=["?"])["horsepower"].isna().sum() == 1
    assert frame_of(path, missing_codes={"horsepower": ["?"]})["horsepower"].dtype == float
    refused(path, "'?'", target="price", missing_codes={"price": ["?"]})


def test_a_question_mark_in_the_target(tmp_path: Path) -> None:
    prices: list[Any] = list(PRICES)
    prices[4] = "?"
    path = write(tmp_path, rows(prices, SIZES, header="price,size"))
    refused(path, "column 'price' (line 6): '?'", target="price")
    task = table(path=path, target="price", missing="drop", missing_codes=["?"])
    assert task.kind == "regression"
    assert sum(split.samples for split in task.splits) == 11


@pytest.mark.parametrize("code", ["-", "--", ".", "n.a.", "missing", "unknown", "#DIV/0!", "*"])
def test_codes_among_numbers(tmp_path: Path, code: str) -> None:
    values: list[Any] = list(SIZES)
    values[7] = code
    path = write(tmp_path, rows(PRICES, values, header="price,size"))
    said = refused(path, "column 'size' (line 9)", "missing_codes", target="price")
    assert code in said
    assert frame_of(path, missing_codes=[code])["size"].isna().sum() == 1


@pytest.mark.parametrize("gap", ["", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", " ", "#N/A", "<NA>"])
def test_gaps_among_numbers(tmp_path: Path, gap: str) -> None:
    values: list[Any] = list(SIZES)
    values[7] = gap
    path = write(tmp_path, rows(PRICES, values, header="price,size"))
    assert frame_of(path)["size"].isna().tolist() == [i == 7 for i in range(12)]
    assert bool(gap.strip()) == ("gaps" in notes_of(path))


def test_a_code_among_words(tmp_path: Path) -> None:
    work = ["private", "?", "state", "private"] * 3
    path = write(tmp_path, rows(PRICES, work, header="price,work"))
    refused(path, "column 'work' (line 3, 3 rows): '?'", "words: [work]", target="price")
    assert frame_of(path, missing_codes=["?"])["work"].isna().sum() == 3
    for decided in ({"words": ["work"]}, {"missing_codes": {"work": []}}, {"missing_codes": []}):
        assert (frame_of(path, **decided)["work"] == "?").sum() == 3


@pytest.mark.parametrize(
    ("cells", "decided", "first"),
    [
        (['"3,010"', '"2,550"', '"4,100"'], {"thousands": ","}, 3010.0),
        (['"3,010"', '"2,550"', '"4,100"'], {"decimal": ","}, 3.01),
        (['"1.234,5"', '"2.550,25"', "300"], {"thousands": ".", "decimal": ","}, 1234.5),
        (['"1,234.5"', '"2,550.25"', "300"], {"thousands": ","}, 1234.5),
        (["12 %", "5%", "7.5 %"], {"units": ["%"]}, 12.0),
        (["$5", "-$6", "$ 7"], {"units": ["$"]}, 5.0),
        (["5kg", "6 kg", "7.5 kg"], {"units": ["kg"]}, 5.0),
        (["5 EUR", "6 EUR", "7.5 EUR"], {"units": ["EUR"]}, 5.0),
        (['"$1,234.50"', '"$2,000.00"', "$3"], {"units": ["$"], "thousands": ","}, 1234.5),
        (["1 234 567", "2 345 678", "12"], {"thousands": " "}, 1234567.0),
        (["1'234.5", "2'345", "12"], {"thousands": "'"}, 1234.5),
        (["1\u202f234", "2\u202f345", "12"], {"thousands": " "}, 1234.0),
    ],
)
def test_numbers_written_as_text(tmp_path: Path, cells: list[str], decided: dict[str, Any], first: float) -> None:
    path = write(tmp_path, rows(cells * 4, SIZES, header="price,size"))
    said = refused(path, "column 'price' (line 2, ", target="size")
    assert all(option in said for option in decided)
    values = frame_of(path, **decided)["price"]
    assert values.dtype.kind in "if"
    assert values[0] == first


def test_a_number_that_fits_no_grouping_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, rows(['"3,010"', '"25,50"', '"4,100"'] * 4, SIZES, header="price,size"))
    refused(path, "column 'price' (line 3, 4 rows): numbers written as text: '25,50'", target="size", thousands=",")


def test_commas_beyond_doubt_are_decimal(tmp_path: Path) -> None:
    for separator in ";\t|":
        path = write(tmp_path, f"a{separator}b\n1,5{separator}2\n2,25{separator}3\n-0,75{separator}4\n")
        assert frame_of(path).to_numpy().tolist() == [[1.5, 2], [2.25, 3], [-0.75, 4]]
        assert "commas are decimal marks" in notes_of(path)["decimal"]
        assert "separator" in notes_of(path)


def test_another_column_tells_what_a_comma_is(tmp_path: Path) -> None:
    path = write(tmp_path, "a;b\n1,5;3,010\n2,25;2,550\n")
    assert frame_of(path)["b"].tolist() == [3.01, 2.55]
    path = write(tmp_path, "a;b\n1,5;3.010\n2,25;2.550\n")  # thousands, or decimals of another program
    refused(path, "column 'b' (line 2, 2 rows): '3.010', '2.550': a point before three digits", target="a")
    assert frame_of(path, decimal=",", thousands=".")["b"].tolist() == [3010, 2550]
    assert frame_of(write(tmp_path, "a,b\n1.5,3.010\n2.25,2.550\n"))["b"].tolist() == [3.01, 2.55]


def test_commas_and_points_in_one_column(tmp_path: Path) -> None:
    refused(
        write(tmp_path, "a;b\n1,5;3\n2.25;4\n"), "column 'a' (line 2): '1,5' beside numbers with a decimal point", target="b"
    )


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    header = "price,power,share,rooms,size"
    body = [f"{price},{60 + i},{i} %,{i % 4},{size}" for i, (price, size) in enumerate(zip(PRICES, SIZES, strict=True))]
    body[3] = body[3].replace(",63,", ",?,")
    body[5] = body[5].replace(",1,", ",-999,")
    body[8] += ",1"
    said = refused(
        write(tmp_path, "\n".join([header, *body])),
        "for 4 reasons",
        "line 10: 6 values",
        "column 'power' (line 5): '?'",
        "column 'share' (line 2, 11 rows): numbers written as text",
        "column 'rooms' (line 7): '-999' far outside",
        target="price",
    )
    assert len(said.splitlines()) == 5


def test_the_same_problem_in_many_columns_is_one_line(tmp_path: Path) -> None:
    names = [f"x{i}" for i in range(300)]
    text = (
        ",".join([*names, "y"])
        + "\n"
        + "".join(",".join(["?" if r == 3 else str(r)] * 300 + [str(r)]) + "\n" for r in range(12))
    )
    said = refused(write(tmp_path, text), "columns 'x0' (line 5), 'x1' (line 5)", "and 296 more", target="y")
    assert len(said) < 400


def test_a_column_that_is_not_used_has_no_problems(tmp_path: Path) -> None:
    path = write(tmp_path, rows(PRICES, ["?", "$5", "-999"] * 4, SIZES, header="price,odd,size"))
    assert table(path=path, target="price", features=["size"]).features == ("size",)


# codes that are numbers


def test_a_sentinel_far_outside_is_asked_about(tmp_path: Path) -> None:
    rooms = [3, 2, 4, 1, -999, 3, 2, 4, 2, 3, 5, 1]
    path = write(tmp_path, rows(rooms, PRICES, header="rooms,price"))
    refused(path, "column 'rooms' (line 6): '-999' far outside", "missing_codes: [-999]", "{rooms: []}", target="price")
    assert frame_of(path, missing_codes=[-999])["rooms"].isna().sum() == 1
    assert frame_of(path, missing_codes={"rooms": []})["rooms"].min() == -999
    assert frame_of(path, missing_codes=[])["rooms"].min() == -999


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([1, 2, 3, -999], [-999]),
        ([0.1, 0.2, 9999.0], [9999]),
        ([1, 2, 3, 999, 998, 997], [997, 998, 999]),
        ([20, 30, 40, -99, 1e30], [-99, 1e30]),
        ([1, 2, 3, -9], [-9]),
        ([1.5, 2.5, 3.5, -3.4028235e38], [-3.4028235e38]),
        ([97, 98, 99, 50, 1], []),  # shares in percent
        ([1998, 1999, 2001], []),  # years
        ([-999, 500, 1000], []),
        ([0, 5000, 9999], []),
        ([1, 2, 3, 100, 500], []),  # far outside, and no code
        ([999, 999, 999], []),
        ([1, 999], [999]),
        ([0, 0.0, -999], [-999]),
        ([0, 1, 2, 9], []),
        ([0, 9], []),
    ],
)
def test_what_looks_like_a_sentinel(values: list[float], found: list[float]) -> None:
    assert sentinels(np.array(values, dtype=float)).tolist() == pytest.approx(found)


def test_sentinels_in_several_columns_and_in_the_target(tmp_path: Path) -> None:
    path = write(tmp_path, rows([1, 2, 3, -99] * 3, [5, 6, 9999, 7] * 3, header="a,b"))
    refused(path, "column 'a' (line 5, 3 rows): '-99'", "column 'b' (line 4, 3 rows): '9999'", target="b")


def test_a_parquet_file_has_sentinels_too(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1, 2, 3, -999] * 3, "b": PRICES}).to_parquet(tmp_path / "t.parquet")
    path = str(tmp_path / "t.parquet")
    refused(path, "column 'a' (row 4, 3 rows): '-999' far outside", target="b")
    assert frame_of(path, missing_codes=[-999])["a"].isna().sum() == 3


def test_codes_are_gaps_when_rows_are_read_later(tmp_path: Path) -> None:
    """What meant "missing" in training does so in a network that is served."""
    rooms = [3, 2, 4, 1, -999, 3, 2, 4, 2, 3, 5, 1] * 5
    work = ["a", "b", "?", "a"] * 15
    path = write(tmp_path, rows(rooms, work, PRICES * 5, header="rooms,work,price"))
    task = table(path=path, target="price", missing="indicator", missing_codes=[-999, "?"])
    encoder = Encoder.from_plain(task.encoder or {})
    found = encoder.features(pd.DataFrame({"rooms": [-999, -999.0, None, 3], "work": ["?", " ? ", None, "a"]}))
    assert (found[0] == found[1]).all()
    assert (found[0] == found[2]).all()
    assert (found[0] != found[3]).any()
    text = encoder.features(pd.DataFrame({"rooms": ["-999", "?", "3"], "work": pd.Categorical(["?", "?", "a"])}))
    assert (text[0] == found[0]).all()
    assert (text[1] == found[0]).all()
    assert (text[2] == found[3]).all()
    assert "codes" not in str(table(path=path, target="price", features=["work"], words=["work"]).encoder)


# kinds of targets


def floats(gaps: tuple[int, ...] = (), rows_: int = 24) -> str:
    stars = ["" if i in gaps else f"{1 + i % 2}.0" for i in range(rows_)]
    return rows((SIZES * 2)[:rows_], stars, header="size,stars")


def test_whole_floats_are_the_labels_that_integers_are(tmp_path: Path) -> None:
    plain = table(path=write(tmp_path, floats()), target="stars")
    gappy = table(path=write(tmp_path, floats(gaps=(5,))), target="stars", missing="drop")
    whole = table(path=write(tmp_path, floats().replace(".0", "")), target="stars")
    for task in (plain, gappy, whole):
        assert (task.kind, task.targets) == ("binary", ("1", "2"))
        assert "2 different whole numbers" in task.notes["reading: kind"]
    assert plain.digest == whole.digest


def test_twelve_years_in_twelve_rows_are_no_classes(tmp_path: Path) -> None:
    task = table(path=write(tmp_path, rows(SIZES, list(range(2010, 2022)), header="size,year")), target="year")
    assert task.kind == "regression"
    assert task.notes["reading: kind"] == "regression: whole numbers up to 2,021, more than 99"


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([2010, 2011, 2012] * 40, "regression"),  # few, and still years
        (list(range(12)) * 2, "regression"),  # two rows per number
        (list(range(12)) * 5, "classes"),
        ([0, 1] * 6, "binary"),
        ([-1, 1] * 6, "binary"),
        ([1.0, 2.0, 3.0] * 10, "classes"),
        ([1.0, 2.0, 2.5] * 10, "regression"),
        ([100, 200] * 10, "regression"),
        ([3, 4, 5, 6, 7, 8] * 20, "classes"),
    ],
)
@pytest.mark.parametrize("gap", [False, True])
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_the_kind_of_few_numbers(tmp_path: Path, values: list[float], kind: str, gap: bool, form: str) -> None:
    data = pd.DataFrame({"x": np.arange(len(values)) * 0.5, "y": values})
    if gap:
        data.loc[len(data)] = [1.25, np.nan]
    path = str(tmp_path / f"t.{form}")
    data.to_csv(path, index=False) if form == "csv" else data.to_parquet(path)
    task = table(path=path, target="y", missing="drop")
    assert task.kind == kind
    assert task.notes["reading: kind"].startswith(f"{kind}: ")


def test_a_kind_that_is_said_is_taken(tmp_path: Path) -> None:
    path = write(tmp_path, rows(SIZES * 5, [2010 + i % 3 for i in range(60)], header="size,year"))
    task = table(path=path, target="year", kind="classes")
    assert (task.kind, task.notes["reading: kind"]) == ("classes", "classes: as the study says")


# encodings


def test_latin_1_is_read_and_said(tmp_path: Path) -> None:
    text = rows(SIZES, PRICES, header="größe,price")
    path = write(tmp_path, text.encode("latin-1"))
    assert list(frame_of(path)) == ["größe", "price"]
    assert "not UTF-8 (line 1: byte 0xF6), so taken for cp1252" in notes_of(path)["encoding"]
    assert "encoding" not in notes_of(path, encoding="latin-1")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_any_unicode(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path, rows(SIZES, ["ja", "nein"] * 6, header="größe,見出し").encode(encoding))
    assert list(frame_of(path)) == ["größe", "見出し"]
    assert ("encoding" in notes_of(path)) == (encoding[:5] != "utf-8")


def test_windows_quotes_and_the_euro(tmp_path: Path) -> None:
    path = write(tmp_path, rows(SIZES, ["“a”", "€"] * 6, header="size,what").encode("cp1252"))
    assert frame_of(path)["what"].tolist()[:2] == ["“a”", "€"]


def test_a_damaged_byte_in_utf_8_is_refused(tmp_path: Path) -> None:
    text = rows(SIZES, ["ja", "größer"] * 6, header="größe,what").encode()
    path = write(tmp_path, text + b"7,\xff\n")
    refused(path, "line 14: has bytes that are not UTF-8, though the rest of the file is", target="what")


def test_an_encoding_that_is_none_or_does_not_fit(tmp_path: Path) -> None:
    path = write(tmp_path, rows(SIZES, ["é", "è"] * 6, header="size,what").encode("latin-1"))
    refused(path, "encoding 'latin-99' is not known", target="what", encoding="latin-99")
    refused(path, "line 2: is not text in utf-8", target="what", encoding="utf-8")
    refused(path, "is not text in ascii", target="what", encoding="ascii")
    assert frame_of(path, encoding="cp1252")["what"].tolist()[:2] == ["é", "è"]


def test_nul_bytes_are_refused(tmp_path: Path) -> None:
    refused(write(tmp_path, b"a,b\n1,2\n3,\0004\n"), "line 3: a NUL byte", target="b")
    refused(write(tmp_path, b"PK\x03\x04\x00\x00" * 100), "NUL byte", target="b")


# gaps


def test_gaps_in_target_and_feature_together(tmp_path: Path) -> None:
    prices: list[Any] = [*PRICES]
    rooms: list[Any] = [3, 2, "", 1, 5, 3, "", 4, 2, "", 5, 1]
    prices[1] = ""
    data = frame_of(write(tmp_path, rows(prices, SIZES, rooms, header="price,size,rooms")))
    assert data.isna().sum().to_dict() == {"price": 1, "size": 0, "rooms": 3}


def test_the_word_none_is_a_word_among_words(tmp_path: Path) -> None:
    path = write(tmp_path, rows(["None", "Attic", "Cellar"] * 4, PRICES, header="room,price"))
    assert frame_of(path)["room"].tolist()[:3] == ["None", "Attic", "Cellar"]
    assert notes_of(path)["none"] == "'room': 'None' is a word, not a gap"
    assert frame_of(path, missing_codes=["None"])["room"].isna().sum() == 4


def test_na_may_be_a_country(tmp_path: Path) -> None:
    path = write(tmp_path, rows(["NA", "DE", "FR"] * 4, PRICES, header="country,price"))
    assert frame_of(path)["country"].isna().sum() == 4
    assert "'country': 'NA' (4 rows)" in notes_of(path)["gaps"]
    assert frame_of(path, words=["country"])["country"].tolist()[:3] == ["NA", "DE", "FR"]


def test_truth_values_with_gaps(tmp_path: Path) -> None:
    data = frame_of(write(tmp_path, rows(["True", "False", "true", ""] * 3, PRICES, header="new,price")))
    assert data["new"].isna().sum() == 3
    assert data["new"].sum() == 6


# columns of numbers and words


@pytest.mark.slow
def test_digits_first_and_letters_later_in_a_large_file(tmp_path: Path) -> None:
    body = "".join(f"{i % 5 if i < 400_000 else 'ABCDE'[i % 5]},{i * 7919 % 1000},{i * 104729 % 997}\n" for i in range(700_000))
    path = write(tmp_path, "code,x,y\n" + body)
    started = time.process_time()
    data = frame_of(path)
    assert time.process_time() - started < 10.0
    assert sorted(data["code"].unique()) == [*"01234", *"ABCDE"]
    assert data["code"].value_counts()["0"] == 80_000  # one type: no '0' beside 0
    assert "taken for words, '0', '1', '2' and 2 more too" in notes_of(path)["mixed"]


def test_a_word_among_many_numbers_is_asked_about(tmp_path: Path) -> None:
    values: list[Any] = list(range(100))
    values[41] = "4l"
    path = write(tmp_path, rows(values, values[::-1], header="a,b"))
    refused(path, "column 'a' (line 43): '4l', where most values are numbers", "words: [a]", target="b", features=["a"])
    assert frame_of(path, words=["a", "b"])["a"].tolist()[41] == "4l"


def test_numbers_that_are_words(tmp_path: Path) -> None:
    path = write(tmp_path, rows(["01234", "94103", "00501"] * 4, PRICES, header="zip,price"))
    assert "'01234' and 1 more read as numbers" in notes_of(path)["zeros"]
    assert frame_of(path, words=["zip"])["zip"].tolist()[:3] == ["01234", "94103", "00501"]


def test_house_numbers_among_words_are_words(tmp_path: Path) -> None:
    path = write(tmp_path, rows(["12", "12a", "14b", "west", "7c", "1d"] * 2, PRICES, header="house,price"))
    assert set(frame_of(path)["house"]) == {"12", "12a", "14b", "west", "7c", "1d"}


def test_integer_categories_of_parquet_stay_categories(tmp_path: Path) -> None:
    data = pd.DataFrame({"zone": pd.Categorical([3, 1, 2] * 20), "x": np.arange(60) * 0.5})
    data.to_parquet(tmp_path / "t.parquet")
    found = frame_of(str(tmp_path / "t.parquet"))
    assert isinstance(found["zone"].dtype, pd.CategoricalDtype)
    assert table(path=str(tmp_path / "t.parquet"), target="zone").kind == "classes"


def test_numbers_as_text_in_parquet(tmp_path: Path) -> None:
    pd.DataFrame({"a": ["60", "?", "74"] * 4, "b": PRICES}).to_parquet(tmp_path / "t.parquet")
    refused(str(tmp_path / "t.parquet"), "column 'a' (row 2, 4 rows): '?'", target="b")
    pd.DataFrame({"a": [[1, 2]] * 12, "b": PRICES}).to_parquet(tmp_path / "t.parquet")
    refused(str(tmp_path / "t.parquet"), "column 'a': it holds list<", target="b")


# words


def test_spaces_around_names_and_labels(tmp_path: Path) -> None:
    labels = ["no", " no", "yes", " yes"] * 6
    path = write(tmp_path, rows(SIZES * 2, labels, header="size, label"))
    task = table(path=path, target="label")
    assert (task.kind, task.targets) == ("binary", ("no", "yes"))
    assert "'label'" in task.notes["reading: names"]
    assert "2 of its values are others with spaces around them" in task.notes["reading: spaces"]


@pytest.mark.parametrize("space", ["\t", "\u00a0", "  "])
def test_any_space_around_labels(tmp_path: Path, space: str) -> None:
    path = write(tmp_path, rows(SIZES * 2, ["no", f"no{space}", f"{space}yes", "yes"] * 6, header="size,label"))
    assert table(path=path, target="label").targets == ("no", "yes")


def test_quotes_behind_spaces_are_quotes(tmp_path: Path) -> None:
    text = "size, label\n" + "".join(f'{i}, "{"yes, of course" if i % 2 else "no"}"\n' for i in range(24))
    assert set(frame_of(write(tmp_path, text))["label"]) == {"no", "yes, of course"}


def test_names_and_one_hot_features_that_clash(tmp_path: Path) -> None:
    data = frame_of(write(tmp_path, rows(["b", "c"] * 6, SIZES, PRICES, header="a,a=b,price")))
    assert list(data) == ["a", "a=b", "price"]


def test_words_that_differ_in_capitals_are_told(tmp_path: Path) -> None:
    path = write(tmp_path, rows(["Yes", "yes", "no"] * 4, PRICES, header="new,price"))
    assert notes_of(path)["capitals"] == "'new': 'Yes', 'yes' are different words"


def test_long_numbers_keep_their_digits(tmp_path: Path) -> None:
    path = write(tmp_path, rows([9007199254740993 + i for i in range(12)], PRICES, header="order_id,price"))
    assert frame_of(path)["order_id"].tolist() == [9007199254740993 + i for i in range(12)]
    refused(path, "'order_id' holds 12 different whole numbers", "exclude: [order_id]", target="price")


def test_twelve_names_in_twelve_rows_are_no_categories(tmp_path: Path) -> None:
    path = write(tmp_path, rows([f"Person {c}" for c in "ABCDEFGHIJKL"], SIZES, PRICES, header="name,size,price"))
    refused(path, "text feature 'name' has", "exclude: [name]", target="price")
    assert table(path=path, target="price", exclude=["name"]).features == ("size",)


def test_twelve_codes_in_twelve_rows_are_no_categories(tmp_path: Path) -> None:
    path = write(tmp_path, rows([f"{i}x{i}" for i in range(12)], SIZES, PRICES, header="sku,size,price"))
    refused(path, "text feature 'sku' has", "exclude: [sku]", target="price")


def test_gaps_in_target_and_feature_are_had_right_together(tmp_path: Path) -> None:
    prices, rooms = [*map(str, PRICES)] * 3, ["3", "2", "", "1", "5", "3", "", "4", "2", "", "5", "1"] * 3
    prices[1] = ""
    path = write(tmp_path, rows(prices, SIZES * 3, rooms, header="price,size,rooms"))
    refused(path, "the target has missing values: 1 of 36 rows", "9 of 36 rows have missing values", target="price")
    task = table(path=path, target="price", missing="median")
    assert sum(split.samples for split in task.splits) == 35
    assert set(task.notes) >= {"missing", "target missing"}


def test_features_of_one_name_are_told_apart(tmp_path: Path) -> None:
    path = write(tmp_path, rows(["b", "c"] * 6, SIZES, PRICES, header="a,a=b,price"))
    task = table(path=path, target="price")
    assert len(set(task.features)) == len(task.features) == 3
    path = write(tmp_path, rows(["b", "c"] * 6, ["x", "y", "x"] * 4, PRICES, header="a,a=b,price"))
    assert len(set(table(path=path, target="price").features)) == 4


# separators, ends of lines, files


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_separators_and_ends_of_lines(tmp_path: Path, separator: str, end: str) -> None:
    text = rows(PRICES, SIZES, ["a b", "c"] * 6, header="price,size,what".replace(",", separator), separator=separator)
    data = frame_of(write(tmp_path, text.replace("\n", end)))
    assert data["size"].tolist() == SIZES
    assert list(data) == ["price", "size", "what"]


def test_a_separator_that_excel_names(tmp_path: Path) -> None:
    path = write(tmp_path, "sep=;\na;b\n1;?\n2;3\n")
    refused(path, "column 'b' (line 3)", target="a")


def test_a_separator_that_cannot_be_told(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b;c,d\n1,2;3,4\n5,6;7,8\n")
    refused(path, "commas and semicolons both split every line alike", "separator: ", target="a")
    assert list(frame_of(path, separator=";")) == ["a,b", "c,d"]
    refused(path, "separator ';;'; needed: one character", target="a", separator=";;")


def test_a_table_separated_by_spaces(tmp_path: Path) -> None:
    path = write(tmp_path, rows(PRICES, SIZES, header="price size", separator=" "))
    refused(path, "it seems to be separated by spaces", target="price")
    assert frame_of(path, separator=" ")["size"].tolist() == SIZES


def test_options_that_fit_no_column(tmp_path: Path) -> None:
    path = write(tmp_path, rows(PRICES, SIZES, header="price,size"))
    refused(path, "words: 'sise' is not a column. Did you mean 'size'?", target="price", words=["sise"])
    refused(path, "missing_codes: 'sise' is not a column", target="price", missing_codes={"sise": [1]})
    refused(path, "thousands: '_'; needed: one of", target="price", thousands="_")
    refused(path, "thousands: '.' is the decimal mark, too", target="price", thousands=".")
    refused(path, "units: '5'; needed", target="price", units=["5"])


def test_problems_and_a_wrong_name_are_told_together(tmp_path: Path) -> None:
    refused(write(tmp_path, "a,b\n1,2\n3,4,5\n6,7\n"), "line 3: 3 values", "target 'c' is not a column", target="c")


def test_empty_files(tmp_path: Path) -> None:
    for text in ("", "\n\n", " \n", "\ufeff", "\x1a"):
        refused(write(tmp_path, text), "is empty", target="a")
    for text in ("a,b\n", "a,b", "a,b\n,\n,\n"):
        refused(write(tmp_path, text), "there are no rows", target="a")


def test_very_long_lines(tmp_path: Path) -> None:
    refused(write(tmp_path, "a,b\n1,2\n3," + "4" * (2**24 + 10) + "\n"), "line 3: a line of 16,777,228 bytes", target="a")
    path = write(tmp_path, "a,b\n1," + "x" * 2**20 + "\n2,y\n")
    assert len(frame_of(path)["b"][0]) == 2**20


def test_many_columns_are_read_quickly(tmp_path: Path) -> None:
    random = np.random.default_rng(0).normal(size=(100, 5000)).round(6)
    path = write(tmp_path, rows(*random.T.tolist(), header=",".join(f"x{i}" for i in range(5000))))
    started = time.process_time()
    data = frame_of(path)
    assert time.process_time() - started < 5.0
    np.testing.assert_array_equal(data.to_numpy(), random)


# laws

numbers = st.one_of(st.integers(-(10**6), 10**6), st.floats(-1e6, 1e6).map(lambda v: round(v, 6)))


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=40), st.sampled_from([",", ";", "\t", "|"]))
@settings(max_examples=60, deadline=None)
def test_law_of_numbers(tmp_path_factory: pytest.TempPathFactory, values: list[tuple[float, float]], separator: str) -> None:
    """What was written as numbers is read as these numbers."""
    path = tmp_path_factory.mktemp("n") / "t.csv"
    data = pd.DataFrame(values, columns=["a", "b"])
    data.to_csv(path, index=False, sep=separator)
    found = read("t", path, reading=Reading(missing_codes=[]))[0]
    np.testing.assert_array_equal(found.to_numpy(dtype=float), data.to_numpy(dtype=float))


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_law_of_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Any file at all is read, or refused in our own words."""
    path = tmp_path_factory.mktemp("b") / "t.csv"
    path.write_bytes(data)
    try:
        examine("t", path)
    except ConfigError:
        return


@given(st.text(alphabet='01a,;"\n\r\t |?.-', max_size=80))
@settings(max_examples=300, deadline=None)
def test_law_of_any_cells(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """What is read without a problem has as many columns as the header, and a row for each line with values at most."""
    path = tmp_path_factory.mktemp("c") / "t.csv"
    path.write_text(text, newline="")
    try:
        found = examine("t", path)
    except ConfigError:
        return
    if not found.problems:
        assert 1 <= len(found.frame) <= len(text.splitlines())
        assert list(found.frame) == found.names


def test_what_stood_for_a_gap_in_training_does_in_every_other_row(tmp_path: Path) -> None:
    towns, size = ["Oslo", "N/A", "Rome"] * 4, ["NA" if i == 3 else s for i, s in enumerate(SIZES)]
    path = write(tmp_path, rows(towns, size, PRICES, header="town,size,price"))
    task = table(path=path, target="price", missing="indicator", validation="holdout")
    assert task.encoder is not None
    encoder = Encoder.from_plain(task.encoder)
    assert [column.codes for column in encoder.columns] == [("N/A",), ("NA",)]
    written = pd.DataFrame({"town": ["N/A", "Oslo"], "size": ["70", "NA"]})
    meant = pd.DataFrame({"town": [None, "Oslo"], "size": [70.0, np.nan]})
    assert (encoder.features(written) == encoder.features(meant)).all()


def test_accents_that_a_file_codes_in_two_ways(tmp_path: Path) -> None:
    one, two = "caf\u00e9", "cafe\u0301"
    path = write(tmp_path, rows([one, two, "bar"] * 4, PRICES, header=f"{two},price"))
    assert frame_of(path)[two].tolist() == [one, one, "bar"] * 4
    assert "accents" in notes_of(path)["spaces"]
    assert list(read("t", path, reading=Reading(known={one: ()})).frame) == [one, "price"]
