"""What stands on storage: objects, finished stages, names, and what nothing reaches."""
