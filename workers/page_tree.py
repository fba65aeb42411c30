"""How many pages a PDF has: its root says a number, and MuPDF believes it, though its tree has more."""

from __future__ import annotations

import re
from typing import Any

KID = re.compile(r"(\d+) \d+ R")


def pages_in_tree(document: Any, most: int) -> int:
    """The pages that hang in the tree, each time that they hang there; 0 where it cannot be walked.

    Args:
        document: PyMuPDF's, unlocked. A page takes 15 us.
        most: where counting may end.
    """
    import pymupdf

    try:
        return _walked(document, most)
    except (ValueError, RuntimeError, pymupdf.mupdf.FzErrorBase):
        return 0


def hold_all(document: Any, pages: int) -> None:
    """Have MuPDF find so many pages; nothing of the file changes."""
    document.xref_set_key(_root(document), "Count", str(pages))


def _root(document: Any) -> int:
    [root] = KID.findall(document.xref_get_key(document.pdf_catalog(), "Pages")[1])
    return int(root)


def _walked(document: Any, most: int) -> int:
    due, seen, count = [_root(document)], set[int](), 0
    while due and count <= most:
        node = due.pop()
        form, kids = document.xref_get_key(node, "Kids")
        if form == "null":
            count += document.xref_get_key(node, "Type")[1] == "/Page"
        elif node not in seen:  # a tree that grows out of itself is none
            seen.add(node)
            listed = document.xref_object(int(KID.findall(kids)[0])) if form == "xref" else kids
            due += [int(kid) for kid in KID.findall(listed)]
    return count
