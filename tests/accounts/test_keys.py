"""Whose key it is: each run says where it came from, and a file that others can write chooses no account."""

import functools
import os
import stat
import tempfile
import traceback
from pathlib import Path

import dlt
import pytest
from dlt.common.configuration.container import Container
from dlt.common.configuration.exceptions import ConfigurationException
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext
from dlt.pipeline.exceptions import PipelineStepFailed

from paystack_source import ConfigError, PaystackClient, copy_customers, paystack_source
from paystack_source.errors import ExitCode
from tests.accounts.conftest import variable

NOT_ON_WINDOWS = pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")


@pytest.fixture
def files(folder):
    """`files(text)` writes .dlt/secrets.toml, which dlt then reads."""

    def write(text, mode=0o600):
        path = folder / ".dlt" / "secrets.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        Container()[PluggableRunContext].reload(str(folder))
        return path

    yield write
    Container()[PluggableRunContext].reload(".")


def test_a_run_says_once_where_its_key_came_from(accounts, command, files, monkeypatch):
    path = files('[sources.paystack.accounts.gh]\nsecret_key = "sk_test_key_gh"\n')
    monkeypatch.delenv(variable("gh", "SECRET_KEY"))
    done = command("customers", "--account", "gh")
    assert (done.code, done.json["key_source"]) == (0, str(path)), done.err
    assert done.err.count(str(path)) == done.err.count(done.json["key_fingerprint"]) == 1
    assert "sk_test_key" not in done.out + done.err

    # The same key is the same one wherever it is found, and the environment wins over the file.
    files('[sources.paystack.accounts.gh]\nsecret_key = "sk_test_key_of_somebody_else"\n')
    monkeypatch.setenv(variable("gh", "SECRET_KEY"), "sk_test_key_gh")
    with PaystackClient(account_name="gh") as client:
        assert client.key.source == variable("gh", "SECRET_KEY")
        assert client.key.fingerprint == done.json["key_fingerprint"]


def test_a_run_that_is_refused_says_it_too(accounts, command, monkeypatch):
    monkeypatch.setenv(variable("gh", "SECRET_KEY"), "sk_test_key_ng")
    done = command("customers", "--account", "gh")
    assert (done.code, done.json["key_source"]) == (ExitCode.REFUSED, variable("gh", "SECRET_KEY"))
    assert done.json["key_fingerprint"]


def facts(pipeline):
    """What dlt's trace holds of the last extraction."""
    return str(next(step for step in pipeline.last_trace.steps if step.step == "extract").step_info.asdict())


def test_the_source_takes_the_key_of_its_section_alone_and_says_where_it_was(accounts, files, monkeypatch):
    """As the commands: `paystack.accounts.gh` is dlt's own means to name their section."""
    path = files('[sources.paystack.accounts.gh]\nsecret_key = "sk_test_key_gh"\n')
    monkeypatch.delenv(variable("gh", "SECRET_KEY"))
    ghana = paystack_source.clone(name="paystack_gh", section="paystack.accounts.gh")
    pipeline = dlt.pipeline("ghana", destination="duckdb", dataset_name="paystack_gh")
    pipeline.run(ghana(quota=0))
    assert f"'key_source': '{path}'" in facts(pipeline)
    assert pipeline.dataset().customers["integration"].df()["integration"].unique().tolist() == [101]
    path.write_text("")
    files("")
    monkeypatch.setenv("PAYSTACK_SECRET_KEY", "sk_test_key_gh")
    with pytest.raises(ConfigError, match=r"sources\.paystack\.accounts\.gh"):
        ghana()
    # For the section without a name the environment wins over the file, by this door as well.
    monkeypatch.setenv("SOURCES__PAYSTACK__BASE_URL", accounts["gh"].url)
    files('[sources.paystack]\nsecret_key = "sk_test_key_of_somebody_else"\n')
    pipeline.run(paystack_source(quota=0))
    assert "'key_source': 'PAYSTACK_SECRET_KEY'" in facts(pipeline)


@NOT_ON_WINDOWS
@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_key_file_that_others_can_write_is_refused(accounts, command, files, monkeypatch, mode):
    path = files('[sources.paystack.accounts.gh]\nsecret_key = "sk_test_key_gh"\n', mode)
    monkeypatch.delenv(variable("gh", "SECRET_KEY"))
    done = command("customers", "--account", "gh")
    assert (done.code, str(path) in done.json["message"]) == (ExitCode.USAGE, True)
    assert f"chmod go-w {path}" in done.json["advice"]
    assert accounts["gh"].stats.total == 0
    with pytest.raises(ConfigError, match="may write into the file"):
        paystack_source.clone(name="gh", section="paystack.accounts.gh")()
    path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o022)  # what the advice says
    with PaystackClient(account_name="gh") as client:
        assert client.key.source == str(path)
    monkeypatch.setenv(variable("gh", "SECRET_KEY"), "sk_test_key_gh")
    path.chmod(mode)
    with PaystackClient(account_name="gh") as client:  # nobody asks the file
        assert client.key.source == variable("gh", "SECRET_KEY")


@NOT_ON_WINDOWS
@pytest.mark.parametrize("whose", ["another's", "open to all"])
def test_dlts_fallback_folder_is_used_only_if_it_is_ours(accounts, command, folder, monkeypatch, whose):
    """Without a home dlt reads its settings in the folder for temporary files, where everybody can make them."""
    user = os.geteuid()
    monkeypatch.setenv("HOME", str(folder / "no home"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(os, "geteuid", lambda: user or 4711)  # root has a folder of its own
    made = folder / "dlt"
    made.mkdir()
    secrets = made / "secrets.toml"
    secrets.write_text('[sources.paystack.accounts.gh]\nsecret_key = "sk_test_key_ng"\n')
    if whose == "another's":
        monkeypatch.setattr(os, "geteuid", lambda: (user or 4711) + 1)
        if user == 0:
            for path in (made, secrets):
                os.chown(path, 4711, 0)
    else:
        made.chmod(0o777)
    Container()[PluggableRunContext].reload(str(folder))
    try:
        assert Path(dlt.current.run_context().global_dir) == made
        monkeypatch.setenv(variable("gh", "SECRET_KEY"), "sk_test_key_gh")  # its other settings count as well
        done = command("customers", "--account", "gh")
        assert (done.code, str(made) in done.json["message"]) == (ExitCode.USAGE, True), done.err
        pipeline = dlt.pipeline("ghana", destination=dlt.destinations.duckdb("ghana.duckdb"))
        plain = paystack_source.clone(name="gh", section="paystack.accounts.gh")
        doors = (plain, lambda: copy_customers(pipeline, PaystackClient(account_name="gh")))
        for door in doors:
            with pytest.raises(ConfigError, match=str(made)):
                door()
        if whose == "another's":
            monkeypatch.delenv(variable("gh", "SECRET_KEY"))
            with pytest.raises(ConfigError, match="another user"):
                PaystackClient(account_name="gh")
        assert accounts["gh"].stats.total == 0
    finally:
        Container()[PluggableRunContext].reload(".")


MARKED = "sk_test_marked0key"


def shown(error):
    """What a tool shows that prints local variables: each frame but the caller's own, and each error behind this one."""
    below = error.with_traceback(error.__traceback__.tb_next)
    return "".join(traceback.TracebackException.from_exception(below, capture_locals=True).format())


@pytest.mark.parametrize("place", ["argument", "environment", "file", "file of the pipeline"])
def test_no_frame_shows_the_key_when_a_source_or_a_run_fails(sandbox, folder, files, monkeypatch, place):
    server = sandbox(30, secret_keys=(MARKED,))
    given = functools.partial(paystack_source, MARKED) if place == "argument" else paystack_source
    if place == "environment":
        monkeypatch.setenv("SOURCES__PAYSTACK__SECRET_KEY", MARKED)
    elif place != "argument":
        owner = "one." if "pipeline" in place else ""
        files(f'[{owner}sources.paystack]\nsecret_key = "{MARKED}"\n')
    monkeypatch.setenv("SOURCES__PAYSTACK__BASE_URL", server.url)
    pipeline = dlt.pipeline("one", destination="duckdb", dataset_name="paystack")
    failures = []
    for wrong in ({"start": "never"}, {"quota": "many"}, {"base_url": "https://elsewhere.test"}):
        with pytest.raises((ConfigError, ConfigurationException)) as failed:
            given(**wrong)
        failures.append(failed.value)
    source = given(quota=0)
    server.configure(secret_keys=())
    with pytest.raises(PipelineStepFailed) as failed:
        pipeline.run(source)
    failures.append(failed.value)
    assert "Invalid key" in str(failed.value)
    for text in map(shown, failures):
        assert "paystack_source/" in text
        assert "self = " in text  # local variables are shown
        assert MARKED not in text


def test_an_argument_is_called_one(accounts, dlt_log):
    server = accounts["gh"]
    pipeline = dlt.pipeline("one", destination="duckdb", dataset_name="paystack")
    with PaystackClient("sk_test_key_gh", base_url=server.url, quota=0, read_only=True) as client:
        report = copy_customers(pipeline, client)
    assert report.as_json()["key_source"] == "an argument"
    assert dlt_log.text.count("from an argument") == 1
    with pytest.raises(PipelineStepFailed, match="The dataset holds customers of"):
        pipeline.run(paystack_source.clone(name="ng", section="paystack.accounts.ng")(quota=0))
