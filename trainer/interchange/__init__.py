"""Weights to and from OpenAI, open_clip and Hugging Face."""
