"""Personal data that a format gives away, found by kind: in a corpus, and in what a server is asked and answers.

In:  a text. Out: where each of these stands.

    e-mail, phone, IBAN (its check digits hold), credit card (issuer and Luhn's check hold), IP address (no private
    one), US social security number, date of birth (where the words say that it is one)

Names, addresses, health, faith and all else that only the meaning tells are not found: a count of 0 means none of
these formats, not "no personal data". docs/LOG.md has precision and recall.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# ISO 13616: how long each country's numbers are.
_IBAN_LENGTHS = {
    country: int(length)
    for country, length in re.findall(
        r"([A-Z]{2})(\d\d)",
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 ES24 FI18 "
        "FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 "
        "LU20 LV21 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SE24 SI19 "
        "SK24 SM27 TN24 TR26 UA29 VA22 VG24 XK20",
    )
}
# Of the large issuers: Visa, Mastercard, American Express, Diners, JCB, Discover, UnionPay, Maestro.
_ISSUERS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[68]\d)\d{11}|35\d{14}|(?:2131|1800)\d{11}|6(?:011|4[4-9]\d|5\d\d)\d{12,15}|62\d{14,17}"
    r"|(?:50|5[6-8]|6[37])\d{10,17}"
)
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\.?"
_DATE = (
    rf"(?:\d{{1,2}}[./-]\d{{1,2}}[./-]\d{{2,4}}|\d{{4}}-\d{{2}}-\d{{2}}"
    rf"|\d{{1,2}}(?:st|nd|rd|th|\.)? (?:of )?{_MONTH},? \d{{4}}|{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}})"
)
# What may stand between two digits of a phone number, and after the last.
_BETWEEN = r"[ .()/-]{0,2}"
_REST = r"(?: ?(?:x|ext\.? ?)\d{1,5})?(?![\w/]|[.-]\d)"


@dataclass(frozen=True, kw_only=True)
class Found:
    kind: str
    start: int
    end: int


def find_personal_data(text: str) -> Iterator[Found]:
    """Each place once, by the first kind that fits; in the order of the kinds."""
    taken: list[tuple[int, int]] = []
    digits = any(character.isdigit() for character in text)
    for kind, pattern, measure in _KINDS:
        if "@" not in text if kind == "e-mail" else not digits:
            continue
        for match in pattern.finditer(text):
            start = match.start("found") if "found" in pattern.groupindex else match.start()
            length = measure(text[start : match.end()])
            if length and not any(start < end and begin < start + length for begin, end in taken):
                taken.append((start, start + length))
                yield Found(kind=kind, start=start, end=start + length)


def _iban(text: str) -> int:
    """Characters of `text` that are an IBAN; 0: it begins with none."""
    wanted = _IBAN_LENGTHS.get(text[:2].upper(), 0)
    ends = [place + 1 for place, character in enumerate(text) if character.isalnum()]
    if not wanted or len(ends) < wanted:
        return 0
    end = ends[wanted - 1]
    if text[end : end + 1].isalnum():
        return 0
    compact = "".join(filter(str.isalnum, text[:end]))
    number = "".join(str(int(character, 36)) for character in compact[4:] + compact[:4])
    return end if int(number) % 97 == 1 else 0


def _card(text: str) -> int:
    digits = "".join(filter(str.isdigit, text))
    if not _ISSUERS.fullmatch(digits) or len(set(digits)) < 3:
        return 0
    doubled = [2 * int(digit) for digit in digits[-2::-2]]
    total = sum(map(int, digits[-1::-2])) + sum(value - 9 * (value > 9) for value in doubled)
    return 0 if total % 10 else len(text)


def _address(text: str) -> int:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return 0
    private = address.is_loopback or address.is_unspecified or address.is_link_local or address.is_multicast
    return 0 if private or (address.version == 4 and address.is_private) else len(text)


def _phone(text: str) -> int:
    count = sum(map(str.isdigit, re.split("x|ext", text)[0]))
    # After a nought a date could follow, which has eight digits.
    return len(text) if (9 if text.lstrip("(").startswith("0") else 7) <= count <= 15 else 0


_KINDS: tuple[tuple[str, re.Pattern[str], Callable[[str], int]], ...] = (
    ("e-mail", re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?!\w)"), len),
    ("IBAN", re.compile(r"(?<!\w)[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}"), _iban),
    ("credit card", re.compile(r"(?<![\w.+-])\d(?:[ -]?\d){11,18}(?![\w-])(?!\.\d)", re.ASCII), _card),
    (
        "IP address",
        re.compile(
            r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\d)|(?<![\w:.])(?:[0-9A-Fa-f]{1,4}:){1,7}:?"
            r"(?:[0-9A-Fa-f]{1,4}:?){1,7}(?![\w:])",
            re.ASCII,
        ),
        _address,
    ),
    (
        "US social security number",
        re.compile(r"(?<![\w.-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])", re.ASCII),
        len,
    ),
    (
        "date of birth",
        re.compile(rf"\b(?:born|birth(?:day|date)?|d\.?o\.?b)\b[^\n]{{0,30}}?(?<!\d)(?P<found>{_DATE})(?!\d)", re.I),
        len,
    ),
    (
        "phone",
        re.compile(
            # A country's code; the groups of North America; a nought before the area.
            rf"(?<![\w.+/-])(?:\+\(?[1-9](?:{_BETWEEN}\d){{6,13}}|00[1-9]\d{{0,2}}[ .()/-](?:{_BETWEEN}\d){{6,12}}"
            r"|(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])\d{3}[ .-]\d{4}"
            rf"|\(?0[1-9]\d{{0,3}}\)?(?:[ .-]\d{{2,7}}){{1,4}}){_REST}",
            re.ASCII,
        ),
        _phone,
    ),
    (
        "phone",
        re.compile(
            r"\b(?:tele)?(?:phone|tel|mob|mobile|cell|fax|desk|call|call me|whatsapp|sms)(?: (?:on|at|is))?\b"
            rf"[^\w+(]{{0,6}}(?P<found>\(?\d(?:{_BETWEEN}\d){{6,14}}{_REST})",
            re.ASCII | re.I,
        ),
        _phone,
    ),
)
KINDS = tuple(dict.fromkeys(kind for kind, _, _ in _KINDS))
