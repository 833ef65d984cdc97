"""XML-RPC as the XenAPI speaks it: parse a call, encode an answer, convert typed values.

Differences from common XML-RPC: an int travels as decimal text (an Int32 as i4), a reply is
always a struct {Status, Value} or {Status, ErrorDescription}, and a datetime ends in Z. From
clients every reasonable spelling is taken, whichever protocol brought it (JSON-RPC:
xapi/jsonrpc.py).

    Exception
    └── WireError             the document is not an XML-RPC call or response
"""

from __future__ import annotations

import math
import re
import xmlrpc.client
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from xml.parsers.expat import ExpatError
from xml.sax.saxutils import escape

from defusedxml.common import DefusedXmlException
from defusedxml.xmlrpc import DefusedExpatParser

from xapi.datatypes import NULL, Basic, Enumeration, Int32, MapOf, Ref, SetOf, Type, Value
from xapi.errors import XenAPIError, field_type_error

_INT64 = range(-(2**63), 2**63)
#: Characters that XML 1.0 has no way to carry.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: Most strings: nothing in them needs a second look.
_is_plain = re.compile("[ -%'-;=?-~]*").fullmatch
_DATETIME = re.compile(
    r"(\d{4})-?(\d\d)-?(\d\d)(?:T(\d\d):?(\d\d):?(\d\d)(?:\.\d+)?(?:Z|[+-]00:?00)?)?"
)


class WireError(Exception):
    """The document is no XML-RPC call (or response) that can be understood."""


def parse_call(document: bytes) -> tuple[str, tuple[object, ...]]:
    """Method name and positional parameters of a methodCall.

    Raises:
        WireError: the bytes are something else, or hold a DTD.
    """
    try:
        params, method = _parse(document)
    except xmlrpc.client.Fault as fault:
        raise WireError("a fault is no methodCall") from fault
    if not method:
        raise WireError("a methodCall without a methodName")
    return method, params


def parse_response(document: bytes) -> object:
    """The value of a methodResponse.

    Raises:
        xmlrpc.client.Fault: the response is a fault.
        WireError: the bytes are no methodResponse.
    """
    params, method = _parse(document)
    if method is not None or len(params) != 1:
        raise WireError("a methodResponse holds exactly one value")
    return params[0]


def _parse(document: bytes) -> tuple[tuple[object, ...], str | None]:
    unmarshaller = xmlrpc.client.Unmarshaller()
    parser = DefusedExpatParser(unmarshaller, forbid_dtd=True)
    try:
        parser.feed(document)
        parser.close()
        return tuple(unmarshaller.close()), unmarshaller.getmethodname()
    except xmlrpc.client.Fault:
        raise
    except (ExpatError, DefusedXmlException, xmlrpc.client.Error) as error:
        raise WireError(str(error)) from error
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        # The standard library's unmarshaller checks little: this is what it stumbles with.
        raise WireError(f"not XML-RPC: {error}") from error


# -- answers


def success(value: Value) -> bytes:
    """The methodResponse of a call that went well; void is ""."""
    return response({"Status": "Success", "Value": value})


def failure(description: Iterable[str]) -> bytes:
    """The methodResponse of a call that failed: ErrorDescription = [code, parameters...]."""
    return response({"Status": "Failure", "ErrorDescription": tuple(description)})


def response(value: Value) -> bytes:
    """A methodResponse with a bare value: only system.* messages have no envelope."""
    parts = ["<?xml version='1.0'?><methodResponse><params><param>"]
    _encode(value, parts)
    parts.append("</param></params></methodResponse>")
    return "".join(parts).encode()


def element(value: Value) -> str:
    """A value element by itself: this is how a task keeps its result."""
    parts: list[str] = []
    _encode(value, parts)
    return "".join(parts)


def _encode(value: Value, parts: list[str]) -> None:
    if isinstance(value, str):
        parts.append(f"<value>{value if _is_plain(value) else text(value)}</value>")
    elif isinstance(value, bool):
        parts.append(f"<value><boolean>{value:d}</boolean></value>")
    elif isinstance(value, Int32):
        parts.append(f"<value><i4>{value}</i4></value>")
    elif isinstance(value, int):
        parts.append(f"<value>{value}</value>")
    elif isinstance(value, float):
        parts.append(f"<value><double>{value!r}</double></value>")
    elif isinstance(value, datetime):
        parts.append(f"<value><dateTime.iso8601>{timestamp(value)}</dateTime.iso8601></value>")
    elif isinstance(value, Mapping):
        parts.append("<value><struct>")
        for key, item in value.items():
            parts.append(_member(key))
            _encode(item, parts)
            parts.append("</member>")
        parts.append("</struct></value>")
    else:
        parts.append("<value><array><data>")
        for item in value:
            _encode(item, parts)
        parts.append("</data></array></value>")


@lru_cache(maxsize=10_000)
def _member(name: str) -> str:
    """How a member of a struct begins. The same fields come again with each record."""
    return f"<member><name>{text(name)}</name>"


def text(string: str) -> str:
    """A string as XML text. What XML cannot carry becomes U+FFFD."""
    if _is_plain(string):
        return string
    return escape(_ILLEGAL.sub("\ufffd", string), {"\r": "&#13;"})


def timestamp(moment: datetime) -> str:
    """The wire form of a datetime: 20260102T03:04:05Z."""
    return moment.astimezone(UTC).strftime("%Y%m%dT%H:%M:%SZ").rjust(18, "0")


# -- parameters


def decode(type_: Type, value: object, field: str) -> Value:
    """A client's value as a value of the type.

    Raises:
        XenAPIError: FIELD_TYPE_ERROR [field]; INVALID_VALUE [field, value] of a text with
            characters that XML cannot carry.
    """
    if isinstance(type_, Basic):
        return _decode_basic(type_, value, field)
    if isinstance(type_, Ref):
        return _string(value, field) or NULL
    if isinstance(type_, Enumeration):
        word = _string(value, field)
        if word not in type_.members:
            raise field_type_error(field)
        return word
    if isinstance(type_, SetOf):
        if not isinstance(value, (list, tuple)):
            raise field_type_error(field)
        return tuple(decode(type_.item, item, field) for item in value)
    if not isinstance(value, dict):
        raise field_type_error(field)
    if isinstance(type_, MapOf):
        return {
            str(decode(type_.key, key, field)): decode(type_.value, item, field)
            for key, item in value.items()
        }
    return value  # A record: the constructor looks at its fields one by one.


def _decode_basic(type_: Basic, value: object, field: str) -> Value:
    if type_ is Basic.INT:
        return _integer(value, field)
    if type_ is Basic.FLOAT:
        return _float(value, field)
    if type_ is Basic.DATETIME:
        return _moment(value, field)
    if type_ is Basic.BOOL:
        if not isinstance(value, bool):
            raise field_type_error(field)
        return value
    return _string(value, field)


def _string(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise field_type_error(field)
    if not _is_plain(value) and _ILLEGAL.search(value):
        raise XenAPIError("INVALID_VALUE", (field, _ILLEGAL.sub("\ufffd", value)))
    return value


def _integer(value: object, field: str) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise field_type_error(field)
    if isinstance(value, str) and not re.fullmatch(r"\s*[+-]?[0-9]{1,19}\s*", value):
        raise field_type_error(field)
    number = int(value)
    if number not in _INT64:
        raise field_type_error(field)
    return number


def _float(value: object, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise field_type_error(field)
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise field_type_error(field) from None
    if not math.isfinite(number):
        raise field_type_error(field)
    return number


def _moment(value: object, field: str) -> datetime:
    # No text is made of anything else: that of a value of a thousand levels is a RecursionError.
    if not isinstance(value, (str, xmlrpc.client.DateTime)):
        raise field_type_error(field)
    match = _DATETIME.fullmatch(str(value))
    if not match:
        raise field_type_error(field)
    try:
        year, month, day, hour, minute, second = (int(part or 0) for part in match.groups())
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise field_type_error(field) from None
