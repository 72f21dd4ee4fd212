"""The model: towers, tokenizer, losses, data, steps, checkpoints, training and evaluation.

Runs with torch, numpy, pyarrow, safetensors, Pillow and regex alone, in one process or many, on
CPUs or GPUs. It reads datasets through `pipeline.dataset` and does not depend on how they were
built, or on what launches it.
"""
