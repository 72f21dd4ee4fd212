"""The model: towers, tokenizer, losses, data, steps, checkpoints, training and evaluation.

Runs with torch, numpy, pyarrow, safetensors, Pillow and regex alone, on one process, on CPU or GPU.
Refuses to know how a dataset is made or what launches it: it reads `pipeline.manifest` and files.
"""
