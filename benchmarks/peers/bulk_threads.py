"""Bulk peer: a thread pool and `requests`, a session per thread; no plan, no journal, no quota, no retry."""

import argparse
import csv
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

parser = argparse.ArgumentParser()
parser.add_argument("--url", required=True)
parser.add_argument("--key", required=True)
parser.add_argument("--out", type=Path, required=True)
parser.add_argument("--file", type=Path, required=True)
parser.add_argument("--threads", type=int, default=32)
args = parser.parse_args()

local = threading.local()


def send(row):
    if not hasattr(local, "session"):
        local.session = requests.Session()
        local.session.headers["Authorization"] = f"Bearer {args.key}"
    body = {"customer": row["customer_code"], "risk_action": row["risk_action"]}
    answer = local.session.post(f"{args.url}/customer/set_risk_action", json=body, timeout=60)
    return row["customer_code"], answer.status_code


with args.file.open(newline="") as file:
    rows = list(csv.DictReader(file))
with ThreadPoolExecutor(args.threads) as pool:
    outcomes = list(pool.map(send, rows))
with (args.out / "outcomes.csv").open("w", newline="") as file:
    csv.writer(file).writerows(outcomes)
fine = sum(status == 200 for _, status in outcomes)
limited = sum(status == 429 for _, status in outcomes)
print(json.dumps({"rows": len(rows), "applied": fine, "rate_limited": limited}))
