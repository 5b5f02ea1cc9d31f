"""Nothing in the documents points into the void: pages, headings, files, tests that are named as proof."""

import ast
import functools
import re

import pytest

from tests.docs.markdown import ROOT, anchors, blocks, files, links, prose

PAGES = files()
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]
# Folders whose files the documents name.
NAMED = re.compile(
    r"`((?:tests|docs|pipelines|paystack_source|notebooks|benchmarks|requirements|\.ci|\.dlt)/[\w./-]*\w)(?:::(\w+))?`"
)
# Made on the user's machine, so not in the repository.
LOCAL = {".dlt/secrets.toml", "benchmarks/results", ".dlt/.var"}


@functools.cache
def names_in(path):
    """The functions and classes of a file."""
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }


@functools.cache
def known_tests():
    """The tests and the names of files in `tests`."""
    known = set()
    for file in (ROOT / "tests").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        known |= {file.stem, *re.findall(r"^(?:async )?def (test_\w+)", text, flags=re.MULTILINE)}
    return known


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_links_lead_somewhere(path):
    broken = []
    for target in links(path):
        if re.match(r"^(https?:|mailto:)", target):
            continue
        file, _, fragment = target.partition("#")
        goal = (path.parent / file).resolve() if file else path
        if not goal.exists() or (fragment and goal.suffix == ".md" and fragment not in anchors(goal)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_files_and_tests_that_are_named_exist(path):
    missing = []
    for file, test in NAMED.findall(prose(path)):
        goal = ROOT / file
        if not goal.exists():
            if file not in LOCAL:
                missing.append(file)
        elif test and test not in names_in(goal):
            missing.append(f"{file}::{test}")
    assert not missing


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_a_test_named_alone_exists_too(path):
    named = set(re.findall(r"`(test_\w+)`", prose(path)))
    assert not named - known_tests()


def test_every_page_can_be_reached_from_the_readme():
    seen, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in seen:
            continue
        seen.add(page)
        for target in links(page):
            goal = (page.parent / target.partition("#")[0]).resolve()
            if goal.suffix == ".md" and goal.exists() and "://" not in target:
                todo.append(goal)
    assert not {str(page.relative_to(ROOT)) for page in set(PAGES) - seen}


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_no_page_names_a_machine_or_a_key(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"/(?:home|root|work|Users)/\w", text)
    assert not re.search(r"sk_live_[0-9a-f]{40}", text)
    assert all(block.language for block in blocks(path)), (
        "every fence says what language it is (text, if none)"
    )
