"""The scripts that the server runs: each is one op on one slot, and says what `lifecycle` says.

Every script reads all that it needs before it writes anything, so that one that fails half-way (a
slot that is being moved, a full memory) has changed nothing. What may happen to a record of each
kind is generated from `lifecycle.TABLE`, and the header's offsets from `layout.OFFSETS`; the
contract suite's random walk compares every answer with the core's.

`ARGV[1]` is `1` where an earlier attempt may have been carried out unheard. A record that bears the
op's own revision then proves that it was, and is answered as it would have been.

Missing members of an index are gone, on one server. In a cluster a key that is missing may be on
its way to another node, so there a script that misses any answers `missing` and does nothing,
unless it is told that these are gone for certain.

Scripts that make room, or that security needs, are allowed when the memory is full.
"""

from __future__ import annotations

import hashlib

from strongroom.core.credentials import ChangedBy
from strongroom.core.lifecycle import FORGOTTEN_AT_ONCE, KEPT_OVER, TABLE
from strongroom.core.ops import AtLimit
from strongroom.core.record import FORMAT, EndReason, Kind

from .layout import FIXED, OFFSETS

LINGER_MS = 2_000
"""How much longer than asked the server keeps what is due: the skew of clocks that the protocol
allows. Nobody depends on the moment, but who was just told of a record should still find it."""

SPARE_MS = 7 * 24 * 3600 * 1000
"""How much longer than its sessions an index is kept, so that a touch seldom has to extend it."""


class Script:
    """A script, its name on the server, and its text."""

    def __init__(self, body: str, *, when_full: bool = True) -> None:
        flags = " flags=allow-oom" if when_full else ""
        text = f"#!lua{flags}\n{_PRELUDE}{body}"
        self.text = text.encode()
        # SHA-1 is the server's way of naming scripts; nothing relies on it.
        self.sha = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()


def _lua_table() -> str:
    verbs = sorted({verb for row in TABLE.values() for verb in row})
    rows: list[str] = []
    for verb in verbs:
        kinds = [
            f"[{int(kind)}]={{{','.join(f'[{int(to)}]=true' for to in sorted(row[verb]))}}}"
            for kind, row in TABLE.items()
            if verb in row
        ]
        rows.append(f"['{verb}']={{{','.join(kinds)}}}")
    return "{" + ",".join(rows) + "}"


def _at(name: str) -> int:
    """Lua counts from one."""
    return OFFSETS[name] + 1


_SIGNED_IN = ",".join(f"[{int(kind)}]=true" for kind in Kind if kind.is_signed_in)

_PRELUDE = f"""
local MAY = {_lua_table()}
local SIGNED_IN = {{{_SIGNED_IN}}}
local ZERO8 = string.rep('\\0', 8)
local again = ARGV[1] == '1'

local function number(v, at)
  local high, low = struct.unpack('>I4I4', v, at)
  return high * 4294967296 + low
end
local function bytes8(n)
  return struct.pack('>I4I4', math.floor(n / 4294967296), n % 4294967296)
end
local function put(v, at, new)
  return v:sub(1, at - 1) .. new .. v:sub(at + #new)
end
local function length(v)
  return v:byte(2) * 256 + v:byte(3)
end
local function readable(v)
  if #v < {OFFSETS["end"] + FIXED} then return false end
  local format, n = v:byte(1), length(v)
  return (format == {FORMAT} or format == {FORMAT + 1})
    and n >= {OFFSETS["end"]} and #v >= n + {FIXED}
    and v:byte({_at("kind")}) <= {max(Kind)}
    and v:byte({_at("end_reason")}) <= {len(EndReason)}
    and v:byte({_at("changed_by")}) <= {max(ChangedBy)}
end
local function is_live(v) return v:byte({_at("end_reason")}) == 0 end
local function kind(v) return v:byte({_at("kind")}) end
local function revision(v) return v:sub({_at("revision")}, {_at("revision") + 7}) end
local function with_revision(v, new) return put(v, {_at("revision")}, new) end
local function lives(ms) return math.max(math.floor(ms), 1) end

local function keep(key, v) redis.call('SET', key, v, 'KEEPTTL') end
local function keep_for(key, v, ms) redis.call('SET', key, v, 'PX', lives(ms)) end
local function last_at_least(key, ms)
  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, lives(ms)) end
end

local function ended(v, reason, at, purge_at, new_revision)
  local start = length(v) + {FIXED}
  local envelope = struct.unpack('>I4', v, start - 3)
  v = v:sub(1, start + envelope)
  v = put(v, {_at("end_reason")}, reason)
  v = put(v, {_at("purge_at")}, purge_at)
  v = put(v, {_at("ended_at")}, at)
  return with_revision(v, new_revision)
end

local function load(index, base, gone, sure)
  local known, found, missing, doubtful = {{}}, {{}}, {{}}, {{}}
  for at = 1, #gone, 14 do known[gone:sub(at, at + 13)] = true end
  for _, id in ipairs(redis.call('SMEMBERS', index)) do
    local v = redis.call('GET', base .. id)
    if v then
      found[#found + 1] = {{id, v}}
    elseif sure or known[id] then
      missing[#missing + 1] = id
    else
      doubtful[#doubtful + 1] = id
    end
  end
  return found, missing, doubtful
end
local function told_missing(doubtful)
  table.insert(doubtful, 1, 'missing')
  return doubtful
end
local function forget(index, ids)
  for _, id in ipairs(ids) do redis.call('SREM', index, id) end
end
"""

# A change of one record. KEYS: the record, and its index where that has to last longer.
# ARGV: again, strict, the record's rest of the id, revision, ...
_CHANGE = """
local strict, rest, new_revision = ARGV[2] == '1', ARGV[3], ARGV[4]
local v = redis.call('GET', KEYS[1])
if not v then return {'gone'} end
if not readable(v) then return {'left', v} end
if again and revision(v) == new_revision then
  keep(KEYS[1], v)
  return {'done', v}
end
if not is_live(v) or not MAY[VERB][kind(v)] then
  -- Whoever has to wait until the end is durable needs a write of its own to wait for.
  if strict then keep(KEYS[1], v) end
  return {'gone'}
end
local function index_lasts(v, purge_at, at)
  local start = length(v)
  if v:sub(start + 1, start + 16) == string.rep('\\0', 16) then return v end
  if purge_at + HOUR <= number(v, start + 17) then return v end
  if not KEYS[2] then return nil end
  redis.call('SADD', KEYS[2], rest)
  last_at_least(KEYS[2], purge_at - at + SPARE + LINGER)
  return put(v, start + 17, bytes8(purge_at + SPARE))
end
""".replace("HOUR", "3600000")

_SEEN = f"""
local function seen(v, at)
  local moved = false
  for _, where in ipairs({{{_at("last_seen")}, {_at("idle_deadline")}, {_at("purge_at")}}}) do
    local new = at:sub(1, 8)
    at = at:sub(9)
    if number(new, 1) > number(v, where) then
      v = put(v, where, new)
      moved = where
    end
  end
  return v, moved == {_at("purge_at")}, moved
end
"""

_CREDENTIAL = f"""
local function with_credential(v, notes, fields)
  local known = v:sub({_at("generation")}, {_at("inserted_at") - 1})
  local first, confirmed = {OFFSETS["first_used_at"] - OFFSETS["generation"] + 1}, \
{OFFSETS["confirmed_at"] - OFFSETS["generation"] + 1}
  local from, to = {OFFSETS["current"] - OFFSETS["generation"] + 1}, \
{OFFSETS["current"] - OFFSETS["generation"] + 16}
  if known:sub(from, to) == fields:sub(from, to) then
    if number(known, confirmed) ~= 0 then return v end
    if number(known, first) > number(fields, first) then
      fields = put(fields, first, known:sub(first, first + 7))
    end
  end
  return put(put(v, {_at("changed_by")}, notes), {_at("generation")}, fields)
end
local function current(v) return v:sub({_at("current")}, {_at("current") + 15}) end
"""


def _change(verb: str, body: str, *, when_full: bool = True) -> Script:
    text = (_CHANGE + body).replace("VERB", f"'{verb}'")
    text = text.replace("SPARE", str(SPARE_MS)).replace("LINGER", str(LINGER_MS))
    return Script(text, when_full=when_full)


TOUCH = _change(
    "touch",
    _SEEN
    + f"""
local new, purges, moved = seen(v, ARGV[5])
if not moved then return {{'done', v}} end
new = with_revision(new, new_revision)
if purges then
  local purge_at, at = number(new, {_at("purge_at")}), number(ARGV[5], 1)
  new = index_lasts(new, purge_at, at)
  if not new then return {{'extend', v}} end
  keep_for(KEYS[1], new, purge_at - at + LINGER)
else
  keep(KEYS[1], new)
end
return {{'done', new}}
""",
)
"""ARGV 5: seen at, idle deadline and purge at."""

SHIFT = _change(
    "shift",
    _CREDENTIAL
    + """
if current(v) ~= ARGV[5] then return {'left', v} end
local new = with_revision(with_credential(v, ARGV[6], ARGV[7]), new_revision)
keep(KEYS[1], new)
return {'done', new}
""",
)
"""ARGV 5: the expected digest; 6, 7: the credential."""

ROTATE = _change(
    "rotate",
    _SEEN
    + _CREDENTIAL
    + f"""
if not MAY['rotate'][kind(v)][ARGV[9]:byte(1)] then
  if strict then keep(KEYS[1], v) end
  return {{'gone'}}
end
if current(v) ~= ARGV[5] then return {{'left', v}} end
local new, purges = seen(v, ARGV[8])
new = with_revision(with_credential(new, ARGV[6], ARGV[7]), new_revision)
new = put(new, {_at("kind")}, ARGV[9])
new = put(new, {_at("envelope_key_id")}, ARGV[10])
if purges then
  new = index_lasts(new, number(new, {_at("purge_at")}), number(ARGV[8], 1))
  if not new then return {{'extend', v}} end
end
local start = length(v) + {FIXED}
local data = v:sub(start + struct.unpack('>I4', v, start - 3) + 1)
new = new:sub(1, start - 4) .. struct.pack('>I4', #ARGV[11]) .. ARGV[11] .. data
if purges then
  keep_for(KEYS[1], new, number(new, {_at("purge_at")}) - number(ARGV[8], 1) + LINGER)
else
  keep(KEYS[1], new)
end
return {{'done', new}}
""",
)
"""ARGV 5: the expected digest; 6, 7: the credential; 8: moments; 9: kind; 10, 11: envelope."""

REPLACE = _change(
    "replace",
    f"""
if v:sub({_at("data_version")}, {_at("data_version") + 7}) ~= ARGV[5] then return {{'left', v}} end
local start = length(v) + {FIXED}
local new = v:sub(1, start + struct.unpack('>I4', v, start - 3)) .. ARGV[8]
new = put(put(new, {_at("data_version")}, ARGV[6]), {_at("data_key_id")}, ARGV[7])
new = with_revision(new, new_revision)
keep(KEYS[1], new)
return {{'done', new}}
""",
    when_full=False,
)
"""ARGV 5: the expected version; 6: the new one; 7: key id; 8: data."""

END = _change(
    "end",
    """
local start = length(v)
if ARGV[8] ~= '' and v:sub(start + 1, start + 16) ~= ARGV[8] then return {'gone'} end
local at, purge_at = number(ARGV[6], 1), number(ARGV[7], 1)
local new = index_lasts(v, purge_at, at)
if not new then return {'extend', v} end
new = ended(new, ARGV[5], ARGV[6], ARGV[7], new_revision)
keep_for(KEYS[1], new, purge_at - at + LINGER)
return {'done', new}
""",
)
"""ARGV 5: reason; 6: at; 7: purge at; 8: the subject whose it must be, or nothing."""

_INSERT = f"""
local value, ttl, index_ttl, rest = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local expected, store_epoch, evicted_at, evicted_purge = ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local maximum, rule, replaced, has_subject = ARGV[10], ARGV[11], ARGV[12], ARGV[13] == '1'
local gone, sure, base = ARGV[14], ARGV[15] == '1', KEYS[1]:sub(1, -15)
local existing = redis.call('GET', KEYS[1])
if existing then
  local mine = again and readable(existing) and revision(existing) == revision(value)
  if not mine then return {{'exists', existing}} end
end
local subject_epoch, others, missing, doubtful = ZERO8, {{}}, {{}}, {{}}
if has_subject then
  subject_epoch = redis.call('GET', KEYS[3]) or ZERO8
  if maximum ~= '' then others, missing, doubtful = load(KEYS[2], base, gone, sure) end
end
if existing then
  local answer = {{'ok', existing}}
  for _, each in ipairs(others) do
    local v = each[2]
    if readable(v) and not is_live(v) and revision(v) == revision(value) then
      answer[#answer + 1] = each[1]
      answer[#answer + 1] = v
    end
  end
  keep(KEYS[1], existing)
  return answer
end
if expected ~= '' and expected ~= subject_epoch then return {{'epoch'}} end
if has_subject and maximum == '' and sure then
  -- Without a limit nobody looks through the index, so a few of its members are looked at here.
  for _, id in ipairs(redis.call('SRANDMEMBER', KEYS[2], 8)) do
    if redis.call('EXISTS', base .. id) == 0 then missing[#missing + 1] = id end
  end
end
if #doubtful > 0 then return told_missing(doubtful) end
if store_epoch == '' then
  store_epoch = redis.call('GET', KEYS[#KEYS])
  if not store_epoch then return {{'lost'}} end
end

local now = number(evicted_at, 1)
local live, over = {{}}, {{}}
for _, each in ipairs(others) do
  local v = each[2]
  if readable(v) and SIGNED_IN[kind(v)] then
    local idle = now >= number(v, {_at("idle_deadline")})
    local since = number(v, {_at("ended_at")})
    if is_live(v) and not idle then
      local epoch = v:sub({_at("store_epoch")}, {_at("store_epoch") + 7})
      local where = rule == 'oldest' and {_at("inserted_at")} or {_at("last_seen")}
      if epoch == store_epoch and each[1] ~= replaced then
        live[#live + 1] = {{each[1], v, number(v, where)}}
      end
    else
      if since == 0 then since = number(v, {_at("idle_deadline")}) end
      over[#over + 1] = {{each[1], v, since}}
    end
  end
end
local function by_moment(a, b)
  if a[3] == b[3] then return a[1] < b[1] end
  return a[3] < b[3]
end
table.sort(live, by_moment)
table.sort(over, by_moment)
local excess = 0
if maximum ~= '' then
  excess = math.max(#live + 1 - tonumber(maximum), 0)
  if excess > 0 and rule == 'refuse' then return {{'limit'}} end
  excess = math.min(excess, #live)
end

if value:sub({_at("store_epoch")}, {_at("store_epoch") + 7}) == ZERO8 then
  value = put(value, {_at("store_epoch")}, store_epoch)
end
keep_for(KEYS[1], value, tonumber(ttl))
local answer = {{'ok', value}}
local lasting = tonumber(index_ttl)
for number_of = 1, excess do
  local each = live[number_of]
  local v = ended(each[2], REASON, evicted_at, evicted_purge, revision(value))
  local left = number(evicted_purge, 1) - now + LINGER
  lasting = math.max(lasting, left)
  keep_for(base .. each[1], v, left)
  answer[#answer + 1] = each[1]
  answer[#answer + 1] = v
end
for number_of = 1, math.min(#over - {KEPT_OVER}, {FORGOTTEN_AT_ONCE}) do
  redis.call('DEL', base .. over[number_of][1])
  missing[#missing + 1] = over[number_of][1]
end
if has_subject then
  redis.call('SADD', KEYS[2], rest)
  forget(KEYS[2], missing)
  last_at_least(KEYS[2], lasting)
end
return answer
"""

INSERT = Script(
    _INSERT.replace("REASON", f"string.char({EndReason.EVICTED.number})").replace(
        "LINGER", str(LINGER_MS)
    ),
    when_full=False,
)
"""KEYS: the record; with a subject its index and epoch; on one server the store's epoch, last."""

RULES = {
    AtLimit.REFUSE: b"refuse",
    AtLimit.EVICT_OLDEST: b"oldest",
    AtLimit.EVICT_LEAST_RECENTLY_USED: b"least recently used",
}

END_SUBJECT = Script(
    """
local base, new_revision, reason, at, purge_at = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local epoch, epoch_ttl, kept, gone, sure = ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[11] == '1'
local found, missing, doubtful = load(KEYS[1], base, gone, sure)
if #doubtful > 0 then return told_missing(doubtful) end
local answer = {'ok', KEYS[3] and redis.call('GET', KEYS[3]) or ''}
redis.call('SET', KEYS[2], epoch, 'PX', epoch_ttl)
local left = number(purge_at, 1) - number(at, 1) + LINGER
for _, each in ipairs(found) do
  local id, v = each[1], each[2]
  if not readable(v) then
    -- What cannot be read cannot be marked as ended, and must not outlive this.
    redis.call('DEL', base .. id)
    missing[#missing + 1] = id
  elseif is_live(v) and id ~= kept then
    v = ended(v, reason, at, purge_at, new_revision)
    keep_for(base .. id, v, left)
    answer[#answer + 1] = id
    answer[#answer + 1] = v
  elseif again and not is_live(v) and revision(v) == new_revision then
    answer[#answer + 1] = id
    answer[#answer + 1] = v
  end
end
forget(KEYS[1], missing)
if #answer > 2 then last_at_least(KEYS[1], left) end
return answer
""".replace("LINGER", str(LINGER_MS))
)
"""KEYS: index, the subject's epoch, on one server the store's epoch."""

LIST = Script(
    """
local found, missing, doubtful = load(KEYS[1], ARGV[2], ARGV[3], ARGV[4] == '1')
if #doubtful > 0 then return told_missing(doubtful) end
local answer = {'ok', KEYS[2] and redis.call('GET', KEYS[2]) or ''}
for _, each in ipairs(found) do
  answer[#answer + 1] = each[1]
  answer[#answer + 1] = each[2]
end
forget(KEYS[1], missing)
return answer
"""
)
"""KEYS: index, on one server the store's epoch."""

ERASE = Script(
    """
local found, missing, doubtful = load(KEYS[1], ARGV[2], ARGV[3], ARGV[4] == '1')
if #doubtful > 0 then return told_missing(doubtful) end
local removed = redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1)
for _, each in ipairs(found) do
  if not readable(each[2]) or not is_live(each[2]) then
    redis.call('DEL', ARGV[2] .. each[1])
    missing[#missing + 1] = each[1]
    removed = removed + 1
  end
end
forget(KEYS[1], missing)
return {'ok', removed}
"""
)
"""KEYS: index, history. A record that has ended is removed, and one that nobody can read."""

CLAIM = Script(
    """
local owner = redis.call('GET', KEYS[1])
if not owner then
  owner = ARGV[2]
  redis.call('SET', KEYS[1], owner)
end
if owner ~= ARGV[2] then return {owner} end
redis.call('SET', KEYS[2], ARGV[3], 'NX')
return {owner, redis.call('GET', KEYS[2])}
"""
)
"""KEYS: the store's identity and epoch. ARGV: our identity, and an epoch where there is none."""

END_ALL = Script("redis.call('SET', KEYS[1], ARGV[2]) return {'ok'}")
"""KEYS: the store's epoch."""

APPEND = Script(
    """
local now = tonumber(ARGV[2])
for at = 5, #ARGV do
  local moment, rest = number(ARGV[at], 1), ARGV[at]:sub(9)
  local place, known = 0, false
  for _, other in ipairs(redis.call('ZRANGE', KEYS[1], moment, moment, 'BYSCORE')) do
    known = known or other:sub(13) == rest
    place = struct.unpack('>I4', other, 9) + 1
  end
  if not known then
    local member = ARGV[at]:sub(1, 8) .. struct.pack('>I4', place) .. rest
    redis.call('ZADD', KEYS[1], moment, member)
  end
end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[3]))
for _, entry in ipairs(redis.call('ZRANGE', KEYS[1], 0, 99)) do
  if number(entry, 13) > now then break end
  redis.call('ZREM', KEYS[1], entry)
end
last_at_least(KEYS[1], tonumber(ARGV[4]))
return {'ok'}
""",
    when_full=False,
)
"""ARGV: again, the newest entry's moment, how many stay, how long the last lives, entries.

A sorted set orders what has one score by its bytes, so behind its moment a member has its place
among the entries of that moment. An entry that is there already is not added again."""

HAND_OVER = Script(
    """
if redis.call('GET', KEYS[1]) ~= ARGV[2] then return {'no'} end
redis.call('SET', KEYS[1], ARGV[3])
return {'ok'}
"""
)
"""KEYS: the store's identity. ARGV: the one that it must have, and the one that it gets."""

FILL = Script(
    """
for number_of = 1, #KEYS / 2 do
  local key, index, at = KEYS[number_of * 2 - 1], KEYS[number_of * 2], number_of * 4 - 2
  keep_for(key, ARGV[at], tonumber(ARGV[at + 1]))
  if key ~= index then
    redis.call('SADD', index, ARGV[at + 3])
    last_at_least(index, tonumber(ARGV[at + 2]))
  end
end
return {'ok'}
""",
    when_full=False,
)
"""KEYS: for each record itself and its index, or itself again where it has none. ARGV: again; for
each record its value, how long it and its index last, and the rest of its id."""

TAKE_OUT = Script(
    """
for number_of = 1, #KEYS / 2 do
  redis.call('DEL', KEYS[number_of * 2 - 1])
  if ARGV[number_of + 1] ~= '' then
    redis.call('SREM', KEYS[number_of * 2], ARGV[number_of + 1])
  end
end
return {'ok'}
"""
)
"""KEYS as for FILL. ARGV: again; for each record the rest of its id, or nothing."""

READ_EPOCHS = Script(
    """
local answer = {'ok'}
for _, key in ipairs(KEYS) do
  answer[#answer + 1] = redis.call('GET', key) or ''
  answer[#answer + 1] = redis.call('PTTL', key)
end
return answer
"""
)
"""KEYS: subjects' epochs."""
