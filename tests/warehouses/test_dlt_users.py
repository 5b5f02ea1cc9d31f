"""What people who know dlt expect of a source, they find: each habit of theirs has a test."""

import errno
import json
import os
import subprocess
from datetime import datetime, timedelta
from pathlib import Path
from unittest import mock

import dlt
import duckdb
import polars as pl
import pyarrow as pa
import pytest
from dlt.normalize import Normalize
from dlt.pipeline.exceptions import PipelineStepFailed

from paystack_source import ConfigError, PaystackClient, copy_customers, paystack_source, tables
from paystack_source.customer import CUSTOMERS
from paystack_source.extract.details import AUTHORIZATIONS, DETAILS
from paystack_source.extract.ledger import LEDGER
from paystack_source.warehouse.destinations import read_table
from paystack_source.warehouse.history import HISTORY
from paystack_source.warehouse.sync import open_pipeline
from tests.copies import begin_copied
from tests.events import PATIENCE
from tests.processes import python
from tests.warehouses.conftest import Warehouse

ROOT = Path(__file__).parents[2]
DLT = "import sys; from dlt._workspace.cli._dlt import _main; sys.exit(_main())"
"""What the command `dlt` is."""


@pytest.fixture(autouse=True)
def kept_open(tmp_path):
    """To open the file costs more than most of what it is asked here."""
    with duckdb.connect(str(tmp_path / "copy.duckdb")):
        yield


@pytest.fixture
def copied(sandbox):
    """The pipeline of a machine that has copied 40 customers, and their sandbox."""
    pipeline, few = begin_copied(sandbox, 40)
    with duckdb.connect("paystack_customers.duckdb"):
        yield pipeline, few


@pytest.fixture
def with_history(sandbox):
    """The same with the history of 40 customers."""
    pipeline, few = begin_copied(sandbox, 40, history=True)
    with duckdb.connect("paystack_customers.duckdb"):
        yield pipeline, few


@pytest.fixture
def api(sandbox):
    return sandbox(customers=250, seed=2)


@pytest.fixture
def few(sandbox):
    """Where details of everybody are fetched."""
    return sandbox(customers=40, seed=2)


def source(api, **options):
    return paystack_source(api.secret_key, base_url=api.url, quota=0, **options)


def slow_machine(folder: Path) -> dlt.Pipeline:
    """Another machine, which knows of the copy and has loaded nothing."""
    found = Warehouse("duckdb", "duckdb", {}).pipeline(folder / "slow")
    found.sync_destination()
    return found


def ids(api, keep=lambda _row: True) -> set[int]:
    return {row["id"] for row in api.customers_truth() if keep(row)}


def held_ids(pipeline) -> list[int]:
    return sorted(read_table(pipeline, columns=["id"])["id"].to_pylist())


@pytest.mark.parametrize(
    "kind", ["duckdb", "parquet"]
)  # as the others are by `copy_customers`: `test_copy.py`
def test_pipeline_run_of_the_source_is_all_it_takes(kind, api, warehouse, own_machine):
    pipeline = warehouse(kind).pipeline(own_machine)
    pipeline.run(source(api))
    api.add_customers(2)
    info = pipeline.run(source(api, refresh_budget=0))
    info.raise_on_failed_jobs()
    assert held_ids(pipeline) == sorted(ids(api))
    if kind == "duckdb":  # and leaves no customer elsewhere
        with pipeline.sql_client() as client:
            assert client.execute_sql("select count(*) from paystack_staging.customers") == [(0,)]
        assert not list(own_machine.rglob("*.parquet"))
    assert pipeline.last_trace.last_normalize_info.row_counts["customers"] < 20
    dataset = pipeline.dataset()
    assert dataset.customers.df().shape[0] == 252
    assert dataset.customers.select("id", "email").arrow().num_rows == 252
    assert dataset.customers.where("risk_action", "eq", "deny").limit(1).fetchall()
    assert dataset("select count(*) from customers").fetchone() == (252,)
    assert set(dataset.tables) >= {"customers", "ledger"}


def test_resources_can_be_chosen_limited_and_hinted(api, own_machine):
    assert next(iter(source(api).customers.add_limit(1))).num_rows == 100
    assert sum(table.num_rows for table in source(api).customers.add_limit(2)) == 200
    few = dlt.pipeline(
        "few", destination=dlt.destinations.duckdb("few.duckdb"), pipelines_dir=str(own_machine)
    )
    few.run(source(api).with_resources("customers").add_limit(1))
    assert len(held_ids(few)) == 100
    assert "ledger" not in few.default_schema.tables
    few.run(source(api))  # what a limit cut off was not taken as proven
    assert held_ids(few) == sorted(ids(api))
    everybody = source(api, refresh_budget=0).with_resources("customers")  # of whom the active pipeline knows
    assert sum(table.num_rows for table in everybody) == 250

    hinted = source(api)
    hinted.customers.apply_hints(write_disposition="append")
    hinted.customers.add_map(lambda table: table.drop_columns(["phone", "metadata"]))
    other = dlt.pipeline(
        "other", destination=dlt.destinations.duckdb("other.duckdb"), pipelines_dir=str(own_machine)
    )
    other.run(hinted)
    assert other.default_schema.tables["customers"]["write_disposition"] == "append"
    assert other.dataset().customers.df()["phone"].isna().all()


def test_who_appended_once_gets_one_row_of_each_again(copied):
    pipeline, few = copied
    pipeline.run(source(few), write_disposition="append")
    assert len(held_ids(pipeline)) > len(ids(few))
    pipeline.run(source(few))
    assert held_ids(pipeline) == sorted(ids(few))


@pytest.mark.parametrize("kind", ["duckdb", "parquet"])
def test_versions_of_two_extractions_that_did_not_see_each_other_end_where_the_next_begins(
    kind, few, warehouse, own_machine
):
    pipeline = warehouse(kind).pipeline(own_machine)
    for _ in range(2):
        pipeline.extract(source(few, history=True))
    pipeline.normalize()
    pipeline.load()
    pipeline.run(source(few, history=True))
    versions = read_table(pipeline, "customers_history", ["id", "_valid_to"]).to_pylist()
    assert sorted(row["id"] for row in versions if row["_valid_to"] is None) == sorted(ids(few))
    assert held_ids(pipeline) == sorted(ids(few))


@pytest.mark.parametrize("kind", ["duckdb", "parquet"])
def test_an_extraction_that_another_machine_overtook_puts_no_old_values_back(kind, few, warehouse, tmp_path):
    place = warehouse(kind)
    slow, quick = (place.pipeline(tmp_path / name) for name in ("slow", "quick"))
    quick.run(source(few))
    slow.sync_destination()
    slow.extract(source(few))
    code = next(few.customers_truth())["customer_code"]
    with PaystackClient(few.secret_key, base_url=few.url, quota=0) as client:
        client.update(code, first_name="Newer")
    quick.run(source(few))
    slow.normalize()
    with pytest.raises(PipelineStepFailed, match="Another machine has loaded since"):
        slow.load()
    for again in (False, True):
        if again:
            slow.run(source(few))
        names = read_table(slow, columns=["customer_code", "first_name"]).to_pylist()
        assert {"customer_code": code, "first_name": "Newer"} in names


def with_emails(source):
    @dlt.transformer(name="emails", primary_key="id", write_disposition="merge")
    def emails(table):
        yield table.select(["id", "email"])

    source.resources["emails"] = source.customers | emails
    return source


def test_the_names_of_our_tables_are_those_that_are_declared():
    declared = (
        CUSTOMERS,
        LEDGER,
        HISTORY,
        DETAILS,
        AUTHORIZATIONS,
        tables.WRITE_BACK_ROWS,
        tables.WRITE_BACK_RUNS,
    )
    assert {table.name for table in declared} == tables.NAMES


@pytest.mark.parametrize(("theirs", "normalized"), [("emails", True), ("mine", False)])
def test_rows_of_other_tables_are_not_dropped_with_customers_whom_another_machine_overtook(
    theirs, normalized, copied, tmp_path
):
    (quick, few), slow = copied, slow_machine(tmp_path)
    slow.extract(with_emails(source(few)) if theirs == "emails" else source(few))
    if theirs == "mine":
        slow.extract([{"a": 1}], table_name="mine", schema=dlt.Schema("mine"))
    quick.run(source(few))
    if normalized:
        slow.normalize()
    asked = few.stats.total
    with PaystackClient(few.secret_key, base_url=few.url, quota=0) as client:
        with pytest.raises(ConfigError, match=f"Rows of {theirs} wait in ") as said:
            copy_customers(slow, client)
        with pytest.raises(PipelineStepFailed, match=f"Rows of {theirs} wait in "):
            slow.run(source(few))
        assert f"--pipelines-dir {tmp_path / 'slow'} paystack_customers abort-packages" in said.value.advice
        assert (slow.has_pending_data, few.stats.total) == (True, asked)
        slow.abort_packages()
        assert copy_customers(slow, client).complete


@pytest.mark.parametrize("changed", ["dataset", "state"])
def test_rows_of_other_tables_are_not_dropped_with_a_state_of_elsewhere_or_a_damaged_one(
    changed, copied, monkeypatch
):
    pipeline, few = copied

    def run(dataset="paystack"):
        with PaystackClient(few.secret_key, base_url=few.url, quota=0) as client:
            return copy_customers(open_pipeline("duckdb", dataset), client)

    monkeypatch.setattr("paystack_source.warehouse.sync.pipeline_name", lambda name, *_: name)
    pipeline.extract(source(few))
    pipeline.extract([{"a": 1}], table_name="mine")
    if changed == "state":
        Path(pipeline.working_dir, "state.json").write_bytes(b"{")
    with pytest.raises(ConfigError, match="Rows of mine wait in "):
        run(changed if changed == "dataset" else "paystack")
    assert list(Path(pipeline.working_dir).glob("normalize/extracted/*/new_jobs/mine.*"))


def test_customers_of_a_renamed_table_whom_another_machine_overtook_are_read_again(few, warehouse, tmp_path):
    def renamed():
        found = source(few)
        found.customers.apply_hints(table_name="people")
        return found

    place = warehouse("duckdb")
    slow, quick = (place.pipeline(tmp_path / name) for name in ("slow", "quick"))
    quick.run(renamed())
    slow.sync_destination()
    slow.extract(renamed())
    quick.run(renamed())
    slow.run(renamed())
    assert read_table(slow, "people").num_rows == 40
    assert not slow.has_pending_data


def test_who_has_tables_emptied_before_a_load_gets_everybody_anew(with_history):
    pipeline, few = with_history
    few.add_customers(2)
    for how in ({"write_disposition": "replace"}, {"refresh": "drop_data"}):
        pipeline.run(source(few, history=True, details=True), **how)
        assert held_ids(pipeline) == sorted(ids(few)), how
        for table in ("customers_history", "customer_details"):
            assert read_table(pipeline, table).num_rows in {40, 42}, (how, table)


@pytest.mark.parametrize(("how", "door"), [("drop_sources", "run"), ("drop_data", "copy_customers")])
def test_a_pipeline_that_empties_tables_at_each_load_keeps_the_copy(how, door, with_history):
    pipeline, few = with_history
    pipeline.refresh = how  # as by `dlt.pipeline(..., refresh=how)`
    few.add_customers(1)
    if door == "run":
        pipeline.run(source(few, history=True))
    else:
        with PaystackClient(few.secret_key, base_url=few.url, quota=0) as client:
            assert copy_customers(pipeline, client, history=True, details=True).complete
    assert held_ids(pipeline) == sorted(ids(few))
    assert pipeline.refresh == how


def test_without_a_destination_it_can_be_extracted_and_without_a_pipeline_read(api, own_machine):
    assert sum(table.num_rows for table in source(api).customers) == 250
    pipeline = dlt.pipeline("nowhere", pipelines_dir=str(own_machine))
    pipeline.extract(source(api))
    assert pipeline.list_extracted_load_packages()


def test_a_table_format_that_is_asked_for_in_dlts_own_way_is_kept(api, warehouse, own_machine, monkeypatch):
    pipeline = warehouse("delta").pipeline(own_machine)
    monkeypatch.delenv("SOURCES__PAYSTACK__TABLE_FORMAT")
    for _ in range(2):
        pipeline.run(source(api), table_format="delta")
    assert pipeline.default_schema.tables["customers"]["table_format"] == "delta"
    assert held_ids(pipeline) == sorted(ids(api))
    assert len(list(Path("lake/paystack/customers").glob("_delta_log/*.json"))) >= 2


def test_a_destination_may_have_a_name_of_its_own(api, tmp_path, monkeypatch):
    (tmp_path / ".dlt").mkdir()
    (tmp_path / ".dlt" / "config.toml").write_text(
        f"""
        [destination.lake]
        destination_type = "filesystem"
        bucket_url = "{(tmp_path / "named").as_uri()}"
        table_format = "delta"
        """
    )
    monkeypatch.setenv("SOURCES__PAYSTACK__SECRET_KEY", api.secret_key)
    monkeypatch.setenv("SOURCES__PAYSTACK__BASE_URL", api.url)
    done = run(python(), ROOT / "pipelines" / "customers.py", "--destination", "lake", "--json")
    assert json.loads(done.stdout.splitlines()[-1])["warehouse_total"] == 250
    assert (tmp_path / "named" / "paystack" / "customers" / "_delta_log").is_dir()


def test_a_schema_contract_holds(copied):
    pipeline, api = copied
    columns = set(pipeline.default_schema.tables["customers"]["columns"])
    api.configure(new_keys=1.0)
    api.add_customers(1)
    with pytest.raises(PipelineStepFailed, match="freeze"):
        pipeline.run(source(api, refresh_budget=0), schema_contract={"columns": "freeze"})

    pipeline.abort_packages()
    pipeline.run(source(api, refresh_budget=0), schema_contract={"columns": "discard_value"})
    assert set(pipeline.default_schema.tables["customers"]["columns"]) == columns
    assert held_ids(pipeline) == sorted(ids(api))

    api.add_customers(1)
    pipeline.run(source(api, refresh_budget=0))
    assert set(pipeline.default_schema.tables["customers"]["columns"]) > columns


def test_a_scheduler_gives_the_interval_of_each_run(api, warehouse, own_machine, monkeypatch, dlt_log):
    """It is that of the run, not of the time when the source was built; an empty one is warned of."""
    pipeline = warehouse("duckdb").pipeline(own_machine)
    times = sorted(datetime.fromisoformat(row["createdAt"]) for row in api.customers_truth())
    built = source(api, allow_external_schedulers=True)
    days = [(times[50], times[100] + timedelta(seconds=1)), (times[150], times[200])]

    def inside(*days):
        return lambda row: any(lo <= datetime.fromisoformat(row["createdAt"]) < hi for lo, hi in days)

    for lo, hi in days:
        monkeypatch.setenv("DLT_INTERVAL_START", lo.isoformat())
        monkeypatch.setenv("DLT_INTERVAL_END", hi.isoformat())
        pipeline.run(built)
    assert held_ids(pipeline) == sorted(ids(api, inside(*days)))

    by_arguments = source(api, start=days[0][0], end=days[0][1].isoformat()).customers
    found = {row for table in by_arguments for row in table["id"].to_pylist()}
    assert found == ids(api, inside(days[0]))
    unheeded = source(api).customers  # nobody asked it to heed the scheduler
    assert sum(table.num_rows for table in unheeded) == 250

    monkeypatch.setenv("DLT_INTERVAL_END", days[1][0].isoformat())
    pipeline.run(source(api, allow_external_schedulers=True))
    assert "interval is empty" in dlt_log.text
    assert held_ids(pipeline) == sorted(ids(api))


def test_scd2_is_refused_with_a_pointer_to_the_history(copied):
    pipeline, api = copied
    scd2, hinted = {"disposition": "merge", "strategy": "scd2"}, source(api)
    hinted.customers.apply_hints(write_disposition=scd2)
    for asked, how in ((hinted, {}), (source(api), {"write_disposition": scd2})):
        with pytest.raises(PipelineStepFailed, match="history=True"):
            pipeline.run(asked, **how)
    assert not pipeline.has_pending_data


@pytest.mark.parametrize(
    "given",
    [
        {"write_disposition": "skip"},
        {"write_disposition": {"disposition": "merge", "strategy": "insert-only"}},
        {"primary_key": "customer_code"},
        {"columns": {"phone": {"data_type": "bigint"}}},
        {"schema_contract": {"data_type": "discard_row"}},
        {"schema_contract": "discard_value"},
    ],
    ids=str,
)
def test_hints_with_which_the_copy_would_not_be_kept_are_refused_before_anything_is_read(
    given, few, warehouse, own_machine
):
    pipeline = warehouse("duckdb").pipeline(own_machine)
    with pytest.raises(PipelineStepFailed, match="could not be kept up to date"):
        pipeline.run(source(few), **given)
    assert few.stats.total == 0
    assert not pipeline.has_pending_data


@pytest.mark.parametrize(
    "hints",
    [
        {"merge_key": "domain"},
        {"incremental": dlt.sources.incremental("created_at")},
        {"schema_contract": {"columns": "discard_row"}},
        {"primary_key": "domain"},
        {"primary_key": ["id", "updated_at"]},
        {"primary_key": ""},
    ],
)
def test_a_hint_by_which_a_load_deletes_others_or_leaves_them_out_is_refused(
    hints, few, warehouse, own_machine
):
    pipeline, hinted = warehouse("duckdb").pipeline(own_machine), source(few)
    hinted.customers.apply_hints(**hints)
    with pytest.raises(PipelineStepFailed, match=f"hint {next(iter(hints))}"):
        pipeline.run(hinted)
    assert few.stats.total == 0


def test_a_replacement_that_the_destination_cannot_make_is_refused(copied, monkeypatch):
    pipeline, few = copied
    requests = few.stats.total
    monkeypatch.setenv("DESTINATION__REPLACE_STRATEGY", "staging-optimized")
    with pytest.raises(PipelineStepFailed, match="replace_strategy staging-optimized"):
        pipeline.run(source(few), write_disposition="replace")
    assert (few.stats.total, pipeline.has_pending_data) == (requests, False)
    pipeline.run(source(few))


def edit(api, name: str) -> None:
    api.edit_customer(next(api.customers_truth())["customer_code"], first_name=name)


@pytest.mark.parametrize("made", [pa.Table.to_pandas, pl.from_arrow, lambda rows: rows.to_batches()[0]])
def test_a_map_may_make_a_frame_of_which_the_history_gets_every_version(made, with_history):
    pipeline, few = with_history
    edit(few, "Other")
    mapped = source(few, history=True)
    mapped.customers.add_map(made)
    pipeline.run(mapped)
    assert held_ids(pipeline) == sorted(ids(few))
    assert read_table(pipeline, "customers_history").num_rows == 41


def test_a_map_that_makes_dictionaries_is_refused_before_the_load(copied):
    """dlt would add a column that is never null: no table could be loaded after them."""
    pipeline, few = copied
    few.add_customers(1)
    mapped = source(few)
    mapped.customers.add_map(lambda rows: rows.to_pylist())
    with pytest.raises(PipelineStepFailed, match="made dictionaries of the table"):
        pipeline.run(mapped)
    pipeline.run(source(few))
    assert held_ids(pipeline) == sorted(ids(few))


def test_a_contract_of_the_source_that_discards_is_refused(few, warehouse, own_machine):
    pipeline, contracted = warehouse("duckdb").pipeline(own_machine), source(few)
    contracted.schema_contract = {"tables": "discard_row"}
    with pytest.raises(PipelineStepFailed, match="hint schema_contract discard_row for tables"):
        pipeline.run(contracted)
    assert few.stats.total == 0


def test_the_ledger_calls_no_count_proven_of_which_rows_were_left_out(copied):
    pipeline, few = copied
    few.add_customers(2)
    filtered = source(few, refresh_budget=0)
    filtered.customers.add_map(lambda table: table.slice(1))
    pipeline.run(filtered)
    lines = read_table(pipeline, "ledger", ["kind", "api_total", "rows_held_after", "proven", "difference"])
    found = {tuple(line.values()) for line in lines.to_pylist()}
    assert {("count", 40, 40, True, 0), ("count", 42, 41, False, 1)} <= found
    pipeline.run(source(few))
    assert held_ids(pipeline) == sorted(ids(few))


@pytest.mark.parametrize("before", [False, True], ids=["first load", "later load"])
def test_a_load_that_can_never_be_loaded_is_read_again(before, request):
    if before:
        pipeline, few = request.getfixturevalue("copied")
    else:
        pipeline, few = open_pipeline("duckdb", "paystack"), request.getfixturevalue("few")
    with pytest.raises(PipelineStepFailed, match="normalize"):
        pipeline.run(source(few), columns={"email": {"nullable": False}})  # dlt asks it of the ledger too
    assert pipeline.has_pending_data
    full, asked = OSError(errno.ENOSPC, "No space left on device"), few.stats.total
    with mock.patch.object(Normalize, "run", side_effect=full), pytest.raises(PipelineStepFailed):
        pipeline.run(source(few))  # a disk may be emptied
    assert few.stats.total == asked
    pipeline.run(source(few))
    assert held_ids(pipeline) == sorted(ids(few))


@pytest.mark.parametrize("chosen", ["ledger", "customers_history"])
def test_what_is_about_customers_is_not_loaded_without_them(chosen, few, warehouse, own_machine):
    pipeline = warehouse("duckdb").pipeline(own_machine)
    with pytest.raises(PipelineStepFailed, match="Load the resource customers as well"):
        pipeline.run(source(few, history=True).with_resources(chosen))
    assert few.stats.total == 0


def test_a_transformer_goes_beside_customers_and_not_in_their_place(few, warehouse, own_machine):
    @dlt.transformer(name="emails", primary_key="id", write_disposition="merge")
    def emails(table):
        yield table.select(["id", "email"])

    pipeline, both = warehouse("duckdb").pipeline(own_machine), source(few)
    for alone in (source(few).customers | emails, source(few).customers.with_name("people")):
        with pytest.raises(PipelineStepFailed, match="goes beside it"):
            pipeline.run(alone)
    both.resources.add(both.customers | emails)
    pipeline.run(both)
    assert held_ids(pipeline) == sorted(ids(few))
    assert pipeline.dataset().emails.df().shape[0] == len(ids(few))


def test_a_history_is_there_also_if_nothing_is_new(copied):
    pipeline, few = copied
    pipeline.run(source(few, history=True, refresh_budget=0))
    assert read_table(pipeline, "customers_history").num_rows == 40


def test_a_history_that_was_left_out_once_is_completed(with_history):
    pipeline, few = with_history
    code = next(few.customers_truth())["customer_code"]
    with PaystackClient(few.secret_key, base_url=few.url, quota=0) as client:
        for name in ("One", "Two"):
            client.update(code, first_name=name)
            chosen = (
                ["customers", "ledger"] if name == "One" else ["customers", "ledger", "customers_history"]
            )
            pipeline.run(source(few, history=True).with_resources(*chosen))
    versions = read_table(pipeline, "customers_history", ["customer_code", "first_name", "_valid_from"])
    of_them = sorted(versions.to_pylist(), key=lambda row: row["_valid_from"])
    assert [row["first_name"] for row in of_them if row["customer_code"] == code][1:] == ["One", "Two"]


def test_resources_may_run_in_the_threads_of_dlt(with_history):
    pipeline, few = with_history
    few.add_customers(1)
    parallel = source(few, history=True, details=True)
    for resource in parallel.resources.values():
        resource.parallelize()
    pipeline.run(parallel)
    assert held_ids(pipeline) == sorted(ids(few))
    assert read_table(pipeline, "customers_history").num_rows == 41
    assert read_table(pipeline, "customer_details").num_rows == 40


def test_a_copy_that_gets_another_name_is_read_anew_and_kept_under_that_name(copied):
    pipeline, api = copied

    def run():
        renamed = source(api, refresh_budget=0, history=True)
        renamed.customers.apply_hints(table_name="PayingPeople")
        pipeline.run(renamed)
        return pipeline.last_trace.last_normalize_info.row_counts

    assert run()["paying_people"] == 40
    before = api.stats.total
    api.add_customers(2)
    assert run()["paying_people"] < 20
    assert api.stats.total - before < 5
    rows = read_table(pipeline, "paying_people", ["id"])["id"].to_pylist()
    assert sorted(rows) == sorted(ids(api))
    with pipeline.sql_client() as client:
        client.execute_sql("insert into paying_people select * from paying_people limit 5")
        client.execute_sql("delete from paying_people where id = %s", rows[10])
    run()
    assert sorted(read_table(pipeline, "paying_people", ["id"])["id"].to_pylist()) == sorted(ids(api))
    lines = read_table(pipeline, "ledger", ["kind", "rows_held_after"]).to_pylist()
    assert {40, 42} == {line["rows_held_after"] for line in lines if line["kind"] == "count"}
    assert len(held_ids(pipeline)) == 40  # the table of before
    hinted = source(api)
    hinted.ledger.apply_hints(table_name="proofs")
    with pytest.raises(PipelineStepFailed, match="cannot have another name"):
        pipeline.run(hinted)


def test_dlts_command_line_knows_the_pipeline(sandbox):
    _, api = begin_copied(sandbox, 40)
    for command, shown in {
        "info": "customers",
        "trace": "customers",
        "failed-jobs": "No failed jobs found",
    }.items():
        done = run(python(), "-c", DLT, "pipeline", "paystack_customers", command)
        assert shown in done.stdout, (command, done.stdout)
        assert api.secret_key not in done.stdout + done.stderr


def run(*command: object) -> subprocess.CompletedProcess:
    done = subprocess.run(
        list(map(str, command)),
        env=os.environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done
