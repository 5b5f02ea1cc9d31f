"""Peer: dlt's own `rest_api` source, as it comes or (`--best`) told everything that helps.

As it comes: the example of the documentation with this endpoint in it; only the paginator is named, as a
careful author would. At its best: metadata kept as one JSON column, nothing unnested, every column declared,
Parquet files, two normalize workers over rotated files.
"""

import argparse
import json
import os
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--url", required=True)
parser.add_argument("--key", required=True)
parser.add_argument("--out", type=Path, required=True)
parser.add_argument("--best", action="store_true")
args = parser.parse_args()

os.environ["DLT_DATA_DIR"] = str(args.out / "dlt")
if args.best:
    os.environ["NORMALIZE__WORKERS"] = "2"
    os.environ["NORMALIZE__START_METHOD"] = "spawn"
    os.environ["DATA_WRITER__FILE_MAX_ITEMS"] = "50000"

import dlt  # noqa: E402  # the settings above must be there first
from dlt.sources.rest_api import rest_api_source  # noqa: E402

TEXTS = ("customer_code", "email", "first_name", "last_name", "phone", "domain", "risk_action")


def main():
    resource = {
        "name": "customers",
        "primary_key": "id",
        "endpoint": {
            "path": "customer",
            "params": {"perPage": 100},
            "data_selector": "data",
            "paginator": {
                "type": "page_number",
                "base_page": 1,
                "page_param": "page",
                "total_path": "meta.pageCount",
            },
        },
    }
    if args.best:
        resource["max_table_nesting"] = 0
        resource["file_format"] = "parquet"
        resource["columns"] = (
            {name: {"data_type": "text"} for name in TEXTS}
            | {
                "id": {"data_type": "bigint"},
                "integration": {"data_type": "bigint"},
                "metadata": {"data_type": "json"},
            }
            | {name: {"data_type": "timestamp"} for name in ("createdAt", "updatedAt")}
        )
    source = rest_api_source(
        {
            "client": {"base_url": f"{args.url}/", "auth": {"type": "bearer", "token": args.key}},
            "resources": [resource],
        }
    )
    pipeline = dlt.pipeline(
        "peer_rest_api",
        destination=dlt.destinations.duckdb(str(args.out / "rest_api.duckdb")),
        dataset_name="paystack",
    )
    pipeline.run(source)
    print(json.dumps({"rows": pipeline.last_trace.last_normalize_info.row_counts.get("customers", 0)}))


if __name__ == "__main__":  # the normalize workers import this file
    main()
