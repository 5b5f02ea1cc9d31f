"""Customer data and the key stay out of errors, tracebacks with local variables, logs and representations."""

import copy
import gc
import io
import json
import logging
import pickle
import time
import traceback
from collections import OrderedDict
from functools import partial
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.traceback import Traceback

from paystack_source.api.client import PaystackClient
from paystack_source.api.keys import SecretKey
from paystack_source.api.privacy import redact
from paystack_source.errors import ConfigError, PaystackError
from tests.api.raw_server import CLOSE, HTML, RawServer, ok, refusal, reply

CANARIES = OrderedDict(
    key="sk_test_canary0key",
    email="canary.person@example.org",
    quoted="canary.person%40example.org",
    code="CUS_canarycustomer1",
    authorization="AUTH_canarycard",
    bvn="22299988877",
    account="0199988877",
    phone="+2348199988877",
    name="Canarina",
)
ROW = {"id": 1, "email": CANARIES["email"], "first_name": CANARIES["name"], "customer_code": CANARIES["code"]}
# A name is known as personal only where it was sent (test_values_deep_in_metadata_are_taken_out).
ECHO = " ".join(value for name, value in CANARIES.items() if name != "name")

OPERATIONS = {
    "list": lambda client: client.list(),
    "iterate": lambda client: list(client.iterate()),
    "fetch": lambda client: client.fetch(CANARIES["email"]),
    "create": lambda client: client.create(CANARIES["email"], metadata={"bvn": CANARIES["bvn"]}),
    "update": lambda client: client.update(CANARIES["code"], phone=CANARIES["phone"]),
    "validate": lambda client: client.validate(
        CANARIES["code"],
        first_name=CANARIES["name"],
        last_name="X",
        country="NG",
        bank_code="058",
        account_number=CANARIES["account"],
        bvn=CANARIES["bvn"],
    ),
    "set_risk_action": lambda client: client.set_risk_action(CANARIES["email"], "deny"),
    "deactivate": lambda client: client.deactivate_authorization(CANARIES["authorization"]),
}
ANSWERS = {
    "400 that echoes": refusal(400, ECHO, meta={"nextStep": ECHO}, code=ECHO, type=ECHO),
    "200 false that echoes": refusal(200, ECHO),
    "500 that echoes": refusal(500, ECHO),
    "401": refusal(401, ECHO),
    "429": refusal(429, ECHO),
    "html that echoes": reply(403, HTML + ECHO.encode()),
    "redirect": reply(302, b"", Location=f"https://x.test/{CANARIES['email']}"),
    "cut": reply(200, b'{"status":true,"message":"' + ECHO.encode()),
    "closed": CLOSE,
}


def shown(error):
    """Everything that a person or a tool could see of an error."""
    out = io.StringIO()
    trace = Traceback.from_exception(
        type(error),
        error,
        error.__traceback__,
        show_locals=True,
        locals_max_length=None,
        locals_max_string=None,
    )
    Console(file=out, width=400).print(trace)
    seen = traceback.TracebackException.from_exception(error, capture_locals=True)
    texts = [
        out.getvalue(),
        "".join(seen.format()),
        repr(vars(error)),
        str(error),
        repr(error),
        str(error.args),
    ]
    texts += [str(frame.f_locals) for frame, _ in traceback.walk_tb(error.__traceback__)]
    assert error.__context__ is None
    assert error.__cause__ is None
    return "\n".join(texts)


def found(text):
    return [name for name, canary in CANARIES.items() if canary.lower() in text.lower()]


def provoke(call):
    """The error of a call, with a traceback that begins in a frame without canaries."""
    try:
        call()
    except BaseException as error:  # noqa: BLE001
        return error
    pytest.fail("no error")


@pytest.fixture
def client_of(clock):
    clients = []

    def make(server):
        client = PaystackClient(CANARIES["key"], base_url=server.url, quota=0, clock=clock)
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


def each(others, *, ways, with_all):
    """Pairs of an operation and something else: these operations with all, every other one with `ways`."""
    return [(name, other) for name in OPERATIONS for other in (others if name in with_all else ways)]


@pytest.mark.parametrize(
    ("operation", "answer"),
    each(ANSWERS, ways=["400 that echoes", "closed"], with_all={"list", "validate"}),
)
def test_errors_and_their_tracebacks_show_nothing(operation, answer, client_of):
    with RawServer(ANSWERS[answer]) as server:
        error = provoke(partial(OPERATIONS[operation], client_of(server)))
    assert isinstance(error, PaystackError)
    assert not found(shown(error))
    assert not found(str(pickle.loads(pickle.dumps(error)).__dict__))


@pytest.mark.parametrize(
    "metas",
    [
        [{"next": "abc", "perPage": 3}, {"next": "def", "perPage": 3}],
        [{"total": 9, "page": 1, "pageCount": 3, "perPage": 3}] * 2,
    ],
    ids=["by cursor", "by number"],
)
def test_an_error_on_a_later_page_does_not_show_the_earlier_rows(metas, client_of):
    pages = [ok([{**ROW, "id": number}], meta=meta) for number, meta in enumerate(metas)]
    with RawServer(*pages, refusal(401)) as server:
        error = provoke(partial(OPERATIONS["iterate"], client_of(server)))
    assert len(server.requests) == 3
    assert not found(shown(error))


@pytest.mark.parametrize(
    ("operation", "problem"),
    each([RuntimeError, KeyboardInterrupt, MemoryError], ways=[RuntimeError], with_all={"validate"}),
)
def test_a_bug_or_an_interrupt_inside_shows_nothing(operation, problem, client_of, monkeypatch):
    def fail(*_, **__):
        try:
            int(ECHO)
        except ValueError:
            raise problem from None

    with RawServer(ok()) as server:
        client = client_of(server)
        monkeypatch.setattr(client._wire, "new_connection", fail)
        error = provoke(partial(OPERATIONS[operation], client))
    assert type(error) is problem
    assert not found(shown(error))
    if problem is not KeyboardInterrupt:
        assert "wire.py" in error.__notes__[0]  # where it came from is still known


@pytest.mark.parametrize(
    "text",
    [
        CANARIES["key"] + " ",
        "Bearer " + CANARIES["key"],
        "'" + CANARIES["key"] + "'",
        CANARIES["key"] + "-",
        "pk_test_" + CANARIES["key"],
    ],
)
def test_a_wrong_key_is_not_shown(text):
    for call in (SecretKey.parse, PaystackClient):
        error = provoke(partial(call, text))
        assert isinstance(error, ConfigError)
        assert not found(str(error) + repr(vars(error)))
        # The caller's own frame holds the text; none of ours does.
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        ours = [frame for frame in frames if "/paystack_source/" in frame.f_code.co_filename]
        assert ours
        assert not any(found(str(frame.f_locals)) for frame in ours)


@pytest.mark.parametrize("operation", ["create", "update"])
def test_a_body_that_is_not_json_is_not_shown(operation, client_of):
    bad = {"metadata": {"who": ECHO, "what": object()}}
    with RawServer(ok()) as server:
        client = client_of(server)
        call = {
            "create": partial(client.create, CANARIES["email"], **bad),
            "update": partial(client.update, CANARIES["code"], **bad),
        }[operation]
        del bad
        error = provoke(call)
        del call
    assert isinstance(error, ConfigError)
    ours = [
        f for f, _ in traceback.walk_tb(error.__traceback__) if "/paystack_source/" in f.f_code.co_filename
    ]
    assert not any(found(str(frame.f_locals)) for frame in ours)
    assert not found(str(error))
    assert not server.requests


def test_logs_at_debug_show_nothing(client_of, caplog):
    caplog.set_level(logging.DEBUG)
    row = ok(ROW, message=ECHO)
    with RawServer(row) as server:
        client = client_of(server)
        for name, operation in OPERATIONS.items():
            if name not in {"list", "iterate"}:
                operation(client)
    with RawServer(refusal(500, ECHO)) as server:
        provoke(partial(OPERATIONS["fetch"], client_of(server)))
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert "fetch: 200 in" in text  # our own lines
    assert not found(text)


def test_a_header_that_cannot_be_read_shows_no_path(client_of, caplog):
    whole = ok(ROW)
    head, body = whole.split(b"\r\n\r\n", 1)
    with RawServer(head + b"\r\nno colon here\r\n\r\n" + body) as server:
        OPERATIONS["fetch"](client_of(server))
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert "/customer…" in text
    assert not found(text)


def test_representations_show_nothing(client_of):
    page = ok([ROW], meta={"total": 1, "page": 1, "pageCount": 1})
    with RawServer(ok(ROW), page) as server:
        client = client_of(server)
        reply, page = client.fetch(CANARIES["email"]), client.list()
    held = [
        client,
        vars(client),
        client.key,
        reply,
        page,
        client._transport,
        vars(client._transport),
        client.stats,
    ]
    held += [vars(client._wire)]
    assert not found(" ".join(f"{thing} {thing!r}" for thing in held))
    assert reply.data == ROW  # it is there, for who asks


def test_a_key_cannot_be_printed_pickled_or_copied():
    key = SecretKey.parse(CANARIES["key"])
    for text in (str(key), repr(key), f"{key}", f"{key:>40}", f"{[key]}", f"{vars}"):
        assert not found(text)
    assert str(key) == "sk_test_…"
    assert copy.copy(key) is key
    assert copy.deepcopy({"key": key})["key"] is key
    for dump in (pickle.dumps, json.dumps, partial(pickle.dumps, protocol=0)):
        with pytest.raises(TypeError):
            dump(key)
    with pytest.raises(TypeError):
        vars(key)
    with pytest.raises(AttributeError):
        key.text  # noqa: B018
    assert key.reveal() == CANARIES["key"]
    assert CANARIES["key"][8:] not in key.fingerprint


def test_keys_compare_without_showing():
    one, same, other = (SecretKey.parse(f"sk_test_{name}") for name in ("sandbox", "sandbox", "another"))
    assert one == same
    assert one != other
    assert one != "sk_test_sandbox"
    assert len({one, same, other}) == 2
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_connections_do_not_keep_the_key(client_of):
    with RawServer(ok(ROW)) as server:
        client = client_of(server)
        client.fetch(CANARIES["email"])
        gc.collect()
        held = " ".join(str(vars(connection)) for connection, _ in client._wire._idle)
    assert "host" in held
    assert not found(held)


@given(
    before=st.text(max_size=30),
    after=st.text(max_size=30),
    secret=st.sampled_from([value for name, value in CANARIES.items() if name != "name"]),
)
def test_redaction_finds_what_looks_personal_in_any_surroundings(before, after, secret):
    text = redact(f"{before} {secret} {after}")
    assert secret.lower() not in text.lower()
    assert len(text) <= 300
    assert text.isprintable()


GREEK = st.text("αβγδΣΩ", min_size=3, max_size=20)


@given(value=GREEK, around=st.text(max_size=20))
def test_redaction_takes_out_what_was_sent(value, around):
    text = redact(f"{around} {value} {around}", [value])
    assert value.lower() not in text.lower()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Customer email is invalid for your live domain.", None),
        ('"metadata" must be of type object', None),
        ("Please enter a valid account number", None),
        ("line\nbreak\x1b[31m", "line break [31m"),
        ("0801 234 5678 and 0801-234-5678", "[number] and [number]"),
        ("x" * 400, "x" * 299 + "…"),
    ],
)
def test_redaction_keeps_the_sentence(text, kept):
    assert redact(text) == (text if kept is None else kept)


def test_a_long_message_does_not_keep_the_run_busy(client_of):
    began = time.process_time()
    assert redact("m" * 60_000 + " ada@example.com").endswith("…")
    details = {"first_name": "A", "last_name": "B", "country": "NG", "bank_code": "058", "bvn": "1"}
    with RawServer(refusal(400, "already validated " * 800)) as server, pytest.raises(PaystackError):
        client_of(server).validate("CUS_x", **details, account_number="0")
    assert time.process_time() - began < 5


def test_the_longest_value_goes_first():
    assert redact("Adaeze is odd", ["Ada", "Adaeze"]) == "[value] is odd"
    assert redact("ADA is odd", ["Ada"]) == "[value] is odd"


def test_words_of_the_api_stay_in_messages(connect):
    with RawServer(refusal(400, 'risk_action must be one of "deny"')) as server:
        error = provoke(partial(connect(server).set_risk_action, "a@b.co", "deny"))
    assert error.message.endswith('risk_action must be one of "deny"')


def test_values_deep_in_metadata_are_taken_out(connect):
    with RawServer(refusal(400, "Lagoon and 4711 are odd")) as server:
        call = partial(connect(server).update, "CUS_1", metadata={"a": [{"b": "Lagoon"}, 4711, True]})
        error = provoke(call)
    assert error.message == "update: [value] and [value] are odd"


def test_a_client_without_a_server_shows_nothing(client_of):
    error = provoke(partial(OPERATIONS["fetch"], client_of(SimpleNamespace(url="http://127.0.0.1:9"))))
    assert isinstance(error, PaystackError)
    assert not found(shown(error))
