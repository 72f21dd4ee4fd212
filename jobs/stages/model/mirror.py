"""Records of the trainer's as models of the engine's: the trainer does without pydantic.

A machine that trains may have torch, numpy, pyarrow and safetensors alone, so the trainer's records
are dataclasses; recipes and help are made from models. Each record is spelled once, there.
"""

from dataclasses import MISSING, fields
from typing import Any, TypeVar, get_type_hints

from pydantic import BaseModel, Field, create_model, model_validator

from pipeline.dataset.errors import UserError
from trainer.records import field_docs

Model = TypeVar("Model", bound=BaseModel)


def mirrored(name: str, base: type[Model], record: Any) -> type[Model]:
    """A model with the fields, defaults and texts of a record, refusing what the record refuses."""
    hints, docs = get_type_hints(record), field_docs(record)
    columns: dict[str, Any] = {}
    for field in fields(record):
        default = ... if field.default is MISSING else field.default
        columns[field.name] = (hints[field.name], Field(default, description=docs.get(field.name)))

    def check(model: Any) -> Any:
        """What the trainer would refuse, before anything upstream is built."""
        try:
            record.from_dict({field.name: getattr(model, field.name) for field in fields(record)})
        except UserError as error:
            raise ValueError(str(error)) from error
        return model

    checks: dict[str, Any] = {"as_the_trainer_does": model_validator(mode="after")(check)}
    return create_model(name, __base__=base, __validators__=checks, **columns)
