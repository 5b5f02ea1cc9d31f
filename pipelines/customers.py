"""Paystack -> DuckDB or a warehouse: a complete copy of the customers, proven at each run.

`python pipelines/customers.py` is `paystack-source customers`; the code is `paystack_source/cli/customers.py`.
"""

import sys

from paystack_source.cli.customers import main
from paystack_source.cli.terminal import run

if __name__ == "__main__":
    sys.exit(run(main))
