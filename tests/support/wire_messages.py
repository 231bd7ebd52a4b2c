"""Messages of crypto.trades, good and spoiled, and a judge of them in plain Python. No test module.

The judge follows the words of the rules (`transforms/message_rules.py`, details in docs and quarantine), not their
code, and shares nothing with it.
"""

from __future__ import annotations

import datetime as dt
import json
import unicodedata
from collections.abc import Callable
from decimal import Context, Decimal
from random import Random
from typing import Any

from tests.support.rows import utc

#: Kafka's time of every message: 2026-01-02 00:00 UTC.
KAFKA_US = 1_767_312_000_000_000
LATEST_US = KAFKA_US + 60_000_000
EARLIEST_US = 1_230_768_000_000_000  # 2009-01-01

FIELDS = ("venue", "symbol", "native_symbol", "trade_id", "price", "size", "side", "ts_event", "ts_ingest", "source")
EXACT = Context(prec=100)


# ---------------------------------------------------------------------------------------------------- the judge


def judged(value: bytes | None) -> dict[str, Any] | None:
    """The trade in a message; None if a rule is not met. Fields are compared as text, numbers as written."""
    message = read_strictly(value or b"")
    if message is None or any(message.get(name) is None for name in FIELDS):
        return None
    other = json.loads(value or b"")  # the same with numbers, for the text of what is nested
    text = {name: one if isinstance(one := message[name], str) else json.dumps(other[name]) for name in FIELDS}
    wholes = [text[name] for name in ("trade_id", "ts_event", "ts_ingest")]
    if not all(1 <= len(digits) <= 18 and set(digits) <= set("0123456789") for digits in wholes):
        return None
    if not (_is_named(text) and all(_is_amount(text[name]) for name in ("price", "size"))):
        return None
    price, size = Decimal(text["price"]), Decimal(text["size"])
    times = int(text["ts_event"]), int(text["ts_ingest"])
    if not (0 < price < 10**12 and 0 < size < 10**15 and float(price) * float(size) < 1e15):
        return None
    if min(times) < EARLIEST_US or max(times) > LATEST_US:
        return None
    whole: dict[str, Any] = {"trade_id": int(text["trade_id"]), "price": price, "size": size}
    day = utc(times[0])
    return text | whole | {"ts_event": day, "ts_ingest": utc(times[1]), "event_date": day.astimezone(dt.UTC).date()}


def read_strictly(value: bytes) -> dict[str, Any] | None:
    """The JSON object in a message, numbers as text; None if it is none by RFC 8259, too deep, or no Unicode."""
    try:
        message = json.loads(value.decode(), parse_int=str, parse_float=str, parse_constant=_refuse)
        flat = json.loads(value.decode(), object_pairs_hook=_flat, parse_int=str)  # both of two fields of one name
        json.dumps(flat, ensure_ascii=False).encode()  # without lone surrogates
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) and not _is_deep(flat) else None


def _flat(pairs: list[tuple[str, Any]]) -> list[Any]:
    return [one for pair in pairs for one in pair]


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(256):
        level = [one for outer in level for one in outer if isinstance(one, list)]
    return bool(level)


def _is_named(text: dict[str, str]) -> bool:
    base, slash, quote = text["symbol"].partition("/")
    return (
        1 <= len(text["venue"]) <= 40
        and set(text["venue"]) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")
        and slash == "/"
        and all(_is_asset(coin) for coin in (base, quote))
        and text["native_symbol"] != ""
        and "\x1f" not in text["native_symbol"]
        and text["side"] in ("buy", "sell")
        and text["source"] in ("live", "snapshot", "repair")
    )


def _is_asset(name: str) -> bool:
    """Letters, digits, `.`, `_` and visible characters of other scripts; not only lower case."""
    return (
        1 <= len(name) <= 20
        and name[0] not in "._"
        and all(
            (one.isalnum() or one in "._") if one.isascii() else unicodedata.category(one)[0] in "LMNPS" for one in name
        )
        and (any("A" <= one <= "Z" for one in name) or not any("a" <= one <= "z" for one in name))
    )


def _is_amount(text: str) -> bool:
    """At most 20 digits before and 18 after the point; a point has digits on both sides."""
    whole, point, decimals = text.partition(".")
    fits = 1 <= len(whole) <= 20 and (1 <= len(decimals) <= 18 if point else True)
    return fits and set(whole + decimals) <= set("0123456789")


# ---------------------------------------------------------------------------------------------------- the messages

_DEEP = 100_000
#: Values that only a reader of JSON minds: what is no field of a trade may be anything.
ODD = (
    "null", "true", "[]", "{}", '{"a": [1, {"b": null}]}', "1e400", "-0", "NaN", "1.", "01", "-", "9" * 1001,
    "1." + "9" * 1001, '"\\q"', '"\\ud800"', '"a\nb"', '"\\u0000"', "[" * 500 + "]" * 500, "[" * _DEEP + "]" * _DEEP,
    "[" * _DEEP,
)  # fmt: skip
_WHOLE = ("0", "1", "-1", "-0", "1.0", "1e3", "007", '"5"', '"05"', '"x"', '"5\\u001f1"', str(10**18 - 1), str(10**18),
          str(10**19), "9" * 400, "null", "true", "[1]")  # fmt: skip
_AMOUNT = (
    "0", "0.000", "000", "1", "5.", ".5", "-1", "+1", " 1", "1 ", "1\\n", "1e5", "1E-7", "NaN", "Infinity", "", "1_0",
    "0x1", "１", "1.2.3", "1,5", "999999999999", "999999999999.999999999999999999", "1000000000000",
    "1000000000000.000000000000000001", "999999999999999.999999999999999999", "1000000000000000",
    "0.000000000000000001", "0.0000000000000000001", "1." + "0" * 18, "1." + "0" * 19, "00000000123456789012",
    "0" * 19 + "1", "0" * 20 + "1", "0" * 20, "0" * 5 + "9" * 15, "0" * 6 + "9" * 15, "9" * 20, "9" * 21,
)  # fmt: skip
_TIMES = tuple(str(at + by) for at in (EARLIEST_US, KAFKA_US, LATEST_US) for by in (-1, 0, 1))
_SPOILED: dict[str, tuple[str, ...]] = {
    "venue": ('"Kraken"', '""', '"a b"', '"é"', '"kraken\\n"', f'"{"a" * 40}"', f'"{"a" * 41}"', "5", '{"a": 1}'),
    "symbol": ('"BTCUSDT"', '"BTC/"', '"/USD"', '"btc/usd"', '"BTC/USD\\n"', '"A/B/C"', f'"{"A" * 20}/B"', '"Ａ/B"',
               f'"{"A" * 21}/B"', '"\\u0042TC/USD"', '"币安人生/USDT"', '"AAPLx/USD"', '"BTC/usdt"', '"_A/B"',
               '"A.b_/9"', '"A-B/C"', '"A\\u200b/B"',
               '"\\ud83d\\ude80/B"', '"\\ud800/B"', f'"{"华" * 20}/B"', f'"{"华" * 21}/B"'),
    "native_symbol": ('""', '"a\\u001fb"', '"\\u001f"', '"\\n"', '"a\tb"', '"\\u0000"', '"\\ud83d\\ude00é"',
                      '"\\ud800"', '"\\/"', "7", '{"a": 1}'),
    "side": ('"BUY"', '"buy "', '"sell\\n"', '""', "1", '"\\u0062uy"'),
    "source": ('"guess"', '"live\\n"', '"LIVE"', "true"),
    "trade_id": _WHOLE,
    "ts_event": (*_TIMES, "1767225600", "1.7672256e15", *_WHOLE),
    "ts_ingest": (*_TIMES, "1767225600", "1.7672256e15", *_WHOLE),
}  # fmt: skip


def _amount(rng: Random) -> str:
    if rng.random() < 0.1:
        return rng.choice(_AMOUNT)
    whole = "0" * rng.choice((0, 0, 0, 1, 8, 12)) + str(rng.randrange(10 ** rng.randrange(1, 9)))
    decimals = rng.choice((0, 1, 2, 8, 17, 18))
    return whole + (f".{rng.randrange(10**decimals):0{decimals}d}" if decimals else "")


def _near_the_largest_notional(rng: Random) -> tuple[str, str]:
    price = Decimal(rng.randrange(10**21, 10 ** rng.randrange(22, 31))).scaleb(-18, EXACT)
    size = EXACT.divide(Decimal(10**15), price).quantize(Decimal(1).scaleb(-18), context=EXACT)
    size = EXACT.add(size, Decimal(rng.randrange(-3, 4)).scaleb(-rng.choice((0, 3, 9, 15, 18)), EXACT))
    return f"{price:f}", f"{max(size, Decimal(1)):f}"


def _fields(rng: Random) -> dict[str, str]:
    """Field → JSON literal; good except for the amounts, which may be anything."""
    price, size = (_amount(rng), _amount(rng)) if rng.random() < 0.9 else _near_the_largest_notional(rng)
    symbol = rng.choice(("BTC/USDT", "ETH/USD", "1INCH/EUR"))
    return {
        "venue": rng.choice(('"binance"', '"kraken"', '"coin_base-2"')),
        "symbol": f'"{symbol}"',
        "native_symbol": json.dumps(symbol.replace("/", rng.choice(("", "-", "/")))),
        "trade_id": str(rng.randrange(1, 10 ** rng.randrange(1, 19))),
        "price": json.dumps(price, ensure_ascii=rng.random() < 0.5),
        "size": json.dumps(size),
        "side": rng.choice(('"buy"', '"sell"')),
        "ts_event": str(rng.randrange(EARLIEST_US, LATEST_US + 1)),
        "ts_ingest": str(rng.randrange(EARLIEST_US, LATEST_US + 1)),
        "source": rng.choice(('"live"', '"snapshot"', '"repair"')),
        "raw": json.dumps(rng.choice(("{}", '{"p": "1", "x": "\\"é\\u0001\\""}', ""))),
    }  # fmt: skip


def _with_fields_spoiled(rng: Random, fields: dict[str, str]) -> list[tuple[str, str]]:
    """Make one thing wrong with one field, or seemingly wrong."""
    pairs = list(fields.items())
    name = rng.choice(FIELDS)
    kind = rng.randrange(8)
    if kind <= 2:
        spoiled = _SPOILED.get(name) or tuple(json.dumps(text) for text in _AMOUNT)
        return list((fields | {name: rng.choice(spoiled)}).items())
    if kind == 3:
        return list((fields | {name: rng.choice((*ODD, fields[name].strip('"')))}).items())
    if kind == 4:
        return [pair for pair in pairs if pair[0] != name]
    if kind == 5:  # twice: the later one counts
        again = rng.choice((fields[name], "null", "1", '"x"', '"kraken"'))
        pairs.insert(rng.randrange(len(pairs) + 1), (rng.choice((name, f"\\u{ord(name[0]):04x}{name[1:]}")), again))
        return pairs
    if kind == 6:
        unknown = rng.choice(("extra", "raw", "Venue", "", "a\\u0000", "k" * 50_001))
        pairs.insert(rng.randrange(len(pairs) + 1), (unknown, rng.choice(ODD)))
        return pairs
    return [pair for pair in pairs if pair[0] != "raw"] + [("raw", rng.choice(ODD))]


def _spliced(rng: Random, value: bytes) -> bytes:
    junk = (
        b"\xff",
        b"\xc3\x28",
        b"\xed\xa0\x80",
        b"\x00",
        b"\n",
        b"\x1f",
        b"\\",
        b'"',
        b",",
        b"}",
        b"0",
        b"\xef\xbb\xbf",
    )
    place = rng.randrange(len(value) + 1)
    return value[:place] + rng.choice(junk) + value[place + rng.randrange(2) :]


_OF_BYTES: tuple[Callable[[Random, bytes], bytes | None], ...] = (
    _spliced,
    _spliced,
    lambda rng, value: value + rng.choice((b" ", b"\n\t", b" x", b"{}", b"\x00", b",", value)),
    lambda rng, value: rng.choice((b"\xef\xbb\xbf", b" \n", b"x", b"[")) + value,
    lambda rng, value: value[: rng.randrange(len(value))],
    lambda _, value: b"[" + value + b"]",
    lambda _, value: value.decode("utf-8", "replace").encode("utf-16"),
    lambda rng, _: rng.choice((None, b"", b"null", b"12", b'"x"', b"{}", b"[]", b"junk", b"\xff\xfe")),
)


def message(rng: Random) -> bytes | None:
    """A random message; half of them as ingest writes them, except for odd amounts."""
    fields = _fields(rng)
    pairs = list(fields.items())
    fate = rng.random()
    if 0.5 < fate < 0.85:
        pairs = _with_fields_spoiled(rng, fields)
    if rng.random() < 0.1:
        rng.shuffle(pairs)
    comma, colon = rng.choice(((",", ":"), (", ", ": "), ("\n ,\t", " : ")))
    text = "{" + comma.join(f'"{name}"{colon}{literal}' for name, literal in pairs) + "}"
    value = text.encode()
    return rng.choice(_OF_BYTES)(rng, value) if fate >= 0.85 else value
