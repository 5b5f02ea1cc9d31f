"""The journal: on disk or not at all, append-only, tamper-evident, private."""

from __future__ import annotations

import contextlib
import os
import pwd
import resource
import shutil
import socket
import sqlite3
import stat

import duckdb
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
    with contextlib.closing(sqlite3.connect(path)) as database, database:
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
        "UPDATE meta SET value = '\"r2\"' WHERE key = 'run_id'",
        "UPDATE events SET kind = 'sent'",
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
        assert journal.answer_of(1) == {"email": "ada@marked.example"}
        journal.erase_returned(1)  # less than there is: more came meanwhile
        assert journal.answer_of(1)
        journal.erase_returned(journal.last_seq)
        assert not journal.answer_of(1)
    assert b"ada@marked.example" not in path.read_bytes()


@pytest.mark.parametrize("content", [b"", b"not a database at all", None])
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / "other.sqlite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(JournalError):
        Journal(path)


def test_the_journal_of_another_user_is_named_as_such(path, of_another_user):
    with pytest.raises(JournalError, match="cannot be opened"):
        Journal(of_another_user(path))


def test_a_newer_format_is_refused(path):
    raw(path, "UPDATE meta SET value = '99' WHERE key = 'format'")
    with pytest.raises(JournalError, match="99"):
        Journal(path)


# -- believed only if it is what was written -----------------------------------------------------------------


def edit(folder, _older):
    raw(
        folder / "journal.sqlite",
        "DROP TRIGGER events_stay",
        "UPDATE events SET message = 'fine' WHERE row <> 0",
    )


def remove_a_session(folder, _older):
    raw(folder / "journal.sqlite", "DROP TRIGGER events_last", "DELETE FROM events WHERE kind = 'ended'")


def be_somebody_else(folder, _older):
    raw(
        folder / "journal.sqlite",
        "DROP TRIGGER events_stay",
        'UPDATE events SET message = \'["the.ceo", "h", "u"]\' WHERE kind = \'begun\'',
    )


def add_a_session(folder, _older):
    add = "INSERT INTO events SELECT max(seq) + 1, 0, 'begun', 1.0, NULL, NULL, '[\"a\", \"b\", \"c\"]', x'00' FROM events"
    raw(folder / "journal.sqlite", add)


def put_an_older_one_back(folder, older):
    for name in ("journal.sqlite-wal", "journal.sqlite-shm"):
        (folder / name).unlink(missing_ok=True)
    shutil.copy(older, folder / "journal.sqlite")


@pytest.mark.parametrize(
    "harm", [edit, put_an_older_one_back, remove_a_session, be_somebody_else, add_a_session]
)
def test_a_journal_that_is_not_what_was_written_is_not_believed(desk, harm, monkeypatch):
    """Identity checks were sent a second time."""
    older = desk.folder / "older.sqlite"
    begin = Journal.begin_session

    def copied(self, *args, **how):
        with contextlib.closing(sqlite3.connect(older)) as target, target:
            self._db.backup(target)
        target.close()
        return begin(self, *args, **how)

    monkeypatch.setattr(Journal, "begin_session", copied)
    check = {
        "first_name": "Ada",
        "last_name": "Obi",
        "country": "NG",
        "bank_code": "058",
        "account_number": "0123456789",
    }
    path = desk.csv(
        "checks.csv",
        [
            {"customer_code": c["customer_code"], **check, "bvn": f"2222222222{n}"}
            for n, c in enumerate(desk.customers(3))
        ],
    )
    run_id = desk.bulk("run", "validate", path, "--yes").json["run_id"]
    harm(desk.folder / "paystack_results" / run_id, older)
    sent = len(desk.api.write_log())
    agreed = ["--yes"] if harm is put_an_older_one_back else []  # nobody is asked about what is damaged
    for command in (
        ("resume", run_id, *agreed),
        ("status", run_id, "--refresh"),
        ("status", run_id, "--verify"),
    ):
        said = desk.bulk(*command)
        assert (said.code, said.json["error"]) == (1, "EditedJournalError"), said.err
        assert "Do not resume or undo" in said.err
    assert len(desk.api.write_log()) == sent


def test_nobody_is_asked_about_rows_that_an_edited_journal_calls_unsent(desk):
    path = desk.csv("nobody.csv", [{"customer_code": f"CUS_nosuchone{n}"} for n in range(30)])
    stopped = ("--refresh", "never", "--canary", "3", "--canary-max", "50", "--yes")
    run_id = desk.bulk("run", "risk-action", path, "--risk-action", "deny", *stopped).json["run_id"]
    assert desk.bulk("resume", run_id).json["error"] == "UsageError"  # the question needs a terminal
    edit(desk.folder / "paystack_results" / run_id, None)
    said = desk.bulk("resume", run_id)
    assert (said.code, said.json["error"]) == (1, "EditedJournalError")


@pytest.mark.parametrize("harm", [edit, remove_a_session])
def test_an_edited_journal_is_neither_undone_nor_loaded(desk, harm):
    path = desk.risk_file(3)
    run_id = desk.bulk(
        "run", "risk-action", path, "--risk-action", "deny", "--yes", "--refresh", "live"
    ).json["run_id"]
    harm(desk.folder / "paystack_results" / run_id, None)
    sent = len(desk.api.write_log())
    said = desk.bulk("undo", run_id, "--yes")
    assert (said.code, said.json["error"]) == (1, "EditedJournalError")
    assert len(desk.api.write_log()) == sent
    loaded = desk.bulk("status", run_id, "--load", copy=True)
    assert "The journal " in " ".join(loaded.json["warnings"])
    assert not (desk.folder / "paystack_customers.duckdb").exists()


def test_the_system_says_who_it_was_whatever_the_environment_claims(desk, monkeypatch):
    monkeypatch.setenv("LOGNAME", "the.ceo@bank.test")
    run_id = desk.bulk(
        "run", "risk-action", desk.risk_file(1), "--risk-action", "deny", "--yes", copy=True
    ).json["run_id"]
    with Journal(desk.folder / "paystack_results" / run_id / "journal.sqlite") as journal:
        (session,) = journal.sessions()
    number = os.getuid()
    assert session.who == "the.ceo@bank.test"
    assert session.os_user == f"{pwd.getpwuid(number).pw_name} ({number})"
    assert session.host == socket.gethostname()
    with duckdb.connect("paystack_customers.duckdb", read_only=True) as connection:
        found = connection.execute("select who, os_user, host from paystack.write_back_runs").fetchall()
    assert found == [(session.who, session.os_user, session.host)]


def test_events_in_an_order_that_cannot_be_are_not_believed(path):
    add = "INSERT INTO events SELECT max(seq) + 1, 1, 'applied', 1.0, NULL, NULL, NULL, x'00' FROM events"
    with Journal(path) as journal:
        journal.append([JournalEvent(1, EventKind.INTENT, 1.0), JournalEvent(1, EventKind.REJECTED, 1.0)])
    raw(path, add)
    with Journal(path) as journal:
        for read in (lambda: journal.state(1), lambda: list(journal.states()), journal.verify):
            with pytest.raises(EditedJournalError):
                read()


def test_a_journal_of_format_2_goes_on_as_it_is(path):
    with Journal(path) as journal:
        journal.append([JournalEvent(1, EventKind.INTENT, 1.0), JournalEvent(2, EventKind.INTENT, 1.0)])
    raw(
        path,
        "UPDATE meta SET value = '2' WHERE key = 'format'",
        "DROP TRIGGER events_last",
        "DELETE FROM events",  # the chain begins with the format
        "DROP INDEX events_of_rows",
        "CREATE TABLE state (row INTEGER PRIMARY KEY, phase TEXT NOT NULL)",
    )
    with Journal(path) as journal:
        journal.append([JournalEvent(1, EventKind.INTENT, 1.0)])
        assert journal.reopen(2.0) == 1
        assert [(row, state.phase) for row, state in journal.states()] == [(1, Phase.DOUBT)]
        journal.verify()


def test_a_journal_of_an_earlier_version_goes_on_as_it_is(path):
    raw(
        path,
        "UPDATE meta SET value = '1' WHERE key = 'format'",
        "CREATE TABLE sessions (number INTEGER PRIMARY KEY, started REAL, ended REAL, who TEXT, host TEXT, "
        "stopped TEXT, requests INTEGER DEFAULT 0)",
        "INSERT INTO sessions (started, who, host) VALUES (1, 'a', 'b')",
    )
    with Journal(path) as journal:
        assert journal.sessions()[0].os_user == ""
        journal.begin_session(2.0, who="c", host="d", os_user="e (1)")
        journal.end_session(3.0, requests=4, stopped=None)
        assert [session.os_user for session in journal.sessions()] == ["", "e (1)"]
        assert journal.sessions()[1].requests == 4
        journal.verify()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit of file sizes")
def test_a_full_disk_is_not_called_damage_of_the_journal(desk):
    """It said that there were no runs, or to move the run's folder away: a new plan would have sent its rows again."""
    run_id = desk.bulk("run", "risk-action", desk.risk_file(3), "--risk-action", "deny", "--yes").json[
        "run_id"
    ]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))  # SQLite cannot make the index of the WAL
    try:
        said = [desk.bulk(*asked) for asked in (("status",), ("status", run_id), ("resume", run_id, "--yes"))]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [(one.code, one.json["error"]) for one in said] == [(1, "JournalUnusable")] * 3
    assert all("Check the disk" in one.json["advice"] for one in said)
    assert desk.bulk("status", run_id, "--verify").code == 0


def test_an_error_of_the_disk_while_a_journal_is_read_is_not_called_an_edit(path, monkeypatch):
    with Journal(path) as journal:
        journal.append([JournalEvent(1, EventKind.INTENT, 1.0)])
        for code, named in (
            (sqlite3.SQLITE_IOERR, sqlite3.OperationalError),
            (sqlite3.SQLITE_CORRUPT, EditedJournalError),
        ):
            failed = sqlite3.OperationalError("disk I/O error")
            failed.sqlite_errorcode = code

            class Broken:
                def execute(self, *_, failed=failed):
                    raise failed

            monkeypatch.setattr(journal, "_db", Broken())
            with pytest.raises(named):
                journal.verify()
            monkeypatch.undo()
