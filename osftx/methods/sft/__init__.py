"""Plain supervised fine-tuning: every weight of the model is trained. It is the baseline of every comparison."""
