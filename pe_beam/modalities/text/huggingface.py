"""Back end `huggingface`: a local model through `transformers`, in batches.

Each row draws its tokens by its own key (`draws`). So a row's tokens do not depend on its batch, and the rows of one
batch may have different temperatures.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pe_beam.errors import MissingExtraError, RecipeError
from pe_beam.kept import kept
from pe_beam.modalities.loading import demand_all, has_meta, loading, tell, weights_in
from pe_beam.modalities.text.client import Answer, Ask, Client, OnAnswer
from pe_beam.modalities.text.options import LlmOptions, Local
from pe_beam.services.journal import Journal


class HuggingFaceClient(Client):
    """A causal language model. It is loaded once per process."""

    def __init__(self, options: LlmOptions) -> None:
        self._options = options

    def ready(self) -> None:
        """Checks that packages and files are there. Reads the model's configuration and vocabulary, not its weights.

        Of a local folder it looks at the weights' files, whose names and shapes have to be those of the model.
        """
        model = self._options.model
        _demand_packages(self._options.local)
        _tokenizer(model, self._options.local.revision)
        if Path(model).is_dir():
            weights_in(Path(model), "generator.model", model)
            _check_names(model)

    def _load(self) -> tuple[Any, Any]:
        local = self._options.local
        return _loaded(self._options.model, local.revision, local.dtype, local.device_map, local.bits)

    def answer_all(self, asks: Iterable[Ask], on_answer: OnAnswer, journal: Journal) -> None:
        """See Client."""
        fresh, again = iter(asks), deque[Ask]()
        while True:
            batch: list[Ask] = []
            while len(batch) < self._options.local.batch_size:
                ask = again.popleft() if again else next(fresh, None)
                if ask is None:
                    break
                found = journal.get(ask.key)
                if found is None:
                    batch.append(ask)
                    continue
                follow = on_answer(ask, Answer(*found))
                again.extend([follow] if follow is not None else [])
            if not batch:
                return
            for ask, answer in zip(batch, self._answer(batch), strict=True):
                journal.add(ask.key, [answer.text, answer.finish])
                follow = on_answer(ask, answer)
                again.extend([follow] if follow is not None else [])

    def _answer(self, batch: Sequence[Ask]) -> list[Answer]:
        import torch

        tokenizer, model = self._load()
        prompts = [self._prompt(tokenizer, ask) for ask in batch]
        room = getattr(model.config, "max_position_embeddings", None)
        encoded = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=self._adds_special())
        length = encoded["input_ids"].shape[1]
        own_lengths = encoded["attention_mask"].sum(dim=1).tolist()
        if room is not None and max(own_lengths) >= room:
            return self._without_the_long(batch, own_lengths, room)
        steps = max(ask.max_tokens for ask in batch)
        steps = steps if room is None else max(min(steps, room - length), 1)
        local = self._options.local
        with torch.inference_mode():
            out = model.generate(
                **{name: encoded[name].to(model.device) for name in ("input_ids", "attention_mask")},
                max_new_tokens=steps,
                do_sample=False,
                num_beams=1,
                repetition_penalty=local.repetition_penalty,
                no_repeat_ngram_size=local.no_repeat_ngram or None,
                logits_processor=_processors(batch, top_k=local.top_k, length=length, steps=steps),
                pad_token_id=tokenizer.pad_token_id,
            )
        return [
            self._read(tokenizer, model, row[length:].tolist(), min(ask.max_tokens, steps))
            for ask, row in zip(batch, out, strict=True)
        ]

    def _without_the_long(self, batch: Sequence[Ask], lengths: Sequence[int], room: int) -> list[Answer]:
        """Answers the prompts that leave room for an answer. The others get an empty answer with finish "too long"."""
        fit = [ask for ask, length in zip(batch, lengths, strict=True) if length < room]
        answers = iter(self._answer(fit) if fit else [])
        return [next(answers) if length < room else Answer("", "too long") for length in lengths]

    def _adds_special(self) -> bool:
        return self._options.format == "completion"  # chat templates add their own

    def _prompt(self, tokenizer: Any, ask: Ask) -> str:
        if self._options.format == "completion":
            return ask.messages[0][1] or (tokenizer.bos_token or " ")
        if tokenizer.chat_template is None:
            raise RecipeError(
                f"generator.format: {self._options.model!r} has no chat template; allowed for it: completion"
            )
        messages = [{"role": role, "content": text} for role, text in ask.messages]
        return str(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))

    def _read(self, tokenizer: Any, model: Any, tokens: list[int], limit: int) -> Answer:
        ends = model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        own = tokens[:limit]
        stop = next((place for place, token in enumerate(own) if token in ends), None)
        text = tokenizer.decode(own if stop is None else own[:stop], skip_special_tokens=True)
        return Answer(text, "length" if stop is None else "stop")


def _processors(batch: Sequence[Ask], *, top_k: int, length: int, steps: int) -> Any:
    """Returns a processor from logits to scores whose largest is the draw. `length` tokens precede the first step."""
    from transformers import LogitsProcessor, LogitsProcessorList

    from pe_beam.modalities.text.draws import KeyedDraws

    draws = KeyedDraws(
        seeds=[ask.seed for ask in batch],
        temperatures=[ask.temperature for ask in batch],
        top_p=[ask.top_p for ask in batch],
        top_k=top_k,
        steps=steps,
    )

    class Draw(LogitsProcessor):
        def __call__(self, input_ids: Any, scores: Any) -> Any:
            return draws(scores, input_ids.shape[1] - length)

    return LogitsProcessorList([Draw()])


@kept(maxsize=2)
def _tokenizer(model: str, revision: str | None) -> Any:
    with _loading(model):
        from transformers import AutoConfig, AutoTokenizer

        AutoConfig.from_pretrained(model, revision=revision)
        try:
            tokenizer = AutoTokenizer.from_pretrained(model, revision=revision, padding_side="left")
        except TypeError:  # transformers 4 opens files that are missing
            tokenizer = None
    # transformers 5 makes one where files are missing.
    if tokenizer is None or len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise RecipeError(f"generator.model: {model!r} has no vocabulary; the files of its tokenizer are wanted there")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


@kept(maxsize=2)
def _loaded(model: str, revision: str | None, dtype: str, device_map: str | None, bits: int | None) -> tuple[Any, Any]:
    tokenizer = _tokenizer(model, revision)
    with _loading(model):
        import torch
        from transformers import AutoModelForCausalLM

        more = {"device_map": device_map, "quantization_config": _quantised(dtype, bits)}
        kind = "auto" if dtype == "auto" else getattr(torch, dtype)
        with _placed(device_map, bits):
            made, told = AutoModelForCausalLM.from_pretrained(
                model,
                revision=revision,
                dtype=kind,
                output_loading_info=True,
                **{name: value for name, value in more.items() if value is not None},
            )
    if getattr(made.config, "quantization_config", None) is None:  # such weights have other names
        demand_all(told, "generator.model", model)
    if device_map is None and bits is None:
        made = made.to("cuda" if torch.cuda.is_available() else "cpu")
    return tokenizer, made.eval()


def _check_names(model: str) -> None:
    """Raises RecipeError if weights of a local model are missing. Without accelerate that is found as it is loaded."""
    with _loading(model):
        from transformers import AutoConfig, AutoModelForCausalLM

        quantised = getattr(AutoConfig.from_pretrained(model), "quantization_config", None) is not None
        if quantised or not has_meta():
            return
        demand_all(tell(AutoModelForCausalLM, model), "generator.model", model)


def _quantised(dtype: str, bits: int | None) -> Any:
    """Returns bitsandbytes' configuration: 8-bit integers, or 4-bit normal floats that are multiplied as `dtype`."""
    import torch
    from transformers import BitsAndBytesConfig

    if bits is None:
        return None
    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    kind = torch.bfloat16 if dtype == "auto" else getattr(torch, dtype)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=kind)


def _demand_packages(local: Local) -> None:
    """Raises MissingExtraError if a package for `device_map` or `bits` is missing."""
    wanted = {"accelerate": "device_map" if local.device_map else "bits"} if local.device_map or local.bits else {}
    wanted |= {"bitsandbytes": "bits"} if local.bits else {}
    for package, option in wanted.items():
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(
                f"generator.local.{option}: it needs the package {package!r}; install pe_beam[text,gpu]"
            )


@contextlib.contextmanager
def _placed(device_map: str | None, bits: int | None) -> Iterator[None]:
    """Turns errors of placing a model into RecipeError: a device is absent or too small, or `bits` does not work."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if device_map is None and bits is None:
            raise
        raise RecipeError(
            f"generator.local: the model cannot be placed here with device_map {device_map!r} and bits {bits!r} "
            f"({type(error).__name__}); devices of this machine with room for it are wanted, and for bits such as "
            "bitsandbytes supports"
        ) from None


def _loading(model: str) -> contextlib.AbstractContextManager[None]:
    return loading(
        "generator.model",
        model,
        by="transformers",
        part="generator.backend: huggingface",
        extra="text",
        folder="a local folder with a causal language model",
    )
