"""A browser at another loopback address: TLS, a jar that keeps rfc6265bis, and its own headers."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import httpx2

from tests.proxies.servers import Certificates, Proxy
from tests.support.jar import Jar, Place

CLIENT = "127.0.0.5"
"""Where the browser connects from. The proxies connect from 127.0.0.1."""


class Browser:
    """Sends what browsers send. `metadata=False` is one that knows no Fetch Metadata."""

    def __init__(self, proxy: Proxy, certificates: Certificates, *, metadata: bool = True) -> None:
        self.origin = proxy.origin
        self.jar = Jar(lambda: time.time_ns() // 1_000_000)
        self._metadata = metadata
        context = ssl.create_default_context(cafile=str(certificates.ca))
        self._client = httpx2.Client(
            transport=httpx2.HTTPTransport(verify=context, local_address=CLIENT, trust_env=False),
            timeout=10,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> httpx2.Response:
        """Open a page."""
        return self._send("GET", path, headers)

    def post(self, path: str, headers: Mapping[str, str] | None = None) -> httpx2.Response:
        """Send a form of one of the site's own pages."""
        own = {"Origin": self.origin}
        if self._metadata:
            own["Sec-Fetch-Site"] = "same-origin"
        return self._send("POST", path, {**own, **(headers or {})})

    def cookie_header(self) -> str:
        """The cookies, for a client that is not ours."""
        return (self.jar.header(Place("https", "localhost", "/")) or b"").decode()

    def _send(self, method: str, path: str, headers: Mapping[str, str] | None) -> httpx2.Response:
        place = Place("https", "localhost", path)
        sent = dict(headers or {})
        cookies = self.jar.header(place)
        if cookies is not None:
            sent["Cookie"] = cookies.decode()
        reply = self._client.request(method, self.origin + path, headers=sent)
        self._client.cookies.clear()
        for line in reply.headers.get_list("set-cookie"):
            self.jar.take(line.encode("latin-1"), place)
        assert not self.jar.refused, self.jar.refused
        return reply
