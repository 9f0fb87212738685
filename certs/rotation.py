"""When keys change: pure steps from one state of the keys to the next. No I/O here; the time is given.

A new authority or signing key is published at once and used only after `overlap`, so that whoever reads what is
published within that time believes what it signs. The old one is kept until all that it signed has expired. Where the
current one is of no use any more (it has expired, or the clock was set back to before it began) waiting helps nobody:
the one that was published first takes over, or a new one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Generic

from certs.authority import BACKDATED, Authority, create_authority
from certs.keys import Kept, KeyState, Stage, T, current, ordered
from certs.leaf import Leaf, is_for, is_issued_by, issue_server_leaf
from certs.signing import LONGEST_LIFETIME, new_signing_key
from kernelsecret.errors import Code, Refused
from kernelsecret.names import HOST_WEBHOOK


@dataclass(frozen=True, slots=True)
class Policy:
    """How long things live. Raises Refused where a key would expire before its successor may be used.

    An authority or a signing key is replaced in the middle of its life, a leaf when a third of its life is left.
    """

    hosts: tuple[str, ...] = (HOST_WEBHOOK,)
    overlap: timedelta = timedelta(days=1)
    authority_lifetime: timedelta = timedelta(days=365)
    leaf_lifetime: timedelta = timedelta(days=30)
    node_leaf_lifetime: timedelta = timedelta(days=1)
    signing_lifetime: timedelta = timedelta(days=60)

    def __post_init__(self) -> None:
        if not self.hosts:
            raise Refused(Code.INVALID_ARGUMENT, "hosts", "none is given", "name at least one")
        zero = timedelta()
        for name, least, most in (
            ("overlap", zero, self.signing_lifetime / 2 - LONGEST_LIFETIME),
            ("overlap", zero, self.authority_lifetime / 2 - max(self.leaf_lifetime, self.node_leaf_lifetime)),
            ("leaf_lifetime", zero, self.authority_lifetime / 2),
            ("node_leaf_lifetime", zero, self.authority_lifetime / 2),
        ):
            if not least < getattr(self, name) <= most:
                raise Refused(Code.INVALID_ARGUMENT, name, f"must be more than nothing and at most {max(most, zero)}")


def first_state(now: datetime, policy: Policy) -> KeyState:
    """New keys, used at once: nobody trusts anything yet."""
    authority = create_authority(now, policy.authority_lifetime)
    signing_key = new_signing_key(now + policy.signing_lifetime)
    return KeyState(
        authorities=(Kept(authority, made_at=now, used_from=now),),
        leaf=issue_server_leaf(authority, policy.hosts, now, policy.leaf_lifetime),
        signing_keys=(Kept(signing_key, made_at=now, used_from=now),),
    )


def next_state(state: KeyState, now: datetime, policy: Policy, *, published: bool) -> KeyState | None:
    """The state after every step that is due, None when none is.

    `published` says that all of `state` was seen just now where its verifiers look; without it nothing new is taken
    into use that can wait. Call it again with what it returned once that is published: it comes to rest.
    """
    authorities = _turned(
        state.authorities,
        _Ring(
            lambda: create_authority(now, policy.authority_lifetime),
            lambda authority: authority.not_before <= now < authority.not_after,
            policy.authority_lifetime,
            policy.overlap,
            policy.overlap + policy.node_leaf_lifetime,
        ),
        now,
        published,
    )
    signing_keys = _turned(
        state.signing_keys,
        _Ring(
            lambda: new_signing_key(now + policy.signing_lifetime),
            lambda key: now < key.not_after,
            policy.signing_lifetime,
            policy.overlap,
            policy.overlap + LONGEST_LIFETIME,
        ),
        now,
        published,
    )
    after = KeyState(authorities, _leaf(state.leaf, current(authorities), now, policy), signing_keys)
    return after if after != state else None


@dataclass(frozen=True, slots=True)
class _Ring(Generic[T]):
    """What differs between authorities and signing keys. `kept` is how long a retired one is still believed."""

    make: Callable[[], T]
    is_usable: Callable[[T], bool]
    lifetime: timedelta
    overlap: timedelta
    kept: timedelta


def _turned(ring: tuple[Kept[T], ...], rules: _Ring[T], now: datetime, published: bool) -> tuple[Kept[T], ...]:
    every = [_stamped(kept, now, published) for kept in ring]
    used = next(kept for kept in every if kept.stage is Stage.CURRENT)
    rest = [kept for kept in every if kept is not used and not _is_over(kept, rules, now)]
    usable = [kept for kept in rest if rules.is_usable(kept.item)]
    following = next((kept for kept in usable if kept.stage is Stage.NEXT), None)
    if not rules.is_usable(used.item):
        heir = min(usable, key=_trusted_first, default=None) or Kept(rules.make(), made_at=now)
        return _handed_over(used, heir, rest, now)
    if following is not None and published and following.published_at is not None:
        if following.published_at + rules.overlap <= now:
            return _handed_over(used, following, rest, now)
    elif following is None and _is_old(used, rules, now):
        rest.append(Kept(rules.make(), made_at=now))
    return ordered([used, *rest])


def _stamped(kept: Kept[T], now: datetime, published: bool) -> Kept[T]:
    """With what was seen now, and with no moment that is yet to come: the clock was wrong when that was written."""

    def past(moment: datetime) -> datetime:
        return now if moment > now + BACKDATED else moment

    seen = kept.published_at or (now if published else None)
    return replace(
        kept,
        made_at=past(kept.made_at),
        published_at=seen and past(seen),
        used_from=kept.used_from and past(kept.used_from),
        retired_at=kept.retired_at and past(kept.retired_at),
    )


def _is_over(kept: Kept[T], rules: _Ring[T], now: datetime) -> bool:
    """Whether nobody can need it any more."""
    if kept.retired_at is not None:
        return kept.retired_at + rules.kept <= now
    return not rules.is_usable(kept.item)


def _is_old(kept: Kept[T], rules: _Ring[T], now: datetime) -> bool:
    return now - kept.made_at >= rules.lifetime / 2 or kept.item.not_after - now <= rules.lifetime / 2


def _trusted_first(kept: Kept[T]) -> tuple[bool, datetime]:
    return kept.published_at is None, kept.published_at or kept.made_at


def _handed_over(used: Kept[T], heir: Kept[T], rest: list[Kept[T]], now: datetime) -> tuple[Kept[T], ...]:
    others = [kept for kept in rest if kept is not heir]
    if used.item.not_after > now:
        others.append(replace(used, retired_at=now))
    return ordered([replace(heir, used_from=now, retired_at=None), *others])


def _leaf(leaf: Leaf, authority: Authority, now: datetime, policy: Policy) -> Leaf:
    """The leaf as it is while it will do, else a new one."""
    ends = min(now + policy.leaf_lifetime, authority.not_after)
    is_old = leaf.not_after - now <= (leaf.not_after - leaf.not_before) / 3 and ends > leaf.not_after
    will_do = (
        leaf.not_before <= now < leaf.not_after
        and not is_old
        and is_for(leaf, policy.hosts)
        and is_issued_by(leaf.certificate_pem, authority.certificate_pem)
    )
    return leaf if will_do else issue_server_leaf(authority, policy.hosts, now, policy.leaf_lifetime)
