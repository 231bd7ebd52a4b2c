"""Read which products Coinbase refuses from the `reason` text of its error message. Pure.

A text may also name a product that is not refused: `MATIC-USD is delisted, use POL-USD`.
"""

from __future__ import annotations

import re

#: The words for products that Coinbase does not have, or no longer has.
_final = re.compile(r"\b(?P<verb>is|are) (?:not (?:a )?valid products?|delisted)\b").finditer
# Only at the beginning of a word: else a long word without a dash takes time with the square of its length.
_products = re.compile(r"(?<![^\s,;:'\"()-])[^\s,;:'\"()-]+(?:-[^\s,;:'\"()-]+)+").findall
#: `MATIC-USD (now POL-USD) is delisted` is about the first.
_aside = re.compile(r"(-[^\s,;:'\"()-]+['\"]?\s*)\([^()]*\)").sub
#: A word with the stop after it, or a separator. Quotes and closing brackets say nothing.
_words = re.compile(r"[^\s,;:'\"()]+|[,;:(]").findall
_JOINTS = (",", "and", "or", "&")
#: A subject may follow these, besides the beginning and a stop; after any other word (`use`, `by`) is no subject.
_BEFORE = frozenset(
    (*",;:(", "and", "or", "but", "as", "because", "since", "that", "product", "products", "pair", "pairs", "market")
)


def about(reason: str) -> tuple[list[str], bool]:
    """Return (native names of the products that an error's reason refuses, True if the refusal is final).

    Final words ("is not a valid product", "is delisted") are about the product right before "is", or about the list
    right before "are"; products after them are not refused. If the subject is not clear, every product before the words
    is returned; without final words, every product of the reason; the refusal is then not final. If no name is
    returned, the reason is about everything that was asked for.
    """
    begin, subjects, doubtful = 0, list[str](), list[str]()
    found = list(_final(reason))
    if not found:
        return _names(reason), False
    for words in found:
        clause = reason[begin : words.start()]
        begin = words.end()
        subject = _subject(clause, words["verb"] == "are")
        subjects += subject
        if not subject:
            doubtful += _names(clause)
    if subjects or not doubtful:
        return subjects, True
    return doubtful, False


def _subject(clause: str, is_list: bool) -> list[str]:
    """The product or the list of products at the end of a clause; empty if another word governs it."""
    words = _words(_aside(r"\1", clause))
    found: list[str] = []
    while words and _is_product(words[-1]):
        found.insert(0, words.pop())
        if not is_list:
            break
        joints = 0
        while joints < len(words) and words[-1 - joints].lower() in _JOINTS:
            joints += 1
        if not joints or joints == len(words) or not _is_product(words[-1 - joints]):
            break
        del words[-joints:]
    is_free = not words or words[-1].lower() in _BEFORE or words[-1][-1] in ".!?"
    return found if is_free else []


def _names(text: str) -> list[str]:
    return [name.rstrip(".!?") for name in _products(text)]


def _is_product(word: str) -> bool:
    return _products(word) == [word] and word[-1] not in ".!?"
