"""The officer's page begins on an empty computer, and asks for no tool of a programmer."""

import re

from tests.docs.markdown import ROOT, blocks

PAGE = ROOT / "docs" / "howto" / "officer-csv.md"


def test_the_page_never_needs_make_or_a_checkout():
    text = "\n".join(block.text for block in blocks(PAGE))
    assert not re.search(r"^\s*(make|git|uv|python pipelines/)\b", text, re.MULTILINE)


def test_an_empty_computer_is_prepared_in_order_on_windows_and_on_a_mac():
    bats = [block.text for block in blocks(PAGE) if block.language == "bat"]
    shells = [block.text for block in blocks(PAGE) if block.language == "bash"]
    for install, key in (bats, (shells[0], shells[2])):
        steps = [install.index(step) for step in ("-m venv", "activate", "pip install", "[sandbox]")]
        assert steps == sorted(steps)
        assert "PAYSTACK_SECRET_KEY" in key
    practice = shells[1].splitlines()
    assert all(line.startswith("paystack-source ") and "--sandbox" in line for line in practice)
    assert '"' in practice[1]  # cmd.exe knows no other quotes
    assert "'" not in shells[1]
