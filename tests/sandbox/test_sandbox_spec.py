"""The sandbox against Paystack's own OpenAPI description, with Schemathesis.

The description has faults; each is mended in memory by one function below, whose docstring says why. What
the description leaves too open to generate sensible requests from (any text as a page number, any text as
a cursor) is narrowed in `narrow_requests`, which changes no answer.
"""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from paystack_source.sandbox import Sandbox
from paystack_source.sandbox.pages import cursor
from paystack_source.sandbox.people import People, times
from tests.sandbox.caller import AT, Caller

FILE = Path(__file__).parents[1] / "data" / "paystack-openapi-customer.yaml"
TEXT = {"type": "string"}
CUSTOMERS = 30


# Direct debit: no operation of this package, so the sandbox has none of them.
LEFT_OUT = {
    "/customer/authorization/initialize",
    "/customer/authorization/verify/{reference}",
    "/customer/{id}/initialize-direct-debit",
    "/customer/{id}/directdebit-activation-charge",
    "/customer/{id}/directdebit-mandate-authorizations",
}


@functools.cache
def loaded():
    spec = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    for path in LEFT_OUT:
        del spec["paths"][path]
    return spec


def fresh():
    return copy.deepcopy(loaded())


def schemas(spec):
    return spec["components"]["schemas"]


def mend_metadata(spec):
    """Fault 1: metadata on writes is called a string of JSON; the API refuses text and takes an object."""
    for name in ("CustomerCreate", "CustomerUpdate"):
        schemas(spec)[name]["properties"]["metadata"] = {"type": "object"}


def mend_nulls(spec):
    """Fault 2: names, phone and metadata are never null in four answers; real customers have null there."""
    for name in ("Create", "Fetch", "Update", "WhitelistBlacklist"):
        properties = schemas(spec)[f"Customer{name}Response"]["properties"]["data"]["properties"]
        for field in ("first_name", "last_name", "phone", "metadata"):
            properties[field]["nullable"] = True
        properties["metadata"].pop("properties", None)  # any content, not only a text calling_code


def mend_meta(spec):
    """Fault 3: lists have page meta and nothing else; the documentation shows cursor meta for use_cursor."""
    answer = schemas(spec)["CustomerListResponse"]["properties"]
    cursor = {
        "type": "object",
        "required": ["next", "previous", "perPage"],
        "properties": {
            "next": {"type": "string", "nullable": True},
            "previous": {"type": "string", "nullable": True},
            "perPage": {"type": "integer"},
        },
        "additionalProperties": False,
    }
    answer["meta"] = {"anyOf": [answer["meta"], cursor]}


def mend_error_code(spec):
    """Fault 4: `code` has the three values of `type`; documented bodies say missing_params, invalid_Key."""
    error = schemas(spec)["Error"]["properties"]
    error["type"] = error.pop("code")
    error["code"] = dict(TEXT)


def mend_bodies(spec):
    """Fault 5: bodies with required fields are not required themselves."""
    for path in spec["paths"].values():
        for operation in path.values():
            if isinstance(operation, dict) and "requestBody" in operation:
                name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition(
                    "/"
                )[2]
                operation["requestBody"]["required"] = bool(schemas(spec)[name].get("required"))


def mend_forms(spec):
    """Fault 6: forms are declared with nested objects and nothing says how those are written."""
    for path in spec["paths"].values():
        for operation in path.values():
            if isinstance(operation, dict) and "requestBody" in operation:
                del operation["requestBody"]["content"]["application/x-www-form-urlencoded"]


def narrow_requests(spec):
    """Requests that a server which checks its input can take. Nothing here touches an answer."""
    known = People(1, "test").make(next(times(CUSTOMERS, int(AT), 1)), int(AT))  # the first of the sandbox
    customer = {"type": "string", "enum": [known.code, known.email_key]}
    address = {"type": "string", "pattern": "^[a-z]{1,8}@example[.]com$"}
    for parameter in spec["paths"]["/customer"]["get"]["parameters"]:
        if parameter["name"] in {"next", "previous"}:
            parameter["schema"] = {"type": "string", "enum": [cursor(known.id)]}
        if parameter["name"] in {"perPage", "page"}:
            parameter["schema"] = {"type": "integer", "minimum": 1}
        if parameter["name"] in {"from", "to"}:
            parameter["schema"] = {
                "type": "string",
                "pattern": "^20[0-9]{2}-0[1-9]-[012][1-8](T[01][0-9]:00:00[.]000Z)?$",
            }
    found = schemas(spec)
    found["CustomerCreate"]["properties"]["email"] = address
    found["CustomerRiskAction"]["properties"]["customer"] = customer
    for path in ("/customer/{code}", "/customer/{code}/identification"):
        for parameter in spec["paths"][path]["parameters"]:
            parameter["schema"] = {"type": "string", "enum": [known.code]}
    found["CustomerDeactivateAuthorization"]["properties"]["authorization_code"] = {
        "type": "string",
        "pattern": "^AUTH_[0-9a-z]{10}$",
    }
    found["CustomerValidate"]["properties"] |= {
        "type": {"type": "string", "enum": ["bank_account"]},
        "country": {"type": "string", "pattern": "^[A-Z]{2}$"},
        "bvn": {"type": "string", "pattern": "^[0-9]{11}$"},
        "account_number": {"type": "string", "pattern": "^[0-9]{10}$"},
        "bank_code": {"type": "string", "minLength": 1},
        "first_name": {"type": "string", "minLength": 1},
        "last_name": {"type": "string", "minLength": 1},
    }


def leave_open(spec):
    """Wrong requests that nobody knows Paystack to refuse: an odd flag, null for a text."""
    for parameter in spec["paths"]["/customer"]["get"]["parameters"]:
        if parameter["name"] == "use_cursor":
            parameter["schema"] = dict(TEXT)
    for name in ("CustomerCreate", "CustomerUpdate"):
        for field in ("first_name", "last_name", "phone", "metadata"):
            schemas(spec)[name]["properties"][field]["nullable"] = True


MENDS = (mend_metadata, mend_nulls, mend_meta, mend_error_code, mend_bodies, mend_forms)
# Not said anywhere, so nothing to hold the sandbox to: what an undeclared method answers (here 404).
UNDECIDED = [checks.unsupported_method]


def described(mode, *changes):
    spec = fresh()
    for change in changes:
        change(spec)
    schema = schemathesis.openapi.from_dict(spec)
    schema.config.generation.update(modes=[mode])
    return schema


well_formed = described(GenerationMode.POSITIVE, *MENDS, narrow_requests)
malformed = described(GenerationMode.NEGATIVE, *MENDS, leave_open)
EXAMPLES = settings(max_examples=5, derandomize=True, suppress_health_check=list(HealthCheck), database=None)


@pytest.fixture(scope="module")
def running():
    with Sandbox(CUSTOMERS, until=AT, limit=0, answers="spec", bogus_cursor=400) as sandbox:
        yield sandbox


def send(case, running):
    key = {"Authorization": f"Bearer {running.secret_key}"}
    case.call_and_validate(base_url=running.url, headers=key, excluded_checks=UNDECIDED)


@well_formed.parametrize()
@EXAMPLES
def test_every_operation_answers_well_formed_requests_as_described(case, running):
    send(case, running)


@malformed.parametrize()
@EXAMPLES
def test_every_operation_refuses_malformed_requests_as_described(case, running):
    send(case, running)


def test_the_description_names_no_operation_that_the_sandbox_lacks(running):
    spec = fresh()
    ask = Caller(running)
    row = next(running.customers_truth())
    for path, operations in spec["paths"].items():
        for method in operations:
            if method in {"get", "post", "put"}:
                real = path.format(code=row["customer_code"]) if "{" in path else path
                got = ask(method.upper(), real)
                assert got.json["message"] != "Entity not found", (method, path)


@pytest.mark.parametrize("mend", MENDS, ids=lambda mend: mend.__name__)
def test_each_fault_is_still_in_the_description(mend):
    spec = fresh()
    mend(spec)
    assert spec != loaded()
