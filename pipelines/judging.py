"""The command that says how good an output is."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.flags import AsJson, OutputOf, Setting, job_of

References = Annotated[
    str,
    typer.Option(
        help="What the answers should be: a csv, jsonl or parquet, or text-layer.", show_default=False
    ),
]
Tasks = Annotated[list[str] | None, typer.Option("--task", "-t", help="Look at this task alone.")]
Sample = Annotated[int | None, typer.Option(min=1, help="For text-layer: PDFs to open, 100 if not given.")]
Fold = Annotated[bool, typer.Option("--fold", help="Compare without case, and texts without punctuation.")]
Save = Annotated[bool, typer.Option("--save", help="Write it to the run's folder as quality.json too.")]
RunId = Annotated[str | None, typer.Option("--run", help="The run to save it with, if not the latest.")]
AtLeast = Annotated[
    list[str] | None,
    typer.Option(help="Exit with 3 if a score is lower: extract.f1=0.95."),
]
AtMost = Annotated[list[str] | None, typer.Option(help="Exit with 3 if a rate is higher: ocr.cer=0.02.")]

EXIT_OUT_OF_BOUNDS = 3


def evaluate(
    output: OutputOf,
    references: References,
    task: Tasks = None,
    sample: Sample = None,
    fold: Fold = False,
    save: Save = False,
    run_id: RunId = None,
    at_least: AtLeast = None,
    at_most: AtMost = None,
    setting: Setting = None,
    as_json: AsJson = False,
) -> None:
    """Hold the answers of an output against what they should be, by document and in total.

    A file of references has a row for each answer, with the columns

    \b
      uri         the document: its address, or the end of it, as far as it names one alone
      part_index  page, frame or segment, from 0; without it, the document as a whole
      task        the task's name; not needed where a value's column says it
      text        for ocr, transcribe, translate, caption and other prose
      label       for classify
      data        for extract, the fields as a JSON object; or a column for each field, by dotted path

    ocr and transcribe are told by CER and WER, extract by precision, recall and F1 of its values, classify
    by accuracy, prose by chrF. Texts are compared without Markdown's marks and line breaks. An answer that
    is missing counts as an empty one. --references text-layer opens PDFs again and holds ocr against the
    text that their pages carry; passwords are given by --set expand.passwords=[…].

    Exit codes: 0 done, 1 crash, 2 references or output make no sense, 3 a score is out of its bounds.
    """
    from pipelines.evaluate import evaluate as evaluate_output
    from pipelines.quality import save as save_quality
    from pipelines.terminal import line, terminal

    # A job for its settings alone: how to reach things and what they may cost.
    job = job_of(None, {"input": ".", "output": output, "tasks": ["ocr"]}, setting)
    quality = evaluate_output(output, references, job, tasks=task or (), sample=sample, fold=fold)
    breaches = quality.breaches(at_least or (), at_most or ())
    saved = save_quality(quality, job.storage, run_id) if save else None
    if as_json:
        typer.echo(quality.model_dump_json(indent=2))
    else:
        terminal().print(quality.table())
        for row in quality.lines():
            typer.echo(line(row))
        if saved:
            typer.echo(f"saved as {saved}")
    for breach in breaches:
        typer.echo(breach, err=True)
    if breaches:
        raise typer.Exit(EXIT_OUT_OF_BOUNDS)
