"""The dlt destination: rows reach the journaled runner, and dlt's own retries send nothing twice."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import dlt
import pyarrow.parquet as pq
import pytest
from dlt.common.runtime import signals
from dlt.pipeline.exceptions import PipelineStepFailed

from paystack_source import ConfigError, PaystackClient
from paystack_source.bulk import dlt_destination
from paystack_source.bulk.dlt_destination import paystack_customers
from paystack_source.bulk.run.runner import Runner
from paystack_source.bulk.run.runs import Runs


@pytest.fixture
def rows(desk, monkeypatch):
    monkeypatch.setenv("RUNTIME__LOG_LEVEL", "CRITICAL")
    monkeypatch.setenv("RUNTIME__DLTHUB_TELEMETRY", "false")
    people = desk.customers(20)
    for customer in people:
        desk.api.edit_customer(customer["customer_code"], risk_action="default")
    return [{"customer_code": c["customer_code"], "risk_action": "deny"} for c in people]


def pipeline(operation="risk-action", **options):
    return dlt.pipeline("whitelist", destination=paystack_customers(operation, **options))


def test_rows_reach_paystack_and_leave_a_run(desk, rows, monkeypatch):
    made = Mock(wraps=PaystackClient)
    monkeypatch.setattr(dlt_destination, "PaystackClient", made)
    pipeline().run(rows, table_name="changes")
    assert made.call_args.kwargs == {"operations": {"list", "fetch", "set_risk_action"}}  # and no other write
    assert {desk.truth(row["customer_code"])["risk_action"] for row in rows} == {"deny"}
    (made,) = Runs()
    with made.journal() as journal:
        assert journal.last_seq == 42


def test_the_example_of_the_docstring_runs(desk, rows):
    example = [line.strip() for line in dlt_destination.__doc__.splitlines() if line.startswith("    ")]
    exec("\n".join(example), {"dlt": dlt, "rows": rows})
    assert len(desk.api.write_log()) == len(rows)


def test_the_warnings_of_the_plan_are_logged(desk, rows, caplog):
    """dlt makes numbers of texts in a column whose first value is a number."""
    texts = (8031234567, "08041234567")
    phones = [
        {"customer_code": row["customer_code"], "phone": p} for row, p in zip(rows, texts, strict=False)
    ]
    pipeline("update").run(phones, table_name="changes")
    assert "zeros at the start may be gone" in caplog.text


def test_after_a_ctrl_c_nothing_more_of_a_file_is_sent(desk, rows, monkeypatch):
    """dlt itself would wait until the last row of the file was sent."""
    judge, interrupted = Runner._judge, []

    def judged(self, done):
        interrupted.append(True)
        return judge(self, done)

    with monkeypatch.context() as patch:
        patch.setattr(Runner, "_judge", judged)
        patch.setattr(signals, "was_signal_received", lambda: bool(interrupted))
        patch.setattr("paystack_source.bulk.run.runner.in_flight", lambda *_args, **_more: 1)
        patch.setattr("paystack_source.bulk.run.runner._AHEAD", 0)
        with pytest.raises(PipelineStepFailed):
            pipeline().run(rows, table_name="changes")
    assert len(desk.api.write_log()) == 1
    pipeline().run()
    assert len(desk.api.write_log()) == len(rows)


def test_a_rejected_row_holds_nothing_up(desk, rows):
    rows.insert(3, {"customer_code": "CUS_nosuchone0", "risk_action": "deny"})
    pipeline().run(rows, table_name="changes")
    assert len(desk.api.write_log()) == 20
    (made,) = Runs()
    assert "CUS_nosuchone0" in made.failed_file.read_text("utf-8-sig")


def test_retries_of_dlt_send_nothing_twice(desk, rows, monkeypatch):
    """Stopped in the middle, the file is handed over again, by this process and by the next."""
    monkeypatch.setenv("LOAD__RAISE_ON_MAX_RETRIES", "2")
    desk.api.configure(faults="reset_after@set_risk_action#5+1")
    sent = []
    real = dlt_destination._send

    def fail_twice(path, operation, *more, **how):
        real(path, operation, *more, **how)
        sent.append(dlt_destination.run_id_of(dlt_destination.FileSnapshot.of(path), operation))
        if len(sent) < 3:
            raise dlt_destination.StoppedError("the process ends here")

    monkeypatch.setattr(dlt_destination, "_send", fail_twice)
    whitelist = pipeline()
    try:
        whitelist.run(rows, table_name="changes")
    except PipelineStepFailed:
        whitelist.load()
    assert len(sent) >= 3
    assert len(set(sent)) == 1
    assert len(desk.api.write_log()) == 20
    assert desk.api.repeated_writes() == {}


def test_bad_rows_fail_the_load_and_send_nothing(desk, rows):
    whitelist = pipeline()
    with pytest.raises(PipelineStepFailed, match="abort_packages"):
        whitelist.run([{"customer_code": "CUS_a", "risk_action": "maybe"}], table_name="changes")
    assert desk.api.write_log() == []
    whitelist.abort_packages()  # as the message says
    whitelist.run(rows, table_name="changes")
    assert len(desk.api.write_log()) == 20


def test_a_refused_key_is_not_tried_again_and_the_next_run_goes_on_with_another(desk, rows):
    with PaystackClient("sk_test_" + 40 * "a", base_url=desk.api.url) as wrong:
        with pytest.raises(PipelineStepFailed, match="abort_packages"):
            pipeline(client=wrong).run(rows, table_name="changes")
        assert wrong.stats.requests == 1
    pipeline().run()
    assert len(desk.api.write_log()) == 20


@pytest.mark.parametrize(
    "wrong", [{"approved": "no"}, {"only_missing": "no"}, {"client": "sk_test_"}], ids=str
)
def test_a_text_approves_nothing(wrong):
    with pytest.raises(ConfigError, match="must be of the type"):
        paystack_customers(**wrong)


@pytest.mark.parametrize("told", [None, "false"])
def test_no_number_of_a_person_stays_in_dlts_folder_unless_the_user_says_so(desk, monkeypatch, told):
    if told:
        monkeypatch.setenv("LOAD__DELETE_COMPLETED_JOBS", told)
    bvn = "22299887766"
    check = {"customer_code": desk.customers(1)[0]["customer_code"], "country": "NG", "type": "bank_account",
             "account_number": "0123456789", "bank_code": "007", "bvn": bvn, "first_name": "Ada",
             "last_name": "Obi"}  # fmt: skip
    # A name of its own: what dlt was told once is for the whole process.
    made = dlt.pipeline(f"checks_{told}", destination=paystack_customers("validate", approved=True))
    made.run([check], table_name="checks")
    assert len(desk.api.write_log()) == 1
    files = Path(made.working_dir).rglob("checks.*.parquet")
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    assert [row["bvn"] for row in rows] == ([bvn] if told else [])
