"""Makes the copies that the notebook tests read: `python make_copies.py FOLDER`, in a process of its own.

`seeded` is the demo copy with known oddities on top, `empty` never had a customer, `large` is `seeded` many times over.
`truth.json` is what the sandbox of `seeded` holds.
"""

import json
import os
import runpy
import sys
from pathlib import Path

import duckdb

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
LARGE = 50_000
# One person each, as the next one types it; the last two could be anybody's.
PHONES = [
    "0803 123 4567",
    "+234 803 123 4567",
    "00234 (0)803-123-4567",
    "2348031234567",
    "+44 20 7946 0958",
    "123",
]
METADATA = {
    "a$b$c": 1,
    "": None,
    "a/b~c": "x",
    "line\nbreak": True,
    "日本": 2.5,
    "custom_fields": [{"variable_name": "seat"}],
}


def seeded(folder):
    folder.mkdir(parents=True)
    os.environ["PAYSTACK_SANDBOX_CUSTOMERS"] = "300"
    runpy.run_path(str(NOTEBOOKS / "copies.py"))["make"](folder, 2)
    from paystack_source import PaystackClient
    from paystack_source.sandbox import Sandbox
    from paystack_source.warehouse.sync import copy_customers, open_pipeline

    with Sandbox(state="paystack_sandbox.sqlite", limit=0) as sandbox:
        people = [person for person in sandbox.customers_truth() if person["risk_action"] == "default"]
        for person, phone in zip(people, PHONES, strict=False):
            sandbox.edit_customer(person["customer_code"], phone=phone)
        for person in people[10:13]:
            sandbox.edit_customer(person["customer_code"], risk_action="deny")
        allowed = next(person for person in sandbox.customers_truth() if person["risk_action"] == "allow")
        sandbox.edit_customer(allowed["customer_code"], risk_action="default")
        sandbox.edit_customer(people[20]["customer_code"], metadata=METADATA)
        sandbox.edit_customer(people[21]["customer_code"], metadata="not an object")
        # The last second of a year in Lagos, and the first of the next one: the same year in UTC.
        for time in ("2025-12-31T22:59:59Z", "2025-12-31T23:00:00Z"):
            sandbox.add_customers(1, created_at=time)
        with PaystackClient(sandbox.secret_key, base_url=sandbox.url, read_only=True) as client:
            copy_customers(open_pipeline("duckdb", "paystack"), client, history=True)
        (folder.parent / "truth.json").write_text(json.dumps([*sandbox.customers_truth()]))


def empty(folder):
    import dlt  # make() set its folder before

    from paystack_source import PaystackClient
    from paystack_source.sandbox import Sandbox
    from paystack_source.warehouse.sync import copy_customers

    folder.mkdir()
    pipeline = dlt.pipeline(
        "paystack_customers", pipelines_dir=str(folder), dataset_name="paystack",
        destination=dlt.destinations.duckdb(str(folder / "paystack_customers.duckdb")),
    )  # fmt: skip
    with Sandbox(0, limit=0) as sandbox, PaystackClient(sandbox.secret_key, base_url=sandbox.url) as client:
        copy_customers(pipeline, client)


def large(folder, original):
    folder.mkdir()
    with duckdb.connect(str(folder / "paystack_customers.duckdb")) as db:
        db.execute(f"attach '{original}' as original (read_only); create schema paystack")
        db.execute("create table paystack.ledger as from original.paystack.ledger")
        for table in ("customers", "customers_history"):
            db.execute(f"""
                create table paystack.{table} as
                select * replace (
                    id + 1_000_000_000 * i as id, customer_code || i as customer_code,
                    created_at - i * interval 37 minute as created_at,
                    case when i = 1 then now() end as _missing_since,
                    case when i % 9 = 0 then email else i || email end as email,
                    case when i % 9 = 0 then phone else phone || i end as phone)
                from original.paystack.{table},
                    range({LARGE} // (select count(*) from original.paystack.customers)) r(i)
            """)
        for table in ("_dlt_version", "_dlt_loads", "_dlt_pipeline_state"):
            db.execute(f"create table paystack.{table} as from original.paystack.{table}")


if __name__ == "__main__":
    place = Path(sys.argv[1])
    seeded(place / "seeded")
    empty(place / "empty")
    large(place / "large", place / "seeded" / "paystack_customers.duckdb")
