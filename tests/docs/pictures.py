"""Makes the pictures of the README from what the commands print: `make pictures`, or `python -m tests.docs.pictures`.

`docs/pictures/terminal.svg` is a plan that is applied, interrupted, resumed and taken back in the sandbox;
`docs/pictures/review.png` is the page of that plan in a browser. Each picture carries what it was made from, without ids,
times and numbers; `tests/docs/test_pictures.py` compares that with what the commands print today.
"""

import contextlib
import hashlib
import html
import io
import os
import re
import shlex
import shutil
import signal
import sqlite3
import struct
import sys
import tempfile
import threading
import time
import zlib
from pathlib import Path
from unittest import mock

from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from paystack_source.__main__ import commands
from paystack_source.cli import bulk, customers, query  # noqa: F401  # not later, when `sys.argv` is another one
from paystack_source.cli.terminal import run

ROOT = Path(__file__).resolve().parents[2]
TERMINAL = ROOT / "docs" / "pictures" / "terminal.svg"
REVIEW = ROOT / "docs" / "pictures" / "review.png"
PROGRAM = "paystack-source"
PLAN = "bulk plan risk-action customers.csv --risk-action allow --sandbox --out allow.plan --quiet"
APPLY = "bulk apply allow.plan --sandbox --yes --quiet"
RESUME = "bulk resume latest --sandbox --yes --quiet"
UNDO = "bulk undo latest --sandbox --yes --quiet"
WIDTH = 118
CUSTOMERS = 400
KEYWORD = b"made-from"


class Desk:
    """A working folder in which commands are run, in this process, as somebody types them."""

    def __init__(self, folder):
        self.folder = folder

    def said(self, words):
        stream = io.StringIO()
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
            run(commands, shlex.split(words))
        return stream.getvalue()

    def interrupted(self, words, rows):
        """The same, with Ctrl-C once so many rows are through."""

        def stop():
            while not over.is_set() and self.applied() < rows:
                time.sleep(0.005)
            if not over.is_set():
                os.kill(os.getpid(), signal.SIGINT)

        over = threading.Event()
        hand = threading.Thread(target=stop)
        hand.start()
        try:
            return self.said(words)
        finally:
            over.set()
            hand.join()

    def applied(self):
        for journal in self.folder.glob("paystack_results_sandbox/2*/journal.sqlite"):
            with contextlib.closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as database:
                return database.execute("SELECT count(*) FROM events WHERE kind = 'applied'").fetchone()[0]
        return 0


@contextlib.contextmanager
def at_a_desk():
    """The process is in a folder of its own, and called as the console command."""
    with tempfile.TemporaryDirectory(prefix="pictures-") as name:
        mine = {
            "DLT_DATA_DIR": f"{name}/dlt",
            "XDG_STATE_HOME": f"{name}/state",
            "PAYSTACK_SANDBOX_CUSTOMERS": str(CUSTOMERS),
            "FORCE_COLOR": "1",
            "TERM": "xterm-256color",
        }
        others = {
            key: value for key, value in os.environ.items() if "PAYSTACK" not in key and key != "NO_COLOR"
        }
        with (
            mock.patch.dict(os.environ, others | mine, clear=True),
            mock.patch.object(sys, "argv", [PROGRAM]),
            contextlib.chdir(name),
        ):
            yield Desk(Path(name))


def session(desk):
    """What stands on the terminal after these commands, with colours."""
    desk.said("customers --sandbox --quiet")
    sql = "select customer_code, email from customers order by created_at limit 390"
    listed = desk.said(f"query --sandbox --csv '{sql}'")
    (desk.folder / "customers.csv").write_text(listed, encoding="utf-8")
    parts = [(PLAN, desk.said(PLAN)), (APPLY, "^C\n" + desk.interrupted(APPLY, 120))]
    parts += [(words, desk.said(words)) for words in (RESUME, UNDO)]
    return "\n".join(
        f"\x1b[1;32m$\x1b[0m \x1b[1m{PROGRAM} {words}\x1b[0m\n{said.strip()}\n" for words, said in parts
    )


def normalised(text):
    """Lines without ids, times, numbers and folders, which differ each time."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    text = re.sub(r"[0-9]{8}-[0-9]{6}-[a-z-]+-[0-9a-f]{8}", "RUN", text)
    text = re.sub(r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{6,}\b", "ID", text)
    text = re.sub(r"[0-9][0-9.,:]*", "0", re.sub("─+", "─", text))
    return [line for line in ("".join(line.split()) for line in text.splitlines()) if line]


def made_from(lines):
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def draw_terminal(said):
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(Text.from_ansi(said))
    svg = console.export_svg(
        title="paystack-source: plan, Ctrl-C, resume, undo", theme=MONOKAI, unique_id="paystack"
    )
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # nothing is fetched
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def text_of(svg):
    """What the picture of the terminal shows, line by line."""
    texts = re.findall(
        r'<text [^>]*\by="([0-9.]+)"[^>]*>(.*?)</text>', svg.partition('class="paystack-matrix"')[2]
    )
    lines = {}
    for height, text in texts:
        lines[float(height)] = lines.get(float(height), "") + html.unescape(text).replace("\xa0", " ")
    return [lines[height] for height in sorted(lines)]


def draw_review(page, target):
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        shown = browser.new_page(viewport={"width": 1180, "height": 1300})
        shown.goto(page.as_uri())
        picture = shown.screenshot(clip={"x": 0, "y": 0, "width": 1180, "height": 1300})
        browser.close()
    target.write_bytes(with_note(picture, made_from(normalised(page.read_text(encoding="utf-8")))))


def with_note(png, note):
    """The PNG with a text in it, in front of its end."""
    data = KEYWORD + b"\0" + note.encode()
    chunk = struct.pack(">I", len(data)) + b"tEXt" + data + struct.pack(">I", zlib.crc32(b"tEXt" + data))
    return png[:-12] + chunk + png[-12:]


def note_of(png):
    found = re.search(KEYWORD + rb"\0([0-9a-f]{64})", png)
    return found[1].decode() if found else None


if __name__ == "__main__":
    TERMINAL.parent.mkdir(exist_ok=True)
    with at_a_desk() as desk:
        said = session(desk)
        TERMINAL.write_text(draw_terminal(said), encoding="utf-8")
        draw_review(desk.folder / "allow.html", REVIEW)
