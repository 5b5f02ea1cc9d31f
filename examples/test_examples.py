"""The examples run: each orchestrator in an environment of its own, against sandboxes that are three accounts."""

import json
import os
import re
import shlex
import signal
import subprocess
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
import yaml

from paystack_source import NotCompleteError, PaystackClient, copy_customers
from paystack_source.sandbox import Sandbox
from paystack_source.warehouse import sync
from paystack_source.warehouse.sync import open_pipeline
from tests.events import Gate, until

HERE = Path(__file__).parent
ROOT = HERE.parent
CUSTOMERS = {"ng": 30, "gh": 20, "ke": 10}
PATIENCE = 1800  # seconds, on a machine that has other work


@pytest.fixture
def accounts(monkeypatch, tmp_path):
    """Three accounts, named in the environment, and files to copy them into."""
    with ExitStack() as stack:
        boxes = {}
        for seed, (name, customers) in enumerate(CUSTOMERS.items()):
            box = boxes[name] = stack.enter_context(Sandbox(customers, seed=seed, limit=0))
            monkeypatch.setenv(f"SOURCES__PAYSTACK__ACCOUNTS__{name.upper()}__SECRET_KEY", box.secret_key)
            monkeypatch.setenv(f"SOURCES__PAYSTACK__ACCOUNTS__{name.upper()}__BASE_URL", box.url)
        monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
        monkeypatch.setenv("PAYSTACK_DESTINATION", "filesystem")
        monkeypatch.setenv("DESTINATION__FILESYSTEM__BUCKET_URL", (tmp_path / "lake").as_uri())
        monkeypatch.setenv("RUNTIME__DLTHUB_TELEMETRY", "false")
        monkeypatch.setenv("PYTHONPATH", str(HERE))
        yield boxes


@pytest.fixture
def run(tmp_path):
    """`run("airflow", script)`: what the script prints last, as JSON."""
    started = []

    def start(environment, script, **environ):
        python = ROOT / ".venv" / environment / "bin" / "python"
        said = tmp_path / f"said {len(started)}"
        with said.open("wb") as file:
            process = subprocess.Popen(
                [python, "-c", script], cwd=tmp_path, env=os.environ | environ,
                stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        process.said = said.read_text
        started.append(process)
        return process

    def end(process):
        process.wait(timeout=PATIENCE)
        assert process.returncode == 0, process.said()[-5000:]
        return json.loads(process.said().strip().splitlines()[-1])

    start.end = end
    yield start
    for process in started:  # Prefect starts a server of its own
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def held(tmp_path, account):
    """How many customers the files hold; of a customer who was loaded twice the newest row counts."""
    files = tmp_path / "lake" / f"paystack_{account}" / "customers" / "*.parquet"
    return duckdb.sql(f"select count(distinct id) from '{files}'").fetchall()[0][0]


AIRFLOW = """
import datetime as dt, json
from airflow.utils.db import initdb
initdb()
import airflow_dags
airflow_dags.RETRIES["retries"] = 0
dag = airflow_dags.{dag}()
ended = dag.test({when})
facts = [each.xcom_pull(task_ids=each.task_id, map_indexes=each.map_index) for each in ended.get_task_instances()]
print()
print(json.dumps([str(ended.state), facts, [str(ended.data_interval_start), str(ended.data_interval_end)]]))
"""


def days_of(box):
    """Two days on which customers came, and how many came on them."""
    created = [row["createdAt"][:10] for row in box.customers_truth()]
    days = sorted({day for day in created if day > "2026-01-02"})[:2]
    return days, sum(day in days for day in created)


def airflow(run, tmp_path, dag, when="", home="airflow"):
    return run(
        "airflow",
        AIRFLOW.format(dag=dag, when=when),
        AIRFLOW_HOME=str(tmp_path / home),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__DAGS_FOLDER=str(HERE),
        AIRFLOW__CORE__UNIT_TEST_MODE="False",
    )


def test_airflow_copies_each_account_in_a_mapped_task(accounts, run, tmp_path):
    state, facts, _ = run.end(airflow(run, tmp_path, "paystack_customers"))
    assert state == "success"
    assert {each["account"]: each["warehouse_total"] for each in facts} == CUSTOMERS
    assert all(each["proven"] for each in facts)
    assert {name: held(tmp_path, name) for name in CUSTOMERS} == CUSTOMERS


def test_airflow_loads_intervals_side_by_side_on_one_disk(accounts, run, tmp_path):
    """As a catchup does. Each run has the customers of its day, and waits for the other's lock."""
    days, customers = days_of(accounts["ng"])
    runs = []
    for day in days:
        midnight = f"dt.datetime.fromisoformat('{day}T00:00:00+00:00') + dt.timedelta(days=1)"
        when = f"logical_date={midnight}"  # the data interval is the day before
        runs.append(airflow(run, tmp_path, "paystack_new_customers", when, home=f"airflow {day}"))
    intervals = []
    for process in runs:
        state, (facts,), interval = run.end(process)
        assert (state, facts["proven"]) == ("success", True)
        intervals.append(interval)
    assert [(start[:10], end[11:19]) for start, end in intervals] == [(day, "00:00:00") for day in days]
    assert held(tmp_path, "ng") == customers > 0


DAGSTER = """
import json
import dagster, dagster_defs
assert dagster_defs.defs.get_repository_def() is not None
said = {}
for account in ("ng", "gh"):
    result = dagster.materialize([dagster_defs.paystack_customers], partition_key=account)
    (check,) = result.get_asset_check_evaluations()
    (made,) = result.asset_materializations_for_node("paystack_customers")
    said[account] = [check.passed, made.metadata["warehouse_total"].value]
print()
print(json.dumps(said))
"""


def test_dagster_copies_a_partition_an_account_and_checks_the_ledger(accounts, run, tmp_path):
    said = run.end(run("dagster", DAGSTER))
    assert said == {name: [True, CUSTOMERS[name]] for name in ("ng", "gh")}
    assert held(tmp_path, "gh") == CUSTOMERS["gh"]


DAGSTER_DAY = """
import json, sys
import dagster, dagster_defs
result = dagster.materialize([dagster_defs.paystack_new_customers], partition_key={day!r})
(made,) = result.asset_materializations_for_node("paystack_new_customers")
print()
print(json.dumps(made.metadata["proven"].value))
"""


def test_dagster_loads_two_partitions_of_one_account_side_by_side_on_one_disk(accounts, run, tmp_path):
    days, customers = days_of(accounts["ng"])
    gate = Gate(accounts["ng"], lambda: True)
    first = run("dagster", DAGSTER_DAY.format(day=days[0]))
    gate.wait()  # it holds the lock by now
    second = run("dagster", DAGSTER_DAY.format(day=days[1]))
    until(lambda: "waits until it is done" in second.said())
    gate.open()
    assert [run.end(first), run.end(second)] == [True, True]
    assert held(tmp_path, "ng") == customers > 0


PREFECT = """
import json, prefect_flow
print()
print(json.dumps(prefect_flow.paystack_customers()))
"""


def test_prefect_copies_the_accounts_side_by_side(accounts, run, tmp_path):
    facts = run.end(
        run(
            "prefect",
            PREFECT,
            PREFECT_HOME=str(tmp_path / "prefect"),
            PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS=str(PATIENCE),
            PREFECT_SERVER_ANALYTICS_ENABLED="false",
            PREFECT_LOGGING_LEVEL="ERROR",
        )
    )
    assert {each["account"]: each["warehouse_total"] for each in facts} == CUSTOMERS
    assert {name: held(tmp_path, name) for name in CUSTOMERS} == CUSTOMERS


RETRIES = """
import json, os
os.environ["SOURCES__PAYSTACK__ACCOUNTS__NG__SECRET_KEY"] = "sk_test_nobody"
import copy_account
try:
    copy_account.copy_account("ng")
except Exception as error:
    refused = copy_account.is_worth_a_retry(error)
print(json.dumps([refused, copy_account.is_worth_a_retry(ConnectionError())]))
"""


def test_a_refused_key_is_not_worth_a_retry(accounts, run):
    assert run.end(run("dagster", RETRIES)) == [False, True]


DBT = {
    "dbt_project.yml": """
name: shop
profile: shop
""",
    "profiles.yml": """
shop:
  target: dev
  outputs:
    dev: {type: duckdb, path: paystack_customers.duckdb}
""",
}


def test_dbt_takes_what_changed_and_asks_whether_the_copy_is_fresh(tmp_path, monkeypatch):
    """The recipe of docs/howto/changes.md."""
    page = (ROOT / "docs" / "howto" / "changes.md").read_text()
    name, model = re.search(r"```sql\n-- (models/\w+\.sql)\n(.*?)```", page, re.DOTALL).groups()
    (tmp_path / "models").mkdir()
    sources = re.search(r"```yaml\n(sources:.*?)```", page, re.DOTALL)[1]
    for path, text in {**DBT, name: model, "models/sources.yml": sources}.items():
        (tmp_path / path).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    monkeypatch.setenv("DBT_SEND_ANONYMOUS_USAGE_STATS", "false")

    def ask(sql):
        with duckdb.connect("paystack_customers.duckdb") as file:
            return file.execute(sql).fetchall()

    def copy(box):
        with PaystackClient(box.secret_key, base_url=box.url, quota=0, read_only=True) as client:
            copy_customers(open_pipeline("duckdb", "paystack"), client)

    def dbt(*words):
        done = subprocess.run(
            [ROOT / ".venv" / "dbt" / "bin" / "dbt", *words], check=False, capture_output=True, text=True
        )
        return done.returncode, done.stdout

    with Sandbox(30, limit=0) as box:
        copy(box)
        assert dbt("run")[0] == 0
        edited = [row["customer_code"] for row in box.customers_truth()][3:5]
        for code in edited:
            box.edit_customer(code, risk_action="deny")
        copy(box)  # everybody is read again
    code, said = dbt("run")
    assert code == 0, said
    taken = ask(
        "select customer_code, m.risk_action from customers_current m join paystack.customers c"
        " using (customer_code, _last_seen_at)"
    )
    assert sorted(taken) == sorted((code, "deny") for code in edited)
    assert ask("select count(*), count(distinct id) from customers_current") == [(30, 30)]

    assert dbt("source", "freshness")[0] == 0
    ask("update paystack.ledger set verified_at = verified_at - interval 27 hours")
    assert dbt("source", "freshness")[0] == 1


def test_a_copy_that_is_not_proven_fails_its_task(accounts, monkeypatch):
    """`pipeline.run` raises nothing if the count at its end does not agree."""
    monkeypatch.syspath_prepend(HERE)
    from copy_account import copy_account, is_worth_a_retry

    close = sync.close
    monkeypatch.setattr(sync, "close", lambda *run: replace(close(*run), complete=False))
    with pytest.raises(NotCompleteError, match="'account': 'ng', 'proven': False") as failed:
        copy_account("ng")
    assert is_worth_a_retry(failed.value)


def command(words, tmp_path):
    """A command of an example, but for the sandbox."""
    assert words[:2] == ["paystack-source", "customers"]
    words = [ROOT / ".venv" / "bin" / words[0], *words[1:], "--sandbox"]
    words[words.index("postgres")] = "duckdb"
    environ = os.environ | {"DLT_DATA_DIR": str(tmp_path / "dlt"), "PAYSTACK_SANDBOX_CUSTOMERS": "20"}
    done = subprocess.run(words, cwd=tmp_path, env=environ, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_the_command_of_the_cron_job_runs(tmp_path):
    job = yaml.safe_load((HERE / "kubernetes_cronjob.yaml").read_text())
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert command(pod["containers"][0]["command"], tmp_path)["status"] == "complete"


def test_the_command_of_the_workflow_runs(tmp_path):
    job = yaml.safe_load((HERE / "github_actions.yml").read_text())["jobs"]["copy"]
    (line,) = (step["run"] for step in job["steps"] if step.get("name") == "Copy")
    assert command(shlex.split(line.partition(" > ")[0]), tmp_path)["status"] == "complete"
    failing = tmp_path / "paystack-source"
    failing.write_text("#!/bin/sh\nexit 5\n")
    failing.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:/bin:/usr/bin"}
    as_github = ["bash", "-e", "-c", line]  # its default shell has no pipefail
    assert subprocess.run(as_github, cwd=tmp_path, env=environ, check=False).returncode == 5
