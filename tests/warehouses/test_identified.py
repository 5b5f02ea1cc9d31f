"""Who passed an identity check is known from a copy with details, in every kind of copy: their names are locked."""

import pytest

from paystack_source import PaystackClient, bulk_update
from paystack_source.warehouse.sync import copy_customers

CHECK = {
    "first_name": "Uchenna",
    "last_name": "Okoro",
    "type": "bank_account",
    "country": "NG",
    "bank_code": "058",
    "account_number": "0123456789",
    "bvn": "22222222222",
}


@pytest.mark.parametrize("kind", ["postgres", "delta"])
def test_a_change_of_locked_names_is_warned_of_without_asking_paystack(kind, sandbox, warehouse, tmp_path):
    api = sandbox(customers=20, verdict_delay=0)
    place = warehouse(kind)
    codes = [customer["customer_code"] for customer in api.customers_truth()][:2]
    with PaystackClient(api.secret_key, base_url=api.url, quota=0) as client:
        client.validate(codes[0], **CHECK)
        assert client.fetch(codes[0]).data["identified"] is True
        copy_customers(place.pipeline(tmp_path / "dlt" / "pipelines"), client, details=50)
        reads = api.stats.total
        shown = bulk_update(
            [{"customer_code": code, "first_name": "Adaobi"} for code in codes],
            dry_run=True,
            client=client,
            destination=place.destination,
            refresh="never",
            progress=False,
        )
    assert api.stats.total == reads + 1  # whose key it is
    (said,) = [text for text in shown.attrs["warnings"] if "identity check" in text]
    assert said.startswith("1 row changes the name of a customer who passed an identity check.")
    assert ["identity check" in note for note in shown["note"]] == [True, False]
