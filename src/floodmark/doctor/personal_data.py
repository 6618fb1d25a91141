"""Columns that might hold personal data, by the words of their names, with a mask for each. Pure.

A name is split into words at underscores, at capitals and before digits. A phrase must be the end of it, so
`offender_noms_number` counts and `noms_number_checked` does not. Numbers and endings such as `old` are left out first.

`name` and `alias` say nothing by themselves: files, tables and pay bands have names too. They count after a word for a
person (`contact_name`). As a whole column name they count in a table about persons: its name has such a word, or
another of its columns counts. Account names (`username`) do not count: they say who changed a row, not who it is about.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import product

from floodmark.config import Mask

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_ENDINGS = frozenset(("enc", "encrypted", "new", "old", "original", "plain", "raw", "text", "value"))
_NUMBER = ("number", "no", "num")
_ANY_ID = ("", *_NUMBER, "id", "ref", "reference")


def _phrases(beginnings: str, endings: Iterable[str] = ("",)) -> frozenset[str]:
    """Return all combinations, without spaces. The beginnings are separated by commas."""
    pairs = product(beginnings.split(","), endings)
    return frozenset("".join(f"{one}{other}".split()) for one, other in pairs)


# These usually serve as keys elsewhere, so they are hashed, which keeps joins.
_HASHED = (
    _phrases("noms, nomis, pnc, cro, crn, nino, national insurance", _ANY_ID)
    | _phrases("ni, nhs, passport, prison, prisoner, offender, arrest summons, case reference", _NUMBER)
    | _phrases("driving licence, driving license, driver licence, driver license, tax, card", _NUMBER)
    | _phrases("account, bank account", _NUMBER)
    | _phrases("email, e mail, email address, e mail address, ssn, utr, uprn, tax reference, iban, sort code")
)
# These are only read, so they are redacted.
_REDACTED = (
    _phrases("first, fore, given, middle, second, last, family, full, maiden, birth, sur", ("name", "names"))
    | _phrases("previous, former, preferred, legal, known as", ("name", "names"))
    | _phrases("initials, known as, dob, date of birth, birth date, date birth, birthday, birth day, year of birth")
    | _phrases("phone, telephone, tel, mobile, fax, contact", ("number", "no", "num"))
    | _phrases("phone, telephone, tel, mobile, fax, place of birth")
    | _phrases("address, address line, street, street name, post code, postal code, zip code, house number, house name")
    | _phrases("gender, sex, ethnicity, religion, sexual orientation, nationality, disability")
    | _phrases("ip address, user agent, password, password hash, secret, api key, token, signature, photo")
)
_NAMES = frozenset(("name", "names", "alias", "aliases"))
_PERSON_WORDS = """
    person people persons prisoner offender defendant victim witness applicant claimant respondent appellant suspect
    complainant patient pupil student child parent mother father guardian carer partner spouse kin sibling relative
    contact visitor resident tenant member customer client citizen individual staff employee officer manager
    solicitor barrister lawyer judge magistrate clerk doctor nurse holder payee payer beneficiary sender recipient
    donor guest by"""
_PERSONS = frozenset(_PERSON_WORDS.split())


def suggested_masks(columns: Sequence[str], table: str = "") -> dict[str, Mask]:
    """Return the masks that the names of a table's columns suggest."""
    found = {column: _suggested_mask(_words(column)) for column in columns}
    about_persons = any(found.values()) or any(map(_is_person, _words(table)))
    for column in columns:
        if about_persons and len(words := _words(column)) == 1 and words[0] in _NAMES:
            found[column] = "redact"
    return {column: mask for column, mask in found.items() if mask is not None}


def _suggested_mask(words: Sequence[str]) -> Mask | None:
    ends = ["".join(words[start:]) for start in range(len(words))]  # the longest first
    for end in ends:
        if end in _HASHED or end in _REDACTED:
            return "hash" if end in _HASHED else "redact"
    return "redact" if len(words) > 1 and words[-1] in _NAMES and _is_person(words[-2]) else None


def _words(name: str) -> list[str]:
    words = [word.lower() for word in _WORD.findall(name)]
    while len(words) > 1 and (words[-1].isdigit() or words[-1] in _ENDINGS):
        words.pop()
    return words


def _is_person(word: str) -> bool:
    return word in _PERSONS or word.removesuffix("s") in _PERSONS
