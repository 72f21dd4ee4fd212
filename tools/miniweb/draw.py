"""Keyed draws: every choice that the mini-web makes is a hash of a name, never a generator's state.

Adding a picture or a page therefore changes nothing elsewhere, and the same inputs give the same
bytes on every machine.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


def digest(*key: object, size: int = 16) -> bytes:
    """blake2b of the key's parts, `size` bytes."""
    text = "\0".join(str(part) for part in key)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()


def uniform(*key: object) -> float:
    """A number in [0, 1) that depends on the key alone."""
    return int.from_bytes(digest(*key, size=8), "big") / 2**64


def below(bound: int, *key: object) -> int:
    """An integer in [0, bound)."""
    return int.from_bytes(digest(*key, size=8), "big") % bound


def pick(options: Sequence[T], *key: object) -> T:
    """One of the options, all equally likely."""
    return options[below(len(options), *key)]


def pick_weighted(options: Mapping[T, float], *key: object) -> T:
    """One of the options, by weight; weights need not sum to one."""
    at = uniform(*key) * sum(options.values())
    for option, weight in options.items():
        at -= weight
        if at < 0:
            return option
    return list(options)[-1]


def shuffled(items: Sequence[T], *key: object) -> list[T]:
    """The items in an order that depends on the key and on each item's place."""
    order = sorted(range(len(items)), key=lambda i: digest(*key, i))
    return [items[i] for i in order]


def sample(items: Sequence[T], count: int, *key: object) -> list[T]:
    """`count` distinct places of `items` (all of them if there are fewer)."""
    return shuffled(items, *key)[:count]
