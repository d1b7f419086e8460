"""`kind = "http"`: one request to an allowed host."""

import json
import re
import ssl
from collections.abc import Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Literal
from urllib.parse import SplitResult, quote, unquote, unquote_plus, urlsplit

import httpx2
from pydantic import Field

from daemon.tools.context import ToolContext
from daemon.tools.errors import CallInDoubt, RemoteUnavailable, ResultRefused, ToolError
from daemon.tools.kinds.credentials import Credentials, refers
from daemon.tools.kinds.declaration import Declaration, Opened
from daemon.tools.kinds.template import Template, Tree, as_text, render_tree, tree_names

_RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504})
_SAFE = ("GET", "HEAD")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol)


class HttpDeclaration(Declaration):
    """Arguments may stand in the path and query of `url`, in `query`, `headers`, `json` and `form`, never in
    the host. `allowed_hosts` (default: the host of `url`) holds for redirects as well."""

    kind: Literal["http"]
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    url: str
    query: dict[str, Any] = Field(default={})
    headers: dict[str, str] = Field(default={})
    # `json` is what it is called in the file; as an attribute it would shadow pydantic's own.
    json_: Any = Field(default=None, alias="json")
    form: dict[str, Any] | None = None
    allowed_hosts: list[str] | None = None
    max_redirects: int = Field(default=3, ge=0, le=10)
    max_response_bytes: int = Field(default=1_000_000, ge=1)
    ca_file: str | None = None

    def open(self, name: str, origin: str, credentials: Credentials) -> Opened:
        """Raises ValueError naming what is wrong."""
        remote = _Remote(self, credentials)
        safe, idempotent = self.method in _SAFE, self.method in ("PUT", "DELETE")
        tool = self.tool(name, origin, remote.call, credentials, read_only=safe, idempotent=idempotent)
        return Opened((tool,), remote.client.aclose)


class _Remote:
    def __init__(self, declaration: HttpDeclaration, credentials: Credentials) -> None:
        self._declaration = declaration
        parts, hostname = _address(declaration.url)
        if odd := [name for name in declaration.headers if not _HEADER.fullmatch(name)]:
            raise ValueError(f"`headers`: {odd[0]!r} is no name of a header; use letters, digits and -")
        if "{" in parts.netloc or "@" in parts.netloc:
            raise ValueError("`url`: the host takes neither arguments nor a password; use `headers`")
        if declaration.json_ is not None and declaration.form is not None:
            raise ValueError("give either `json` or `form`")
        self._base = f"{parts.scheme}://{parts.netloc}"
        self._hosts = {host.lower() for host in declaration.allowed_hosts or [hostname]}
        if hostname not in self._hosts:
            raise ValueError(f"`url`: {hostname} is not in `allowed_hosts`; add it there")
        self._path = credentials.template(parts.path)
        self._query = credentials.tree(_query(parts.query) | declaration.query)
        self._headers = {key: credentials.template(text) for key, text in declaration.headers.items()}
        self._secret_headers = [key for key, text in declaration.headers.items() if refers(text)]
        self._json, self._form = credentials.tree(declaration.json_), credentials.tree(declaration.form)
        used = self._path.names | tree_names([self._query, self._json, self._form, *self._headers.values()])
        declaration.check_names(used, "`url`, `query`, `headers`, `json` and `form`")
        self.client = httpx2.AsyncClient(
            timeout=declaration.timeout_seconds,
            trust_env=False,
            verify=_trusted(declaration.ca_file),
            limits=httpx2.Limits(max_connections=declaration.concurrency),
            # Keeps nothing: what the other side sets for one caller must not speak for the next.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )

    async def call(self, values: dict[str, Any], context: ToolContext) -> Any:
        """The response, as JSON when it says so, else as text.

        Raises ToolError with what the other side says is wrong, RemoteUnavailable when another attempt may
        succeed, CallInDoubt when it may have acted, ResultRefused when it did but its answer is unreadable.
        """
        content: dict[str, Any] = {}
        if self._json is not None:
            content["json"] = render_tree(self._json, values)
        if self._form is not None:
            content["data"] = _flat(self._form, values)
        request = self.client.build_request(
            self._declaration.method,
            self._base + _path(self._path, values),
            params=_flat(self._query, values),
            headers=dict(self._rendered_headers(values)),
            **content,
        )
        hops = [request]
        try:
            return await self._send(hops)
        except httpx2.TransportError as error:
            failure: Exception = _lost(hops[-1], error)
        except (ToolError, RemoteUnavailable) as error:
            failure = error
        # Whoever redirects a POST to be read elsewhere has taken it, most likely.
        if hops[-1].method != request.method and not isinstance(failure, ResultRefused):
            failure = CallInDoubt(str(failure))
        raise failure

    async def _send(self, hops: list[httpx2.Request]) -> Any:
        """Send the first of `hops` and add those that it is redirected to."""
        while len(hops) <= self._declaration.max_redirects + 1:
            response = await self.client.send(hops[-1], stream=True, follow_redirects=False)
            try:
                if response.next_request is None:
                    return await self._read(response)
                hops.append(response.next_request)
                self._check_redirect(*hops[-2:])
            finally:
                await response.aclose()
        raise ToolError(f"more than {self._declaration.max_redirects} redirects")

    def _check_redirect(self, request: httpx2.Request, following: httpx2.Request) -> None:
        before, after = request.url, following.url
        if after.host.lower() not in self._hosts:
            raise ToolError(f"redirected to {after.host}, which is not an allowed host")
        if before.scheme == "https" and after.scheme != "https":
            raise ToolError("redirected from https to http")
        if (before.scheme, before.host, before.port) != (after.scheme, after.host, after.port):
            for header in self._secret_headers:
                following.headers.pop(header, None)

    async def _read(self, response: httpx2.Response) -> Any:
        body, wrong = await self._body(response)
        text = _text(body, response.charset_encoding)
        told = f"status {response.status_code}: {text[:200]}"
        if response.is_server_error and response.request.method not in _SAFE:
            raise CallInDoubt(told)
        if response.status_code in _RETRYABLE:
            raise RemoteUnavailable(told)
        if not response.is_success:
            raise ToolError(told)
        if wrong is not None:
            raise ResultRefused(wrong)
        if "json" not in response.headers.get("content-type", "").lower():
            return text
        try:
            return json.loads(text) if text else None
        except (ValueError, RecursionError):
            raise ResultRefused("the response says it is JSON and is not") from None

    async def _body(self, response: httpx2.Response) -> tuple[bytes, str | None]:
        """What can be read of it, and why that is not all."""
        body, limit = bytearray(), self._declaration.max_response_bytes
        try:
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > limit:
                    return bytes(body), f"the response has more than {limit} bytes"
        except httpx2.DecodingError:
            return bytes(body), "the response is not compressed as it says"
        return bytes(body), None

    def _rendered_headers(self, values: Mapping[str, Any]) -> list[tuple[str, str]]:
        rendered = [(key, template.render(values)) for key, template in self._headers.items()]
        for key, text in rendered:
            if text is not None and not (text.isprintable() and text.isascii()):
                raise ValueError(f"header {key}: only printable ASCII characters can stand there")
        return [(key, text) for key, text in rendered if text is not None]


def _lost(request: httpx2.Request, error: httpx2.TransportError) -> Exception:
    """What it means that there was no answer."""
    if isinstance(error, _NEVER_SENT):
        return RemoteUnavailable(f"{request.url.host} cannot be reached ({type(error).__name__})")
    return CallInDoubt(f"{request.url.host} did not answer ({type(error).__name__})")


def _address(url: str) -> tuple[SplitResult, str]:
    """The parts of a URL and its host. Raises ValueError when it is none of http."""
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts, parts.hostname
    except ValueError:  # of brackets and ports
        pass
    raise ValueError("`url` must be an http:// or https:// address")


def _trusted(ca_file: str | None) -> ssl.SSLContext | bool:
    try:
        return ssl.create_default_context(cafile=ca_file) if ca_file else True
    except OSError as error:
        raise ValueError(f"`ca_file` cannot be read: {error}; give a PEM file") from None


def _query(text: str) -> dict[str, Any]:
    """The query of a URL template: decoding it by the rules would take `{a}` apart."""
    found: dict[str, Any] = {}
    for pair in filter(None, text.split("&")):
        name, _, value = (unquote_plus(part) for part in pair.partition("="))
        found.setdefault(name, []).append(value)
    # One by itself stays a text: as such it may be nothing but an argument that is an array.
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


def _path(template: Template, values: Mapping[str, Any]) -> str:
    """Every value stays inside its segment. Raises ValueError for one that would lead elsewhere."""
    # A quoted value has no NUL: it marks the segments that have values in them.
    path = template.render(values, lambda text: "\0" + quote(text, safe=""))
    if path is None:
        raise ValueError("an argument of the address is missing")
    for segment in path.split("/"):
        plain = unquote(segment.replace("\0", "")).replace("\\", "/")
        if "\0" in segment and {".", "..", ""} & set(plain.split("/")):
            raise ValueError(f"{plain!r} cannot stand in the address")
    return path.replace("\0", "")


def _text(body: bytes, charset: str | None) -> str:
    """Whatever the response calls its characters, without the mark that some put before them."""
    try:
        text = body.decode(charset or "utf-8", "replace")
    except LookupError:
        text = body.decode("utf-8", "replace")
    return text.removeprefix("\ufeff")


def _flat(tree: Tree, values: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """Names and texts, as queries and forms take them; an array repeats its name."""
    rendered = render_tree(tree, values)
    return {
        key: [as_text(item) for item in value] if isinstance(value, list) else as_text(value)
        for key, value in rendered.items()
        if value is not None
    }
