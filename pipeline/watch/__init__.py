"""What a person sees while stages run."""
