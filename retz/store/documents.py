"""TinyDB's documents, made from records when somebody reads and turned back when somebody writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import msgspec

from .journal import Id, encode
from .records import TYPES

_decode_dict = msgspec.json.Decoder(dict[str, Any]).decode


def to_document(value: Any) -> Any:
    """Return plain dictionaries and lists, fresh at every depth, with every field (so that queries find it)."""
    if isinstance(value, msgspec.Struct):
        return {field: to_document(getattr(value, field)) for field in value.__struct_fields__}
    if isinstance(value, dict):
        return {key: to_document(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_document(item) for item in value]
    return value


def to_record(table: str, doc_id: Id | None, document: Mapping[str, Any]) -> Any:
    """Return the record of a document, for untyped tables a copy as JSON will give it back.

    With a ``doc_id``, a typed record must carry that very id.

    Raises:
        ValueError: naming the field that does not fit.
    """
    kind = TYPES.get(table)
    try:
        if kind is None:
            return _decode_dict(encode(document))
        unknown = sorted(document.keys() - set(kind.__struct_fields__))
        if unknown:
            raise ValueError(f"table {table} has no field {unknown[0]!r}")
        record = msgspec.convert(document, kind)
    except (msgspec.MsgspecError, TypeError) as error:
        raise ValueError(f"table {table}: {error}") from None
    if doc_id is not None and record_id(table, record) != doc_id:
        raise ValueError(f"{table}: the document says it is {record_id(table, record)!r}, its id is {doc_id!r}")
    return record


def record_id(table: str, record: Any) -> Any:
    """Return the id that a typed record carries; None for untyped tables."""
    if table not in TYPES:
        return None
    return record.key if table in ("applications", "users") else record.id


class DocumentView(Mapping[str, Any]):
    """What TinyDB reads: a table's documents under their ids as text, each made when it is looked at."""

    def __init__(self, records: Mapping[Id, Any], id_class: type) -> None:
        self._records = records
        self._id_class = id_class

    def __getitem__(self, key: str) -> Any:
        try:
            number = self._id_class(key)
        except ValueError:
            raise KeyError(key) from None
        return to_document(self._records[number])

    def __iter__(self) -> Iterator[str]:
        return iter([str(key) for key in self._records])

    def __len__(self) -> int:
        return len(self._records)


class Overlay(MutableMapping[Any, Any]):
    """What TinyDB's updaters write to: remembers what was touched, leaves the live records alone.

    Reading a row hands out a copy and counts as touching it; rows that come out unchanged are not journalled.
    """

    def __init__(self, table: str, records: Mapping[Id, Any]) -> None:
        self._table = table
        self._records = records
        self._touched: dict[Id, dict[str, Any] | None] = {}

    def __getitem__(self, key: Id) -> dict[str, Any]:
        if key in self._touched:
            document = self._touched[key]
            if document is None:
                raise KeyError(key)
            return document
        fresh: dict[str, Any] = to_document(self._records[key])
        self._touched[key] = fresh
        return fresh

    def __contains__(self, key: object) -> bool:
        if key in self._touched:
            return self._touched[key] is not None
        return key in self._records

    def __setitem__(self, key: Id, document: Mapping[str, Any]) -> None:
        self._touched[key] = dict(document)

    def __delitem__(self, key: Id) -> None:
        if key not in self:
            raise KeyError(key)
        self._touched[key] = None

    def __iter__(self) -> Iterator[Id]:
        kept = [key for key in self._records if self._touched.get(key, True) is not None]
        return iter(kept + [key for key in self._touched if key not in self._records and key in self])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def clear(self) -> None:
        self._touched = dict.fromkeys(self._records)

    def changes(self) -> list[tuple[Id, Any]]:
        """Return (id, record or None) for every row that is now different."""
        result: list[tuple[Id, Any]] = []
        for key, document in self._touched.items():
            old = self._records.get(key)
            new = None if document is None else to_record(self._table, key, document)
            if new != old:
                result.append((key, new))
        return result


Fields = Mapping[str, Any] | Callable[[Any], None]


def apply_fields(fields: Fields, document: dict[str, Any]) -> bool:
    """Do to a document what TinyDB's ``update`` does with ``fields``; return True."""
    if callable(fields):
        fields(document)
    else:
        document.update(fields)
    return True
