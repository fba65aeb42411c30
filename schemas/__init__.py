"""What flows and what is asked: rows, jobs, tasks, models, errors. Pydantic and pyarrow only."""
