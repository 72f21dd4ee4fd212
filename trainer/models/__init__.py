"""CLIP's towers in plain torch, under the state-dict names of OpenAI's release."""

from trainer.models.clip import CLIP
from trainer.models.config import MODELS, ModelConfig, model_config
from trainer.models.init import new_clip

__all__ = ["CLIP", "MODELS", "ModelConfig", "model_config", "new_clip"]
