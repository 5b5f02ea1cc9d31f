"""Ask the DuckDB copy a question in SQL.

`python pipelines/query.py` is `paystack-source query`; the code is `paystack_source/cli/query.py`.
"""

import sys

try:
    from paystack_source.cli.query import main
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
