"""The review page in a real browser: it shows the plan, runs nothing of it, asks the network for nothing."""

import json
import os
import re
import shutil
import stat

import pytest
from playwright.sync_api import sync_playwright

from paystack_source.bulk.describe import plan_facts
from paystack_source.bulk.plan.review import render_review, write_review
from tests.events import PATIENCE

from .world import NOW, Reader, copy_of, customer, frame, plan

ARGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HOSTILE = "</script><img src=x onerror=window.hacked=1><script>window.hacked=1</script>"


@pytest.fixture(scope="module")
def browser():
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("CI must test the page in a browser: install chromium")
        pytest.skip("no chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def tab(browser):
    """A tab, and what is said in it, goes wrong in it, and is fetched by it."""
    page, said, wrong, fetched = browser.new_page(), [], [], []
    page.set_default_timeout(PATIENCE * 1000)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: fetched.append(request.url))
    return page, said, wrong, fetched


@pytest.fixture
def visit(tab, tmp_path):
    """Opens the page of a plan.

    Afterwards, nothing may have been fetched and nothing may have gone wrong in it.
    """
    page, said, wrong, fetched = tab
    policy = []

    def open_page(made, *, refuses=False, **options):
        assert page.evaluate("window.hacked") is None
        path = write_review(made, tmp_path / "review.html", **options)
        page.set_viewport_size({"width": 1200, "height": 900})
        page.emulate_media(media="screen", color_scheme="light")
        page.goto(path.as_uri())
        policy.append(refuses)
        return page

    page.goto("about:blank")
    for heard in (said, wrong, fetched):
        heard.clear()
    yield open_page
    assert page.evaluate("window.hacked") is None
    assert wrong == []
    assert said == [] or any(policy)  # what the policy stops is said there
    assert [url for url in fetched if not url.endswith("/review.html")] == []


def mixed(folder):
    """Sends, doubles, rows that need nothing, drift, an unknown customer, and names that attack."""
    held = [customer(i, first_name="Ada" if i % 2 else None) for i in range(1, 9)]
    held[3]["first_name"] = "a\u202eb"  # Paystack holds what we would refuse
    live = [dict(c) for c in held]
    live[0]["first_name"] = "Changed"
    source = frame(
        {"customer_code": "CUS_0001", "first_name": "Bola", "phone": "+2348012345678"},
        {"customer_code": "CUS_0002", "first_name": HOSTILE, "phone": ""},
        {"customer_code": "CUS_0003", "first_name": "Ada", "phone": ""},
        {"customer_code": "CUS_0002", "first_name": HOSTILE, "phone": ""},
        {"customer_code": "CUS_0004", "first_name": "Bisi", "phone": "<clear>"},
    )
    return plan(folder, "update", source, copy=copy_of(*held), client=Reader(*live), refresh="live")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """That plan; no test changes it."""
    return mixed(tmp_path_factory.mktemp("mixed"))


def cells(page):
    return page.locator("#table tbody tr").all_inner_texts()


def test_counts_changes_and_rows(visit, made):
    page = visit(made, show_personal=True)
    facts = dict(zip(page.locator("dt").all_inner_texts(), page.locator("dd").all_inner_texts(), strict=True))
    assert facts["input"] == "a dataframe"
    for label, value in plan_facts(made):  # word for word what the terminal says
        assert facts[label] == str(value)
    rows = cells(page)
    assert len(rows) == 5
    assert re.search(
        r"CUS_0001.*to send.*drifted.*Changed → Bola.*08031234567 → \+2348012345678", rows[0], re.DOTALL
    )
    assert HOSTILE in rows[1]  # as text
    assert "as wanted already" in rows[2]
    assert "same as row 2" in rows[3]
    assert "⟨U+202E⟩" in rows[4]  # what would turn the text round is made visible
    assert "08031234567 → empty" in rows[4]
    assert page.locator("#place").inner_text() == "Row"
    sums = page.locator(".sums").inner_text()
    assert "phone\tcleared\t1" in sums
    assert "first_name\tfilled in\t1" in sums
    assert "first_name\tchanged\t2" in sums


def test_filters_and_search(visit, made):
    page = visit(made, show_personal=True)
    for name, count in (("To send", 3), ("Nothing to do", 1), ("Duplicates", 1), ("Drifted", 1), ("All", 5)):
        button = page.get_by_role("button", name=re.compile(f"^{name}"))
        button.click()
        assert button.get_attribute("aria-pressed") == "true"
        assert len(cells(page)) == count
        assert f"{count} of 5 rows" in page.locator("#shown").inner_text()
    page.get_by_label("Find in these rows").fill("cus_0001 BOLA")
    assert len(cells(page)) == 1
    page.get_by_label("Find in these rows").fill("")
    page.get_by_label("Which field").select_option("phone")
    assert len(cells(page)) == 2


def test_pages_of_a_large_plan(visit, tmp_path):
    source = frame(*[{"customer_code": f"CUS_{i:04d}", "risk_action": "deny"} for i in range(1, 251)])
    held = [customer(i, risk_action="deny" if i <= 30 else "allow") for i in range(1, 251)]
    made = plan(tmp_path, "risk-action", source, copy=copy_of(*held))
    page = visit(made, show_personal=True)
    assert len(cells(page)) == 100
    page.get_by_role("button", name="Next").click()
    page.get_by_role("button", name="Next").click()
    assert len(cells(page)) == 50
    assert page.locator("#page").inner_text() == "Page 3 of 3"
    assert page.get_by_role("button", name="Next").is_disabled()
    assert "allow → deny\t220" in page.locator(".sums").inner_text()
    page = visit(made, rows=225)  # those to send come first
    page.get_by_role("button", name=re.compile("^To send 220")).click()
    page.get_by_role("button", name=re.compile("^Nothing to do 5")).click()
    assert "225 of 225" not in page.locator("#shown").inner_text()
    assert "25 more are in the plan" in page.locator("#shown").inner_text()
    assert "25 more are in the plan" in page.locator("footer").inner_text()


def test_the_command_is_exact_and_can_be_copied(visit, tmp_path, browser):
    folder = tmp_path / "with space & <b>"
    folder.mkdir()
    made = mixed(folder)
    page = visit(made)
    command = page.locator("#command").inner_text()
    assert command == f"python pipelines/bulk.py apply '{made.path}'"
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").click()
    # The page's policy refuses `wait_for_function`, unless what it waits for is there already.
    page.locator("#copied", has_text=re.compile(r"\S")).wait_for()
    assert page.locator("#copied").inner_text() in ("Copied", "Selected: press Ctrl+C")
    if page.locator("#copied").inner_text() == "Copied":
        assert page.evaluate("navigator.clipboard.readText()") == command
    assert ">bulk apply x</code>" in render_review(made, command="bulk apply x")


def test_scripts_that_are_not_ours_cannot_run(visit, made):
    page = visit(made, show_personal=True, refuses=True)
    page.evaluate(
        """() => {
          const script = document.createElement("script");
          script.textContent = "window.hacked = 1";
          document.body.append(script);
          document.body.insertAdjacentHTML("beforeend", "<svg onload='window.hacked = 1'></svg>");
        }"""
    )
    page.wait_for_timeout(50)
    assert "unsafe" not in page.locator("meta[http-equiv]").get_attribute("content")


def test_a_phone_does_not_scroll_sideways(visit, made):
    page = visit(made, show_personal=True)
    for width in (320, 400):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_paper_is_light_and_says_which_page_it_is(visit, made):
    page = visit(made)
    colours = "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    light = page.evaluate(colours)
    page.emulate_media(color_scheme="dark")
    assert all(a != b for a, b in zip(page.evaluate(colours), light, strict=True))
    page.emulate_media(media="print")
    assert page.evaluate(colours)[0] == light[0]
    assert page.locator("#page").is_visible()
    assert not page.locator("#next").is_visible()


POOR = """() => {
  const rgb = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = (c) => {
    const [r, g, b] = c.slice(0, 3).map((v) => v / 255).map((v) => v <= .03928 ? v / 12.92 : ((v +
    .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b;
  };
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const c = rgb(getComputedStyle(node).backgroundColor);
      if (c.length === 3 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
    if (!text || !node.checkVisibility() || node.closest("script, noscript, button:disabled"))
    continue; const [a, b] = [light(rgb(getComputedStyle(node).color)), light(behind(node))].sort((x,
    y) => y - x); if ((a + .05) / (b + .05) < 4.5) found.push(text);
  }
  return found;
}"""


def test_text_can_be_read_by_everyone(visit, made):
    """Every text has a contrast of at least 4.5 to what is behind it, and every control has a name."""
    page = visit(made, show_personal=True)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate(POOR) == []
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, input, select')]"
        ".filter((n) => !(n.textContent.trim() || n.getAttribute('aria-label'))).length"
    )
    assert unnamed == 0
    assert page.locator("html").get_attribute("lang") == "en"


def test_large_plans_stay_quick_to_use(visit, tmp_path):
    """Five thousand rows, a hundred in the page at a time."""
    source = frame(*[{"customer_code": f"CUS_{i}", "risk_action": "deny"} for i in range(5_000)])
    page = visit(plan(tmp_path, "risk-action", source), rows=5_000)
    assert len(cells(page)) == 100
    page.get_by_label("Find in these rows").fill("4,99")
    assert page.evaluate("document.querySelectorAll('*').length") < 3_000


# -- what is in the file, without a browser ------------------------------------------------------------------


def test_personal_data_is_masked_at_the_source(made):
    page = render_review(made)
    private = ("Bola", "Ada", "Changed", "onerror", "2348012345678", "08031234567", "person1", "CUS_0001")
    assert [word for word in private if word in page] == []
    assert "masked in this file" in page
    shown = render_review(made, show_personal=True)
    assert all(word in shown for word in private)
    assert "Personal data is shown" in shown


def test_masked_metadata_keeps_its_keys(tmp_path):
    source = frame({"customer_code": "CUS_0001", "metadata": '{"tier":"platinum","limits":{"day":123456}}'})
    page = render_review(plan(tmp_path, "update", source, copy=copy_of(customer(1))))
    assert "tier: p…m" in page
    assert "platinum" not in page
    assert "123456" not in page


def test_markup_in_names_of_files_and_columns_is_text(tmp_path):
    path = tmp_path / "<b onclick=x>.csv"
    path.write_text("customer_code,risk_action,<i>{{seal}}</i>\nCUS_1,deny,x\n")
    made = plan(tmp_path, "risk-action", path)
    page = render_review(made)
    assert "<b onclick" not in page
    assert "<i>" not in page
    assert "{{seal}}" in page  # a place in a value is not filled in


def test_no_character_of_a_file_steers_the_page(tmp_path):
    unseen = "\x1b\u202e\u061c\xad\u115f\u3164\ufff9\u034f\U000e0041"
    folder = tmp_path / f"a{unseen}b"
    folder.mkdir()
    path = folder / f"in{unseen}.csv"
    text = json.dumps({f"k{unseen}": f"v{unseen}"}, ensure_ascii=False).replace('"', '""').replace("\x1b", "")
    path.write_text(f'customer_code,x{unseen},first_name,metadata\nCUS_1,x,Ada,"{text}"\n')
    made = plan(folder, "update", path, metadata="replace")
    page = render_review(made, show_personal=True)
    assert not set(unseen) & set(page)
    assert "⟨U+202E⟩" in page


def test_embedded_rows_are_valid_json(made):
    page = render_review(made, show_personal=True)
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert len(data["rows"]) == data["total"] == 5


@pytest.mark.parametrize(
    ("mode", "client", "said"),
    [
        ("live", None, "LIVE account"),
        ("test", None, "test mode"),
        ("test", Reader(), "local sandbox"),
    ],
)
def test_where_it_would_go_is_plain(tmp_path, mode, client, said):
    made = plan(
        tmp_path,
        "risk-action",
        frame({"customer_code": "CUS_1", "risk_action": "deny"}),
        mode=mode,
        client=client,
        refresh="never",
    )
    assert said in render_review(made)


def test_what_must_be_typed_is_said(tmp_path):
    source = frame(*[{"customer_code": f"CUS_{i}", "risk_action": "deny"} for i in range(101)])
    made = plan(tmp_path, "risk-action", source, mode="live", now=NOW)
    page = render_review(made)
    assert "type <b>101</b>" in page
    assert "101 denials are more than 100" in page


def test_the_file_is_private(made, tmp_path):
    path = write_review(made, tmp_path / "sub/review.html")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_is_dangerous_comes_first_and_is_coloured(visit, tmp_path):
    held = [customer(n, risk_action="deny" if n < 2 else "allow" if n < 3 else "default") for n in range(9)]
    made = plan(
        tmp_path,
        "risk-action",
        frame(
            *(
                {"customer_code": c["customer_code"], "risk_action": "deny" if c is held[2] else "allow"}
                for c in held
            )
        ),
        copy=copy_of(*held),
    )
    page = visit(made)
    lines = page.locator(".sums tbody tr")
    assert [" ".join(text.split()) for text in lines.all_inner_texts()] == [
        "risk_action deny → allow 2",
        "risk_action allow → deny 1",
        "risk_action default → allow 6",
    ]
    colours = [
        lines.nth(n).locator("td").nth(1).evaluate("cell => getComputedStyle(cell).backgroundColor")
        for n in range(3)
    ]
    assert colours[0] == colours[1] != colours[2]
    assert page.locator(".unsent").inner_text() == "Nothing has been sent yet."
