"""Carry out a recipe: what `openwit run` does, as the entry point for `ray job submit`.

    ray job submit --working-dir . -- python -m jobs.build RECIPE.yaml --store /shared/store

The driver keeps no state of its own, so submitting the same job again is the retry.
"""

from jobs.commands.guarded import run_as_command
from jobs.commands.run import run

if __name__ == "__main__":
    run_as_command(run)
