"""Why things happen: what each event and signal means, and how honest people cause it.

`strongroom explain NAME` prints these, the documentation draws its tables from them, and the notice
to an account's owner takes its advice from here. A test finds the name that has none.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Explanation:
    """What it means, what is innocent about it, and what to do. Whole sentences."""

    means: str
    innocent: str
    do: str


NOTHING_TO_DO = "Nothing: it is here for the record."

EXPLANATIONS: dict[str, Explanation] = {
    # Events.
    "session_created": Explanation(
        "A session began: a visitor's first data was stored, or somebody signed in.",
        "Ordinary use.",
        NOTHING_TO_DO,
    ),
    "session_renewed": Explanation(
        "The session token was replaced. `how` says why: a renewal by time, a rotation because "
        "privilege changed, or adopted, where the store had lost a renewal that the browser had.",
        "Ordinary use. `adopted` is honest too: it follows a failover or a crash of the store.",
        "Nothing. If `adopted` comes in numbers, look at the store's replication.",
    ),
    "session_expired": Explanation(
        "The idle or the absolute timeout of the session ran out.",
        "Somebody stopped working, or worked for very long.",
        "Nothing. If people complain, see the timeouts with: strongroom policy show",
    ),
    "session_logout": Explanation("The user signed out.", "Ordinary use.", NOTHING_TO_DO),
    "session_ended": Explanation(
        "The session was ended by something else than its own sign-out or clock; `reason` says by "
        "what, and `by` by whom.",
        "The owner ended it from the list of devices, an operator did, or a sign-in took over.",
        "If the reason is token_reuse, see: strongroom explain authn_token_reuse",
    ),
    "session_use_after_expire": Explanation(
        "A token of a session that has ended was presented, or a write came after the end.",
        "A tab that was left open over night; a request that was under way at sign-out.",
        "Nothing, unless one address does it for many sessions: that is a list of old cookies.",
    ),
    "authn_login_success": Explanation("Somebody signed in.", "Ordinary use.", NOTHING_TO_DO),
    "authn_login_fail": Explanation(
        "Credentials were checked, and nobody was signed in.",
        "A typing mistake; an old password in a password manager.",
        "In numbers: limit the rate of sign-ins by account and by address.",
    ),
    "authn_remember_created": Explanation(
        "Somebody signed in and asked to be remembered in this browser.",
        "Ordinary use.",
        NOTHING_TO_DO,
    ),
    "authn_remember_used": Explanation(
        "A persistent login opened a session: the browser came back without a live one. The "
        "session has the lowest level of assurance until a factor is proved anew.",
        "Ordinary use: the browser was closed, or the session ran out.",
        NOTHING_TO_DO,
    ),
    "authn_remember_ended": Explanation(
        "A persistent login ended, and every session that came from it; `reason` says by what.",
        "The owner signed out, changed the password, or ended it from the list of devices.",
        "If the reason is token_reuse, see: strongroom explain authn_token_reuse",
    ),
    "subject_erased": Explanation(
        "Everything that was kept of somebody was removed: sessions, persistent logins, history.",
        "Somebody asked to be forgotten, and an operator did it; `by` says who.",
        "Delete what your logs and backups keep of them, too, where you must.",
    ),
    "device_disowned": Explanation(
        'Somebody said "this was not me" of a device: its sessions and persistent logins ended, '
        "and it is new again at its next sign-in; `by` says who.",
        "An owner who does not recognise an own device by its label or its place.",
        "Whoever signed in there knew the password: have it changed, and look at what was done.",
    ),
    "authn_step_up": Explanation(
        "A factor was proved again, or a further one, within a session.",
        "Ordinary use of a sensitive page.",
        NOTHING_TO_DO,
    ),
    "authn_step_down": Explanation(
        "Somebody who had proved a factor said that they were done: sensitive pages ask anew.",
        "Ordinary use.",
        NOTHING_TO_DO,
    ),
    "authz_fail": Explanation(
        "An action was refused until a factor is proved anew.",
        "Ordinary use: the sign-in was too long ago for this page.",
        NOTHING_TO_DO,
    ),
    "authz_approval_asked": Explanation(
        "A transaction waits for its owner to approve it, with a factor proved for it.",
        "Ordinary use.",
        NOTHING_TO_DO,
    ),
    "authz_approval_given": Explanation(
        "Factors were proved for one transaction, and count for nothing else.",
        "Ordinary use.",
        NOTHING_TO_DO,
    ),
    "authz_approval_used": Explanation(
        "An approved transaction was carried out. Its approval is used up.",
        "Ordinary use.",
        NOTHING_TO_DO,
    ),
    "authz_approval_refused": Explanation(
        "An approval was presented that is worth nothing, and nothing was done; `reason` says why: "
        "used, too_old, changed, another_session, unknown, ended, session_has_ended, altered.",
        "A form that was sent twice; a page that was left open for longer than an approval lives.",
        "After altered, find out who writes to the store. After changed or another_session, "
        "somebody tried what was not approved: strongroom sessions history SUBJECT",
    ),
    "authn_password_change": Explanation(
        "A password or another factor was changed; the other sessions ended.",
        "The owner changed it.",
        "Tell the owner (ASVS 6.3.7). If it was not them, disable the account.",
    ),
    "user_disabled": Explanation(
        "The account was disabled or deleted, and everything that it had ended.",
        "Somebody left.",
        NOTHING_TO_DO,
    ),
    "session_signed_out_everywhere": Explanation(
        "All sessions of an account were ended together.",
        "The owner asked for it, or an operator did.",
        NOTHING_TO_DO,
    ),
    "authn_token_reuse": Explanation(
        "A token that had been replaced long ago came back. Two browsers have used one session's "
        "cookie: one of them has a copy. The session ended, and what could have re-created it.",
        "Hardly any: retries, lost responses, parallel tabs and crashes are accounted for. "
        "A browser profile copied or restored from a backup does it.",
        "Ask the owner whether they know the addresses in: strongroom sessions history SUBJECT; "
        "then have the password changed, and the devices looked at for malware.",
    ),
    "session_token_refused": Explanation(
        "A token was not believed, and nothing ended; `reason` says why: forged, unknown_key, "
        "shape, mismatch, rotated_away.",
        "A cookie of another deployment on the same host; a very old cookie.",
        "In numbers from one address, somebody is guessing: block the address.",
    ),
    "session_cookie_tossing": Explanation(
        "Several valid sessions came in one request: somebody planted a cookie beside the user's.",
        "A leftover after the cookie's path or domain was changed.",
        "Look at every host under your domain that can set cookies; use the __Host- prefix.",
    ),
    "session_two_places": Explanation(
        "One token came from two clients that do not look alike, while a renewal was under way.",
        "A phone that changed its network at that moment.",
        "Nothing for one. If it repeats for a session, end it: strongroom sessions end SESSION_ID",
    ),
    "session_signal": Explanation(
        "Something looks wrong; `signal` names it, `why` says it in a sentence, `responses` what "
        "followed.",
        "Most signals are caused by honest people: each has an explanation of its own.",
        "Read the signal's own: strongroom explain new_device, and so on",
    ),
    "excess_sessions_exceeded": Explanation(
        "The account has as many sessions as the policy allows; the newest took an older one's "
        "place, or was refused.",
        "A script that signs in for each call and never signs out.",
        "Raise max_sessions if people really have so many devices.",
    ),
    "malicious_csrf": Explanation(
        "A request that would change something came from another site, or could not show where it "
        "came from; `rule` says which rule decided.",
        "A form of your own on another origin; a proxy that rewrites Origin; a script without the "
        "token.",
        "If it is yours, list the origin in CsrfRules(trusted_origins=...) or send the token. "
        "strongroom doctor URL says what the server sees.",
    ),
    "session_generations_used_up": Explanation(
        "A session was renewed or rotated as often as a session can be.",
        "A script that elevates in a loop.",
        "Find out what asks for so many rotations.",
    ),
    "crypt_decrypt_fail": Explanation(
        "A session's record could not be opened. Nobody was let in, and nobody was signed out.",
        "A server of an older release beside a newer one; a key that has not arrived yet.",
        "Run the newest release everywhere. If the store was damaged or written by somebody, end "
        "all sessions: strongroom store restored",
    ),
    "sys_store_unavailable": Explanation(
        "The store did not answer in time. Nobody was let in; public pages go on.",
        "A restart, a failover, a full disk.",
        "See what it says: strongroom store check",
    ),
    "sys_clock_skew": Explanation(
        "This server's clock and the store's differ by more than the policy allows.",
        "A machine without time synchronisation, or one that was paused.",
        "Turn NTP on. Until then sessions may live longer or shorter by that much.",
    ),
    "session_all_ended": Explanation(
        "Everybody was signed out, by one write.",
        "An operator did it, or a backup was restored.",
        NOTHING_TO_DO,
    ),
    "application": Explanation(
        "The application noted something of its own.", "Ordinary use.", NOTHING_TO_DO
    ),
    # Signals.
    "new_device": Explanation(
        "A sign-in from a kind of browser, or a device, that the account was never used from.",
        "A new phone, another browser, a private window, cookies cleared.",
        "Tell the owner; the policy does.",
    ),
    "new_country": Explanation(
        "A sign-in from a country that the account was never used from.",
        "Travel; a VPN; a mobile operator that routes through another country.",
        "Tell the owner; the policy does.",
    ),
    "new_network": Explanation(
        "A sign-in from a network that the account was never used from.",
        "A café, a hotel, a new contract. It happens to everybody.",
        NOTHING_TO_DO,
    ),
    "impossible_travel": Explanation(
        "Two uses whose places are further apart than anybody travels in that time, also when both "
        "places are as inexact as the database says.",
        "An address that the database places wrongly; a VPN that it does not know as one.",
        "Ask for a fresh sign-in; the policy does. Compare the addresses in the account's history.",
    ),
    "after_failures": Explanation(
        "Sign-ins failed several times, and then one worked.",
        "Somebody who forgot which password it was.",
        "If the failures came from other networks, somebody guesses: ask for a second factor.",
    ),
    "sign_in_burst": Explanation(
        "Many sign-ins of one account within minutes.",
        "A script or a test with a real account; a browser that keeps no cookies.",
        "Look at where they come from: strongroom sessions list SUBJECT",
    ),
    "unusual_time": Explanation(
        "A sign-in at a time of day at which the account is hardly ever used.",
        "A night shift, another time zone.",
        NOTHING_TO_DO,
    ),
    "sign_in_risk": Explanation(
        "All in all the sign-in looks likelier for anybody than for this account.",
        "A new computer in a new place: the first sign-in after a move.",
        "Tell the owner; above 0.9 the policy asks for a fresh sign-in on sensitive pages.",
    ),
    "agent_changed": Explanation(
        "The session is used by another browser or platform than it began in, or by an older "
        "version: cookies do not move between browsers by themselves.",
        "A page shown in its desktop version; a browser profile moved to a new computer.",
        "Ask for a fresh sign-in; the policy does.",
    ),
    "address_changed": Explanation(
        "The session moved to another network.",
        "A phone does it all day; a laptop between home and office.",
        "Nothing, unless the country changed with it.",
    ),
    "two_places": Explanation(
        "One session is used from two networks in turn, again and again.",
        "A phone at the edge of a wireless network; a proxy that spreads over several addresses.",
        "Ask for a fresh sign-in; the policy does.",
    ),
    "other_subject": Explanation(
        "A request carried credentials of two accounts: a session of one, a persistent login of "
        "another.",
        "Two people who share a browser.",
        NOTHING_TO_DO,
    ),
    "session_creation_spike": Explanation(
        "Far more sessions begin within a minute than usual.",
        "A campaign, a newsletter, a crawler that keeps no cookies.",
        "Look at the addresses; store less for visitors who did nothing.",
    ),
    "csrf_spike": Explanation(
        "Far more cross-site requests are refused within a minute than usual.",
        "A deployment that changed an origin, so that your own forms are refused.",
        "If you just deployed, compare the origins: strongroom doctor. Else somebody attacks.",
    ),
    "token_guessing": Explanation(
        "Far more tokens are refused within a minute than usual.",
        "A key that was retired or restored wrongly makes everybody's cookie unknown.",
        "See the keys: strongroom keys list. Else block the addresses that do it.",
    ),
    "failed_sign_in_spike": Explanation(
        "Far more sign-ins fail within a minute than usual: stolen passwords are being tried.",
        "The password database cannot be reached, so that everybody fails.",
        "Limit the rate of sign-ins; ask for a second factor.",
    ),
    "sign_in_spike": Explanation(
        "Far more people sign in within a minute than usual.",
        "Monday morning; everybody was signed out before.",
        "See whether something ended everybody's sessions.",
    ),
}
"""By the event's or the signal's stable name."""
