"""Events to another server over HTTPS: signed, in order, retried, and never in a request's way.

The signature is that of the Standard Webhooks specification, so any of its libraries verifies it:

    webhook-id: evt_...          the same for every try, so a receiver can drop what it knows
    webhook-timestamp: 1764061200
    webhook-signature: v1,base64(HMAC-SHA-256(secret, "id.timestamp.body"))

One thread sends, from a bounded queue. What does not fit is dropped and counted, because a slow
receiver must not fill this process's memory; what could not be delivered in the end is told in the
log, by id, without its content. At `close` what is queued is still tried once.
"""

from __future__ import annotations

import base64
import hmac
import json
import logging
import os
import queue
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from strongroom.core.errors import ConfigurationError
from strongroom.core.events import Event

ATTEMPTS = 6
FIRST_PAUSE = 1.0
"""Seconds before the second try; each further pause is twice as long, less up to half of it."""
TIMEOUT = 10.0
MOST = 10_000
"""Events that wait: at a kilobyte each about ten megabytes."""
_SECRET_BYTES = range(24, 65)
_log = logging.getLogger("strongroom")

Post = Callable[[str, bytes, dict[str, str]], int]
"""Sends a body with headers to a URL -> the status; raises OSError where there is no answer."""


@dataclass(frozen=True, slots=True)
class _Delivery:
    id: str
    body: bytes


class WebhookSink:
    """Posts events to `url`, signed with `secret` (24 to 64 bytes).

    `wants` chooses which; without it, everything that is not mere information.

    Raises:
        ConfigurationError: the URL is not https (http is for this machine only), or the secret is
            too short.
    """

    def __init__(
        self,
        url: str,
        secret: bytes,
        *,
        wants: Callable[[Event], bool] | None = None,
        post: Post | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        _check(url, secret)
        self._url = url
        self._secret = secret
        self._wants = wants or is_no_mere_information
        self._post = post or _over_http
        self._pause = pause
        self._queue: queue.Queue[_Delivery | None] = queue.Queue(MOST)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._closing = False
        self.dropped = 0
        """Events that found the queue full."""
        self.failed = 0
        """Events that no try delivered."""

    def __repr__(self) -> str:
        return f"WebhookSink({urlsplit(self._url).hostname!r}, secret hidden)"

    def __call__(self, event: Event) -> None:
        """Queue the event, if it is wanted, and return at once."""
        if not self._wants(event):
            return
        body = json.dumps({"type": event.name, "data": event.as_dict()}, default=str).encode()
        try:
            self._queue.put_nowait(_Delivery(f"evt_{os.urandom(12).hex()}", body))
        except queue.Full:
            self.dropped += 1
            return
        self._begin()

    def close(self, timeout: float = TIMEOUT) -> None:
        """Try what is queued once more, without pauses, and end the thread."""
        self._closing = True
        thread = self._thread
        if thread is not None and self._pid == os.getpid():
            self._queue.put(None)
            thread.join(timeout)

    def _begin(self) -> None:
        """Start the thread with the first event, and again in a forked child."""
        if self._pid == os.getpid():
            return
        with self._lock:
            if self._pid != os.getpid():
                self._pid = os.getpid()
                self._thread = threading.Thread(
                    target=self._run, name="strongroom-webhooks", daemon=True
                )
                self._thread.start()

    def _run(self) -> None:
        while (delivery := self._queue.get()) is not None:
            if not self._deliver(delivery):
                self.failed += 1
                _log.error(
                    "The webhook event %s could not be delivered to %s.",
                    delivery.id,
                    urlsplit(self._url).hostname,
                )

    def _deliver(self, delivery: _Delivery) -> bool:
        for attempt in range(1 if self._closing else ATTEMPTS):
            if attempt:
                longest = FIRST_PAUSE * 2 ** (attempt - 1)
                self._pause(longest * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries
            status = self._try(delivery)
            if 200 <= status < 300:
                return True
            if status == 410:  # Gone: the receiver wants no more, by the specification.
                return False
        return False

    def _try(self, delivery: _Delivery) -> int:
        headers = signed(delivery.id, int(time.time()), delivery.body, self._secret)
        try:
            return self._post(self._url, delivery.body, headers)
        except (OSError, ValueError):
            return 0


def is_no_mere_information(event: Event) -> bool:
    """Whether somebody should look at the event: what a webhook sends unless told otherwise."""
    return event.severity != "info"


def signed(id: str, timestamp: int, body: bytes, secret: bytes) -> dict[str, str]:
    """The headers of a delivery, by Standard Webhooks."""
    message = b"%s.%d.%s" % (id.encode(), timestamp, body)
    mac = base64.b64encode(hmac.digest(secret, message, "sha256")).decode("ascii")
    return {
        "content-type": "application/json",
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{mac}",
    }


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect is no success: events go where the operator said, and nowhere else."""

    def redirect_request(self, *_args: object, **_named: object) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirects)


def _over_http(url: str, body: bytes, headers: dict[str, str]) -> int:
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")  # noqa: S310
    try:
        with _opener.open(request, timeout=TIMEOUT) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def _check(url: str, secret: bytes) -> None:
    parts = urlsplit(url)
    here = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and here):
        raise ConfigurationError(
            "A webhook's URL must be https.",
            why="Events say who signed in and from where.",
            hint="Use https; http is for this machine only.",
        )
    if len(secret) not in _SECRET_BYTES:
        raise ConfigurationError(
            f"A webhook's secret has {len(secret)} bytes, and needs 24 to 64.",
            why="Whoever guesses it can send events of their own to the receiver.",
            hint="Make one: python -c 'import secrets; print(secrets.token_hex(32))'",
        )
