"""CLIP's towers in plain torch, under the state-dict names of OpenAI's release."""
