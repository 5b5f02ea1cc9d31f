"""What somebody meets first: help, completion, and one line where something is not installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import python

ROOT = Path(__file__).resolve().parents[2]
CONSOLE = Path(sys.executable).with_name("paystack-source")


def start(*command, **environ):
    return subprocess.run(
        list(map(str, command)),
        env={**os.environ, **environ},
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


@pytest.mark.parametrize("command", [(CONSOLE, "bulk"), ("pipelines/bulk.py",), (CONSOLE,)])
def test_without_a_word_a_group_shows_its_help(command):
    said = start(python(), *command)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith("Usage: ")
    assert "Commands:" in said.stdout


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A Python without any package."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder / "bin" / "python"


@pytest.mark.parametrize("name", ["customers", "bulk", "query"])
def test_a_python_without_the_packages_gives_one_line_of_advice(bare, name):
    for path in ("", str(ROOT)):  # without the package, and without what it needs
        said = start(bare, f"pipelines/{name}.py", "--sandbox", PYTHONPATH=path)
        assert (said.returncode, said.stdout) == (2, "")
        (line,) = said.stderr.splitlines()
        assert "is missing in" in line
        assert str(bare) in line
        assert "README.md" in line


def test_the_package_without_what_it_needs_gives_one_line_of_advice(bare):
    said = start(bare, "-m", "paystack_source", "customers", PYTHONPATH=str(ROOT))
    assert (said.returncode, said.stdout) == (2, "")
    (line,) = said.stderr.splitlines()
    assert line.startswith(f"error: click is missing in {bare}: ")


@pytest.mark.parametrize(
    "script", ["pipelines/customers.py", "pipelines/bulk.py", "pipelines/query.py", CONSOLE]
)
def test_a_ctrl_c_while_the_packages_are_loaded_shows_no_traceback(tmp_path, script):
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt\n")
    said = start(sys.executable, script, PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert (said.returncode, said.stdout, said.stderr) == (130, "", "")


@pytest.mark.parametrize(
    ("module", "extra", "command"),
    [
        ("aiohttp", "[sandbox]", ("customers", "--sandbox")),
        ("aiohttp", "[sandbox]", ("sandbox",)),
        ("dlt", "", ("customers", "--sandbox")),
    ],
)
def test_a_missing_extra_gives_one_line_of_advice(tmp_path, module, extra, command):
    (tmp_path / f"{module}.py").write_text(
        f"raise ModuleNotFoundError('No module named {module}', name='{module}')\n"
    )
    said = start(sys.executable, "-m", "paystack_source", *command, PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert (said.returncode, said.stdout) == (2, "")
    told = f"error: A package is not installed: {module}: pip install 'paystack-source{extra}'"
    assert told in said.stderr.splitlines()
    assert "Traceback" not in said.stderr


def test_the_sandbox_alone_says_so_as_well(tmp_path):
    (tmp_path / "aiohttp.py").write_text(
        "raise ModuleNotFoundError('No module named aiohttp', name='aiohttp')\n"
    )
    said = start(sys.executable, "-m", "paystack_source.sandbox", PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert said.returncode == 2
    assert said.stderr == "error: the sandbox needs aiohttp: pip install 'paystack-source[sandbox]'\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell):
    said = start(python(), CONSOLE, "completion", shell)
    assert said.returncode == 0
    assert "_PAYSTACK_SOURCE_COMPLETE" in said.stdout


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash on this machine")
def test_bash_completes_the_commands(tmp_path):
    """The script is loaded into a real bash, and called as the Tab key calls it."""
    wanted = {
        "cu": {"customers"},
        "bulk re": {"resume", "review"},
        "bulk plan ": {"risk-action", "update", "create", "validate", "deactivate-authorization"},
        "customers --log-format ": {"text", "json"},
    }
    tabs = ""
    for typed in wanted:
        words = ["paystack-source", *typed.split(" ")]
        quoted = " ".join(f"'{word}'" for word in words)
        tabs += f"COMPREPLY=(); COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; tab\n"
    script = f"""
        eval "$(paystack-source completion bash)"
        complete -p paystack-source >&2
        tab() {{
            $(complete -p paystack-source | sed 's/.*-F \\([^ ]*\\) .*/\\1/') paystack-source
            echo "${{COMPREPLY[@]}}"
        }}
        {tabs}
    """
    console = tmp_path / CONSOLE.name
    console.write_text(f'#!/bin/sh\nexec {python()} {CONSOLE} "$@"\n')
    console.chmod(0o755)
    said = start("bash", "-c", script, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert "-F" in said.stderr, said.stderr
    assert [set(line.split()) for line in said.stdout.splitlines()] == list(wanted.values())
