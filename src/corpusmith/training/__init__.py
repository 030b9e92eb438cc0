"""The loop: batches, optimiser, schedule, budget, checkpoints."""
