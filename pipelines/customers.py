"""Paystack -> DuckDB or a warehouse: a complete copy of the customers, proven at each run.

`python pipelines/customers.py` is `paystack-source customers`; the code is `paystack_source/cli/customers.py`.
"""

import sys

try:
    from paystack_source.cli.customers import main
    from paystack_source.cli.terminal import run
except ImportError as missing:
    sys.stderr.write(
        f"error: {missing.name} is missing in {sys.executable}: activate the environment (README.md)\n"
    )
    sys.exit(2)
except KeyboardInterrupt:  # a Ctrl-C while the packages are loaded, which takes seconds on a slow disk
    sys.exit(130)

if __name__ == "__main__":
    sys.exit(run(main))
