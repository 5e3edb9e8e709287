"""The doctor's way to the application: GET with the standard library, bounded in every direction.

One request a connection, a time limit for the whole of it, 64 KiB of the body, redirects within the
same host only. Nothing is read from the environment: no proxy settings, no credentials.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urljoin, urlsplit

from strongroom.core.errors import UsageError

MOST_REDIRECTS = 3
_MOST_BODY = 64 * 1024
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Place:
    """A page: where it is, and how it is asked for."""

    scheme: str
    host: str
    port: int
    target: str = "/"

    @classmethod
    def of(cls, url: str) -> Place:
        """The page at the URL.

        Raises:
            UsageError: it is not an http or https URL.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or _PORTS.get(parts.scheme, 0)
        except ValueError:
            parts, port = SplitResult("", "", "", "", ""), 0
        if not parts.hostname or not port or parts.username is not None:
            raise UsageError(
                "That is not the address of a web page.",
                hint="Write it as the browser shows it: strongroom doctor https://shop.example",
            )
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.scheme, parts.hostname, port, target)

    @property
    def netloc(self) -> str:
        """Host and port as a browser sends them: without the scheme's own port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if _PORTS[self.scheme] == self.port else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """The origin of the page."""
        return f"{self.scheme}://{self.netloc}"

    @property
    def is_loopback(self) -> bool:
        """Whether the page is on this machine, where browsers are less strict."""
        return self.host in ("localhost", "127.0.0.1", "::1") or self.host.endswith(".localhost")

    def other(self, target: str) -> Place:
        """Another page of the same origin."""
        return Place(self.scheme, self.host, self.port, target)

    def __str__(self) -> str:
        return self.origin + self.target


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. `ours` and `theirs` are the two ends of the connection."""

    place: Place
    status: int
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)
    ours: str
    theirs: str
    expires: str | None = None

    def values(self, name: str) -> list[str]:
        """All values of a header, in order."""
        return [value for key, value in self.headers if key == name]

    def value(self, name: str) -> str | None:
        """The header as one text, or None."""
        return ", ".join(self.values(name)) if self.values(name) else None


@dataclass(frozen=True, slots=True)
class Way:
    """How the doctor connects: `source` is the address of this machine to do it from."""

    timeout: float = 10.0
    ca: str | None = None
    insecure: bool = False
    source: str | None = None

    def get(self, place: Place, headers: Mapping[str, str] | None = None) -> Reply:
        """One page, redirects not followed.

        Raises:
            NoAnswer: nobody answered, or with something that is not HTTP.
        """
        connection = self._connection(place)
        try:
            with _deadline(connection, self.timeout):
                connection.connect()
                return _exchange(connection, place, headers or {})
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _no_answer(place, error) from None
        finally:
            connection.close()

    def follow(self, place: Place) -> list[Reply]:
        """The page and what it redirects to, within the same host."""
        replies = [self.get(place)]
        while len(replies) <= MOST_REDIRECTS:
            there = redirect(replies[-1])
            if there is None or there.host != place.host:
                break
            replies.append(self.get(there))
        return replies

    def _connection(self, place: Place) -> http.client.HTTPConnection:
        source = (self.source, 0) if self.source else None
        if place.scheme == "http":
            return http.client.HTTPConnection(
                place.host, place.port, timeout=self.timeout, source_address=source
            )
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except OSError as error:  # ssl.SSLError is one
            raise UsageError(
                f"The certificates in {self.ca} cannot be read ({type(error).__name__}).",
                hint="Name a PEM file: --ca ca.pem",
            ) from None
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection(
            place.host, place.port, timeout=self.timeout, source_address=source, context=context
        )


class NoAnswer(Exception):
    """Nobody answered. `what` and `change` are sentences for the finding."""

    def __init__(self, what: str, why: str, change: str) -> None:
        self.what, self.why, self.change = what, why, change
        super().__init__(what)


def redirect(reply: Reply) -> Place | None:
    """Where the reply sends to, if it is a web page."""
    location = reply.value("location")
    if reply.status not in (301, 302, 303, 307, 308) or location is None:
        return None
    try:
        return Place.of(urljoin(str(reply.place), location))
    except (UsageError, ValueError):
        return None


def _exchange(
    connection: http.client.HTTPConnection, place: Place, headers: Mapping[str, str]
) -> Reply:
    sock: socket.socket = connection.sock
    ours, theirs = sock.getsockname()[0], sock.getpeername()[0]
    certificate = sock.getpeercert() if isinstance(sock, ssl.SSLSocket) else None
    connection.putrequest("GET", place.target, skip_host=True, skip_accept_encoding=True)
    sent = {"Host": place.netloc, "Accept": "text/html, */*", "User-Agent": "strongroom-doctor"}
    for name, value in {**sent, **headers}.items():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    expires = (certificate or {}).get("notAfter")
    return Reply(
        place,
        response.status,
        tuple((name.lower(), value) for name, value in response.getheaders()),
        response.read(_MOST_BODY),
        str(ours),
        str(theirs),
        expires if isinstance(expires, str) else None,
    )


@contextlib.contextmanager
def _deadline(connection: http.client.HTTPConnection, seconds: float) -> Generator[None]:
    """A limit for all of it: a socket's own is for each read, and a slow server can drip."""
    late = threading.Event()

    def hang_up() -> None:
        late.set()
        with contextlib.suppress(OSError, AttributeError):
            connection.sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if late.is_set():
            # What was read until then ends like a whole answer, and is none.
            raise TimeoutError


def _no_answer(place: Place, error: Exception) -> NoAnswer:
    if isinstance(error, ssl.SSLCertVerificationError):
        return NoAnswer(
            f"The certificate of {place.netloc} is refused: {error.verify_message}.",
            "A browser shows a warning instead of the page.",
            "Install the whole chain, for this name. For a certificate of your own authority: "
            "--ca FILE, or --insecure to look all the same.",
        )
    if isinstance(error, ssl.SSLError):
        return NoAnswer(
            f"{place.netloc} does not speak TLS as it should ({error.reason or 'SSLError'}).",
            "Nothing can be asked over this connection.",
            "Check that the port is the one that has https.",
        )
    if isinstance(error, ConnectionRefusedError):
        return NoAnswer(
            f"Nobody listens at {place.netloc}.",
            "Neither a proxy nor the application is there.",
            "Start it, or check host and port.",
        )
    if isinstance(error, socket.gaierror):
        return NoAnswer(
            f"There is no host called {place.host}.",
            "The name has no address here.",
            "Check the name, and the DNS of this machine.",
        )
    return NoAnswer(
        f"{place.netloc} did not answer as a web server does ({type(error).__name__}).",
        "What it sets and believes cannot be told.",
        "Check that the proxy reaches the application; --timeout gives it longer.",
    )
