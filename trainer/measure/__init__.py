"""What `trainer.bench_gpu` measures on one device, and whether what is fast is right there."""
