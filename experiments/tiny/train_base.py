"""Trains the base model of the tiny two-phase experiment and saves it as a Hugging Face folder.

    python experiments/tiny/train_base.py    # about 12 minutes on one CPU core; base/ is shipped

A tokenizer and a Llama of about 1 M parameters are built from scratch. The model is trained on the endless mix of
`make_data.base_mix`, with the loss on what the assistant says, including `<|im_end|>`. A checkpoint is written every
250 steps, and the same command continues from it. With another seed, size, decay or length, another `--checkpoint` must
be given.
"""

import argparse
import random
import time
from collections import defaultdict
from pathlib import Path

import torch
from make_data import WORDS, Sample, base_eval, base_mix
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    get_cosine_schedule_with_warmup,
)

HERE = Path(__file__).parent
WARMUP_STEPS = 100
REPORT_EVERY_STEPS = 250
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\\n' }}
{%- if message['role'] == 'assistant' -%}
{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}
{%- else -%}
{{ message['content'] + '<|im_end|>' }}
{%- endif -%}
{{ '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\\n' }}
{%- endif -%}
"""


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Returns a tokenizer with one token per byte, so that any text can be written, one per role and one per word."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    words = ["system", "user", "assistant", *WORDS]
    tokens = special + words + sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=[]))
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens(words)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
        model_max_length=256,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, hidden_size: int, layers: int) -> LlamaForCausalLM:
    """Returns a model with heads of 32 features and a vocabulary rounded up to a multiple of 8."""
    config = LlamaConfig(
        vocab_size=-(-len(tokenizer) // 8) * 8,
        hidden_size=hidden_size,
        intermediate_size=3 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=hidden_size // 32,
        num_key_value_heads=hidden_size // 32,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=False,  # the shipped base is only trained and scored; pass use_cache=True to generate
    )
    model = LlamaForCausalLM(config)
    # The scale is that of what the blocks add, so that a word that was never trained stays visible in every layer.
    torch.nn.init.normal_(model.model.embed_tokens.weight, std=1.0)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        max_new_tokens=32,
    )
    return model


def encode(tokenizer: PreTrainedTokenizerFast, samples: list[Sample]) -> dict[str, torch.Tensor]:
    """Returns `input_ids`, `attention_mask` and `labels` (-100 outside the assistant), each (samples, tokens).

    All three are padded on the right.
    """
    batch = tokenizer.apply_chat_template(
        [sample.messages for sample in samples],
        return_dict=True,
        return_assistant_tokens_mask=True,
        padding=True,
        padding_side="right",
        return_tensors="pt",
    )
    spoken = torch.as_tensor(batch["assistant_masks"]).bool()
    labels = batch["input_ids"].masked_fill(~spoken, -100)
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "labels": labels}


def split_by_length(batch: dict[str, torch.Tensor], parts: int) -> list[dict[str, torch.Tensor]]:
    """Returns the batch in `parts` of similar length, each cut to its longest chat, which halves the padding."""
    lengths = batch["attention_mask"].sum(dim=1)
    return [
        {name: tensor[rows, : lengths[rows].max()] for name, tensor in batch.items()}
        for rows in lengths.argsort().chunk(parts)
    ]


@torch.no_grad()
def exact_match(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, samples: list[Sample]) -> dict[str, float]:
    """Returns the share of samples whose assistant tokens are all the arg-max after those before, by task and `all`."""
    right = defaultdict(list)
    for start in range(0, len(samples), 128):
        chunk = samples[start : start + 128]
        batch = encode(tokenizer, chunk)
        predicted = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.argmax(-1)
        expected = batch["labels"][:, 1:]
        matches = ((predicted[:, :-1] == expected) | (expected == -100)).all(dim=1).tolist()
        for sample, match in zip(chunk, matches, strict=True):
            right[sample.task].append(match)
            right["all"].append(match)
    return {task: sum(matches) / len(matches) for task, matches in right.items()}


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, args: argparse.Namespace) -> None:
    """Trains with AdamW and weight decay on all matrices except the embeddings.

    Continues from `args.checkpoint` if it exists.
    """
    embeddings = model.get_input_embeddings().weight
    decayed = [p for p in model.parameters() if p.ndim == 2 and p is not embeddings]
    others = [p for p in model.parameters() if p.ndim == 1 or p is embeddings]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": args.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=args.learning_rate,
        betas=(0.9, 0.98),
        eps=1e-4,  # far above the usual: gradients of a learned task are small, and its steps should be as well
    )
    scheduler = get_cosine_schedule_with_warmup(optimizer, WARMUP_STEPS, args.steps)
    first_step = 0
    if args.checkpoint.exists():
        state = torch.load(args.checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        first_step = state["step"]
        print(f"continuing from step {first_step} of {args.checkpoint}")

    started = time.monotonic()
    for step in range(first_step, args.steps):
        chats = base_mix(random.Random(f"base {args.seed} {step}"))  # the data depends on seed and step alone
        batch = encode(tokenizer, [next(chats) for _ in range(args.batch_size)])
        spoken_tokens = (batch["labels"] != -100).sum()
        loss = torch.zeros(())
        for part in split_by_length(batch, parts=2):
            part_loss = model(**part, num_items_in_batch=spoken_tokens).loss
            part_loss.backward()
            loss += part_loss.detach()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()

        done = step + 1
        if done % REPORT_EVERY_STEPS == 0 or done == args.steps:
            left_s = (time.monotonic() - started) / (done - first_step) * (args.steps - done)
            model.eval()
            scores = exact_match(model, tokenizer, base_eval())
            model.train()
            tasks = "  ".join(f"{task} {score:.2f}" for task, score in scores.items())
            progress = f"step {done}/{args.steps}  loss {loss.item():.4f}  {left_s / 60:.1f} min left"
            print(f"{progress}  {tasks}", flush=True)
            args.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": done}
            torch.save({**state, "scheduler": scheduler.state_dict()}, args.checkpoint)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=HERE / "base", help="Hugging Face folder to write")
    parser.add_argument("--checkpoint", type=Path, default=HERE / "outputs" / "base.pt", help="training state")
    parser.add_argument("--hidden-size", type=int, default=128, help="a multiple of 32")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch-size", type=int, default=64, help="chats a step, about 18 tokens each")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, args.hidden_size, args.layers)
    print(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens")
    train(model, tokenizer, args)
    model.eval()

    model.to(torch.bfloat16).save_pretrained(args.output)
    tokenizer.save_pretrained(args.output)
    shipped = LlamaForCausalLM.from_pretrained(args.output, dtype=torch.bfloat16).eval()
    for task, score in exact_match(shipped, tokenizer, base_eval()).items():
        print(f"{task:<16} {score:.3f}")


if __name__ == "__main__":
    main()
