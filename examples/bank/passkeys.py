"""Passkeys: what the browser is asked, and whether its answer is right (WebAuthn, by `webauthn`).

A challenge waits in the session, sealed like all of its data, for one purpose and one answer: it is
taken out and saved before the answer is looked at, so of two answers one is too late.

A passkey that was unlocked by a finger, a face or a PIN is two factors in one: `mfa`, with `swk`,
because nobody attests here that its key is in hardware (RFC 8176).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import webauthn
from fastapi import Request
from webauthn.helpers import bytes_to_base64url
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from strongroom import Session

from .accounts import Account
from .factors import Passkey

AMR = ("swk", "mfa")
LIFETIME = 5 * 60 * 1000
"""Milliseconds for finding the phone and putting a finger on it."""
_WAITING = "passkey"


class WrongPasskey(Exception):
    """The browser's answer proves nothing: it is for another page, another site, or not signed."""


@dataclass(frozen=True, slots=True)
class Site:
    """Whom a passkey is for: the browser signs it, so that no other site can ask in our name."""

    host: str
    origin: str

    @classmethod
    def of(cls, request: Request) -> Site:
        """This one, as the browser calls it."""
        host = request.url.hostname or ""
        return cls(host, f"{request.url.scheme}://{request.url.netloc}")


def ask_for_new(
    site: Site, session: Session, account: Account, known: tuple[Passkey, ...], now: int
) -> str:
    """The options for making a key, as JSON for the page's script."""
    options = webauthn.generate_registration_options(
        rp_id=site.host,
        rp_name="Tern & Holloway",
        user_id=account.id.encode(),
        user_name=account.username,
        user_display_name=account.name,
        exclude_credentials=_named(known),
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.PREFERRED,
            user_verification=UserVerificationRequirement.REQUIRED,
        ),
    )
    _wait(session, "new", options.challenge, now)
    return webauthn.options_to_json(options)


async def made(
    site: Site, session: Session, account: Account, credential: str, name: str, now: int
) -> Passkey:
    """The key that the browser made.

    Raises:
        WrongPasskey: it did not make one for this page.
    """
    challenge = await _take(session, "new", now)
    try:
        new = webauthn.verify_registration_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=site.host,
            expected_origin=site.origin,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, KeyError, TypeError) as error:
        raise WrongPasskey from error
    key_id = bytes_to_base64url(new.credential_id)
    return Passkey(key_id, account.id, name, new.credential_public_key, new.sign_count)


def ask_for(
    site: Site, session: Session, known: tuple[Passkey, ...], purpose: str, now: int
) -> str:
    """The options for using one of these keys, for one purpose, as JSON for the page's script."""
    options = webauthn.generate_authentication_options(
        rp_id=site.host,
        allow_credentials=_named(known),
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    _wait(session, purpose, options.challenge, now)
    return webauthn.options_to_json(options)


async def used(
    site: Site,
    session: Session,
    known: tuple[Passkey, ...],
    credential: str,
    purpose: str,
    now: int,
) -> tuple[Passkey, int]:
    """Which key was used for this purpose, and the count that it told.

    Raises:
        WrongPasskey: none was.
    """
    challenge = await _take(session, purpose, now)
    try:
        given: Any = json.loads(credential)
        (passkey,) = [each for each in known if each.id == given["id"]]
        verified = webauthn.verify_authentication_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=site.host,
            expected_origin=site.origin,
            credential_public_key=passkey.public_key,
            credential_current_sign_count=passkey.count,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, KeyError, TypeError) as error:
        raise WrongPasskey from error
    return passkey, verified.new_sign_count


def _named(known: tuple[Passkey, ...]) -> list[PublicKeyCredentialDescriptor]:
    ids = [webauthn.base64url_to_bytes(each.id) for each in known]
    return [PublicKeyCredentialDescriptor(id=each) for each in ids]


def _wait(session: Session, purpose: str, challenge: bytes, now: int) -> None:
    session[_WAITING] = {"for": purpose, "challenge": challenge, "until": now + LIFETIME}


async def _take(session: Session, purpose: str, now: int) -> bytes:
    waiting: Any = session.pop(_WAITING, None)
    await session.save(strict=True)
    if waiting is None or waiting["for"] != purpose or now >= waiting["until"]:
        raise WrongPasskey
    challenge: bytes = waiting["challenge"]
    return challenge
