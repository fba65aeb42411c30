"""Asks the Ray node that this container is whether it is well: the image's HEALTHCHECK.

Kubernetes has probes of its own, which KubeRay sets; this is for `docker run` and `ray up`. The raylet is
asked through the agent beside it, as those probes do. A container without a raylet is a command that has
not started Ray, or never will (`plan`, `errors`): it is well for as long as it runs.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request

import psutil

URL = "http://127.0.0.1:{port}/api/local_raylet_healthz"
PORT = 52365
"""Where Ray's agent listens unless `ray start --dashboard-agent-listen-port` says otherwise."""
SECONDS = 5


def main() -> int:
    """0 while the node is well."""
    if not any(process.info["name"] == "raylet" for process in psutil.process_iter(["name"])):
        return 0
    url = URL.format(port=os.environ.get("GEMSTREAM_AGENT_PORT", PORT))
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            said = answer.read(100).decode(errors="replace")
    except (urllib.error.URLError, TimeoutError) as error:
        print(f"{url}: {error}")
        return 1
    print(f"{url}: {said}")
    return 0 if "success" in said else 1


if __name__ == "__main__":
    sys.exit(main())
