"""A page that was asked for before a bulk run, and loaded after it, undoes the run in the copy: each kind notices."""

import pytest

from paystack_source import PaystackClient, bulk_set_risk_action
from paystack_source.warehouse.sync import copy_customers
from paystack_source.warehouse.write_back import WriteBack


@pytest.mark.parametrize("kind", ["postgres", "delta"])
def test_a_copy_that_an_older_page_overwrote_does_not_hold_the_run(kind, sandbox, warehouse, tmp_path):
    api, place = sandbox(customers=20), warehouse(kind)
    codes = [row["customer_code"] for row in api.customers_truth() if row["risk_action"] == "default"]
    pipeline = place.pipeline(tmp_path / "dlt" / "pipelines")
    with PaystackClient(api.secret_key, base_url=api.url, quota=0) as client:
        copy_customers(pipeline, client)
        done = bulk_set_risk_action(
            [{"customer_code": codes[0]}],
            "deny",
            client=client,
            destination=place.destination,
            results_folder=tmp_path / "runs",
            progress=False,
        )
    copy = WriteBack(place.destination)
    assert list(copy.loaded_runs()) == [done.run_id]
    if kind == "delta":
        with pipeline.destination_client() as files:
            files.load_open_table("delta", "customers").update({"_last_seen_at": "to_timestamp_micros(0)"})
    else:
        with pipeline.sql_client() as client:
            client.execute_sql("update paystack.customers set _last_seen_at = 'epoch'")
    assert not copy.loaded_runs()
