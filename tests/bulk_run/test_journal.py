"""The journal: on disk or not at all, append-only, tamper-evident, private."""

from __future__ import annotations

import sqlite3
import stat

import pytest

from paystack_source.bulk.run.journal import Journal
from paystack_source.bulk.run.states import EventKind, IllegalEventError, JournalEvent, Phase
from paystack_source.errors import EditedJournalError, JournalError


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "journal.sqlite"
    Journal.create(path, {"run_id": "r1", "rows": 3}).close()
    return path


def raw(path, *statements):
    with sqlite3.connect(path) as database:
        for statement in statements:
            database.execute(statement)
    database.close()


def test_what_was_appended_is_there_when_it_is_opened_again(path):
    with Journal(path) as journal:
        journal.append([JournalEvent(1, EventKind.INTENT, 1.0), JournalEvent(2, EventKind.INTENT, 1.5)])
        journal.append([JournalEvent(1, EventKind.APPLIED, 2.0, 200, None, "Customer updated")])
    with Journal(path) as journal:
        assert journal.meta["run_id"] == "r1"
        assert [(row, state.phase) for row, state in journal.states()] == [
            (1, Phase.APPLIED),
            (2, Phase.SENDING),
        ]
        assert journal.state(1).message == "Customer updated"
        assert journal.last_seq == 3
        journal.verify()


def test_an_append_is_one_transaction(path, monkeypatch):
    with Journal(path) as journal:
        journal.append([JournalEvent(1, EventKind.INTENT, 1.0)])
        before = path.with_name("journal.sqlite-wal").stat().st_size
        with pytest.raises(IllegalEventError):
            journal.append([JournalEvent(2, EventKind.INTENT, 2.0), JournalEvent(1, EventKind.INTENT, 2.0)])
        assert path.with_name("journal.sqlite-wal").stat().st_size == before
        assert journal.last_seq == 1
        journal.append([JournalEvent(number, EventKind.INTENT, 3.0) for number in range(2, 500)])
        assert journal.last_seq == 499


def test_it_is_synced_to_disk_at_each_commit(path):
    with Journal(path) as journal:
        assert journal._db.execute("PRAGMA synchronous").fetchone() == (2,)
        assert journal._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_events_cannot_be_changed_or_deleted(path):
    with Journal(path) as journal:
        journal.append([JournalEvent(1, EventKind.INTENT, 1.0)])
    for statement in ("UPDATE events SET kind = 'applied'", "DELETE FROM events"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            raw(path, statement)


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE events SET message = 'fine'",
        "DELETE FROM events WHERE seq = 2",
        "UPDATE state SET phase = 'rejected'",
        "UPDATE meta SET value = '\"r2\"' WHERE key = 'run_id'",
        "UPDATE events SET kind = 'sent'",
        "UPDATE state SET phase = 'sent'",
        "DELETE FROM events WHERE seq = 1",
    ],
)
def test_an_edit_by_force_shows(path, edit):
    with Journal(path) as journal:
        journal.append([JournalEvent(1, EventKind.INTENT, 1.0), JournalEvent(2, EventKind.INTENT, 1.0)])
        journal.append([JournalEvent(1, EventKind.APPLIED, 2.0)])
        journal.verify()
    raw(path, "DROP TRIGGER events_stay", "DROP TRIGGER events_last", edit)
    with Journal(path) as journal, pytest.raises(EditedJournalError):
        journal.verify()


def test_an_intent_without_an_outcome_is_a_doubt_when_it_is_opened_again(path):
    with Journal(path) as journal:
        journal.append([JournalEvent(1, EventKind.INTENT, 1.0), JournalEvent(2, EventKind.INTENT, 1.0)])
        journal.append([JournalEvent(2, EventKind.REJECTED, 1.0)])
    with Journal(path) as journal:
        assert journal.reopen(9.0) == 1
        assert journal.reopen(9.0) == 0
        assert journal.state(1).lost == 1


def test_only_its_owner_may_read_it(path):
    with Journal(path) as journal:
        journal.append([JournalEvent(1, EventKind.INTENT, 1.0)])
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_returned_customers_are_erased_once_the_warehouse_has_them(path):
    with Journal(path) as journal:
        journal.append([JournalEvent(1, EventKind.INTENT, 1.0)])
        journal.append([JournalEvent(1, EventKind.APPLIED, 2.0)], [(1, {"email": "ada@marked.example"})])
        assert dict(journal.returned()) == {1: {"email": "ada@marked.example"}}
        journal.forget_returned(1)  # less than there is: more came meanwhile
        assert dict(journal.returned())
        journal.forget_returned(journal.last_seq)
        assert not dict(journal.returned())
    assert b"ada@marked.example" not in path.read_bytes()


@pytest.mark.parametrize("content", [b"", b"not a database at all", None])
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / "other.sqlite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(JournalError):
        Journal(path)


def test_a_newer_format_is_refused(path):
    raw(path, "UPDATE meta SET value = '99' WHERE key = 'format'")
    with pytest.raises(JournalError, match="99"):
        Journal(path)
