"""What can be reached: the table against the official spec, the policy, and paths that cannot be changed."""

import dataclasses
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from paystack_source.api.operations import OPERATIONS, READS, Operation, Policy
from paystack_source.errors import ConfigError
from tests.api.raw_server import RawServer, ok

SPEC = yaml.safe_load((Path(__file__).parent.parent / "data" / "paystack-openapi-customer.yaml").read_text())
DECLARED = {
    (method.upper(), path)
    for path, methods in SPEC["paths"].items()
    for method in methods
    if method in {"get", "post", "put", "patch", "delete"}
}
CALLS = {
    "list": lambda client: client.list(),
    "fetch": lambda client: client.fetch("CUS_1"),
    "create": lambda client: client.create("a@b.co"),
    "update": lambda client: client.update("CUS_1", phone="1"),
    "validate": lambda client: client.validate(
        "CUS_1", first_name="A", last_name="B", country="NG", bank_code="1", account_number="2", bvn="3"
    ),
    "set_risk_action": lambda client: client.set_risk_action("CUS_1", "deny"),
    "deactivate_authorization": lambda client: client.deactivate_authorization("AUTH_1"),
}
ANSWER = ok({"id": 1})
PAGE = ok([])


def in_spec(operation):
    return operation.method, operation.template.replace("{email_or_code}", "{code}")


def test_the_seven_operations_are_in_the_official_spec():
    assert set(CALLS) == set(OPERATIONS)
    assert len(OPERATIONS) == 7
    assert {in_spec(operation) for operation in OPERATIONS.values()} <= DECLARED


def test_reads_are_what_gets():
    assert {"list", "fetch"} == READS


@pytest.mark.parametrize("name", CALLS)
def test_each_call_goes_where_the_table_says(name, connect):
    with RawServer(PAGE if name == "list" else ANSWER) as server:
        CALLS[name](connect(server))
    method, target, _ = server.requests[0].split("\r\n")[0].split(" ")
    operation = OPERATIONS[name]
    assert method == operation.method
    assert urlsplit(target).path == operation.template.replace("{email_or_code}", "CUS_1").replace(
        "{code}", "CUS_1"
    )
    assert "Authorization: Bearer sk_test_sandbox" in server.requests[0]


@pytest.mark.parametrize("declared", sorted(DECLARED), ids=" ".join)
def test_of_the_whole_spec_a_read_only_client_reaches_reads_alone(declared, connect):
    reachable = [name for name, operation in OPERATIONS.items() if in_spec(operation) == declared]
    with RawServer(PAGE if reachable == ["list"] else ANSWER) as server:
        client = connect(server, read_only=True)
        for name in reachable:
            if name in READS:
                CALLS[name](client)
            else:
                with pytest.raises(ConfigError, match="may not reach"):
                    CALLS[name](client)
    assert len(server.requests) == len(set(reachable) & READS)
    assert not [text for text in server.requests if not text.startswith("GET ")]


def test_a_client_can_be_narrowed_to_single_operations(connect):
    with RawServer(ANSWER) as server:
        client = connect(server, operations={"fetch", "set_risk_action"})
        CALLS["fetch"](client)
        CALLS["set_risk_action"](client)
        for name in set(CALLS) - {"fetch", "set_risk_action"}:
            with pytest.raises(ConfigError):
                CALLS[name](client)
    assert len(server.requests) == 2


def test_read_only_wins_over_a_list_of_operations():
    assert Policy(read_only=True, operations={"update", "fetch"}).allowed == {"fetch"}
    assert Policy(operations="list").allowed == {"list"}


def test_an_unknown_operation_is_refused():
    with pytest.raises(ConfigError, match="transfer"):
        Policy(operations={"transfer"})


def test_an_entry_that_is_not_of_the_table_is_refused():
    policy = Policy()
    made_up = Operation("transfer", "POST", "/transfer")
    lookalike = dataclasses.replace(OPERATIONS["list"], template="/transfer")
    for operation in (made_up, lookalike):
        with pytest.raises(ConfigError):
            policy.check(operation)


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        OPERATIONS["transfer"] = None
    with pytest.raises(dataclasses.FrozenInstanceError):
        OPERATIONS["list"].template = "/transfer"


HOSTILE = st.one_of(
    st.text(min_size=1),
    st.text("./%?#&=\\\r\n\0 @", min_size=1),
    st.sampled_from(
        ["../transfer", "..%2ftransfer", "%2e%2e", "x/../../transfer", "a?b=c", "a#b", "a;b", "//x"]
    ),
)


@given(part=HOSTILE)
def test_no_part_can_change_the_path(part):
    operation = OPERATIONS["validate"]
    if part in {".", ".."} or not part.strip() or not part.isprintable():
        with pytest.raises(ConfigError):
            operation.path(part)
        return
    path = operation.path(part)
    pieces = path.split("/")
    assert len(pieces) == 4
    assert (pieces[1], pieces[3]) == ("customer", "identification")
    assert unquote(pieces[2]) == part
    assert urlsplit(path).path == path


@pytest.mark.parametrize(
    "part", ["../transfer", "a?b=c#d", "ada obi@example.com", "x;X-Evil: 1", "%2e%2e", "é"]
)
def test_hostile_parts_arrive_as_one_segment(part, connect):
    with RawServer(ANSWER) as server:
        connect(server).fetch(part)
    line, *headers = server.requests[0].split("\r\n")
    target = line.split(" ")[1]
    assert target.count("/") == 2
    assert unquote(target.removeprefix("/customer/")) == part
    assert not [header for header in headers if header.startswith("X-Evil")]


@pytest.mark.parametrize("part", ["", " ", ".", "..", "\t", None, 7, "\ud800", "x\r\nX-Evil: 1"])
@pytest.mark.parametrize(
    "name", ["fetch", "update", "validate", "set_risk_action", "deactivate_authorization"]
)
def test_blank_and_dotted_parts_are_refused_before_sending(name, part, connect):
    in_body = name in {"set_risk_action", "deactivate_authorization"}
    if in_body and part in {".", "..", "x\r\nX-Evil: 1"}:
        return  # can do no harm there
    arguments = {
        "update": {"phone": "1"},
        "validate": dict.fromkeys(
            ["first_name", "last_name", "country", "bank_code", "account_number", "bvn"], "1"
        ),
        "set_risk_action": {"risk_action": "deny"},
    }
    with RawServer(ANSWER) as server, pytest.raises(ConfigError):
        getattr(connect(server), name)(part, **arguments.get(name, {}))
    assert not server.requests
