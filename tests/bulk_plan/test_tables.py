"""Inputs come in as they were meant, and what is written can be fed back in."""

import codecs
import csv
import datetime as dt
import decimal
import itertools
import os
import re
import stat
import subprocess
import zipfile
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from paystack_source.bulk.input.csv_file import guard_formula
from paystack_source.bulk.input.files import open_table, write_table
from paystack_source.errors import ConfigError, InputError
from tests.processes import python

from .workbook import EMPTY_TEXT, FAILED, NOT_YET, ods, xlsx


def write(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def lines(table):
    return [line for batch in table.batches() for line in (batch.lines or [])]


@pytest.mark.parametrize(
    "option",
    [
        *({"encoding": name} for name in ("klingon", "hex", "", "undefined", "utf-8\0")),
        *({"delimiter": text} for text in ("ab", "", "\\t", "\n", '"', "\0")),
    ],
)
def test_an_encoding_or_separator_that_is_none_is_named(tmp_path, option):
    path = write(tmp_path / "in.csv", NAMES)
    with pytest.raises(ConfigError, match="leave it out") as error:
        open_table(path, **option)
    assert repr(*option.values()) in error.value.message


CODES = ["CUS_a", "CUS_b"]


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(CODES),
        pd.Series(CODES, dtype="string"),
        pd.Series([1, 2], name="id"),
        pd.Index(CODES),
        pa.array(CODES),
        pa.chunked_array([CODES]),
        pl.Series("customer_code", CODES),
        np.array(CODES),
        CODES,
    ],
    ids=lambda column: f"{type(column).__module__}.{type(column).__name__}",
)
def test_a_column_alone_is_no_frame(column):
    with pytest.raises(ConfigError, match=r'frame\[\["customer_code"\]\]'):
        open_table(column)


@pytest.mark.parametrize(
    ("index", "columns", "first"),
    [
        (pd.Index(CODES, name="customer_code"), ["customer_code", "x"], ("CUS_a", "1")),
        (pd.CategoricalIndex(CODES, name="customer_code"), ["customer_code", "x"], ("CUS_a", "1")),
        (pd.RangeIndex(7, 9, name="id"), ["id", "x"], ("7", "1")),
        (pd.DatetimeIndex(["2026-01-02", None], name="day"), ["day", "x"], ("2026-01-02T00:00:00", "1")),
        (
            pd.MultiIndex.from_arrays([CODES, [7, 8]], names=["code", "id"]),
            ["code", "id", "x"],
            ("CUS_a", "7", "1"),
        ),
        (pd.MultiIndex.from_arrays([CODES, [7, 8]], names=["a", "a"]), ["a", "a", "x"], ("CUS_a", "7", "1")),
        (pd.MultiIndex.from_arrays([CODES, [7, 8]], names=[None, "id"]), ["id", "x"], ("7", "1")),
        (pd.Index([9, 9], name="x"), ["x"], ("1",)),
        (pd.Index(CODES), ["x"], ("1",)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_index_with_a_name_is_read_as_a_column_in_front(index, columns, first):
    frame = pd.DataFrame({"x": [1, 2]}, index=index)
    table = open_table(frame)
    assert table.columns == columns
    assert next(table.rows()) == first
    assert table.frame.index.equals(index)
    assert bool(table.unread) == (None in index.names)
    assert open_table(pd.DataFrame(index=index[:1])).columns == [n for n in index.names if n is not None]


def test_a_frame_of_more_rows_than_a_batch_is_read_with_its_index():
    numbers = [str(number) for number in range(70_000)]
    table = open_table(pd.DataFrame({"x": numbers}, index=pd.Index(numbers, name="id")))
    assert [code for code, _ in table.rows()] == [x for _, x in table.rows()] == numbers


def test_an_index_that_changes_later_does_not_reach_the_table():
    codes = np.array(CODES, dtype=object)
    table = open_table(pd.DataFrame({"x": [1, 2]}, index=pd.Index(codes, name="customer_code", copy=False)))
    codes[:] = "CUS_other"
    assert [code for code, _ in table.rows()] == CODES


NAMES = "customer_code,first_name\nCUS_a,Zoë\nCUS_b,Ọlá\n"


@pytest.mark.parametrize(
    ("encode", "found"),
    [
        (lambda t: t.encode(), "utf-8"),
        (lambda t: t.encode("utf-8-sig"), "utf-8-sig"),
        (lambda t: codecs.BOM_UTF16_LE + t.encode("utf-16-le"), "utf-16"),
        (lambda t: codecs.BOM_UTF16_BE + t.encode("utf-16-be"), "utf-16"),
    ],
)
def test_encodings_are_recognised(tmp_path, encode, found):
    table = open_table(write(tmp_path / "in.csv", encode(NAMES)))
    assert table.columns == ["customer_code", "first_name"]
    assert list(table.rows()) == [("CUS_a", "Zoë"), ("CUS_b", "Ọlá")]
    assert table.encoding == found
    assert table.warnings == []


def test_windows_1252_is_read_with_a_warning(tmp_path):
    table = open_table(write(tmp_path / "in.csv", "first_name\nZoë “x”\n".encode("cp1252")))
    assert list(table.rows()) == [("Zoë “x”",)]
    assert "not UTF-8" in table.warnings[0]
    mac = write(tmp_path / "mac.csv", "first_name\rJosé\r".encode("mac_roman"))
    assert "--encoding mac_roman" in open_table(mac).warnings[0]
    assert list(open_table(mac, encoding="mac_roman").rows()) == [("José",)]


def test_bytes_that_windows_1252_lacks_still_load(tmp_path):
    table = open_table(write(tmp_path / "in.csv", b"first_name\nZ\xeb\x81\n"))
    assert list(table.rows()) == [("Zë\x81",)]


def test_a_late_broken_byte_turns_the_whole_file(tmp_path):
    table = open_table(write(tmp_path / "in.csv", b"name\n" + "ë\n".encode() * 700_000 + b"\xeb\n"))
    assert table.encoding == "cp1252"


def test_utf16_without_mark_is_refused_with_advice(tmp_path):
    with pytest.raises(InputError, match="UTF-16"):
        open_table(write(tmp_path / "in.csv", NAMES.encode("utf-16-le")))


@pytest.mark.parametrize("rows", [1, 50_000])
@pytest.mark.parametrize(
    ("mark", "forced"), [(b"", "utf-8"), (codecs.BOM_UTF8, None)], ids=["an option", "a mark"]
)
def test_bytes_that_the_encoding_does_not_know_are_an_error_of_the_input(tmp_path, rows, mark, forced):
    content = mark + b"first_name\n" + b"Ada\n" * rows + "Zo\u00eb\n".encode("cp1252")
    with pytest.raises(InputError, match=r"is not utf-8.* throughout; save the file as UTF-8"):
        list(open_table(write(tmp_path / "in.csv", content), encoding=forced).batches())


def test_an_encoding_can_be_forced(tmp_path):
    table = open_table(write(tmp_path / "in.csv", "n\nЖ\n".encode("koi8-r")), encoding="koi8-r")
    assert list(table.rows()) == [("Ж",)]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_are_found_and_those_inside_quotes_do_not_count(tmp_path, separator):
    text = f'"a;,|\tb"{separator}c{separator}d\n1{separator}2{separator}3\n'
    table = open_table(write(tmp_path / "in.csv", text))
    assert table.columns == ["a;,|\tb", "c", "d"]
    assert list(table.rows()) == [("1", "2", "3")]


def test_excels_separator_line(tmp_path):
    table = open_table(write(tmp_path / "in.csv", "sep=;\r\na;b\r\n1,5;2\r\n"))
    assert (table.columns, list(table.rows()), lines(table)) == (["a", "b"], [("1,5", "2")], [3])


@pytest.mark.parametrize(
    ("text", "separator"),
    [
        ("SEP=;\ncustomer_code;first_name\nCUS_a;Tunde\n", ";"),
        ('"sep=;"\ncustomer_code;first_name\nCUS_a;Tunde\n', ";"),
        ("sep=,,,\ncustomer_code,first_name\nCUS_a,Tunde\n", ","),
        ("Sep=\t\ncustomer_code\tfirst_name\nCUS_a\tTunde\n", "\t"),
        ("customer_code,first_name\nCUS_a,Tunde\n   \n", ","),
        ("customer_code,first_name\n \t \nCUS_a,Tunde\n", ","),
        ("customer_code,first_name\r\nCUS_a,Tunde\r\n\x1a", ","),
    ],
)
def test_what_programs_write_around_the_rows_is_no_row(tmp_path, text, separator):
    table = open_table(write(tmp_path / "in.csv", text))
    assert (table.columns, table.delimiter) == (["customer_code", "first_name"], separator)
    assert list(table.rows()) == [("CUS_a", "Tunde")]
    assert not any(batch.uneven for batch in table.batches())


def test_physical_lines_with_quoted_newlines_and_empty_lines(tmp_path):
    text = 'a,b\n\n1,"x\ny\nz"\n\n\n2,y\r\n3,"p\r\nq"\n4,r'
    table = open_table(write(tmp_path / "in.csv", text))
    assert [row[0] for row in table.rows()] == ["1", "2", "3", "4"]
    assert lines(table) == [3, 8, 9, 11]


def test_nothing_is_guessed_from_csv(tmp_path):
    cells = [
        "00123",
        "+2348012345678",
        "0803 123 4567",
        "1e5",
        "NULL",
        "NaN",
        "true",
        "2020-01-01",
        " x ",
        "1,000",
    ]
    path = tmp_path / "in.csv"
    write_table(path, ["v"], [[c] for c in cells])
    assert [row[0] for row in open_table(path).rows()] == cells


def test_uneven_rows_and_broken_quotes_are_named_by_line(tmp_path):
    table = open_table(write(tmp_path / "in.csv", "a,b\n1,2\n1\n1,2,3\n"))
    (batch,) = table.batches()
    uneven = [(batch.lines[at], said[:15]) for at, said in batch.uneven.items()]
    assert uneven == [(3, "has too few cel"), (4, "has too many ce")]
    with pytest.raises(InputError, match="line 3"):
        list(open_table(write(tmp_path / "in.csv", 'a,b\n1,2\n1,"x\n')).batches())


@pytest.mark.parametrize("content", [b"", b"\n\n", b"  \n\x1a"])
def test_empty_files_are_refused(tmp_path, content):
    with pytest.raises(InputError, match="is empty") as refused:
        open_table(write(tmp_path / "in.csv", content))
    assert "Save it again with the names of the columns in its first row" in refused.value.advice


def test_a_huge_cell_is_an_error_and_no_crash(tmp_path):
    with pytest.raises(InputError, match="field larger"):
        list(open_table(write(tmp_path / "in.csv", "a\n" + "x" * 1_100_000)).batches())


TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
TRICKY = st.sampled_from(
    [
        "+2348012345678",
        "=1+1",
        "@x",
        "-5",
        "\t=1",
        "'+234",
        "''=",
        "'",
        "''",
        "'abc",
        '"',
        ",",
        ";",
        "\n",
        "\r\n",
        "\r",
        "\ufeff",
        "😀",
        "\uff1d1",
        "",
        " ",
    ]
)
CELL = st.one_of(TRICKY, TEXT, st.tuples(TRICKY, TEXT).map("".join))


@settings(max_examples=60)
@given(st.data())
def test_what_is_written_is_read_back(tmp_path_factory, data):
    width = data.draw(st.integers(1, 4))
    row = st.lists(CELL, min_size=width, max_size=width)
    columns = data.draw(row.filter(lambda names: "".join(names).strip(" \t\x1a")))
    rows = data.draw(st.lists(row, max_size=6))
    path = tmp_path_factory.mktemp("t") / "t.csv"
    write_table(path, columns, rows)
    table = open_table(path)
    assert table.columns == columns
    assert [list(r) for r in table.rows()] == rows


@settings(max_examples=60)
@given(st.lists(CELL, min_size=1, max_size=5))
@example(["+2348012345678"])
def test_no_written_cell_is_a_formula(tmp_path_factory, cells):
    path = tmp_path_factory.mktemp("t") / "t.csv"
    write_table(path, [f"c{i}" for i in range(len(cells))], [cells])
    with path.open(encoding="utf-8-sig", newline="") as file:
        row = list(csv.reader(file))[1]
    assert not [cell for cell in row if cell[:1] in set("=+-@\t\r\n\0\uff1d\uff0b\uff0d\uff20") and cell]


def in_pieces(text):
    """What a spreadsheet makes of a file if it takes semicolons for separators: quotes inside a cell are letters."""
    for line in re.split(r"[\r\n]", text):
        for separator in ";\t":
            yield from (piece.lstrip('"') for piece in line.split(separator))


@settings(max_examples=60)
@given(st.lists(CELL, min_size=2, max_size=5))
@example(["x;=cmd|' /C calc'!A0", "y"])
@example(["x", '";"=1+1'])
@example(["x", "a\n@x"])
@example(["x", "a;\t=1"])
def test_no_written_cell_is_a_formula_where_semicolons_separate(tmp_path_factory, cells):
    path = tmp_path_factory.mktemp("t") / "t.csv"
    write_table(path, [f"c{i}" for i in range(len(cells))], [cells])
    written = path.read_bytes().decode("utf-8-sig")
    body = written.split("\r\n", 1)[1]
    assert not [
        piece for piece in in_pieces(body) if piece[:1] in set("=+-@\uff1d\uff0b\uff0d\uff20") and piece
    ]
    assert [list(row) for row in open_table(path).rows()] == [cells]


def test_written_files_are_private_and_whole(tmp_path):
    path = tmp_path / "out.csv"
    write_table(path, ["a"], [["1"]])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def broken():
        yield ["2"]
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_table(path, ["a"], broken())
    assert list(open_table(path).rows()) == [("1",)]
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]


# -- frames --------------------------------------------------------------------------------------------------


def test_pandas_numbers_become_sane_text():
    frame = pd.DataFrame(
        {
            "float": [2348012345678.0, np.nan, 0.5],
            "int": [803, -1, 0],
            "nullable": pd.array([1, None, 3], dtype="Int64"),
            "mixed": ["+234", None, 2348012345678.0],
            "na": [pd.NA, pd.NaT, float("nan")],
            "when": pd.to_datetime(["2020-01-02 00:00", None, "2021-01-01 10:00"]),
            "flag": [True, False, True],
            "category": pd.Categorical(["x", None, "x"]),
            "dicts": [{"a": 1}, {"b": None}, None],
            "money": [decimal.Decimal("10.00"), decimal.Decimal("1.50"), None],
        }
    )
    rows = list(zip(*open_table(frame).rows(), strict=True))
    assert rows[:5] == [
        ("2348012345678", "", "0.5"),
        ("803", "-1", "0"),
        ("1", "", "3"),
        ("+234", "", "2348012345678"),
        ("", "", ""),
    ]
    assert rows[5] == ("2020-01-02T00:00:00", "", "2021-01-01T10:00:00")
    assert rows[6:] == [
        ("true", "false", "true"),
        ("x", "", "x"),
        ('{"a":1}', '{"b":null}', ""),
        ("10", "1.50", ""),
    ]


@pytest.mark.parametrize("kind", ["float64", "float32"])
def test_floats_that_lost_digits_are_reported(kind):
    frame = pd.DataFrame({"phone": np.array([1234567, 23480123456789012345.0], dtype=kind)})
    (batch,) = open_table(frame).batches()
    assert list(batch.cells[0].bad) == [1]
    assert batch.cells[0].numbers


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_a_short_float_in_a_list_of_dictionaries_lost_digits_too(kind):
    number = kind(60_000 if kind is np.float16 else 8031234567)
    (batch,) = open_table([{"phone": 1234567.0}, {"phone": number}]).batches()
    assert list(batch.cells[0].bad) == [1]
    (batch,) = open_table(pd.DataFrame({"phone": pd.arrays.SparseArray([number], dtype=kind)})).batches()
    assert list(batch.cells[0].bad) == [0]


@pytest.mark.parametrize(
    "frame",
    [
        pa.table({"a": ["+1", None], "b": [1.0, 2.0]}),
        pa.table({"a": ["+1", None], "b": [1.0, 2.0]}).to_batches()[0],
        pl.DataFrame({"a": ["+1", None], "b": [1.0, 2.0]}),
        duckdb.sql("SELECT * FROM (VALUES ('+1', 1.0::DOUBLE), (NULL, 2.0::DOUBLE)) t(a, b)"),
        [{"a": "+1", "b": 1}, {"b": 2.0}],
        pa.table({"a": pa.array(["+1", None]).dictionary_encode(), "b": pa.array([1, 2], pa.uint8())}),
        pl.DataFrame({"a": pl.Series(["+1", None], dtype=pl.Categorical), "b": [1, 2]}),
        pl.DataFrame({"a": pl.Series(["+1", None], dtype=pl.Enum(["+1"])), "b": [1, 2]}),
        pd.DataFrame({"a": pd.Categorical(["+1", None]), "b": pd.Categorical([1, 2])}),
        pa.table(
            {"a": pa.array(["+1", None], pa.string_view()), "b": pa.array([1, 2], pa.decimal128(30, 4))}
        ),
    ],
    ids=[
        "table",
        "batch",
        "polars",
        "duckdb",
        "dicts",
        "dictionary",
        "categorical",
        "enum",
        "categories",
        "views",
    ],
)
def test_every_kind_of_frame(frame):
    table = open_table(frame)
    assert list(table.rows()) == [("+1", "1"), ("", "2")]
    assert table.sha256() == table.sha256()


CYCLE = {}
CYCLE["itself"] = CYCLE


@pytest.mark.parametrize(
    "values",
    [
        pa.array([2**30, None], pa.date32()),
        pa.array([2**62, None], pa.timestamp("s")),
        pa.array([5, None], pa.timestamp("us", "Nowhere/Land")),
        pa.array([5, None], pa.duration("ns")),
        pa.Array.from_buffers(pa.string(), 2, pa.array([b"\xff", b""]).buffers()),
        pd.Series([np.timedelta64(1, "D"), None], dtype=object),
        pd.Series([dt.timedelta(1), None], dtype=object),
        pd.Series([{"a": (n for n in "")}, None]),
        pd.Series([CYCLE, None]),
    ],
    ids=["year", "moment", "zone", "duration", "bytes", "numpy", "timedelta", "generator", "cycle"],
)
def test_a_value_that_is_no_text_is_named_and_costs_no_other(values):
    frame = pd.DataFrame({"v": values}) if isinstance(values, pd.Series) else pa.table({"v": values})
    table = open_table(frame)
    (batch,) = table.batches()
    assert list(batch.cells[0].bad) == [0]
    assert list(table.rows()) == [("",), ("",)]


def test_one_shot_readers_can_be_read_twice():
    table = open_table(pa.table({"a": ["1"]}).to_reader())
    assert list(table.rows()) == list(table.rows()) == [("1",)]


def test_structs_keep_only_the_keys_that_are_there():
    table = open_table(pa.table({"metadata": [{"a": 1, "b": None}, {"a": None, "b": {"c": 2}}, None]}))
    assert [r[0] for r in table.rows()] == ['{"a":1}', '{"b":{"c":2}}', ""]


def test_maps_are_objects_at_any_depth_and_no_key_is_dropped():
    source = duckdb.sql("""SELECT unnest([
      {'m': MAP {'a': 1}, 's': {'t': MAP {'b': 2}}}, {'m': MAP {}, 's': NULL}], recursive := true)""")
    assert list(open_table(source).rows()) == [('{"a":1}', '{"b":2}'), ("{}", "")]
    twice = pa.array([[("k", 1), ("k", 2)], [("k", 1)]], pa.map_(pa.string(), pa.int64()))
    (batch,) = open_table(pa.table({"metadata": twice})).batches()
    assert (batch.columns[0].to_pylist(), list(batch.cells[0].bad)) == (["", '{"k":1}'], [0])


def test_values_of_numpy_inside_an_object_are_plain_json():
    orders = {"orders": np.int64(3), "vip": np.bool_(True), "sums": np.array([1.5])}
    table = open_table(pd.DataFrame({"metadata": [orders]}))
    assert list(table.rows()) == [('{"orders":3,"vip":true,"sums":[1.5]}',)]


def test_a_time_of_pandas_inside_an_object_is_written_as_pythons():
    when = {"at": pd.Timestamp("2024-03-08 09:00", tz="UTC")}
    assert list(open_table([{"metadata": when}]).rows()) == [('{"at":"2024-03-08T09:00:00+00:00"}',)]


NO_JSON = [np.nan, np.float32("inf"), b"x", np.array([np.nan]), pd.NA, pd.NaT]


@pytest.mark.parametrize("value", [*NO_JSON, *map(decimal.Decimal, ("NaN", "-Infinity", "1E+400"))])
def test_what_json_has_not_is_named_and_becomes_no_null(value):
    (batch,) = open_table([{"metadata": {"a": [{"b": value}]}}]).batches()
    assert "that JSON does not have" in batch.cells[0].bad[0]


def test_an_exact_number_inside_an_object_stays_a_number():
    assert list(open_table([{"metadata": {"price": decimal.Decimal("1.10")}}]).rows()) == [
        ('{"price":1.10}',)
    ]


def test_a_number_that_is_too_long_to_write_is_named():
    values = [10**5_000, decimal.Decimal("1E+999999999"), decimal.Decimal("NaN")]
    (batch,) = open_table([{"phone": value} for value in values]).batches()
    assert list(batch.cells[0].bad) == [0, 1]


def test_a_whole_number_next_to_a_gap_stays_whole():
    table = open_table([{"phone": 2**60 + 1}, {}, {"phone": np.int64(803)}])
    (batch,) = table.batches()
    assert batch.columns[0].to_pylist() == [str(2**60 + 1), "", "803"]
    assert (batch.cells[0].numbers, batch.cells[0].bad) == (True, {})


def test_frame_hash_sees_every_change_and_no_chunking():
    table = pa.table({"a": ["x", "yz", ""], "b": ["1", "2", "3"]})
    same = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    assert open_table(table).sha256() == open_table(same).sha256()
    others = [
        pa.table({"a": ["xy", "z", ""], "b": ["1", "2", "3"]}),
        pa.table({"a": ["x", "yz", ""], "c": ["1", "2", "3"]}),
        pa.table({"b": ["1", "2", "3"], "a": ["x", "yz", ""]}),
        table.slice(0, 2),
    ]
    assert len({open_table(t).sha256() for t in (table, *others)}) == 5


def test_what_is_no_table_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="ConversionException") as refused:
        open_table(duckdb.sql("SELECT a::INT AS b FROM (SELECT concat('Ad', 'aeze') AS a)"))
    assert "Adaeze" not in str(refused.value)
    with pytest.raises(ConfigError, match="int is not a table"):
        open_table(5)
    with pytest.raises(ConfigError, match="is not a table") as refused:
        open_table(pl.DataFrame({"id": [1]}, schema={"id": pl.Int128}))
    assert "Int128" in refused.value.advice
    with pytest.raises(ConfigError, match="compressed"):
        open_table(write(tmp_path / "in.csv.gz", b"\x1f\x8b\x08\x00"))
    for text in ('{"id": 1}\n', '\ufeff[\n  {"id": 1}]'):
        with pytest.raises(ConfigError, match="is JSON"):
            open_table(write(tmp_path / "in.csv", text))
    assert open_table(write(tmp_path / "in.rtf", r"{\rtf1\ansi")).format == "csv"  # of a Mac; no JSON
    with pytest.raises(ConfigError, match="not what its name says"):
        open_table(write(tmp_path / "in.parquet", "a,b\n"))
    with pytest.raises(ConfigError, match="There is no file"):
        open_table(tmp_path / "missing.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    for path, what in ((tmp_path, "a folder"), (tmp_path / "pipe.csv", "not an ordinary file")):
        with pytest.raises(ConfigError, match=f"is {what}"):
            open_table(path)
    with pytest.raises(InputError, match="Parquet"):
        open_table(write(tmp_path / "bad.parquet", b"PAR1 and nothing else"))


# -- Parquet and Excel ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["pages", "footer"])
def test_damaged_parquet_is_bad_input(tmp_path, damage):
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"customer_code": [f"CUS_{n}" for n in range(99)]}), path)
    content = bytearray(path.read_bytes())
    begin = 20 if damage == "pages" else len(content) - 60
    content[begin : begin + 40] = b"\xff" * 40
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not readable Parquet"):
        list(open_table(path).rows())


def test_parquet(tmp_path):
    path = tmp_path / "in.dat"  # known by its content, not by its name
    pq.write_table(pa.table({"phone": ["+234", None], "id": [7, 8]}), path)
    table = open_table(path)
    assert (table.format, list(table.rows())) == ("parquet", [("+234", "7"), ("", "8")])


def test_excel(tmp_path):
    path = xlsx(
        tmp_path / "in.xlsx",
        {
            "Risk": [
                [],
                ["customer code", "phone", "n"],
                ["CUS_a", "+234801", 5],
                [],
                ["CUS_b", 2348012345678, 1.5],
            ],
            "Other": [["x"], ["y"]],
        },
    )
    table = open_table(path)
    assert table.columns == ["customer code", "phone", "n"]
    assert list(table.rows()) == [("CUS_a", "+234801", "5"), ("CUS_b", "2348012345678", "1.5")]
    assert lines(table) == [3, 5]
    assert "2 sheets" in table.warnings[0]
    assert [cells.numbers for cells in next(table.batches()).cells] == [False, True, True]
    assert list(open_table(path, sheet="Other").rows()) == [("y",)]
    with pytest.raises(InputError):
        open_table(path, sheet="missing")


def test_excel_reads_the_first_sheet_that_can_be_seen(tmp_path):
    sheets = {"Old": [["customer_code"], ["CUS_old"]], "Now": [["customer_code"], ["CUS_now"]]}
    path = xlsx(tmp_path / "in.xlsx", sheets, hidden=["Old"])
    assert list(open_table(path).rows()) == [("CUS_now",)]
    assert list(open_table(path, sheet="Old").rows()) == [("CUS_old",)]
    with pytest.raises(InputError, match="no visible sheet"):
        open_table(xlsx(tmp_path / "in.xlsx", sheets, hidden=["Old", "Now"]))
    with pytest.raises(InputError, match="'Old', 'Now'"):
        open_table(path, sheet="Then")


def test_an_empty_sheet_is_refused_with_the_names_of_the_others(tmp_path):
    path = xlsx(tmp_path / "in.xlsx", {"Sheet1": [], "List": [["customer_code"], ["CUS_a"]]})
    with pytest.raises(InputError, match="'Sheet1' is empty") as refused:
        open_table(path)
    assert refused.value.advice == "Another sheet is read with --sheet: 'List'."
    with pytest.raises(InputError) as refused:
        open_table(xlsx(tmp_path / "in.xlsx", {"Sheet1": []}))
    assert "--sheet" not in refused.value.advice


def test_a_workbook_keeps_the_apostrophes_of_a_result_file_that_was_opened(tmp_path):
    """Excel and LibreOffice take them for a part of the text, and save them."""
    cells = ["+2348031234567", "-Obi", "'=x", "a\n=b", "O'Neil"]
    rows = [["=name", *"bcde"], cells]
    path = xlsx(tmp_path / "in.xlsx", {"S": [[guard_formula(cell) for cell in row] for row in rows]})
    table = open_table(path)
    assert [table.columns, *map(list, table.rows())] == rows


def test_excel_says_what_is_hidden(tmp_path):
    rows = [["note"], [], ["code", "x", "risk"], ["a", None, "deny"], [], ["b"], ["c"], ["d"]]
    columns = '<cols><col min="1" max="1" width="auto"/><col min="2" max="2" width="0.4"/><col min="3" max="3" hidden="1"/><col min="5" max="16384" hidden="1"/></cols>'
    path = xlsx(tmp_path / "in.xlsx", {"S": rows[2:]}, hidden_rows=(1, 3, 4, 6), columns=columns)
    assert [text.partition(" in the sheet")[0] for text in open_table(path).warnings] == [
        "2 of 4 rows are hidden",
        "The column 'x' is hidden",
        "The column 'risk' is hidden",
    ]
    assert "(row 4, 6)" in open_table(path).warnings[0]
    assert not open_table(xlsx(tmp_path / "in.xlsx", {"S": rows[2:]})).warnings


class Written:
    """A cell as it is written into the sheet."""

    def __init__(self, attribute, text):
        self.text = f'1</v></c><c r="C2" {attribute}><v>{text}'

    def __repr__(self):
        return self.text


@pytest.mark.parametrize("attribute", ['t="e"', 't="b"', 't="ada@secret.ng"'])
def test_the_reason_why_a_workbook_is_unreadable_quotes_no_cell(tmp_path, attribute):
    rows = [["email", "phone", "first_name"], ["ada@x.ng", Written(attribute, "ada@secret.ng")]]
    with pytest.raises(InputError, match="is not readable: U") as refused:
        open_table(xlsx(tmp_path / "in.xlsx", {"S": rows}))
    assert "secret" not in str(refused.value)


def test_an_opendocument_sheet_says_what_is_hidden_and_which_formulas_failed(tmp_path):
    def cell(value, more=""):
        what = f'office:value-type="string" calcext:value-type="string" {more}'
        return f"<table:table-cell {what}><text:p>{value}</text:p></table:table-cell>"

    def row(*cells, look=""):
        return f"<table:table-row {look}>{''.join(cells)}</table:table-row>"

    blank = "<table:table-cell/>"
    failed = (
        '<table:table-cell table:formula="of:=NA()" office:value-type="string" office:string-value="" '
        'calcext:value-type="error"><text:p>#N/A</text:p></table:table-cell>'
    )
    twice = failed.replace("table:formula", 'table:number-columns-repeated="2" table:formula')
    old = (
        '<table:table-cell table:formula="of:=1/0" office:value-type="float" office:value="0">'
        "<text:p>#DIV/0!</text:p></table:table-cell>"
    )
    sheet = "".join(
        (
            '<table:table-column table:number-columns-repeated="2"/>',
            '<table:table-column table:visibility="collapse"/><table:table-column/>',
            row(cell("email"), cell("first_name"), cell("note"), cell("phone")),
            row(blank, look='table:number-rows-repeated="2"'),
            row(cell("a@x.ng"), twice, failed, look='table:visibility="filter"'),
            row(
                cell("b@x.ng"),
                '<table:table-cell table:number-columns-repeated="2"/>',
                old,
                look='table:visibility="collapse" table:number-rows-repeated="2"',
            ),
            row(cell("c@x.ng"), cell("#1")),
            row(blank, look='table:visibility="collapse" table:number-rows-repeated="1048570"'),
        )
    )
    table = open_table(ods(tmp_path / "in.ods", sheet))
    (batch,) = table.batches()
    assert batch.lines == [4, 5, 6, 7]
    assert [list(cells.bad) for cells in batch.cells] == [[], [0], [0], [0, 1, 2]]
    assert [text.partition(" in the sheet")[0] for text in table.warnings] == [
        "3 of 4 rows are hidden",
        "The column 'note' is hidden",
    ]
    assert "(row 4, 5, 6)" in table.warnings[0]


@pytest.mark.parametrize("name", ["~back.csv", "~$people.csv", "~/May, 2026.csv"])
def test_a_path_with_a_tilde_is_found(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write(tmp_path / name.removeprefix("~/"), b"email\na@x.ng\n")
    assert open_table(name).columns == ["email"]
    assert open_table(Path(name)).columns == ["email"]


def test_excel_errors_are_no_blank_cells(tmp_path):
    rows = [["email", "phone"], ["a@x.ng", FAILED], [FAILED, None], ["c@x.ng", "0803"]]
    (batch,) = open_table(xlsx(tmp_path / "in.xlsx", {"S": rows})).batches()
    assert [list(cells.bad) for cells in batch.cells] == [[1], [0]]
    assert batch.lines == [2, 3, 4]


def test_a_formula_that_was_never_worked_out_is_no_blank_cell(tmp_path):
    """Programs that write workbooks leave the working out to Excel, which does it when the file is opened."""
    rows = [["email", "a", "b", "c"], ["a@x.ng", NOT_YET, "x", NOT_YET], ["b@x.ng", EMPTY_TEXT]]
    (batch,) = open_table(xlsx(tmp_path / "in.xlsx", {"S": rows})).batches()
    assert [list(cells.bad) for cells in batch.cells] == [[], [0], [], [0]]


def test_excel_says_that_cells_of_the_header_are_merged(tmp_path):
    rows = [["customer_code", "first_name", None], ["CUS_1", "Ada", "Obi"]]
    path = xlsx(tmp_path / "in.xlsx", {"S": rows}, merged="B1:C1")
    (said,) = open_table(path).warnings
    assert "merged (row 1)" in said


def test_excel_keeps_the_types_of_cells_at_any_place(tmp_path):
    path = xlsx(tmp_path / "in.xlsx", {"S": [[], [None, "a", "b"], [None, "x"], [], [None, None, 0.5]]})
    table = open_table(path)
    assert (table.columns, list(table.rows())) == (["", "a", "b"], [("", "x", ""), ("", "", "0.5")])
    assert lines(table) == [3, 5]


SMALL = {"S": [["customer_code", "risk_action"], ["CUS_a", "deny"]]}


OPEN = """
import resource, sys
from pathlib import Path
from paystack_source.bulk.input.files import open_table
try:
    open_table(Path(sys.argv[1]))
except Exception as error:
    print(" ".join(str(error).split()))
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.parametrize("far", ["XFD1048576", "ZZ100000"])  # more than there is, and more than it may take
def test_a_cell_far_away_is_refused_in_bounded_memory(tmp_path, far):
    path = xlsx(tmp_path / "in.xlsx", SMALL, far=far)
    said = subprocess.run([python(), "-c", OPEN, path], capture_output=True, text=True, check=True).stdout
    refusal, kilobytes = said.splitlines()
    assert "far away" in refusal
    assert int(kilobytes) < 1 << 20
    assert list(open_table(xlsx(path, SMALL, far="XFD3")).rows()) == [("CUS_a", "deny"), ("", "")]


def test_a_workbook_that_unfolds_without_end_is_refused(tmp_path):
    path = xlsx(tmp_path / "in.xlsx", SMALL)
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as book,
        book.open("x", "w") as part,
    ):
        for _ in range(31):
            part.write(bytes(10 << 20))
    with pytest.raises(InputError, match="too large"):
        open_table(path)


def test_what_is_no_workbook_is_refused_with_the_reason(tmp_path):
    with pytest.raises(InputError, match="is not readable"):
        open_table(write(tmp_path / "in.xlsx", b"PK\x03\x04 and nothing else"))
    with pytest.raises(InputError, match="is empty"):
        open_table(xlsx(tmp_path / "in.xlsx", {"S": [[], [None]]}))


class Endless:
    """A stream of Arrow that would never end."""

    def __arrow_c_stream__(self, requested_schema=None):
        batch = pa.record_batch({"customer_code": pa.nulls(1_000_000, pa.string())})
        stream = pa.RecordBatchReader.from_batches(batch.schema, itertools.repeat(batch))
        return stream.__arrow_c_stream__(requested_schema)


def test_what_is_too_large_is_refused_before_it_is_read(tmp_path, monkeypatch):
    wide = {f"column {number}": ["1"] for number in range(4_000)}
    long = pa.table({"customer_code": pa.nulls(30_000_000, pa.null())})
    pq.write_table(long, tmp_path / "long.parquet")
    write(tmp_path / "wide.csv", ",".join(wide) + "\n")
    write(tmp_path / "long.csv", "code\n" + "x\n" * 6_000_000)
    write(tmp_path / "both.csv", ",".join(list(wide)[:100]) + "\n" + "\r" * 500_000)
    for source in ("long.parquet", "long.csv", "both.csv", "wide.csv"):
        with pytest.raises(InputError, match=r"has (more than )?[0-9,]+ (rows|columns)"):
            open_table(tmp_path / source)
    monkeypatch.setattr("paystack_source.bulk.input.files._copied", lambda _frame: pytest.fail("copied"))
    for frame in (pd.DataFrame(wide), [wide], long, long.to_pandas(), Endless()):
        with pytest.raises(InputError, match=r"has (more than )?[0-9,]+ (rows|columns)"):
            open_table(frame)


def test_excel_keeps_fifteen_digits_and_says_so(tmp_path):
    path = xlsx(tmp_path / "in.xlsx", {"S": [["phone"], [1234567890123456], [123456789012345]]})
    (batch,) = open_table(path).batches()
    assert list(batch.cells[0].bad) == [0]


def test_dates_in_frames_are_iso():
    frame = pa.table({"d": [dt.date(2024, 5, 1)], "t": [dt.datetime(2024, 5, 1, 8, tzinfo=dt.UTC)]})
    assert list(open_table(frame).rows()) == [("2024-05-01", "2024-05-01T08:00:00+00:00")]
