"""Where engine, curation and trainer meet: the command, the stage catalogue, job entry points."""
