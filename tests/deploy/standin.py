#!/usr/bin/env python3
"""Answers for `gemstream submit`, `status` and `wait`, as a cluster would whose runs end with codes that a
test chooses: a real one leaves with 4 or 5 only when something is broken.

In the folder STATE: `codes.json`, how the submissions are to end, in turn; `said`, what was asked by line.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main(words: list[str]) -> int:
    """Each submission goes on at the first look, and has ended at the second."""
    state = Path(os.environ["STATE"])
    with (state / "said").open("a") as said:
        print(json.dumps(words), file=said)
    codes = json.loads((state / "codes.json").read_text())
    book = state / "submitted.json"
    looks: dict[str, int] = json.loads(book.read_text()) if book.exists() else {}
    if words[0] == "submit":
        name = words[words.index("--submission-id") + 1]
        book.write_text(json.dumps({**looks, name: 0}))
        print(name)
        return 0
    name = words[1]
    if name not in looks:
        print(f"gemstream: {name}: the cluster knows no such submission", file=sys.stderr)
        return 2
    code = codes[list(looks).index(name)] if looks[name] else None
    if words[0] == "status":
        print(json.dumps({"submission": name, "exit_code": code}))
        return 0
    book.write_text(json.dumps({**looks, name: looks[name] + 1}))
    if code is None:
        return 124
    counts = {"listed": 3, "ok": 2, "failed": 1}
    rest = {"tasks": {}, "seconds": 1.0, "failed_share": 0.33, "stopped": None, "files": 3}
    print(json.dumps({"run_id": "r1", "output": "s3://bucket/table", "counts": counts, **rest}))
    print(f"gemstream: {name} ended with exit code {code}", file=sys.stderr)
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
