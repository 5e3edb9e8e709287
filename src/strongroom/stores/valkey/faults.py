"""What goes wrong on the way to a server, and what that is in the tree of `core.errors`.

`Lost` and `Refusal` are the store's own: routing catches them, tries again where that can help, and
turns the last one into an error that says what happened. No message of ours holds a password or a
value; the server's words are cut short, because they may repeat what was sent.
"""

from __future__ import annotations

from strongroom.core.errors import StoreError, StoreMismatch, StoreUnavailable

from .settings import Address

_NOT_LET_IN = "Nobody is let in or signed out while the sessions cannot be read or written."
_BY_ITSELF = "The store goes on by itself as soon as the server does."

PASSING = frozenset(
    "LOADING READONLY MASTERDOWN CLUSTERDOWN TRYAGAIN BUSY NOREPLICAS UNBLOCKED NOQUORUM".split()
)
"""Refusals that end by themselves: somebody starts, takes over, or moves a slot."""


class Lost(Exception):
    """A connection was lost or not made. `sent`: the server may have done what was asked."""

    def __init__(self, address: Address, why: str, *, sent: bool) -> None:
        super().__init__(f"{address}: {why}")
        self.address, self.why, self.sent = address, why, sent


class Refusal(Exception):
    """A server's error reply. `code` is its first word."""

    def __init__(self, address: Address, reply: str) -> None:
        super().__init__(f"{address}: {reply}")
        self.address, self.reply = address, reply
        self.code = reply.partition(" ")[0]
        if "Script attempted to access a non local key" in reply:
            # A slot is being moved, and a key of it is on the other side already.
            self.code = "TRYAGAIN"

    @property
    def may_pass(self) -> bool:
        """Whether trying again may help."""
        return self.code in PASSING


_SAID = {
    "OOM": (
        "has reached its maxmemory, and evicts nothing",
        "New sessions cannot be kept, and nobody's live session is dropped for them; reading, "
        "renewing and ending still work.",
        "Raise maxmemory, or see what else fills the server.",
    ),
    "NOAUTH": (
        "asks for a password, and the store has none",
        _NOT_LET_IN,
        "Put user and password into the store's URL.",
    ),
    "WRONGPASS": (
        "does not take the user and password that the store has",
        _NOT_LET_IN,
        "Check both; special characters in a URL are written as %XX.",
    ),
    "NOPERM": (
        "forbids this user what the store needs",
        "A store that may do only half of it would end sessions only half.",
        "Give the user the ACL rules that docs/valkey.md lists.",
    ),
    "READONLY": (
        "is a replica, or has become one, and cannot be written",
        "A session that cannot be written cannot be ended either.",
        f"Point the store at the primary, or use Sentinel. {_BY_ITSELF}",
    ),
    "LOADING": ("is still reading its data from disk", _NOT_LET_IN, _BY_ITSELF),
    "MASTERDOWN": ("is a replica without its primary", _NOT_LET_IN, _BY_ITSELF),
    "CLUSTERDOWN": ("says that the cluster is down", _NOT_LET_IN, _BY_ITSELF),
    "TRYAGAIN": (
        "is moving this session's slot to another node",
        _NOT_LET_IN,
        "It lasts as long as one slot takes to move. " + _BY_ITSELF,
    ),
    "BUSY": ("is held up by somebody's script", _NOT_LET_IN, _BY_ITSELF),
    "NOREPLICAS": (
        "has fewer replicas than its min-replicas-to-write demands",
        "What it acknowledged now could be lost.",
        _BY_ITSELF,
    ),
    "MISCONF": (
        "cannot write to its disk, and refuses writes",
        "What it acknowledged now could be lost.",
        "Look at the server's log and its disk.",
    ),
    "MOVED": (
        "keeps sending the store on to other nodes",
        "The nodes do not agree about who serves this session, so nobody is asked.",
        "Use valkey+cluster:// for a cluster. " + _BY_ITSELF,
    ),
}


def unavailable(fault: Lost | Refusal) -> StoreError:
    """The fault, as an error of the store's contract."""
    if isinstance(fault, Lost):
        return StoreUnavailable(
            f"The session store at {fault.address} does not answer: {fault.why}.",
            why=_NOT_LET_IN,
            hint=f"See whether the server runs and can be reached. {_BY_ITSELF}",
        )
    if fault.code == "WRONGTYPE":
        return StoreMismatch(
            f"A key of the session store at {fault.address} was made by another program.",
            why="Two programs that write the same keys destroy each other's.",
            hint="Give each application its own prefix (?prefix=shop:), or its own database.",
        )
    said = _SAID.get(fault.code)
    if said is None:
        return StoreUnavailable(
            f"The session store at {fault.address} refused a command: {fault.reply[:120]}",
            why=_NOT_LET_IN,
            hint="Look up this answer in the server's documentation.",
        )
    what, why, hint = said
    return StoreUnavailable(
        f"The session store at {fault.address} {what} ({fault.code}).", why=why, hint=hint
    )


def nobody_serves(what: str) -> StoreUnavailable:
    """No server is known that serves what is asked for."""
    return StoreUnavailable(
        f"The session store cannot be used: {what}.", why=_NOT_LET_IN, hint=_BY_ITSELF
    )


def not_durable(address: Address) -> StoreUnavailable:
    """The primary did it, and too few others have it."""
    return StoreUnavailable(
        f"The session store at {address} did what was asked, but not enough replicas or disks "
        "confirmed it in time.",
        why="A failover now could undo it, so it is not acknowledged.",
        hint="See whether the replicas follow. Doing it again is safe.",
    )


def not_open() -> StoreUnavailable:
    """The store was closed, or never opened."""
    return StoreUnavailable(
        "This Valkey store is not open.",
        why="Nothing can be read or written before it is opened or after it is closed.",
        hint="Call open(store_identity) first; a session manager does so at start-up.",
    )


def belongs_to_others(prefix: str) -> StoreMismatch:
    """The identity under our prefix is another one."""
    return StoreMismatch(
        f"The keys that begin with {prefix!r} belong to another application, or to other keys.",
        why="Its sessions could not be found or ended under these keys, and were not touched.",
        hint="Give each application its own prefix (?prefix=shop:), or use the keyring that the "
        "store was made with.",
    )


def unfit(what: str, *, why: str, hint: str) -> StoreError:
    """A server on which the promises could not be kept."""
    return StoreMismatch(f"The session store's server {what}.", why=why, hint=hint)
