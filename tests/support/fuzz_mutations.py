"""Mutations of a frame, all of them from one seeded generator: to its bytes, and to its JSON."""

from __future__ import annotations

import json
from random import Random
from typing import Any

#: Bytes that mean something to a JSON reader, or to none.
_TOKENS = (
    *(
        b'"',
        b",",
        b":",
        b"{",
        b"}",
        b"[",
        b"]",
        b"\\",
        b"-",
        b"e9",
        b"null",
        b"true",
        b"0",
        b"1e400",
        b"NaN",
        b"\\u0000",
    ),
    *(
        b"\xff",
        b"\xc3\x28",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xef\xbb\xbf",
        b"\x00",
        b"\n",
        b"\\ud800",
        b'"e":"trade",',
    ),
)
#: Literals in place of a good value: other types, numbers beyond every limit, decimals that are none, odd times.
_LITERALS = (
    *(
        "null",
        "true",
        "false",
        "0",
        "-0",
        "-1",
        "1",
        "1.0",
        "-0.5",
        "1e5",
        "1E-7",
        "1e400",
        "1e-400",
        "9" * 400,
        "0." + "0" * 60 + "1",
    ),
    *(
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "-9223372036854775809",
        "1e999999999",
        "253402300800000",
    ),
    *(
        '""',
        '" "',
        '"0"',
        '"0.0"',
        '"-1"',
        '"1e5"',
        '"NaN"',
        '"Infinity"',
        '"1_000"',
        '"１"',
        '"+1"',
        '"1."',
        '".1"',
        '"0x10"',
        '"1,5"',
    ),
    *(
        '"0.0000000000000000001"',
        '"123456789012345678901"',
        '"99999999999999999999.999999999999999999"',
        '"0.000000000000000001"',
    ),
    *(
        '"buy"',
        '"sell"',
        '"b"',
        '"s"',
        '"BUY"',
        '"trade"',
        '"match"',
        '"update"',
        '"BTC/USDT"',
        '"BTC-USD"',
        '"BTCUSDT"',
        '"X"',
        '"/"',
        '"-"',
    ),
    *(
        '"2023-09-25T07:48:36.925533Z"',
        '"2023-02-30T00:00:00Z"',
        '"2099-12-31T23:59:60Z"',
        '"1970-01-01T00:00:00Z"',
        '"2023-09-25"',
    ),
    *(
        '"2023-09-25T07:48:36.9255331234Z"',
        '"2023-09-25T07:48:36+01:00"',
        "1672515782136",
        "1672515782136123",
        "1618678142.557535",
    ),
    *("[]", "{}", "[[]]", '[{"e":"trade"}]', '{"a":1}', '"\\u0000"', '"\\ud83d\\ude00"', '"\\ud800"', '"é"', '"\\""'),
)
_DEEP = (("[", "]"), ('{"a":', "}"))


class Literal(str):
    """A number as it stands in the JSON text; `Fields` likewise keeps an object's fields, doubled ones too."""

    __slots__ = ()


class Fields(list[Any]):
    """An object as a list of [name, value]."""

    __slots__ = ()


def tree(text: str) -> Any:
    """The JSON of `text`, with numbers as they are written. Raises ValueError or RecursionError."""
    return json.loads(
        text,
        parse_int=Literal,
        parse_float=Literal,
        parse_constant=Literal,
        object_pairs_hook=lambda pairs: Fields([list(pair) for pair in pairs]),
    )


def write(node: Any) -> str:
    """The JSON text of a tree."""
    if isinstance(node, Literal):
        return str(node)
    if isinstance(node, Fields):
        return "{" + ",".join(f"{json.dumps(name)}:{write(value)}" for name, value in node) + "}"
    if isinstance(node, list):
        return "[" + ",".join(map(write, node)) + "]"
    return json.dumps(node, ensure_ascii=False)


def _places(node: Any, found: list[tuple[list[Any], int]]) -> list[tuple[list[Any], int]]:
    """Every place in the tree that holds a value: (list, index)."""
    for index, item in enumerate(node):
        holder, at = (item, 1) if isinstance(node, Fields) else (node, index)
        found.append((holder, at))
        if isinstance(holder[at], list):
            _places(holder[at], found)
    return found


def _objects(node: Any) -> list[Fields]:
    found = [node] if isinstance(node, Fields) else []
    for item in node:
        value = item[1] if isinstance(node, Fields) else item
        if isinstance(value, list):
            found += _objects(value)
    return found


def mutate_json(rng: Random, frame: str) -> bytes:
    """One to three changes to the values, names and shape of a frame that is a JSON object or array."""
    root = [tree(frame)]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = _places(root, [])
        holder, at = rng.choice(places)
        kind = rng.randrange(12)
        if kind < 5:
            holder[at] = Literal(rng.choice(_LITERALS))
        elif kind == 5:  # two values change places
            other, there = rng.choice(places)
            holder[at], other[there] = str(other[there]) if other is holder else other[there], holder[at]
            if _is_own_parent(root):
                return mutate_bytes(rng, frame.encode())
        elif kind == 6 and isinstance(holder[at], str):  # a character more or less
            text = str(holder[at])
            cut = rng.randrange(len(text) + 1)
            changed = (
                text[:cut]
                + rng.choice(("", "0", "9", ".", "-", "e", "/", "\u0661", " "))
                + text[cut + rng.randrange(2) :]
            )
            holder[at] = Literal(changed) if isinstance(holder[at], Literal) else changed
        elif kind == 7:  # deep nesting: below the limit of the readers, and above
            opening, closing = rng.choice(_DEEP)
            depth = rng.choice((3, 50, 3000))
            holder[at] = Literal(opening * depth + "1" + closing * depth)
        elif kind == 8 and isinstance(holder[at], list) and holder[at]:  # one item twice
            holder[at].insert(rng.randrange(len(holder[at]) + 1), rng.choice(holder[at]))
        else:
            _change_object(rng, root)
    return write(root[0]).encode("utf-8", "surrogatepass")


def _change_object(rng: Random, root: list[Any]) -> None:
    """Fields are dropped, doubled with another value, renamed or shuffled."""
    objects = [one for one in _objects(root) if one]
    if not objects:
        return
    fields = rng.choice(objects)
    place = rng.randrange(len(fields))
    kind = rng.randrange(4)
    if kind == 0:
        del fields[place]
    elif kind == 1:
        fields.insert(rng.randrange(len(fields) + 1), [fields[place][0], Literal(rng.choice(_LITERALS))])
    elif kind == 2:
        fields[place] = [rng.choice(fields)[0] if rng.random() < 0.5 else fields[place][0] + "x", fields[place][1]]
    else:
        rng.shuffle(fields)


def _is_own_parent(node: Any, above: tuple[int, ...] = ()) -> bool:
    """A value that came to stand inside itself cannot be written."""
    if not isinstance(node, list):
        return False
    return id(node) in above or any(_is_own_parent(item, (*above, id(node))) for item in node)


def mutate_bytes(rng: Random, frame: bytes) -> bytes:
    """One to four changes to the bytes: flips, cuts, repeats, tokens put in."""
    data = bytearray(frame)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if not data:
            return b""
        at = rng.randrange(len(data))
        kind = rng.randrange(6)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            del data[at : at + rng.randrange(1, 12)]
        elif kind == 3:
            data[at:at] = data[at : at + rng.randrange(1, 40)]
        elif kind == 4:
            data[at : at + rng.randrange(3)] = rng.choice(_TOKENS)
        else:
            data[at] = rng.randrange(256)
    return bytes(data)


def mutate(rng: Random, frame: str) -> bytes:
    """A frame like this one that no venue ever sent; one in fifty stays as it is."""
    kind = rng.randrange(50)
    if kind == 0:
        return frame.encode()
    if kind == 1:
        return rng.randbytes(rng.randrange(60))
    return mutate_bytes(rng, frame.encode()) if kind < 20 else mutate_json(rng, frame)
