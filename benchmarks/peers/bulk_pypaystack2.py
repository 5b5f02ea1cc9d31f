"""Bulk peer: `pypaystack2`, its sync client in a loop or its async client gathered, at most 32 at once."""

import argparse
import asyncio
import csv
import json
import logging
from pathlib import Path

from pypaystack2 import AsyncPaystackClient, PaystackClient
from pypaystack2.base_clients import AbstractAPIClient
from pypaystack2.enums import RiskAction

parser = argparse.ArgumentParser()
parser.add_argument("--url", required=True)
parser.add_argument("--key", required=True)
parser.add_argument("--out", type=Path, required=True)
parser.add_argument("--file", type=Path, required=True)
parser.add_argument("--gathered", action="store_true")
args = parser.parse_args()

logging.disable(logging.WARNING)
AbstractAPIClient._BASE_URL = args.url  # noqa: SLF001  # the library has no setting for it


async def gathered(rows):
    client = AsyncPaystackClient(secret_key=args.key)
    gate = asyncio.Semaphore(32)

    async def send(row):
        async with gate:
            try:
                answer = await client.customers.flag(row["customer_code"], RiskAction(row["risk_action"]))
            except Exception as error:  # noqa: BLE001  # counted, as a careful author would
                return type(error).__name__
            return int(answer.status_code)

    return await asyncio.gather(*(send(row) for row in rows))


def one_by_one(rows):
    client = PaystackClient(secret_key=args.key)
    return [
        int(client.customers.flag(r["customer_code"], RiskAction(r["risk_action"])).status_code) for r in rows
    ]


with args.file.open(newline="") as file:
    table = list(csv.DictReader(file))
outcomes = asyncio.run(gathered(table)) if args.gathered else one_by_one(table)
with (args.out / "outcomes.csv").open("w", newline="") as file:
    csv.writer(file).writerows(zip((r["customer_code"] for r in table), outcomes, strict=True))
print(json.dumps({"rows": len(table), "applied": outcomes.count(200), "rate_limited": outcomes.count(429)}))
