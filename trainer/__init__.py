"""The model: towers, tokenizer, losses, data, steps, checkpoints, training and evaluation.

Runs with torch, numpy, pyarrow, safetensors, Pillow and regex alone, in one process or many, on
CPUs or GPUs. Refuses to know how a dataset is made or what launches it: it reads
datasets through `pipeline.dataset`.
"""
