"""pyiceberg's errors, and those of the libraries below it, as Gemstream's."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from schemas.errors import AccessDenied, JobError, SnapshotGone, StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.tables import Place


@contextmanager
def errors_as_ours(place: Place, let: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """A catalog is a database or a service, and each has words of its own for not being there. None of them
    is repeated: a connection's address may hold a password.

    Args:
        place: of the table.
        let: errors that are the caller's business; so are those of a commit always.
    """
    from pyiceberg.exceptions import (
        CommitFailedException,
        CommitStateUnknownException,
        ForbiddenError,
        NoSuchNamespaceError,
        NoSuchTableError,
        NotInstalledError,
        RESTError,
        UnauthorizedError,
        ValidationError,
    )
    from pyiceberg.io.pyarrow import UnsupportedPyArrowTypeException
    from requests.exceptions import RequestException

    impossible, databases = _database_errors()
    try:
        yield
    except let:
        raise
    except (CommitFailedException, CommitStateUnknownException):
        raise
    except (UnauthorizedError, ForbiddenError) as error:
        raise JobError(f"{place.uri}: the catalog refuses the credentials", key="table.catalog") from error
    except (NoSuchTableError, NoSuchNamespaceError) as error:
        raise JobError(f"{place.uri}: the catalog has no such table", key="table.uri") from error
    except NotInstalledError as error:
        raise JobError(f"{place.uri}: the catalog needs a library: {error}", key="table.catalog") from error
    except impossible as error:
        raise JobError(
            f"{place.uri}: there is no such catalog ({type(error).__name__}): look at `catalog.uri`",
            key="table.catalog",
        ) from None
    except FileNotFoundError as error:
        raise SnapshotGone(
            f"{place.uri}: a file of the table's metadata is not there any more: it has been cleaned up "
            "since, or the catalog is of another store; read a newer version",
            key="table.version",
        ) from error
    except PermissionError as error:
        raise AccessDenied(f"{place.uri}: the store refuses the credentials") from error
    except (RequestException, RESTError, OSError, *databases) as error:
        raise StorageUnavailable(
            f"{place.uri}: the catalog or the store of its files does not answer ({type(error).__name__})"
        ) from None
    except UnsupportedPyArrowTypeException as error:
        raise JobError(
            f"{place.uri}: {error}: leave the column out (table.columns)", key="table.columns"
        ) from error
    except (ValidationError, ValueError, TypeError, NotImplementedError) as error:
        raise JobError(f"{place.uri}: {error}", key="table") from error


def _database_errors() -> tuple[tuple[type[Exception], ...], tuple[type[Exception], ...]]:
    """Those of an address that cannot be any database's, and the others."""
    try:
        from sqlalchemy.exc import ArgumentError, SQLAlchemyError
    except ImportError:  # only catalogs in databases need it
        return (), ()
    return (ArgumentError,), (SQLAlchemyError,)
