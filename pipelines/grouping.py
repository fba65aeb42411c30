"""The command that groups what is the same, or nearly."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.flags import AsJson, OutputOf, Setting, storage_of

Images = Annotated[
    int | None, typer.Option(min=0, max=10, help="Group pictures whose hashes differ by so many bits.")
]
Text = Annotated[float | None, typer.Option(help="Group texts with this share of their words in common.")]


def duplicates(
    output: OutputOf,
    images: Images = None,
    text: Text = None,
    setting: Setting = None,
    as_json: AsJson = False,
) -> None:
    """Group the documents of an output that are the same, or nearly, and write the groups to its near/.

    Without --images and --text those with the same bytes. Pictures are compared by hashes that runs with
    duplicates.images left in the records.
    """
    import json

    from pydantic import ValidationError

    from pipelines.near import (
        FILE,
        find_near,
        groups_in,
        refuse_without_libraries,
        write_near,
    )
    from pipelines.occupancy import refuse_no_output
    from pipelines.terminal import line
    from schemas.duplicates import DuplicateOptions
    from schemas.errors import JobError
    from workers.storage.factory import join, normalise

    try:
        options = DuplicateOptions(images=images, text=text)
    except ValidationError as error:
        raise JobError(f"--text {text}: {error.errors()[0]['msg']}", key="duplicates.text") from error
    refuse_without_libraries(options)
    refuse_no_output(output, storage_of(setting), "nothing to group")
    found = find_near(output, storage_of(setting), options)
    write_near(output, storage_of(setting), found)
    if as_json:
        typer.echo(json.dumps(found.to_pylist(), indent=2))
        return
    last = None
    for row in found.to_pylist():
        if row["group_id"] != last:
            last = row["group_id"]
            nearly = "" if row["kind"] == "content" else "nearly "
            typer.echo(f"{row['kind']}, {row['members']} {nearly}the same:")
        part = "" if row["part_index"] is None else f" (part {row['part_index'] + 1})"
        typer.echo(line(f"  {row['uri']}{part}"))
    typer.echo(f"{groups_in(found)} groups, in {join(normalise(output), FILE)}")
