import asyncio
import json
import socket

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

ODD = {
    "/odd": (b"caf\xc3\xa9", {"Content-Type": "text/plain; charset=klingon"}),
    "/deep": (b"[" * 100_000, {"Content-Type": "application/json"}),
    "/marked": (b'\xef\xbb\xbf{"a": 1}', {"Content-Type": "Application/Problem+JSON"}),
    "/garbled": (b"not compressed", {"Content-Encoding": "gzip"}),
}


@pytest.fixture
async def server():
    """Answers every request with what it heard, /redirect/ and /status/ aside."""
    heard = []

    async def answer(request):
        heard.append(request)
        if (status := request.match_info.get("status")) is not None:
            return web.Response(status=int(status), text=f"status {status}")
        if (target := request.query.get("to")) is not None:
            headers = {"Location": target, "Set-Cookie": "session=alice"}
            return web.Response(status=int(request.query.get("by", 307)), headers=headers)
        if request.path == "/hang":
            await asyncio.sleep(5)
        if request.path == "/cut":
            await request.read()
            request.transport.close()
        if request.path.startswith("/wrong/"):
            told = f"I do not know {request.headers['X-Key']}"
            return web.Response(status=int(request.path.removeprefix("/wrong/")), text=told)
        if (odd := ODD.get(request.path)) is not None:
            return web.Response(status=201, body=odd[0], headers=odd[1])
        body = (await request.read()).decode()
        return web.json_response(
            {"method": request.method, "path": request.raw_path, "query": list(request.query.items()),
             "headers": dict(request.headers), "body": body}
        )  # fmt: skip

    app = web.Application()
    app.router.add_route("*", "/status/{status}", answer)
    app.router.add_route("*", "/{rest:.*}", answer)
    async with TestServer(app) as running:
        running.heard = heard
        yield running


@pytest.fixture
def url(server):
    return str(server.make_url("/")).rstrip("/")


TEXT = {"type": "string"}
NASTY = [
    "../admin",
    "..",
    ".",
    "a/../../b",
    "..\\x",
    "%2e%2e/x",
    "x?admin=1",
    "x#y",
    "a b",
    "ä/ö",
    "@evil/",
    "",
    "//evil",
]


async def test_a_request(declare, call, url):
    tool = declare(
        kind="http", method="POST", url=url + "/orders/{order}/notes?fixed=1&as={who}",
        arguments={"order": TEXT, "who": TEXT, "amount": {"type": "number"},
                   "extra": {**TEXT, "optional": True}},
        query={"q": "{who}", "gone": "{extra}"}, headers={"Authorization": "Bearer {credential:token}"},
        json={"amount": "{amount}", "note": "by {who}", "deep": [{"x": "{extra}", "y": True}]},
        pick="{method: method, path: path, auth: headers.Authorization, body: body}",
    )  # fmt: skip
    assert not tool.read_only and not tool.idempotent
    execution = await call(tool, {"order": "A 1", "who": "me&fixed=2", "amount": 2.5})
    assert execution.outcome == "ok", execution
    assert execution.result["path"] == "/orders/A%201/notes?fixed=1&as=me%26fixed%3D2&q=me%26fixed%3D2"
    assert execution.result["auth"] == "Bearer s3{cr}et"
    assert json.loads(execution.result["body"]) == {
        "amount": 2.5,
        "note": "by me&fixed=2",
        "deep": [{"y": True}],
    }


async def test_the_query_of_an_address_arrives_as_it_would_from_a_browser(declare, call, url):
    tool = declare(
        kind="http", url=url + "/?tag=a&tag=b+c&tag={x}&q=1%2B1&flag&x={x}&y={list}",
        arguments={"x": TEXT, "list": {"type": "array", "items": TEXT}}, pick="query",
    )  # fmt: skip
    query = (await call(tool, {"x": "d+e", "list": ["1", "2"]})).result
    assert [value for name, value in query if name == "tag"] == ["a", "b c", "d+e"]
    assert [pair for pair in query if pair[0] != "tag"] == [
        ["q", "1+1"], ["flag", ""], ["x", "d+e"], ["y", "1"], ["y", "2"],
    ]  # fmt: skip


@pytest.mark.parametrize("value", NASTY)
async def test_a_value_stays_in_its_segment(declare, call, url, server, value):
    tool = declare(kind="http", url=url + "/api/{x}/end", arguments={"x": TEXT})
    assert tool.read_only and tool.idempotent
    execution = await call(tool, {"x": value})
    if execution.outcome == "ok":
        path = execution.result["path"]
        assert path.startswith("/api/") and path.endswith("/end") and path.count("/") == 3, path
        assert "//" not in path
        assert execution.result["query"] == []
    else:
        assert "cannot stand in the address" in execution.result["error"] and not server.heard


async def test_two_values_cannot_climb_together(declare, call, url, server):
    tool = declare(kind="http", url=url + "/api/{x}{y}/end", arguments={"x": TEXT, "y": TEXT})
    assert (await call(tool, {"x": ".", "y": "."})).outcome == "error" and not server.heard
    assert (await call(tool, {"x": "", "y": ""})).outcome == "error" and not server.heard
    dotted = declare(kind="http", url=url + "/./api/{x}", arguments={"x": TEXT})
    assert (await call(dotted, {"x": "."})).outcome == "error" and not server.heard


@pytest.mark.parametrize("value", ["x\r\nX-Admin: 1", "x\nHost: evil", "\0", "ü"])
async def test_headers_take_no_second_line(declare, call, url, server, value):
    tool = declare(kind="http", url=url, arguments={"x": TEXT}, headers={"X-Note": "{x}"})
    assert (await call(tool, {"x": value})).outcome == "error" and not server.heard
    assert (await call(tool, {"x": "fine"})).result["headers"]["X-Note"] == "fine"


async def test_bodies_take_values_only(declare, call, url):
    nasty = '", "admin": true, "x": "'
    tool = declare(kind="http", url=url, method="PUT", arguments={"x": TEXT}, json={"x": "{x}"}, pick="body")
    assert tool.idempotent and not tool.read_only
    assert json.loads((await call(tool, {"x": nasty})).result) == {"x": nasty}
    form = declare(kind="http", url=url, method="POST", arguments={"x": TEXT}, form={"x": "{x}"}, pick="body")
    assert (await call(form, {"x": "1&admin=1"})).result == "x=1%26admin%3D1"


async def test_redirects_stay_on_allowed_hosts(declare, call, url, server):
    tool = declare(kind="http", url=url, arguments={"to": {**TEXT, "optional": True}}, query={"to": "{to}"})
    assert (await call(tool, {"to": url + "/there"})).result["path"] == "/there"
    evil = await call(tool, {"to": "http://evil.example/"})
    assert evil.result == {"error": "redirected to evil.example, which is not an allowed host"}
    inside = await call(tool, {"to": "http://169.254.169.254/latest/meta-data"})
    assert "not an allowed host" in inside.result["error"]
    endless = await call(declare(kind="http", url=url + "/?to=/%3Fto%3D/", max_redirects=1))
    assert endless.outcome == "error" and "redirects" in endless.result["error"]


async def test_cookies_of_one_caller_are_not_sent_for_the_next(declare, call, url, server):
    tool = declare(kind="http", url=url + "/login?to=/home")
    for user in ("alice", "bob"):
        assert (await call(tool, user_id=user)).outcome == "ok"
    assert [request.path for request in server.heard] == ["/login", "/home"] * 2
    assert not any("Cookie" in request.headers for request in server.heard)


async def test_credentials_do_not_follow_to_another_origin(declare, call, url):
    async def echo(request):
        return web.json_response(dict(request.headers))

    app = web.Application()
    app.router.add_get("/", echo)
    async with TestServer(app) as other:
        tool = declare(kind="http", url=url, arguments={"to": TEXT}, query={"to": "{to}"},
                       headers={"X-Key": "{credential:token}", "X-Plain": "kept"})  # fmt: skip
        headers = (await call(tool, {"to": str(other.make_url("/"))})).result
    assert headers["X-Plain"] == "kept" and "X-Key" not in headers


async def test_what_may_pass_is_tried_again_and_what_will_not_is_not(declare, call, url, server):
    tool = declare(kind="http", url=url + "/status/{status}", arguments={"status": TEXT}, retries=2)
    busy = await call(tool, {"status": "503"})
    assert (busy.attempts, len(server.heard)) == (3, 3) and "status 503" in busy.result["error"]
    gone = await call(tool, {"status": "404"})
    assert gone.attempts == 1 and gone.result == {"error": "status 404: status 404"}


@pytest.mark.parametrize("path", ["/cut", "/hang"])
async def test_whether_a_lost_request_acted_is_unknown(declare, call, url, server, path):
    tool = declare(kind="http", method="POST", url=url + path, timeout_seconds=0.5)
    execution = await call(tool)
    assert execution.outcome in ("unknown", "timeout") and len(server.heard) == 1
    reading = await call(declare(kind="http", url=url + path, timeout_seconds=0.5, retries=1))
    assert reading.outcome in ("error", "timeout") and reading.attempts == 2


@pytest.mark.parametrize(
    ("path", "warning"),
    [
        ("/deep", "the call was made, but the response says it is JSON and is not"),
        ("/garbled", "the call was made, but the response is not compressed as it says"),
        ("/long", "the call was made, but the response has more than 200 bytes"),
        ("/?by=303&to=/deep", "the call was made, but the response says it is JSON and is not"),
    ],
)
async def test_what_was_accepted_stands_whatever_its_answer_looks_like(declare, call, url, path, warning):
    limit = 200 if path == "/long" else 1_000_000
    execution = await call(declare(kind="http", method="POST", url=url + path, max_response_bytes=limit))
    assert (execution.outcome, execution.result) == ("ok", {"warning": warning})


async def test_what_was_accepted_stands_when_nothing_can_be_picked_of_it(declare, call, url):
    execution = await call(declare(kind="http", method="POST", url=url, pick="sum(path)"))
    assert execution.outcome == "ok" and "another form than expected" in execution.result["warning"]


@pytest.mark.parametrize(
    ("path", "outcome"),
    [
        ("/status/504", "unknown"),
        ("/status/500", "unknown"),
        ("/status/429", "error"),
        ("/status/409", "error"),
        # It says that the request is to be made elsewhere.
        ("/?by=307&to=http://evil.example/", "error"),
        # It says that there is something to be seen elsewhere.
        ("/?by=303&to=http://evil.example/", "unknown"),
        ("/?by=302&to=http://127.0.0.1:0/", "unknown"),
        ("/?by=303&to=/status/404", "unknown"),
        ("/?by=303&to=/%3Fby=303%26to=/", "unknown"),
    ],
)
async def test_whether_a_request_acted_that_was_taken_and_then_failed_is_unknown(
    declare, call, url, path, outcome
):
    execution = await call(declare(kind="http", method="POST", url=url + path, max_redirects=1))
    assert execution.outcome == outcome, execution
    assert (await call(declare(kind="http", url=url + path, max_redirects=1))).outcome == "error"


async def test_what_was_never_sent_did_not_act(declare, call):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        tool = declare(kind="http", method="POST", url=f"http://127.0.0.1:{taken.getsockname()[1]}/")
        execution = await call(tool)
    assert execution.outcome == "error" and "cannot be reached (ConnectError)" in execution.result["error"]


@pytest.mark.parametrize("status", [401, 503])
async def test_secrets_that_the_other_side_repeats_are_not_told(declare, call, url, status):
    headers = {"X-Key": "{credential:token}"}
    execution = await call(declare(kind="http", url=f"{url}/wrong/{status}", headers=headers))
    assert execution.outcome == "error" and "I do not know ***" in execution.result["error"]


async def test_odd_responses(declare, call, url):
    assert (await call(declare(kind="http", url=url + "/odd"))).result == "café"
    assert (await call(declare(kind="http", url=url + "/marked", pick="a"))).result == 1
    deep = await call(declare(kind="http", url=url + "/deep"))
    assert deep.result == {"error": "the response says it is JSON and is not"}


async def test_long_responses_are_refused(declare, call, url):
    tool = declare(kind="http", url=url, max_response_bytes=10)
    assert "more than 10 bytes" in (await call(tool)).result["error"]


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"url": "https://{x}/", "arguments": {"x": TEXT}}, "host takes neither arguments"),
        ({"url": "https://u:p@host/"}, "nor a password"),
        ({"url": "ftp://host/"}, "http:// or https://"),
        ({"url": "http://[::1"}, "http:// or https://"),
        ({"url": "http://host:99999/"}, "http:// or https://"),
        ({"url": "http://host/", "headers": {"X y": "1"}}, "'X y' is no name of a header"),
        ({"url": "https://host/{y}"}, "'y', which is not under `arguments`"),
        ({"url": "https://host/", "arguments": {"x": TEXT}}, "used nowhere"),
        ({"url": "https://host/", "allowed_hosts": ["other"]}, "not in `allowed_hosts`"),
        ({"url": "https://host/", "headers": {"A": "{credential:none}"}}, "credential 'none' cannot be read"),
        ({"url": "https://host/", "json": {"a": "{"}}, "a lone '{'"),
        ({"url": "https://host/", "ca_file": "/nowhere.pem"}, "`ca_file` cannot be read"),
        ({"url": "https://host/", "ca_file": __file__}, "`ca_file` cannot be read"),
    ],
)
async def test_what_is_wrong_is_told_when_it_is_declared(declare, table, complaint):
    with pytest.raises(ValueError, match=complaint):
        declare(kind="http", **table)
