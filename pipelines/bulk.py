"""CSV or Parquet -> Paystack: plan a bulk change, look at it, apply it, resume it, take it back.

    python pipelines/bulk.py run risk-action customers.csv --risk-action allow --sandbox

`python pipelines/bulk.py` is `paystack-source bulk`; the code is `paystack_source/cli/bulk.py`.
"""

import sys

from paystack_source.cli.bulk import main
from paystack_source.cli.terminal import run

if __name__ == "__main__":
    sys.exit(run(main))
