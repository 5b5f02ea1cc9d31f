"""CSV or Parquet -> Paystack: plan a bulk change, look at it, apply it, resume it, take it back.

    python pipelines/bulk.py run risk-action customers.csv --risk-action allow --sandbox

`python pipelines/bulk.py` is `paystack-source bulk`; the code is `paystack_source/cli/bulk.py`.
"""

import sys

try:
    from paystack_source.cli.bulk import main
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
