"""Plain supervised fine-tuning: every weight of the model is trained. The baseline of every comparison."""
