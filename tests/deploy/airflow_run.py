"""Runs in Airflow's environment: the DAG once, by Airflow's own task runner, and prints what came of it."""

from __future__ import annotations

import json
import sys
from datetime import timedelta

from airflow.dag_processing.dagbag import DagBag


def main(folder: str, conf: str) -> None:
    """One line of JSON, the last that is printed."""
    bag = DagBag(folder)
    dag = bag.dags["gemstream"]
    task = dag.get_task("run")
    facts = {
        "errors": bag.import_errors,
        "dags": sorted(bag.dags),
        "max_active_runs": dag.max_active_runs,
        "catchup": dag.catchup,
        "schedule": dag.schedule,
        "mode": task.mode,
        "retries": task.retries,
    }
    if conf:
        task.poke_interval, task.retry_delay = 0.1, timedelta(seconds=0.1)
        run = dag.test(run_conf=json.loads(conf))
        (instance,) = run.get_task_instances()
        read = instance.xcom_pull
        facts |= {
            "state": str(run.state),
            "tries": instance.try_number,
            "counts": read(task_ids="run", key="return_value"),
            "report": read(task_ids="run", key="report"),
        }
    print(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
