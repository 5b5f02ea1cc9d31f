"""Two projects on one machine share dlt's working folder and nothing else."""

import json
import os
import subprocess
from pathlib import Path
from unittest.mock import Mock

import dlt
import duckdb
import pytest

from paystack_source.errors import AlreadyRunningError, ConfigError
from paystack_source.warehouse.single_writer import exclusive_run
from paystack_source.warehouse.sync import open_pipeline
from tests.processes import python

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def machine(tmp_path):
    """Runs a pipeline in a folder; all share one dlt data folder, as by default."""

    def run(folder, *args, **environ):
        (tmp_path / folder).mkdir(exist_ok=True)
        kept = {k: v for k, v in os.environ.items() if "PAYSTACK" not in k and "DESTINATION" not in k}
        return subprocess.run(
            [python(), ROOT / "pipelines" / args[0], *args[1:], "--json"],
            cwd=tmp_path / folder,
            env={
                **kept,
                "DLT_DATA_DIR": str(tmp_path / "dlt"),
                "SOURCES__PAYSTACK__SECRET_KEY": "sk_test_sandbox",
                **environ,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def held(path):
    with duckdb.connect(str(path), read_only=True) as connection:
        return {number for (number,) in connection.execute("select id from paystack.customers").fetchall()}


def test_each_folder_has_its_own_complete_copy(machine, sandbox, tmp_path):
    first, second = sandbox(customers=30, seed=1), sandbox(customers=20, seed=2)
    for folder, api in (("one", first), ("two", second), ("one", first)):
        api.add_customers(3)
        done = machine(folder, "customers.py", SOURCES__PAYSTACK__BASE_URL=api.url)
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout.splitlines()[-1])
        assert result["status"] == "complete"
        assert held(tmp_path / folder / "paystack_customers.duckdb") == {
            c["id"] for c in api.customers_truth()
        }


def test_files_move_with_their_project_and_iceberg_says_why_it_cannot(machine, sandbox, tmp_path):
    api = sandbox(customers=30)

    def run(folder, format_):
        done = machine(folder, "customers.py", "--destination", "filesystem", SOURCES__PAYSTACK__BASE_URL=api.url,
                       DESTINATION__FILESYSTEM__BUCKET_URL="lake", SOURCES__PAYSTACK__TABLE_FORMAT=format_)  # fmt: skip
        return json.loads(done.stdout.splitlines()[-1])

    for format_ in ("parquet", "iceberg"):
        assert run(f"{format_}-here", format_)["rows_new"] == 30
        (tmp_path / f"{format_}-here").rename(tmp_path / f"{format_}-there")
    assert run("parquet-there", "parquet")["rows_new"] == 0  # the same copy
    assert not (tmp_path / "parquet-here").exists()  # dlt remembers the former folder
    assert "was moved or copied" in run("iceberg-there", "iceberg")["message"]
    assert "with spaces" in run("a folder", "iceberg")["message"]


@pytest.mark.parametrize(
    ("setting", "file"),
    [
        ('[destination.duckdb.credentials]\ndatabase = "own.duckdb"', "own.duckdb"),
        ('destination.duckdb.credentials = "duckdb:///own.duckdb?read_only=false"', "own.duckdb"),
        ('destination.duckdb.credentials = ":pipeline:"', "paystack_customers/paystack_customers.duckdb"),
    ],
)
def test_dlts_file_of_secrets_names_the_file(machine, tmp_path, setting, file):
    (tmp_path / "one" / ".dlt").mkdir(parents=True)
    (tmp_path / "one" / ".dlt" / "secrets.toml").write_text(setting)
    done = machine("one", "query.py")
    assert done.returncode == 2
    assert f"{file}." in done.stderr


def test_dlt_takes_no_secret_from_config_toml(machine, tmp_path):
    (tmp_path / "one" / ".dlt").mkdir(parents=True)
    (tmp_path / "one" / ".dlt" / "config.toml").write_text('destination.duckdb.credentials = "own.duckdb"')
    done = machine("one", "query.py")
    assert done.returncode == 2
    assert "secrets.toml only" in done.stderr
    assert "own.duckdb" not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_folder_whose_name_is_no_utf_8_is_refused_in_words(machine):
    for script, *args in (("customers.py", "--sandbox"), ("query.py", "--sandbox"), ("query.py",)):
        done = machine(os.fsdecode(b"caf\xe9"), script, *args)
        assert (done.returncode, "The name of this folder is not UTF-8" in done.stderr) == (2, True)


@pytest.mark.parametrize(("setting", "value"), [("DATASET_NAME_LAYOUT", "dev_%s"), ("DEV_MODE", "true")])
def test_a_dataset_that_dlt_calls_otherwise_is_refused_and_the_advice_helps(
    tmp_path, monkeypatch, setting, value
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(f"PIPELINES__{setting}", value)
    with pytest.raises(ConfigError, match="change the dataset paystack to") as error:
        open_pipeline("duckdb", "paystack")
    assert "[pipelines.paystack_customers]" in str(error.value)
    monkeypatch.setenv("PIPELINES__PAYSTACK_CUSTOMERS__DATASET_NAME_LAYOUT", "%s")
    monkeypatch.setenv("PIPELINES__PAYSTACK_CUSTOMERS__DEV_MODE", "false")
    assert open_pipeline("duckdb", "paystack").dataset_name == "paystack"


def test_a_first_run_that_meets_another_one_says_so(tmp_path, monkeypatch):
    """dlt makes the working folder itself, and fails where another process makes it in the same moment."""
    monkeypatch.setattr(dlt, "pipeline", Mock(side_effect=FileExistsError))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AlreadyRunningError, match="just starting"):
        open_pipeline("duckdb", "paystack")


def test_the_first_run_of_an_account_makes_the_folder_of_the_copys_pipeline(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", ":pipeline:")
    with exclusive_run(open_pipeline("duckdb", "paystack_ng")):
        assert (tmp_path / "pipelines/paystack_customers/paystack_customers.duckdb").exists()
