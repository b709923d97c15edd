"""Pages of memory of this process: how often they had to be fetched, and how many are huge."""

import re
import resource


def page_faults():
    """Pages that this process had to be given so far, in all of its threads."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def huge_bytes():
    """Bytes of this process that lie in huge pages now; None where the system does not tell."""
    try:
        with open("/proc/self/smaps_rollup", encoding="ascii") as file:
            return int(re.search(r"AnonHugePages:\s+(\d+) kB", file.read()).group(1)) * 1024
    except (OSError, AttributeError):
        return None
