"""Peer: PyAirbyte with Airbyte's published Paystack connector, customers only, into PyAirbyte's DuckDB cache.

The manifest is read from the installed `airbyte-source-paystack` package; only its base URL is changed, in
memory.
"""

import argparse
import json
import os
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--url", required=True)
parser.add_argument("--key", required=True)
parser.add_argument("--out", type=Path, required=True)
# The connector wants to know where history begins; the sandbox's customers are at most three years old.
parser.add_argument("--start", default=f"{datetime.now(UTC).year - 4}-01-01T00:00:00Z")
args = parser.parse_args()
os.environ |= {
    "DO_NOT_TRACK": "1",
    "AIRBYTE_OFFLINE_MODE": "1",
    "AIRBYTE_LOGGING_ROOT": str(args.out / "logs"),
}
os.chdir(args.out)

import airbyte as ab  # noqa: E402  # it reads the settings above when it is imported
import yaml  # noqa: E402

place = Path(find_spec("source_paystack").submodule_search_locations[0]) / "manifest.yaml"
manifest = yaml.safe_load(place.read_text().replace("https://api.paystack.co/", f"{args.url}/"))
source = ab.get_source(
    "source-paystack",
    config={"secret_key": args.key, "start_date": args.start},
    source_manifest=manifest,
    streams=["customers"],
)
cache = ab.DuckDBCache(db_path=args.out / "airbyte.duckdb", schema_name="paystack")
result = source.read(cache=cache, force_full_refresh=True)
print()
print(json.dumps({"rows": result.processed_records}))
