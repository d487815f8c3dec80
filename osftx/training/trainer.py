"""The training loop of one phase. The step reads in one screen: `Trainer.step`."""

import json
import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from osftx.config.schema import TrainingConfig
from osftx.data.packing import Fill, fill_of, plan_steps, sample_order
from osftx.distributed.accelerator import peak_memory_bytes
from osftx.distributed.engine import Engine, Scheduler
from osftx.training.batches import Samples, Step, plan_step
from osftx.training.checkpoint import Progress, Saves
from osftx.training.curve import Curve
from osftx.training.stop_signal import StopRequest
from osftx.training.validation import Validation
from osftx.utils.progress import progress


class Trainer:
    """Walks a phase's samples. A step's loss is the mean over its counted tokens, however many ranks share them."""

    def __init__(self, samples: Samples, training: TrainingConfig, device: torch.device):
        self.samples, self.training, self.device = samples, training, device
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        order = sample_order(len(samples), training.num_epochs, training.seed)
        self.steps = plan_steps(order, training.effective_batch_size)
        self.progress = Progress()

    def run(
        self,
        engine: Engine,
        scheduler: Scheduler,
        title: str,
        metrics: Path,
        saves: Saves | None,
        curve: Curve | None,
        validation: Validation | None,
    ) -> None:
        """Train to the end, from the newest of the `saves` on; each step writes a JSON line to `metrics`, and the
        `curve` and the `validation` measure where they are due.

        Raises FloatingPointError if it diverges, Stopped after a signal when there are `saves`.
        """
        if saves is not None:
            self.progress = saves.restore()
        done = self.progress
        if done.steps and self.rank == 0:
            print(f"going on after step {done.steps} of {len(self.steps)}", flush=True)
        if curve is not None:
            curve.begin(done.steps)
        engine.train()
        with (
            progress(title, len(self.steps), "steps", done.steps) as bar,
            metrics.open("a" if done.steps else "w", encoding="utf-8") as log,
            StopRequest(saves.settings.grace_s) if saves is not None else nullcontext() as stop,
        ):
            for chosen in self.steps[done.steps :]:
                begun = time.perf_counter()
                learning_rate = float(scheduler.get_last_lr()[0])
                step = plan_step(
                    self.samples,
                    chosen,
                    self.training.max_tokens_per_gpu,
                    self.rank,
                    self.world_size,
                    self.device,
                )
                loss = self.step(engine, step)
                scheduler.step()
                done.steps += 1
                done.samples += len(chosen)
                done.tokens += step.tokens
                if not math.isfinite(loss) or not engine.was_step_applied():  # DeepSpeed skips non-finite gradients
                    what = f"is {loss}" if not math.isfinite(loss) else f"is {loss}, but its gradients are not finite"
                    raise FloatingPointError(
                        f"the loss of step {done.steps} {what}; lower learning_rate (now {learning_rate:.3g}), "
                        "raise warmup_steps or lower max_grad_norm"
                    )
                line = self._metrics(step, loss, learning_rate, len(chosen), time.perf_counter() - begun)
                line["grad_norm"] = float(engine.get_global_grad_norm() or 0.0)
                if validation is not None:  # before the save, of which it is a part
                    line |= validation.after_step(done)
                if self.rank == 0:
                    log.write(json.dumps(line) + "\n")
                    log.flush()
                shown = {"loss": f"{loss:.4f}", "lr": f"{learning_rate:.2e}"}
                if done.validation:
                    shown["val_loss"] = f"{done.validation[-1]['loss']:.4f}"
                bar.set_postfix(shown, refresh=False)
                bar.update()
                if saves is not None and stop is not None:
                    saves.after_step(done, last=done.steps == len(self.steps), stop=stop)
                # After a signal there may be no time to measure: it is done when training goes on.
                if curve is not None:
                    curve.after_step(done.steps)

    def fill(self) -> Fill:
        """How well the samples of all steps fill the ranks."""
        samples = self.samples
        return fill_of(self.steps, samples.lengths, samples.counted, self.world_size, self.training.max_tokens_per_gpu)

    def step(self, engine: Engine, step: Step) -> float:
        """One optimizer step; returns its loss, the same on every rank."""
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

    def _metrics(
        self, step: Step, loss: float, learning_rate: float, samples: int, duration_s: float
    ) -> dict[str, Any]:
        """The fields of training_hub's metrics, so that its readers work on ours."""
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
