"""Every way a run can end badly becomes one message, one advice, one exit code, and leaks nothing."""

import errno
import logging
import os

import click
import duckdb
import pytest
from botocore.exceptions import EndpointConnectionError
from dlt.common.exceptions import MissingDependencyException

from paystack_source.errors import ExitCode, KeyRefused, UsageError
from paystack_source.failures import explain, masked_traceback

CANARY = "amina.bello@example.com"


class PipelineStepFailed(Exception):  # noqa: N818  dlt's name
    """Shaped like dlt's: the cause sits in `.exception`."""

    def __init__(self, exception):
        super().__init__(f"step failed: {exception}")
        self.exception = exception


def named(name, *bases):
    return type(name, bases or (Exception,), {})


def refused():
    return KeyRefused(
        "Paystack refused the key.",
        advice="Check the key.",
        http_status=401,
        type="validation_error",
        code="invalid_Key",
    )


def raised_from(outer, cause):
    outer.__cause__ = cause
    return outer


def test_the_packages_own_errors_speak_for_themselves():
    failure = explain(refused())
    assert (failure.exit_code, failure.error) == (4, "KeyRefused")
    assert failure.as_json() == {
        "status": "error",
        "error": "KeyRefused",
        "message": "Paystack refused the key.",
        "advice": "Check the key.",
        "exit_code": 4,
        "http_status": 401,
        "type": "validation_error",
        "code": "invalid_Key",
    }


@pytest.mark.parametrize(
    "wrapped",
    [
        PipelineStepFailed(refused()),
        raised_from(RuntimeError("x"), refused()),
        raised_from(PipelineStepFailed(raised_from(ValueError("y"), refused())), KeyError("z")),
        ExceptionGroup("many", [ValueError("a"), refused()]),
    ],
)
def test_they_are_found_under_whatever_wraps_them(wrapped):
    assert explain(wrapped).error == "KeyRefused"


def test_an_open_transaction_of_the_notebook_is_named(tmp_path):
    path = str(tmp_path / "copy.duckdb")
    with duckdb.connect(path) as mine, duckdb.connect(path) as copying:
        mine.execute("create table customers (id int)")
        mine.execute("begin; alter table customers add note text")
        with pytest.raises(duckdb.TransactionException) as refused:
            copying.execute("insert into customers values (1)")
    assert explain(PipelineStepFailed(refused.value)).error == "DatabaseLocked"


def test_a_lock_is_named_with_file_and_process_even_inside_dlt():
    text = (
        'IO Error: Could not set lock on file "/data/copy.duckdb": '
        "Conflicting lock is held in /usr/bin/python3 (PID 4711)."
    )
    failure = explain(PipelineStepFailed(raised_from(RuntimeError("load"), named("IOException")(text))))
    assert failure.error == "DatabaseLocked"
    assert "/data/copy.duckdb" in failure.message
    assert "4711" in failure.message


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EFBIG, "File too large"),
        named("IOException")("Could not write file: No space left on device"),
        named("TransactionException")("Failed to commit: Could not write file: No space left on device"),
        named("TransactionException")("Failed to commit: Could not write file: File too large"),
        named("DeltaError")("Generic LocalFileSystem error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_said_so(error):
    assert explain(PipelineStepFailed(error)).error == "DiskFull"


@pytest.mark.parametrize(
    ("error", "name", "code"),
    [
        (click.UsageError("no such option: --fron"), "UsageError", ExitCode.USAGE),
        (click.BadParameter("not a date"), "UsageError", ExitCode.USAGE),
        (UsageError("no"), "UsageError", ExitCode.USAGE),
        (named("ConfigFieldMissingException", KeyError)("spec"), "SettingMissing", ExitCode.USAGE),
        (named("MissingDependencyException", ImportError)("psycopg2"), "PartNotInstalled", ExitCode.USAGE),
        (named("StateUnusableError")("it is in use"), "SandboxUnusable", ExitCode.UNEXPECTED),
        (named("UnknownDestinationModule")("nowhere"), "NoSuchDestination", ExitCode.USAGE),
        (
            named("DestinationConnectionError")("password=hunter2"),
            "WarehouseUnreachable",
            ExitCode.UNEXPECTED,
        ),
        (
            OSError("Generic S3 error\nError performing PUT http://hunter2"),
            "WarehouseUnreachable",
            ExitCode.UNEXPECTED,
        ),
        (OSError("Kernel error -> Generic S3 error"), "WarehouseUnreachable", ExitCode.UNEXPECTED),
        (
            duckdb.InvalidInputException("get_next failed(): Could not connect to the endpoint URL: hunter2"),
            "WarehouseUnreachable",
            ExitCode.UNEXPECTED,
        ),
        (
            EndpointConnectionError(endpoint_url="http://hunter2"),
            "WarehouseUnreachable",
            ExitCode.UNEXPECTED,
        ),
        (
            duckdb.IOException('IO Error: Cannot open file "copy.duckdb": Permission denied'),
            "WarehouseUnreachable",
            ExitCode.UNEXPECTED,
        ),
        (MemoryError(), "OutOfMemory", ExitCode.UNEXPECTED),
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
            "ConnectionRefusedError",
            ExitCode.UNEXPECTED,
        ),
        (KeyboardInterrupt(), "Interrupted", ExitCode.INTERRUPTED),
        (click.Abort(), "Interrupted", ExitCode.INTERRUPTED),
    ],
)
def test_each_known_end_has_its_name_and_code(error, name, code):
    failure = explain(error)
    assert (failure.error, failure.exit_code) == (name, code)
    assert failure.message
    assert "hunter2" not in f"{failure.message}{failure.advice}"


def test_an_interruption_says_what_the_run_inside_says_and_not_what_click_would():
    stop = KeyboardInterrupt()
    stop.advice, stop.details = "Continue with: resume RUN", {"run_id": "RUN"}
    for outer in (click.Abort(), KeyboardInterrupt(), PipelineStepFailed(stop)):
        shown = explain(raised_from(outer, stop)).as_json()
        assert shown["advice"] == "Continue with: resume RUN"
        assert (shown["run_id"], shown["status"], shown["exit_code"]) == ("RUN", "interrupted", 130)
    advice = explain(raised_from(click.Abort(), KeyboardInterrupt())).advice
    assert advice.endswith("run the same command again. What was loaded is kept.")  # a query begins anew


def test_the_text_of_an_unknown_error_is_never_shown():
    failure = explain(PipelineStepFailed(ValueError(f"bad row {CANARY}")))
    assert failure.exit_code == ExitCode.UNEXPECTED
    assert "ValueError" in failure.message
    assert CANARY not in str(failure)


def test_a_cause_hidden_on_purpose_stays_hidden():
    error = ValueError("converted")
    error.__context__, error.__suppress_context__ = refused(), True
    assert explain(error).error == "ValueError"


@pytest.mark.parametrize(
    "secret",
    [
        "sk_live_0123456789abcdef",
        "sk_test_sandbox",
        "AUTH_72btv547",
        "CUS_xr58yrr2ujlft9k",
        CANARY,
        "+234 803 123 4567",
        "08031234567",
        "22222222222",
        "0001234567",
    ],
)
def test_a_traceback_masks_what_has_the_shape_of_a_secret(secret):
    with pytest.raises(ValueError, match="row 17") as caught:
        int(f"bad value {secret!r} in row 17")
    shown = masked_traceback(caught.value)
    assert secret not in shown
    assert "row 17" in shown
    assert "test_failures.py" in shown


def settings_failure(tmp_path, monkeypatch, **environment):
    """What comes of opening a PostgreSQL that is set up like this."""
    dlt = pytest.importorskip("dlt")
    for name in [name for name in os.environ if name.startswith("DESTINATION__")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(f"DESTINATION__POSTGRES__CREDENTIALS{name}", value)
    monkeypatch.chdir(tmp_path)
    pipeline = dlt.pipeline("x", destination="postgres", dataset_name="d", pipelines_dir=str(tmp_path))
    with pytest.raises(Exception) as caught:
        pipeline.destination_client()
    return explain(caught.value)


def test_a_missing_setting_is_named_as_it_is_written_in_the_environment(tmp_path, monkeypatch):
    failure = settings_failure(tmp_path, monkeypatch)
    assert failure.error == "SettingMissing"
    assert "DESTINATION__POSTGRES__CREDENTIALS__PASSWORD" in failure.message


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"": "hunter2"}, "PostgresCredentials"),
        (
            {
                "__HOST": "h",
                "__DATABASE": "d",
                "__USERNAME": "u",
                "__PASSWORD": "hunter2",
                "__PORT": "hunter2",
            },
            "port",
        ),
    ],
)
def test_a_setting_that_cannot_be_read_is_named_without_its_value(tmp_path, monkeypatch, environment, named):
    failure = settings_failure(tmp_path, monkeypatch, **environment)
    assert (failure.error, failure.exit_code) == ("SettingUnusable", ExitCode.USAGE)
    assert named in failure.message
    assert "hunter2" not in str(failure)


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [("dlt[postgres]", "'paystack-source[postgres]'"), ("dlt[bigquery]", "'dlt[bigquery]'")],
)
def test_what_is_to_be_installed_is_named(wanted, shown):
    failure = explain(MissingDependencyException("a destination", [wanted]))
    assert failure.message.endswith(f": pip install {shown}")


def test_a_log_level_that_there_is_not_is_named():
    with pytest.raises(ValueError, match="Unknown level") as caught:
        logging.getLogger("nobody").setLevel("LOUD")
    failure = explain(caught.value)
    assert (failure.error, failure.exit_code) == ("SettingUnusable", ExitCode.USAGE)
    assert "runtime.log_level" in failure.message


def test_a_file_of_settings_that_is_no_toml_is_named():
    error = named("TomlProviderReadException")("secret_key = sk_test_hunter2")
    error.full_paths = ["/srv/.dlt/secrets.toml"]
    failure = explain(PipelineStepFailed(error))
    assert (failure.error, failure.exit_code) == ("SettingUnusable", ExitCode.USAGE)
    assert "/srv/.dlt/secrets.toml" in failure.message
    assert "hunter2" not in str(failure)
