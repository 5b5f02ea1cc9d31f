"""Naive peer: requests, a page loop, pandas, DuckDB; what most people write first.

It is given the two things a careful author would add: a session (keep-alive) and pages of 100.
"""

import argparse
import json
from pathlib import Path

import duckdb
import pandas as pd
import requests

parser = argparse.ArgumentParser()
parser.add_argument("--url", required=True)
parser.add_argument("--key", required=True)
parser.add_argument("--out", type=Path, required=True)
args = parser.parse_args()

session = requests.Session()
session.headers["Authorization"] = f"Bearer {args.key}"
rows, page, pages = [], 1, 1
while page <= pages:
    answer = session.get(f"{args.url}/customer", params={"perPage": 100, "page": page}, timeout=60)
    answer.raise_for_status()
    body = answer.json()
    rows.extend(body["data"])
    pages = int(body["meta"]["pageCount"])
    page += 1

customers = pd.DataFrame(rows)
customers["metadata"] = customers["metadata"].map(json.dumps)  # objects of many shapes fit no one DuckDB type
customers["createdAt"] = pd.to_datetime(customers["createdAt"])
customers["updatedAt"] = pd.to_datetime(customers["updatedAt"])
base = duckdb.connect(args.out / "naive.duckdb")
base.execute("create table customers as select * replace (metadata::json as metadata) from customers")
base.close()
print(json.dumps({"rows": len(rows), "requests": page - 1}))
