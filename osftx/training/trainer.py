"""The training loop of one phase. The step reads on one screen: `Trainer.step`."""

import math
import time
from typing import Any

import torch
import torch.distributed as dist

from osftx.config.schema import TrainingConfig
from osftx.data.packing import Fill, fill_of, plan_steps, sample_order
from osftx.distributed.accelerator import peak_memory_bytes
from osftx.distributed.engine import Engine, Scheduler
from osftx.training.batches import Samples, Step, plan_step
from osftx.training.callbacks.dispatch import Callbacks
from osftx.training.progress import Progress


class Trainer:
    """Trains on the samples of a phase. A step's loss is the mean over its counted tokens, on however many ranks."""

    def __init__(self, samples: Samples, training: TrainingConfig, device: torch.device):
        self.samples, self.training, self.device = samples, training, device
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        order = sample_order(len(samples), training.num_epochs, training.seed)
        self.steps = plan_steps(order, training.effective_batch_size)
        self.progress = Progress()

    def run(self, engine: Engine, scheduler: Scheduler, callbacks: Callbacks) -> None:
        """Takes the steps that `progress` does not count as done, and calls `callbacks` after each. Collective.

        Raises FloatingPointError if the loss or its gradients are not finite, and whatever a callback raises.
        """
        engine.train()
        done = self.progress
        for chosen in self.steps[done.steps :]:
            begun = time.perf_counter()
            learning_rate = float(scheduler.get_last_lr()[0])
            step = plan_step(
                self.samples, chosen, self.training.max_tokens_per_gpu, self.rank, self.world_size, self.device
            )
            loss = self.step(engine, step)
            scheduler.step()
            done.steps += 1
            done.samples += len(chosen)
            done.tokens += step.tokens
            self._check_finite(engine, loss, learning_rate)
            metrics = self._metrics(step, loss, learning_rate, len(chosen), time.perf_counter() - begun)
            callbacks.stepped(metrics | {"grad_norm": float(engine.get_global_grad_norm() or 0.0)})

    def step(self, engine: Engine, step: Step) -> float:
        """Takes one optimizer step, and returns its loss, the same on every rank. Collective."""
        total = torch.zeros((), device=self.device)
        for place, batch in enumerate(step.micro_batches, start=1):
            loss = engine(
                input_ids=batch.input_ids,
                position_ids=batch.position_ids,
                labels=batch.labels,
                num_items_in_batch=step.counted_tokens,  # the sum over this rank's tokens, divided by all ranks'
                use_cache=False,  # with a cache, packed samples would silently see each other
            ).loss
            # ZeRO averages gradients over the ranks; the factor makes it the sum that the loss's mean needs.
            engine.set_gradient_accumulation_boundary(place == step.count)
            engine.backward(loss * self.world_size, scale_wrt_gas=False)
            engine.step()
            total += loss.detach()
        dist.all_reduce(total)
        return total.item()

    def fill(self) -> Fill:
        """Returns how well the samples of all steps fill the ranks."""
        samples = self.samples
        return fill_of(self.steps, samples.lengths, samples.counted, self.world_size, self.training.max_tokens_per_gpu)

    def _check_finite(self, engine: Engine, loss: float, learning_rate: float) -> None:
        """Raises FloatingPointError where the loss or its gradients are not finite: DeepSpeed skips such a step."""
        if math.isfinite(loss) and engine.was_step_applied():
            return
        what = f"is {loss}" if not math.isfinite(loss) else f"is {loss}, but its gradients are not finite"
        raise FloatingPointError(
            f"the loss of step {self.progress.steps} {what}; lower learning_rate (now {learning_rate:.3g}), "
            "raise warmup_steps or lower max_grad_norm"
        )

    def _metrics(
        self, step: Step, loss: float, learning_rate: float, samples: int, duration_s: float
    ) -> dict[str, Any]:
        """Returns the fields of training_hub's metrics, so that programs that read those can read osftx's, too."""
        return {
            "step": self.progress.steps,
            "epoch": round(self.progress.samples / len(self.samples), 6),
            "lr": learning_rate,
            "loss": loss,
            "num_samples": samples,
            "num_loss_counted_tokens": step.counted_tokens,
            "num_total_tokens": step.tokens,
            "grad_accum": step.count,
            "time_per_batch": duration_s,
            "tokens_per_second": step.tokens / duration_s,
            "samples_per_second": samples / duration_s,
            "total_samples_accumulated": self.progress.samples,
            "peak_memory_usage_GB": peak_memory_bytes() / 1e9,
        }
