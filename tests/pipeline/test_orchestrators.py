"""What an orchestrator sees of a run: whether a retry can help, why it waits, and what it came to."""

import io

import dlt
import duckdb
import pytest
from dlt.common.runtime.collector import LogCollector
from dlt.pipeline.helpers import retry_load
from tenacity import Retrying, retry_if_exception, stop_after_attempt

from paystack_source import (
    ConfigError,
    KeyRefused,
    NotCompleteError,
    PaystackClient,
    PermissionRefused,
    copy_customers,
    paystack_source,
)


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    with duckdb.connect("one.duckdb"):  # to open it costs more than most of what it is asked
        yield lambda **options: dlt.pipeline("one", destination="duckdb", dataset_name="paystack", **options)


def source(server, **options):
    return paystack_source(
        options.pop("secret_key", server.secret_key),
        base_url=server.url,
        **({"quota": 0, "refresh_budget": 0} | options),
    )


def tries(what):
    """How often dlt's own retry strategy tries this, which fails each time, and the error that remains."""
    attempts = 0
    strategy = retry_if_exception(retry_load(("extract", "load")))
    with pytest.raises(Exception) as failed:  # noqa: PT012  # dlt's users write it like this
        for attempt in Retrying(stop=stop_after_attempt(3), retry=strategy, reraise=True):
            with attempt:
                attempts += 1
                what()
    return attempts, failed.value


def causes(error):
    while error is not None:
        yield type(error)
        error = error.__cause__


@pytest.mark.parametrize("details", [False, True])
def test_a_wrong_key_ends_the_retries_of_dlt_at_once(pipeline, sandbox, details):
    server = sandbox(customers=20)
    given = source(server, secret_key="sk_test_" + "w" * 40, details=details)
    attempts, error = tries(lambda: pipeline().run(given))
    assert attempts == 1
    assert KeyRefused in causes(error)


def test_so_does_a_refused_permission_and_an_outage_does_not(pipeline, sandbox):
    server = sandbox(customers=20, ip_allowed=False)
    attempts, error = tries(lambda: pipeline().run(source(server)))
    assert attempts == 1
    assert PermissionRefused in causes(error)
    server.configure(ip_allowed=True, faults="blocked@list#1+1000")
    assert tries(lambda: pipeline().run(source(server)))[0] == 3


def test_so_does_a_setting_and_a_copy_that_is_not_proven_does_not(pipeline, sandbox):
    server = sandbox(customers=20)
    attempts, error = tries(lambda: pipeline().run(source(server, secret_key="pk_test_public")))
    assert (attempts, type(error)) == (1, ConfigError)
    pipeline().run(source(server))
    server.add_customers(3)
    server.configure(total_off=1)
    attempts, error = tries(lambda: pipeline().run(source(server)))
    assert attempts == 3
    assert NotCompleteError in causes(error)


def test_copy_customers_ends_them_too_also_after_it_has_loaded_some(pipeline, sandbox):
    server = sandbox(customers=3_000)

    def copy():
        server.configure(ip_allowed=True)
        with PaystackClient(server.secret_key, base_url=server.url, quota=0, read_only=True) as client:
            copy_customers(pipeline(), client, on_rows=lambda _: server.configure(ip_allowed=False))

    attempts, error = tries(copy)
    assert (attempts, type(error)) == (1, PermissionRefused)


def test_waits_for_the_quota_show_in_dlts_log_and_in_its_progress(pipeline, sandbox, dlt_log):
    server = sandbox(customers=1_500, limit=10, window_seconds=3)
    shown = io.StringIO()
    progress = LogCollector(0.01, logger=shown, dump_system_stats=False)
    pipeline(progress=progress).run(source(server, quota=None))
    assert "Paystack: waiting" in dlt_log.text
    assert "Waits for Paystack: 1" in shown.getvalue()


def metrics(pipeline):
    """The facts of the last run of a pipeline, as dlt's trace on the disk has them: as another process finds them."""
    steps = {step.step: step.step_info for step in dlt.attach(pipeline.pipeline_name).last_trace.steps}
    resources = [
        each["resource_metrics"] for each in steps["extract"].metrics[steps["extract"].loads_ids[-1]]
    ]
    return next(each["customers"].custom_metrics for each in resources if "customers" in each)


def test_the_facts_of_a_run_are_metrics_of_dlts_trace(pipeline, sandbox):
    server, one = sandbox(customers=300), pipeline()
    one.run(source(server, refresh_budget=10))
    found = metrics(one)
    assert found["requests"] == server.stats.total
    assert (found["proven"], found["unproven"], found["rate_limited"]) == (True, [], 0)
    assert (found["api_total"], found["warehouse_total"], found["refresh_runs"]) == (300, 300, 2)

    server.add_customers(3)
    server.configure(total_off=1)
    one.run(source(server, allow_incomplete=True))
    found = metrics(one)
    assert not found["proven"]
    assert {each["difference"] for each in found["unproven"]} == {1}
    one.run([one.last_trace], table_name="trace")  # as people keep traces


def test_the_report_of_copy_customers_has_them(pipeline, sandbox):
    server, one = sandbox(customers=300), pipeline()
    with PaystackClient(server.secret_key, base_url=server.url, quota=0, read_only=True) as client:
        report = copy_customers(one, client)
    assert report.requests == server.stats.total
    assert (report.complete, report.unproven, report.rate_limited) == (True, [], 0)
