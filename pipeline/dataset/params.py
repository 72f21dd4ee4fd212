"""The base of every rule's parameters: frozen, closed to unknown names, part of a result's
identity.
"""

from pydantic import BaseModel, ConfigDict


class Params(BaseModel):
    """Parameters that decide what comes out; how a rule runs (cores, memory) never belongs here."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
