"""How a row of a table names its document: for who lists rows, and for who brings answers back to them."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import AddressRefused
from schemas.ids import document_id
from workers.fetch import HIDDEN
from workers.keys import spelled
from workers.storage.factory import admit, has_scheme

if TYPE_CHECKING:
    from pydantic import SecretStr

    from schemas.storage import StorageOptions
    from schemas.tables import Place, TableOptions

ESCAPED = (("%", "%25"), ("&", "%26"), ("=", "%3D"), ("#", "%23"))
"""What would make two keys look alike, in values and names of columns."""


@dataclass(frozen=True)
class RowNaming:
    """With a key, `<where the document is>#<column>=<value>&…`: where it is says `content`, or, of rows with
    their documents in them, the table. Without one the document's own address. Picklable.

    Attributes:
        table: its address.
        content: the column of addresses; None where rows have their documents in them.
        key: the columns that a row is known by.
        storage: which addresses are to be followed.
        secret: the key of the hashes that go in place of names, where a job hides them (`privacy.hash_uris`).
    """

    table: str
    content: str | None
    key: tuple[str, ...]
    storage: StorageOptions
    secret: SecretStr | None = None

    @property
    def columns(self) -> list[str]:
        """Those that a name is made of."""
        return list(dict.fromkeys([*self.key, *([self.content] if self.content else [])]))

    def uris(self, rows: pa.Table) -> list[str | None]:
        """The name of each row's document; None where the address or a part of the key is null.

        Args:
            rows: with `columns` at least.
        """
        where = self._where(rows)
        if not self.key:
            return where
        pairs = [_concatenated(f"{_escaped(name)}=", _escaped(spelled(rows[name]))) for name in self.key]
        keys = pc.binary_join_element_wise(*pairs, "&").to_pylist()
        return [
            None if base is None or key is None else f"{base}#{key}"
            for base, key in zip(where, keys, strict=True)
        ]

    def ids(self, rows: pa.Table) -> pa.Array:
        """The id of each row's document, null where it has no name."""
        uris = self.uris(rows)
        if self.secret is not None:
            uris = [uri and hidden(uri, self.secret) for uri in uris]
        return pa.array([uri and document_id(uri) for uri in uris], pa.string())

    def _where(self, rows: pa.Table) -> list[str | None]:
        if self.content is None:
            return [self.table] * len(rows)
        return [self._spelled(uri) for uri in rows[self.content].to_pylist()]

    def _spelled(self, uri: str | None) -> str | None:
        """The one spelling of an address; as it is written where that is not to be followed."""
        if not uri:
            return None
        if is_relative(uri):
            return uri
        try:
            return admit(uri, self.storage)
        except AddressRefused:
            return uri


def row_naming(
    table: TableOptions, place: Place, storage: StorageOptions, secret: SecretStr | None = None
) -> RowNaming:
    """As a job says. The address of an Iceberg table is its name."""
    content = None if table.bytes_column else table.content
    return RowNaming(place.uri, content, table.key, storage, secret)


def is_relative(address: str) -> bool:
    """Whether it would be another one in each folder, or for each user, that a process is started in."""
    return not has_scheme(address) and not address.startswith("/")


def hidden(uri: str, secret: SecretStr) -> str:
    """What goes in place of a name: who does not have the key can neither read nor guess it."""
    key = secret.get_secret_value().encode()
    return f"{HIDDEN}{hmac.new(key, uri.encode(), hashlib.sha256).hexdigest()[:32]}"


def _escaped(text: Any) -> Any:
    """A string, or a column of them."""
    for raw, escaped in ESCAPED:
        text = (
            text.replace(raw, escaped) if isinstance(text, str) else pc.replace_substring(text, raw, escaped)
        )
    return text


def _concatenated(before: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(pa.scalar(before), values, "")
