"""What goes wrong with an encoded picture: one error for all of it."""


class UndecodableImage(Exception):
    """The bytes give no picture within the limits; the text says why."""
