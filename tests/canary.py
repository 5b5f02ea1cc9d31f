"""Looks for marked values in everything that a run left behind, also inside compressed and columnar files."""

from __future__ import annotations

import gzip
import sqlite3
import zipfile
import zlib

import duckdb
import pyarrow.parquet as pq


def search(root, marks, *, except_for=()):
    """`file: mark` for each mark found in a file under `root`, its name included."""
    skipped = {path.resolve() for path in except_for}
    found = []
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.resolve() not in skipped:
            content = str(path.relative_to(root)).encode() + b"\n" + b"\n".join(readings(path))
            found += [f"{path.relative_to(root)}: {mark}" for mark in marks if holds(content, mark)]
    return found


def holds(content, mark):
    """Whether the mark is in `content` as text or in UTF-16, as Windows programs write it."""
    return mark.encode() in content or mark.encode("utf-16-le") in content


def readings(path):
    """The bytes of a file, and what they say once unpacked."""
    raw = path.read_bytes()
    yield raw
    if raw[:2] == b"\x1f\x8b":
        yield gzip.decompress(raw)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) for name in archive.namelist())
    if raw[:4] == b"PAR1":
        table = pq.read_table(path)
        yield str(table.schema.metadata).encode()
        yield str(table.to_pylist()).encode()
    if raw[:15] == b"SQLite format 3":
        yield from sqlite_rows(path)
    if raw[8:12] == b"DUCK":
        yield from duckdb_rows(path)


def sqlite_rows(path):
    """All rows, and whatever is zlib-compressed in them."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    for (name,) in connection.execute("select name from sqlite_master where type = 'table'").fetchall():
        for row in connection.execute(f'select * from "{name}"'):
            yield str(row).encode()
            for cell in row:
                if isinstance(cell, bytes):
                    try:
                        yield zlib.decompress(cell)
                    except zlib.error:
                        yield cell
    connection.close()


def duckdb_rows(path):
    """All rows of all tables: DuckDB compresses text, so raw bytes alone would show little."""
    connection = duckdb.connect(str(path), read_only=True)
    tables = connection.execute("select schema_name, table_name from duckdb_tables()").fetchall()
    for schema, name in tables:
        for row in connection.execute(f'select * from "{schema}"."{name}"').fetchall():
            yield str(row).encode()
    connection.close()
