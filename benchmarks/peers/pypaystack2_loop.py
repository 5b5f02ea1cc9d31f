"""Peer: a page loop over `pypaystack2` (sync), pandas, DuckDB.

The rows are taken from the library's models; where it could not make its models of a page (it logs a warning
and hands back None), from the raw body, so that no row is lost to it here.
"""

import argparse
import json
import logging
from pathlib import Path

import duckdb
import pandas as pd
from pypaystack2 import PaystackClient
from pypaystack2.base_clients import AbstractAPIClient

parser = argparse.ArgumentParser()
parser.add_argument("--url", required=True)
parser.add_argument("--key", required=True)
parser.add_argument("--out", type=Path, required=True)
args = parser.parse_args()

logging.disable(logging.WARNING)
AbstractAPIClient._BASE_URL = args.url  # noqa: SLF001  # the library has no setting for it
client = PaystackClient(secret_key=args.key)
rows, page, pages, raw_pages = [], 1, 1, 0
while page <= pages:
    answer = client.customers.get_customers(page=page, pagination=100)
    if answer.data is None and answer.raw.get("data"):
        raw_pages += 1
        rows.extend(answer.raw["data"])
    else:
        rows.extend(customer.model_dump() for customer in answer.data or [])
    pages = int(
        answer.meta.page_count if hasattr(answer.meta, "page_count") else answer.raw["meta"]["pageCount"]
    )
    page += 1

customers = pd.DataFrame(rows)
customers["metadata"] = customers["metadata"].map(json.dumps)
base = duckdb.connect(args.out / "pypaystack2.duckdb")
base.execute("create table customers as select * from customers")
base.close()
print(json.dumps({"rows": len(rows), "requests": page - 1, "pages_without_model": raw_pages}))
