"""The page of a run: `_runs/<run_id>/report.html`, one file that needs nothing else and runs no script.

    report.json, records/, errors/, documents/ -> facts.py -> gallery.py -> `Page` -> render.py -> HTML

`make.py` does it in a process of its own when everything else of the run is written; `gemstream report
--html` does it again later.
"""
