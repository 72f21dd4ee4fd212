"""Query lists: matching captions against them, and balancing what matches."""
