"""Folders that others can reach, links that others planted, and names that are taken: nothing is believed or replaced."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.bulk_plan.workbook import xlsx

OTHER = 12345  # a user who is not us

pytestmark = pytest.mark.skipif(os.name == "nt", reason="owners and modes of POSIX")


def applied(desk):
    said = desk.bulk(
        "run", "risk-action", desk.risk_file(3), "--risk-action", "deny", "--yes", "--canary", "1"
    )
    return said.json["run_id"]


def writable_by_others(folder):
    folder.chmod(0o777)


def somebody_elses(folder):
    if os.geteuid() != 0:
        pytest.skip("only root gives a folder away")
    os.chown(folder, OTHER, OTHER)


@pytest.mark.parametrize("harm", [writable_by_others, somebody_elses])
@pytest.mark.parametrize("which", ["results", "run"])
def test_a_folder_that_others_could_have_filled_is_refused(desk, harm, which):
    run_id = applied(desk)
    results = desk.folder / "paystack_results"
    harm(results if which == "results" else results / run_id)
    before = len(desk.api.write_log())
    commands = [
        ("resume", "latest", "--yes"),
        ("undo", "latest", "--yes"),
        ("resume", results / run_id, "--yes"),
    ]
    if which == "results":
        commands = [
            *commands[:2],
            ("run", "risk-action", "customers.csv", "--risk-action", "allow", "--yes"),
            ("status",),
        ]
    for command in commands:
        said = desk.bulk(*command)
        assert (said.code, said.json["error"]) == (2, "ConfigError"), said.err
        assert "planted" in said.err
    assert len(desk.api.write_log()) == before


def test_the_folder_of_results_is_made_for_its_owner(desk):
    applied(desk)
    for folder in (Path("paystack_results"), *Path("paystack_results").iterdir()):
        if folder.is_dir():
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_link_that_was_planted_is_not_followed(desk):
    """Also not under the name of a temporary file, whatever that may be: it is made anew or not at all."""
    mine = desk.folder / "mine.txt"
    mine.write_text("mine")
    for name in (f".links.plan.{os.getpid()}.part", ".links.html.part"):
        (desk.folder / name).symlink_to(mine)
    path = desk.risk_file(3)
    assert desk.bulk("plan", "risk-action", path, "--risk-action", "deny", "--out", "links.plan").code == 0
    assert mine.read_text() == "mine"
    (desk.folder / "page.html").symlink_to(mine)
    said = desk.bulk("plan", "risk-action", path, "--risk-action", "deny", "--review", "page.html")
    assert said.code == 2
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("what", ["file", "link"])
def test_a_temporary_file_is_new_also_where_somebody_guessed_its_name(desk, monkeypatch, what):
    monkeypatch.setattr("paystack_source.private_files.secrets.token_hex", lambda _bytes: "abcd1234")
    mine, part = desk.folder / "mine.txt", desk.folder / ".guessed.plan.abcd1234.part"
    mine.write_text("mine")
    part.symlink_to(mine) if what == "link" else part.write_text("mine")
    said = desk.bulk(
        "plan", "risk-action", desk.risk_file(3), "--risk-action", "deny", "--out", "guessed.plan"
    )
    assert said.code != 0
    assert part.read_text() == mine.read_text() == "mine"
    assert not (desk.folder / "guessed.plan").exists()


def test_a_lock_that_is_a_link_is_refused(desk):
    run_id = applied(desk)
    lock, mine = desk.folder / "paystack_results" / run_id / "run.lock", desk.folder / "mine.txt"
    mine.write_text("mine")
    lock.unlink()
    lock.symlink_to(mine)
    said = desk.bulk("resume", run_id, "--yes")
    assert said.code != 0
    assert "run.lock" in said.err


def taken(desk, name):
    path = desk.folder / name
    if path.suffix == ".xlsx":
        xlsx(path, {"Sheet1": [["a"], ["b"]]})
    elif not path.exists():
        path.write_bytes(b"not ours")
    return path


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (("--out", "customers.csv"), "customers.csv"),
        (("--review", "customers.csv"), "customers.csv"),
        (("--out", "copy.duckdb"), "copy.duckdb"),
        (("--out", "book.xlsx"), "book.xlsx"),
        (("--review", "notes.html"), "notes.html"),
        (("--out", "notes.plan"), "notes.html"),  # where its page would go
    ],
)
def test_no_plan_and_no_page_replaces_what_is_not_ours(desk, options, kept):
    path = desk.risk_file(3)
    before = taken(desk, kept).read_bytes()
    said = desk.bulk("plan", "risk-action", path, "--risk-action", "deny", *options)
    assert said.code == 2, said.err
    assert kept in said.err
    assert (desk.folder / kept).read_bytes() == before


def test_a_plan_and_a_page_do_not_replace_each_other(desk):
    path = desk.risk_file(3)
    assert desk.bulk("plan", "risk-action", path, "--risk-action", "deny", "--out", "a.plan").code == 0
    plan, page = (Path(name).read_bytes() for name in ("a.plan", "a.html"))
    assert desk.bulk("review", "a.plan", "--out", "a.plan").code == 2
    assert desk.bulk("plan", "risk-action", path, "--risk-action", "deny", "--out", "b.html").code == 2
    assert desk.bulk("plan", "risk-action", path, "--risk-action", "deny", "--out", "a.html").code == 2
    assert (Path("a.plan").read_bytes(), Path("a.html").read_bytes()) == (plan, page)
    assert (
        desk.bulk("plan", "risk-action", path, "--risk-action", "allow", "--out", "a.plan").code == 0
    )  # both are ours
    assert Path("a.plan").read_bytes() != plan


def test_the_plan_of_a_run_is_never_replaced(desk):
    run_id = applied(desk)
    plan = Path("paystack_results") / run_id / "plan.plan"
    before = plan.read_bytes()
    said = desk.bulk("undo", run_id, "--plan-only", "--out", plan)
    assert said.code == 2
    assert plan.read_bytes() == before


def test_a_list_of_problems_replaces_only_its_own_kind(desk):
    rows = [{"customer_code": f"nobody {n}"} for n in range(30)]
    path = desk.csv("bad.csv", rows)
    listed = desk.folder / "p.problems.csv"
    listed.write_text("mine\n1\n")
    said = desk.bulk("plan", "risk-action", path, "--risk-action", "deny", "--out", "p.plan")
    assert said.code == 2
    assert listed.read_text() == "mine\n1\n"
    listed.unlink()
    for _ in range(2):
        said = desk.bulk("plan", "risk-action", path, "--risk-action", "deny", "--out", "p.plan")
        assert "p.problems.csv" in said.err
