"""The pictures of the README show what the commands print today; `make pictures` makes them again."""

import re

import pytest

from tests.docs import pictures


@pytest.fixture(scope="module")
def today():
    """What is said on the terminal, and the page of the plan."""
    with pictures.at_a_desk() as desk:
        said = pictures.session(desk)
        return said, (desk.folder / "allow.html").read_text(encoding="utf-8")


def test_the_picture_of_the_terminal_is_in_step(today):
    drawn = pictures.text_of(pictures.TERMINAL.read_text(encoding="utf-8"))
    shown = pictures.normalised("\n".join(drawn))
    assert shown == pictures.normalised(today[0]), "make pictures"
    assert "^C" in shown
    assert not [line for line in shown if line.startswith("error")]


def test_the_picture_of_the_page_is_in_step(today):
    made_from = pictures.made_from(pictures.normalised(today[1]))
    assert pictures.note_of(pictures.REVIEW.read_bytes()) == made_from, "make pictures"


def test_a_picture_fetches_nothing():
    text = pictures.TERMINAL.read_text(encoding="utf-8")
    assert "url(" not in text.replace("url(#", "")
    assert "<script" not in text


def test_the_plot_shows_the_results_that_are_kept(monkeypatch):
    monkeypatch.syspath_prepend(pictures.ROOT / "benchmarks")
    import figures

    texts = re.findall(r">([^<>]+)</text>", (pictures.ROOT / "benchmarks/results/plot.svg").read_text())
    shown = [each for _, found in figures.panels() for each in found]
    known = {figure.label for figure in shown}
    assert [text for text in texts if text in known] == [figure.label for figure in shown]
    said = [text for text in texts if re.match(r"[\d,.]+ s\b", text)]
    assert said == [figure.note for figure in shown], "python benchmarks/run.py --report"
