"""Bulk changes from Python: any frame, a dry run as a frame, results beside the rows, resume and undo."""

from __future__ import annotations

import asyncio
import functools
import io
import pydoc
import re
import signal
import threading
from dataclasses import asdict
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from rich.console import Console
from rich.traceback import Traceback

import paystack_source
from paystack_source import (
    BulkResult,
    ConfigError,
    PaystackClient,
    PaystackError,
    RiskAction,
    bulk_create,
    bulk_deactivate_authorization,
    bulk_set_risk_action,
    bulk_update,
    bulk_validate,
    helpers,
)
from paystack_source.api.workers import fetch_all
from paystack_source.bulk import service
from paystack_source.bulk.plan import planner
from paystack_source.bulk.run.journal import Journal
from paystack_source.bulk.run.runner import Runner
from paystack_source.bulk.run.runs import Runs
from paystack_source.errors import BusyError
from paystack_source.helpers import Settings
from tests.api.conftest import QuickClock
from tests.events import PATIENCE


def test_waits_for_the_quota_are_shown_while_it_compares_and_while_it_sends(desk, monkeypatch, capsys):
    clock = QuickClock()
    desk.api.configure(clock=clock.wall, limit=4, window_seconds=60)
    monkeypatch.setattr(helpers, "PaystackClient", functools.partial(PaystackClient, clock=clock))
    frame = pd.DataFrame({"customer_code": [c["customer_code"] for c in desk.customers(9)]})
    assert bulk_set_risk_action(frame, "deny", copy=False, refresh="live").complete
    shown = capsys.readouterr().err
    for step in ("Comparing", "Set risk actions"):
        assert re.search(rf"^{step}: .*waiting \d\d s: the quota", shown, re.MULTILINE)


@pytest.fixture
def settings(desk):
    """What every call here takes: no copy, no bar."""
    return {"copy": False, "progress": False}


INPUT_COLUMNS = {
    bulk_set_risk_action: ("customer_code", "risk_action"),
    bulk_update: ("customer_code", "phone"),
    bulk_create: ("email",),
    bulk_validate: (
        *("customer_code", "first_name", "last_name", "country", "bank_code", "account_number", "bvn"),
    ),
    bulk_deactivate_authorization: ("authorization_code",),
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("client", "sk_test_0123456789"),
        ("destination", pd.DataFrame()),
        ("leave_out_problems", "no"),
        ("progress", "no"),
        ("dry_run", "no"),
    ],
)
def test_a_setting_of_another_type_is_named_and_nothing_is_sent(name, value, settings):
    rows = [{"customer_code": "CUS_1", "risk_action": "allow"}]
    with pytest.raises(ConfigError) as said:
        bulk_set_risk_action(rows, **{**settings, name: value})
    assert str(said.value).startswith(f"{name} must be of the type ")
    assert "0123456789" not in str(said.value)


def interrupted(*_args, **_kwargs):
    raise KeyboardInterrupt


@pytest.fixture
def frame(desk):
    people = desk.customers(6)
    for customer in people:
        desk.api.edit_customer(customer["customer_code"], risk_action="default")
    codes = [c["customer_code"] for c in people]
    return pd.DataFrame({"customer_code": codes, "score": [0.5] * 6}, index=list("abcdef"))


@pytest.mark.parametrize(
    "change",
    [bulk_set_risk_action, bulk_update, bulk_create, bulk_validate, bulk_deactivate_authorization],
)
def test_nothing_to_change_is_no_error(desk, settings, change):
    for nothing in ([], pd.DataFrame(), pa.table({})) if change is bulk_set_risk_action else ():
        assert change(nothing, **settings).summary["rows"] == 0
    nobody = change(pd.DataFrame(columns=[*INPUT_COLUMNS[change]], dtype=object), **settings)
    assert (nobody.summary["rows"], desk.api.write_log()) == (0, [])
    with pytest.raises(ConfigError, match="missing"):
        change([{}], **settings)


def test_ctrl_c_while_duckdb_plans_is_ctrl_c(desk, settings, frame, monkeypatch):
    def compare(_matching):
        raise RuntimeError("Query interrupted") from KeyboardInterrupt()  # what DuckDB makes of it

    monkeypatch.setattr("paystack_source.bulk.plan.planner.compare", compare)
    with pytest.raises(KeyboardInterrupt):
        bulk_set_risk_action(frame, "deny", **settings)
    said = desk.bulk("run", "risk-action", desk.risk_file(2), "--risk-action", "deny", "--yes")
    assert said.code == 130
    assert "Nothing was sent, unless this lists a new run: " in said.err


@pytest.mark.parametrize("left", [5, 0])
def test_ctrl_c_while_rows_are_sent_ends_a_loop_over_frames_too(desk, frame, settings, monkeypatch, left):
    """Also if it came with the last rows."""
    going_on = Runner._judge

    def judge(self, done):
        signal.raise_signal(signal.SIGINT)
        return going_on(self, done)

    def loop():
        for part in (frame.head(1 + left), frame.tail(1)):
            bulk_set_risk_action(part, "deny", **settings)

    with monkeypatch.context() as patch:
        patch.setattr("paystack_source.bulk.run.runner.in_flight", lambda *_args, **_more: 1)
        patch.setattr("paystack_source.bulk.run.runner._AHEAD", 0)
        patch.setattr(Runner, "_judge", judge)
        with pytest.raises(KeyboardInterrupt, match=r"1 applied.*resume") as stop:
            loop()
    assert len(desk.api.write_log()) == 1
    result = stop.value.result
    assert (result.summary["applied"], result.summary["unsent"]) == (1, left)
    assert result.resume().summary["applied"] == 1 + left


@pytest.mark.parametrize(("owner", "step"), [(service, "make_plan"), (Runs, "create")])
def test_ctrl_c_that_asyncio_takes_before_a_helper_sends_is_heard(
    owner, step, desk, frame, settings, monkeypatch
):
    going_on = getattr(owner, step)

    def interrupted(*args, **kwargs):
        signal.raise_signal(signal.SIGINT)
        return going_on(*args, **kwargs)

    async def main():
        bulk_set_risk_action(frame, "deny", **settings)

    monkeypatch.setattr(owner, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert desk.api.write_log() == []


def test_a_misspelt_setting_is_refused_before_anything_is_sent(desk, settings, frame):
    with pytest.raises(TypeError, match="dryrun"):
        bulk_set_risk_action(frame, "deny", dryrun=True, **settings)
    assert desk.api.write_log() == []


def test_a_setting_that_is_none_is_not_given(desk, settings, frame):
    nothing = dict.fromkeys(set(Settings.__annotations__) - settings.keys())
    assert bulk_set_risk_action(frame, "deny", **settings, **nothing).summary["applied"] == 6


@pytest.mark.parametrize(
    "option",
    [{"metadata": "Replace"}, {"only_missing": "no"}, {"refresh": "Live"}],
    ids=lambda o: next(iter(o)),
)
def test_a_value_that_an_option_cannot_have_is_refused(desk, settings, option):
    people = pd.DataFrame({"customer_code": ["CUS_abc"], "metadata": ['{"a": 1}']})
    with pytest.raises(ConfigError, match="option"):
        bulk_update(people, **settings, **option)
    assert desk.api.write_log() == []


def test_a_column_is_no_frame_and_the_error_says_what_is(desk, settings, frame):
    for column in (frame["customer_code"], pa.array(frame["customer_code"])):
        with pytest.raises(ConfigError) as error:
            bulk_set_risk_action(column, "deny", **settings)
        assert '[["customer_code"]]' in error.value.advice
    assert desk.api.write_log() == []


def test_a_create_whose_answer_was_lost_is_not_fed_back_but_found_by_a_later_resume(desk, settings):
    desk.api.configure(faults="reset_after@create#1", read_lag=3600)
    new = pd.DataFrame({"email": ["ada@example.com", "obi@example.com"], "first_name": ["Ada", "Obi"]})
    result = bulk_create(new, **settings)
    (lost,) = result.results[result.results["_status"] == "unknown"].index
    assert lost not in result.failed.index
    desk.api.configure(faults=(), read_lag=0)
    assert result.resume().summary["unknown"] == 0
    assert len([email for _, what, email, _ in desk.api.write_log() if what == "create"]) == 2


def test_a_dry_run_is_the_plan_as_a_frame_and_sends_nothing(desk, settings, frame):
    shown = bulk_set_risk_action(frame, RiskAction.DENY, dry_run=True, refresh="live", **settings)
    assert list(shown["verdict"]) == ["send"] * 6
    assert set(shown["old_risk_action"]) == {"default"}
    assert set(shown["new_risk_action"]) == {"deny"}
    assert shown.attrs["to_send"] == 6
    assert desk.api.write_log() == []
    assert not list(Runs())


@pytest.mark.parametrize(
    "kind",
    [
        pa.Table.from_pandas,
        pl.from_pandas,
        lambda frame: duckdb.from_df(frame).project("*, DATE 'infinity' AS valid_until"),
        lambda frame: frame.to_dict("records"),
    ],
    ids=["arrow", "polars", "duckdb", "records"],
)
def test_any_frame_will_do(desk, settings, frame, kind):
    result = bulk_set_risk_action(kind(frame), "allow", **settings)
    assert isinstance(result, BulkResult)
    assert result.summary["applied"] == 6
    assert list(result.results["_status"]) == ["applied"] * 6
    assert list(result.results["customer_code"]) == list(frame["customer_code"])
    assert desk.truth(frame["customer_code"].iloc[0])["risk_action"] == "allow"


def test_results_keep_the_input_as_it_was(desk, settings, frame):
    before = frame.copy()
    result = bulk_set_risk_action(frame, "deny", **settings)
    pd.testing.assert_frame_equal(frame, before)
    pd.testing.assert_frame_equal(result.results[list(before.columns)], before)
    assert list(result.results.columns) == ["customer_code", "score", "_status", "_code", "_message", "_time"]
    assert "6 applied" in str(result)


def test_a_frame_whose_index_names_the_customers_is_read_and_its_results_again(desk, settings, frame):
    frame = frame.set_index("customer_code").rename({frame.loc["f", "customer_code"]: "CUS_nosuchone0"})
    result = bulk_set_risk_action(frame, "deny", **settings)
    pd.testing.assert_frame_equal(result.results[["score"]], frame)
    assert list(result.failed.index) == ["CUS_nosuchone0"]
    assert result.resume().summary["applied"] == 5
    good = result.results[:5]
    for fed_back in (good, pa.Table.from_pandas(good)):
        again = bulk_set_risk_action(fed_back, "deny", refresh="live", **settings)
        assert again.summary["skipped_noop"] == 5
        assert list(again.results.index) == list(good.index)
    copy = pd.DataFrame(desk.customers(6)).set_index("customer_code")
    assert (
        bulk_set_risk_action(frame[:5], "deny", dry_run=True, **{**settings, "copy": copy}).attrs["rows"] == 5
    )


def test_an_index_without_a_name_is_not_read_and_the_error_says_so(desk, settings, frame):
    frame.index = frame.pop("customer_code").to_list()
    with pytest.raises(ConfigError) as error:
        bulk_set_risk_action(frame, "deny", **settings)
    assert error.value.advice.endswith('e.g. frame.rename_axis("customer_code").')
    with pytest.raises(ConfigError) as error:
        bulk_set_risk_action(frame.reset_index(drop=True), "deny", **settings)
    assert "index" not in error.value.advice


@pytest.mark.parametrize("kind", [lambda frame: frame, pa.Table.from_pandas], ids=["pandas", "arrow"])
def test_a_secret_in_an_index_is_masked_in_the_results(desk, settings, kind):
    code = desk.customers(1)[0]["customer_code"]
    row = [code, "Ada", "Obi", "NG", "058", "0123456789", "22222222222"]
    frame = pd.DataFrame([row], columns=INPUT_COLUMNS[bulk_validate]).set_index(["bvn", "customer_code"])
    results = bulk_validate(kind(frame), **settings).results
    assert results["_status"].tolist() == ["accepted_pending"]
    assert results.index.names == ["customer_code"]
    assert "22222222222" not in results.to_csv()


def test_a_result_shows_itself_as_a_table(desk, settings, frame):
    result = bulk_set_risk_action(frame, "deny", refresh="live", **settings)
    lines = repr(result).splitlines()
    assert lines[0] == "BulkResult: Complete"
    assert re.search(r"^  applied +6$", repr(result), re.MULTILINE)
    assert f"undo {result.run_id}" in lines[-1]
    assert re.search(r"<td>applied</td>\s*<td>6</td>", result._repr_html_())
    assert desk.api.secret_key not in repr(result) + result._repr_html_()


@pytest.mark.parametrize(
    "helper", [bulk_set_risk_action, bulk_update, bulk_create, bulk_validate, bulk_deactivate_authorization]
)
def test_help_shows_every_setting(helper):
    shown = pydoc.render_doc(helper)
    for name in Settings.__annotations__:
        assert re.search(rf"\b{name}\b", shown), name
    assert "see `Settings`" not in shown


def test_rows_with_problems_are_left_out_if_that_is_wanted(desk, settings, frame):
    frame.loc["c", "customer_code"] = "nobody"
    with pytest.raises(ConfigError, match="1 problem"):
        bulk_set_risk_action(frame, "deny", **settings)
    shown = bulk_set_risk_action(frame, "deny", dry_run=True, leave_out_problems=True, **settings)
    assert (shown.attrs["to_send"], shown.attrs["left_out"]) == (5, 1)
    result = bulk_set_risk_action(frame, "deny", leave_out_problems=True, **settings)
    assert result.summary["applied"] == 5
    assert list(result.results.index) == list(frame.index)
    assert {path.suffixes[-1] for path in Path("paystack_results/plans").iterdir()} == {".csv"}
    for said in (" ".join(shown.attrs["warnings"]), repr(result)):  # each names a file of its own
        listed = Path(re.search(r"Correct (\S+) and", said)[1])
        assert "nobody" in listed.read_text("utf-8-sig")


def test_metadata_whose_keys_paystack_kept_is_not_called_applied(desk, settings):
    """Nobody has seen whether an update replaces metadata or merges it; merged, a key that was to go stays."""
    one, two, three = desk.customers(3)
    for person, held in ((one, {"a": 1}), (two, {"a": 1, "b": 1}), (three, "text")):
        desk.api.edit_customer(person["customer_code"], metadata=held)
    desk.api.configure(metadata_update="merge")
    rows = [{"customer_code": c["customer_code"], "metadata": {"b": 2}} for c in (one, two, three)]
    replaced = bulk_update(rows, metadata="replace", refresh="live", **settings)
    assert replaced.results["_status"].tolist() == ["unknown", "unknown", "applied"]
    merged = bulk_update(rows[:1], refresh="live", **settings)
    assert merged.summary["skipped_noop"] == 1
    desk.api.edit_customer(one["customer_code"], metadata={"a": 1})
    merged = bulk_update(rows[:1], refresh="live", **settings)
    assert (merged.summary["applied"], merged.undo().summary["unknown"]) == (1, 1)


def test_failed_rows_are_corrected_and_sent_again(desk, settings, frame):
    good = frame.loc["f", "customer_code"]
    frame.loc["f", "customer_code"] = "CUS_nosuchone0"
    result = bulk_set_risk_action(frame, "deny", **settings)
    assert not result.complete
    assert list(result.failed.index) == ["f"]
    again = bulk_set_risk_action(result.failed.assign(customer_code=good), "deny", **settings)
    assert again.summary["applied"] == again.summary["rows"] == 1
    assert again.complete


def test_a_stopped_run_is_resumed(desk, settings, frame):
    desk.api.configure(risk_forbidden=True)
    stopped = bulk_set_risk_action(frame, "deny", **settings)
    assert stopped.summary["unsent"] == 6
    assert "cannot modify" in stopped.summary["stopped"]
    desk.api.configure(risk_forbidden=False)
    result = stopped.resume()
    assert (result.run_id, result.summary["applied"]) == (stopped.run_id, 6)
    assert result.resume().summary["applied"] == 6
    assert len(desk.api.write_log()) == 6


def test_undo_leaves_alone_what_somebody_changed_since(desk, settings, frame):
    result = bulk_set_risk_action(frame, "deny", refresh="live", **settings)
    theirs, done_already, *others = frame["customer_code"]
    desk.api.edit_customer(theirs, risk_action="allow")
    desk.api.edit_customer(done_already, risk_action="default")
    undone = result.undo()
    assert (undone.summary["applied"], undone.summary["skipped_noop"]) == (4, 1)
    assert desk.truth(theirs)["risk_action"] == "allow"
    assert {desk.truth(code)["risk_action"] for code in others} == {"default"}
    (left,) = Path("paystack_results").glob(f"{result.run_id}/undo_left.csv")
    assert "changed by somebody else" in left.read_text()
    for code in (done_already, *others):
        desk.api.edit_customer(code, risk_action="allow")
    with pytest.raises(ConfigError, match="No row"):
        result.undo()


def test_undo_shows_first_and_compares_whatever_the_run_compared_with(desk, settings, frame):
    copy = pd.DataFrame(desk.customers(60))
    result = bulk_set_risk_action(frame, "deny", progress=False, copy=copy, refresh="never")
    theirs = frame["customer_code"].iloc[0]
    desk.api.edit_customer(theirs, risk_action="allow")
    assert set(result.undo(dry_run=True)["new_risk_action"]) == {"default"}
    undone = result.undo()
    assert (undone.summary["applied"], undone.summary["undo_of"]) == (5, result.run_id)
    assert [desk.truth(code)["risk_action"] for code in frame["customer_code"]] == ["allow"] + ["default"] * 5


def test_undo_leaves_alone_what_is_changed_while_it_plans(desk, settings, frame, monkeypatch):
    result = bulk_set_risk_action(frame, "deny", refresh="live", **settings)
    first, second, *others = frame["customer_code"]
    desk.api.edit_customer(first, risk_action="allow")
    plan = service.make_plan

    def slowly(*args, **options):
        made = plan(*args, **options)
        desk.api.edit_customer(second, risk_action="allow")
        return made

    monkeypatch.setattr(service, "make_plan", slowly)
    assert result.undo().summary["applied"] == 4
    assert {desk.truth(code)["risk_action"] for code in (first, second)} == {"allow"}
    assert {desk.truth(code)["risk_action"] for code in others} == {"default"}


def test_a_run_does_not_go_on_while_its_undo_is_planned(desk, settings, frame, monkeypatch):
    desk.api.configure(faults="error@set_risk_action#4+500")
    result = bulk_set_risk_action(frame, "deny", refresh="live", **settings)
    desk.api.configure(faults="")
    assert not result.complete
    plan = service.make_plan

    def meanwhile(*args, **options):
        with pytest.raises(BusyError):
            result.resume()
        return plan(*args, **options)

    monkeypatch.setattr(service, "make_plan", meanwhile)
    assert result.undo().summary["applied"] == result.summary["applied"]
    assert {desk.truth(code)["risk_action"] for code in frame["customer_code"]} == {"default"}


def test_names_and_phones_are_filled_in_where_they_are_missing(desk, settings, frame):
    codes = list(frame["customer_code"])
    for code in codes:
        desk.api.edit_customer(code, first_name=None, phone=None)
    desk.api.edit_customer(codes[0], first_name="Kept")
    people = pd.DataFrame({"customer_code": codes, "first_name": "Ada", "phone": "+2348012345678"})
    result = bulk_update(people, only_missing=True, refresh="live", **settings)
    assert result.summary["applied"] == 6
    assert desk.truth(codes[0])["first_name"] == "Kept"
    assert desk.truth(codes[1])["first_name"] == "Ada"
    assert desk.truth(codes[0])["phone"] == "+2348012345678"


def test_the_other_operations(desk, settings, frame):
    made = bulk_create(pd.DataFrame({"email": ["new@example.com"], "first_name": ["Ada"]}), **settings)
    assert made.summary["applied"] == 1
    codes = list(frame["customer_code"])
    identities = pd.DataFrame(
        {"customer_code": codes[:1], "first_name": "Ada", "last_name": "Obi", "country": "NG",
         "bank_code": "007", "account_number": "0123456789", "bvn": "22299911177"}
    )  # fmt: skip
    checked = bulk_validate(identities, **settings)
    assert checked.summary["accepted_pending"] == 1
    assert checked.results["bvn"].iloc[0] == "…77"
    cards = [
        (c["customer_code"], a)
        for c in desk.customers(60)
        for a in desk.api.authorizations(c["customer_code"])
    ]
    owner, code = cards[0]
    gone = bulk_deactivate_authorization(
        pd.DataFrame({"authorization_code": [code], "customer_code": [owner]}), **settings
    )
    assert gone.summary["applied"] == 1
    assert code not in desk.api.authorizations(owner)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"destination": "nope"}, "no destination of that name"),
        ({"dataset": "Bad Name"}, "small letters, digits and single underscores"),
        ({"dataset": "temp"}, "databases reserve this name"),
        ({"dataset": "paystack_sandbox"}, "reserved for --sandbox"),
        ({"copy": False, "results_folder": "file"}, "cannot be a folder"),
        ({"copy": False, "results_folder": "file/below"}, "cannot be a folder"),
    ],
    ids=["destination", "dataset", "temp", "sandbox", "file", "below a file"],
)
def test_a_place_that_cannot_be_is_refused_with_advice(desk, frame, given, words):
    Path("file").touch()
    with pytest.raises(ConfigError, match=words) as refused:
        bulk_set_risk_action(frame, "deny", progress=False, **given)
    assert refused.value.advice
    assert desk.api.write_log() == []


def test_a_path_that_is_not_there_is_named(desk, settings):
    with pytest.raises(ConfigError, match=r"There is no file nobody.csv. Give a CSV"):
        bulk_set_risk_action("nobody.csv", "deny", **settings)


@pytest.mark.parametrize(
    "text",
    [
        "email\nada@shop.ng\n",
        '[{"email": "ada@shop.ng"}]',
        "ada@shop.ng,Ada",
        "CUS_ada",
        "email\0ada",
        "ada " * 100,
    ],
    ids=["CSV", "JSON", "one line", "one code", "NUL", "longer than a name"],
)
def test_rows_that_are_given_for_a_path_are_not_quoted(desk, settings, text):
    with pytest.raises(ConfigError, match="text with rows is not") as refused:
        bulk_set_risk_action(text, "deny", **settings)
    assert "ada" not in str(refused.value)


def test_a_bad_frame_is_refused_before_anything_is_sent(desk, settings, frame):
    with pytest.raises(ConfigError, match="no risk action"):
        bulk_set_risk_action(frame, "maybe", **settings)
    with pytest.raises(ConfigError):
        bulk_set_risk_action(pd.DataFrame({"nothing": [1]}), "deny", **settings)
    assert desk.api.write_log() == []


def test_a_run_that_was_not_started_leaves_no_plan_behind(desk, settings, frame, monkeypatch):
    monkeypatch.setattr("paystack_source.bulk.service.question_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bulk_set_risk_action(frame, "deny", **settings)
    assert not list(Path("paystack_results").rglob("*.plan"))


def test_a_frame_of_customers_serves_as_the_copy(desk, settings, frame):
    copy = pd.DataFrame(desk.customers(60))
    result = bulk_set_risk_action(frame, "default", progress=False, copy=copy, refresh="never")
    assert (result.summary["skipped_noop"], result.summary["requests"]) == (6, 0)


def test_a_client_can_be_shared(desk, settings, frame):
    with desk.client() as client:
        result = bulk_set_risk_action(frame, "deny", client=client, **settings)
        assert result.summary["applied"] == 6
        assert client.fetch(frame["customer_code"].iloc[0]).data["risk_action"] == "deny"


def test_the_public_names_are_the_helpers(desk):
    for name in ("bulk_set_risk_action", "bulk_update", "bulk_create", "bulk_validate"):
        assert getattr(paystack_source, name).__doc__


@pytest.fixture
def hourly(desk):
    """The caller's own client, which may send 20 requests an hour."""
    key, url = desk.api.secret_key, desk.api.url
    with PaystackClient(key, base_url=url, quota=20, window=3600.0) as client:
        yield client


def in_time(work):
    """What this returns, if it does not sit out a quota window."""
    given = []
    thread = threading.Thread(target=lambda: given.append(work()), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    return given[0]


def test_a_run_that_stops_sends_nothing_that_queued_for_its_callers_quota(settings, hourly):
    frame = pd.DataFrame({"customer_code": [f"CUS_nosuchone{n}" for n in range(100)]})
    result = in_time(lambda: bulk_set_risk_action(frame, "deny", client=hourly, refresh="never", **settings))
    assert "in a row" in result.summary["stopped"]
    assert (result.summary["rejected"], result.summary["unsent"]) == (20, 80)
    assert hourly.quota_use("set_risk_action") == (20, 20)
    assert not hourly._transport.quotas["set_risk_action"].queue


def test_planning_that_is_left_does_not_sit_out_a_quota_window(desk, hourly):
    def read():
        reading = fetch_all(hourly, [customer["customer_code"] for customer in desk.customers(60)])
        for _ in range(20):
            next(reading)
        reading.close()

    in_time(read)
    assert hourly.quota_use("fetch") == (20, 20)


def disk_full(*_args, **_how):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    "trouble", ["a refused key", "a full disk", "a full disk while planning", "a bad cell", "no such setting"]
)
def test_a_traceback_with_local_variables_shows_no_key_and_no_bvn(desk, monkeypatch, trouble):
    """As rich, Sentry and IPython show them. The caller's own frame is the caller's."""
    key, bvn = str(desk.api.secret_key), "22287654321"
    checks = pd.DataFrame(
        {
            "customer_code": [c["customer_code"] for c in desk.customers(2)],
            "first_name": "Ada",
            "last_name": "Obi",
        }
        | {"country": "NG", "bank_code": "058", "account_number": "0129988776", "bvn": bvn}
    )
    given = {"secret_key": key, "base_url": desk.api.url, "copy": False, "progress": False}
    if trouble == "a refused key":
        given["secret_key"] = key = "sk_test_" + "0123456789" * 4
    elif trouble == "no such setting":
        given["nonsense"] = 1
    elif trouble == "a bad cell":
        checks.loc[0, "bvn"] = f"x{bvn}"
    elif trouble == "a full disk":
        monkeypatch.setattr(Journal, "append", disk_full)
    else:
        monkeypatch.setattr(planner, "write_plan", disk_full)
    with pytest.raises((ConfigError, PaystackError, OSError, TypeError)) as caught:
        bulk_validate(checks, **given)
    error, shown = caught.value, io.StringIO()
    while error is not None:  # without the frame of this test, which is the caller's
        trace = Traceback.from_exception(
            type(error), error, error.__traceback__.tb_next, show_locals=True, locals_max_string=None
        )
        Console(file=shown, width=1000).print(trace)
        error = error.__cause__ or error.__context__
    assert type(caught.value).__name__ in shown.getvalue()
    assert not [name for name, secret in (("key", key), ("BVN", bvn)) if secret in shown.getvalue()]


def test_a_result_shows_no_key(desk):
    key = str(desk.api.secret_key)
    result = bulk_set_risk_action(
        [{"customer_code": desk.customers(1)[0]["customer_code"]}], "deny", secret_key=key, base_url=desk.api.url,
        copy=False, progress=False,
    )  # fmt: skip
    assert key not in f"{result!r} {result} {result._repr_html_()} {result._report!r} {asdict(result)}"
