"""Who calls the work of a stage: this process, or Ray."""
