"""The product's bulk pipeline with a journal that never waits for the disk: says what durability costs.

For measuring only: after a power cut such a journal may lack requests that were sent.
"""

import runpy
import sys
from pathlib import Path

from paystack_source.bulk.run.journal import Journal

as_it_is = Journal.__init__


def without_waiting(self, path, **_):
    as_it_is(self, path, durable=False)


Journal.__init__ = without_waiting
script = Path(__file__).resolve().parents[2] / "pipelines" / "bulk.py"
sys.argv[0] = str(script)
runpy.run_path(str(script), run_name="__main__")
