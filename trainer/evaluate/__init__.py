"""Evaluation of a finished model on sets in clip-benchmark's webdataset layout."""

from trainer.evaluate.run import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
