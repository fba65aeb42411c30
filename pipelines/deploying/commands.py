"""`gemstream deploy`: what a cluster runs a job by."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.flags import Input, Output, Setting, job_of
from schemas.errors import JobError

app = typer.Typer(help="Manifests for Kubernetes.", no_args_is_help=True, rich_markup_mode=None)

JobFile = Annotated[Path, typer.Argument(help="gemstream.yaml; flags on top of it win.", show_default=False)]
Target = Annotated[str, typer.Option(help="Kind of cluster: gke, eks or kind.", show_default=False)]
Card = Annotated[str, typer.Option("--gpu", help="Of the GPU nodes: L4 or H100.")]
Schedule = Annotated[
    str | None, typer.Option(help="Run it again and again: '0 3 * * *', minute to day of the week.")
]
Zone = Annotated[str, typer.Option("--time-zone", help="Of the schedule: Europe/Berlin.")]
Image = Annotated[str | None, typer.Option(help="The image, by its digest: registry/gemstream@sha256:…")]
CpuImage = Annotated[str | None, typer.Option(help="Another for the pods that need no GPU.")]
Name = Annotated[str, typer.Option(help="Of the RayJob; another for each job of a namespace.")]
Namespace = Annotated[str, typer.Option(help="Where it goes; it has to be there.")]
Role = Annotated[str | None, typer.Option(help="AWS role that may use the bucket: arn:aws:iam::…:role/…")]
Hours = Annotated[float | None, typer.Option(min=0.1, help="The longest one try may take; 24 if not given.")]
To = Annotated[str, typer.Option("--to", help="Folder to write <name>.yaml to; - is standard output.")]


@app.command()
def render(
    job_file: JobFile,
    target: Target,
    gpu: Card = "L4",
    schedule: Schedule = None,
    time_zone: Zone = "Etc/UTC",
    image: Image = None,
    cpu_image: CpuImage = None,
    name: Name = "gemstream",
    namespace: Namespace = "gemstream",
    role: Role = None,
    hours: Hours = None,
    to: To = "-",
    input_: Input = None,
    output: Output = None,
    setting: Setting = None,
) -> None:
    """Write a job's manifests, for `kubectl apply -f`: a RayJob of KubeRay, or with --schedule one a night.

    GPU groups are those that its tasks need. Exit code 2, and nothing is written, if no cluster could run
    it.
    """
    from pipelines.deploying.render import Where, render

    given = {"input": input_, "output": output}
    job = job_of(job_file, {key: value for key, value in given.items() if value is not None}, setting)
    where = Where(
        target=target,
        gpu=gpu,
        name=name,
        namespace=namespace,
        image=image,
        cpu_image=cpu_image,
        role=role,
        schedule=schedule,
        time_zone=time_zone,
        hours=hours,
    )
    made = render(job, where)
    text = made.text(f"{job_file.name} for {target}, by gemstream deploy render")
    if to == "-":
        typer.echo(text, nl=False)
    else:
        path = Path(to) / f"{name}.yaml"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        except OSError as error:
            raise JobError(f"--to {to}: {error.strerror}; name a folder, or -", key="to") from error
        typer.echo(f"kubectl apply -f {path}")
    for note in made.notes:
        typer.echo(f"still to do: {note}", err=True)


@app.command(hidden=True)
def drain(
    seconds: Annotated[float, typer.Option(help="That the run may take to end.")] = 90,
) -> None:
    """In a head's pod: tell the run that it is to end, and wait for it."""
    from pipelines.deploying.drain import drain

    left = drain(seconds)
    if left:
        typer.echo(f"still there after {seconds:g} s: {', '.join(map(str, left))}", err=True)
        raise typer.Exit(1)
