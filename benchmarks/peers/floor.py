"""The floor: the fastest complete copy (12 fields, DuckDB table) that we know how to write in Python, no dlt.

No threads, no event loop, no HTTP library: some keep-alive sockets hold one request each, answers are taken
in turn, and while one page is parsed the server prepares the next ones. JSON goes straight into structs
(msgspec), columns go to Arrow, Arrow to DuckDB. It proves, retries and survives nothing: it shows
what the machine can do, so that the price of everything else can be read off.

With `--urllib3` the same over that library's pool and a few threads: the price of a real HTTP client alone.
With `--dlt` the same into one load of dlt's that appends: the least that any dlt source costs.
"""

import argparse
import itertools
import json
import socket
import time
from collections import deque
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

PAGE = 100
FLUSH_PAGES = 1000


class Customer(msgspec.Struct, gc=False):
    integration: int
    first_name: str | None
    last_name: str | None
    email: str | None
    phone: str | None
    metadata: msgspec.Raw
    domain: str | None
    customer_code: str
    risk_action: str | None
    id: int
    createdAt: str  # noqa: N815  # the API's own name
    updatedAt: str  # noqa: N815


class Meta(msgspec.Struct, gc=False):
    total: int
    pageCount: int  # noqa: N815


class Body(msgspec.Struct, gc=False):
    data: list[Customer]
    meta: Meta


COLUMNS = {
    "id": pa.int64(),
    "customer_code": pa.string(),
    "email": pa.string(),
    "first_name": pa.string(),
    "last_name": pa.string(),
    "phone": pa.string(),
    "domain": pa.string(),
    "integration": pa.int64(),
    "risk_action": pa.string(),
}
INSTANT = pa.timestamp("us", tz="UTC")


class Wire:
    """One keep-alive connection with at most one request under way."""

    def __init__(self, host, port, key):
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tail = f" HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
        self.buffer = bytearray(1 << 17)

    def ask(self, page):
        self.socket.sendall(b"GET /customer?perPage=%d&page=%d" % (PAGE, page) + self.tail)

    def answer(self):
        view = memoryview(self.buffer)
        got, need, start = 0, None, 0
        while need is None or got < need:
            n = self.socket.recv_into(view[got:])
            if n == 0:
                raise ConnectionError("the server hung up")
            got += n
            if need is None and (start := self.buffer.find(b"\r\n\r\n", 0, got)) >= 0:
                head = bytes(view[:start])
                if not head.startswith(b"HTTP/1.1 200"):
                    raise ConnectionError(head.split(b"\r\n", 1)[0].decode())
                start += 4
                at = head.lower().index(b"content-length:") + 15
                need = start + int(head[at:].split(b"\r\n", 1)[0])
                if need > len(self.buffer):
                    view.release()
                    self.buffer.extend(bytes(need - len(self.buffer)))
                    view = memoryview(self.buffer)
        body = bytes(view[start:need])
        view.release()
        return body


def over_sockets(wires):
    """Takes 1, gives page 1; takes the number of pages, gives all the others in order."""
    wires[0].ask((yield))
    pages = yield wires[0].answer()
    count = len(wires)
    for page in range(2, min(pages, count + 1) + 1):
        wires[page % count].ask(page)
    yield
    for page in range(2, pages + 1):
        wire = wires[page % count]
        body = wire.answer()
        if page + count <= pages:
            wire.ask(page + count)
        yield body


def over_urllib3(url, key, threads):
    """The same over urllib3."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  # the floor itself needs neither

    import urllib3  # noqa: PLC0415

    http = urllib3.PoolManager(maxsize=threads, headers={"Authorization": f"Bearer {key}"}, retries=False)

    def get(page):
        answer = http.request("GET", f"{url}/customer?perPage={PAGE}&page={page}")
        if answer.status != 200:
            raise ConnectionError(str(answer.status))
        return answer.data

    with ThreadPoolExecutor(threads) as pool:
        pages = yield get((yield))
        ahead = deque(pool.submit(get, page) for page in range(2, min(pages, 2 * threads) + 1))
        yield
        for page in range(2, pages + 1):
            body = ahead.popleft().result()
            if page + 2 * threads <= pages + 1:
                ahead.append(pool.submit(get, page + 2 * threads - 1))
            yield body


def arrow(rows):
    arrays = [pa.array([getattr(r, name) for r in rows], kind) for name, kind in COLUMNS.items()]
    names = list(COLUMNS)
    text = [m if (m := bytes(r.metadata)) != b"null" else None for r in rows]
    arrays.append(pa.array(text, pa.binary()).cast(pa.string()))
    names.append("metadata")
    for theirs, ours in (("createdAt", "created_at"), ("updatedAt", "updated_at")):
        arrays.append(pc.cast(pa.array([getattr(r, theirs) for r in rows], pa.string()), INSTANT))
        names.append(ours)
    return pa.table(arrays, names)


def into_duckdb(tables, place):
    """Each table as it comes."""
    import duckdb  # noqa: PLC0415  # one of two ways

    made = False
    with duckdb.connect(place / "floor.duckdb") as base:
        for batch in tables:  # DuckDB finds it by this name
            if made:
                base.execute("insert into customers select * from batch")
            else:
                columns = ", ".join(f"{c}::json as {c}" if c == "metadata" else c for c in batch.column_names)
                base.execute(f"create table customers as select {columns} from batch")
                made = True


def into_dlt(tables, place):
    """All tables in one load that appends: no dlt source that takes Arrow can do with less."""
    import dlt  # noqa: PLC0415  # the floor itself needs none

    database = dlt.destinations.duckdb(str(place / "floor.duckdb"))
    pipeline = dlt.pipeline(
        "floor", pipelines_dir=str(place / "dlt"), destination=database, dataset_name="paystack"
    )
    rows = dlt.resource(
        tables, name="customers", write_disposition="append", columns={"metadata": {"data_type": "json"}}
    )
    pipeline.run(rows)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--urllib3", action="store_true")
    parser.add_argument("--dlt", action="store_true")
    parser.add_argument("--wires", type=int, default=16, help="connections, so requests in flight")
    args = parser.parse_args()
    began = time.perf_counter()
    at = urlsplit(args.url)
    decode = msgspec.json.Decoder(Body).decode
    if args.urllib3:
        fetched = over_urllib3(args.url, args.key, args.wires)
    else:
        fetched = over_sockets([Wire(at.hostname, at.port, args.key) for _ in range(args.wires)])

    next(fetched)
    first = decode(fetched.send(1))
    pages = first.meta.pageCount
    fetched.send(pages)
    total = 0

    def tables():
        nonlocal total
        rows, ready, held = first.data, [], 0
        for body in itertools.chain(fetched, [None]):
            if body is not None:
                rows += decode(body).data
            if len(rows) >= 10 * PAGE or body is None:
                ready.append(arrow(rows))
                held += len(rows)
                total += len(rows)
                rows = []
            if held >= FLUSH_PAGES * PAGE or body is None:
                yield pa.concat_tables(ready)
                ready, held = [], 0

    (into_dlt if args.dlt else into_duckdb)(tables(), args.out)
    print(json.dumps({"rows": total, "requests": pages, "seconds": round(time.perf_counter() - began, 3)}))


main()
