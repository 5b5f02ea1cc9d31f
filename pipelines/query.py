"""Ask the DuckDB copy a question in SQL.

`python pipelines/query.py` is `paystack-source query`; the code is `paystack_source/cli/query.py`.
"""

import sys

from paystack_source.cli.query import main
from paystack_source.cli.terminal import run

if __name__ == "__main__":
    sys.exit(run(main))
