"""Tiny language models of transformers with random weights, and their tokenizers."""

import pathlib
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

SENTENCES = [
    "the cat sat on the mat",
    "a dog ran to the park",
    "the bird flew over a house",
    "a cat ran over the mat",
    "the dog sat in a house",
    "a bird sat on the dog",
]
WORDS = sorted({word for sentence in SENTENCES for word in sentence.split()})
SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
POSITIONS = 24
CAUSAL, MASKED = ("gpt2", "llama", "mistral", "qwen2"), ("bert", "distilbert", "modernbert")


def byte_pairs(special: list[str], start: str | None) -> Any:
    """Return a fast tokenizer of byte pairs, as of GPT-2 and Llama 3; `start` precedes every text."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=special[:1],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.add_special_tokens(special)
    if start is not None:
        ids = [(start, tokenizer.token_to_id(start))]
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{start} $A", special_tokens=ids)
    return tokenizer


def words() -> Any:
    """Return a fast tokenizer of words, as of BERT."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def make(name: str, positions: int = POSITIONS) -> tuple[Any, Any]:
    """Return a model and its tokenizer; weights are large enough that outputs depend on all inputs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _model(name, positions).eval().requires_grad_(False)
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.3) if weight.ndim > 1 else weight.add_(0.1 * torch.randn_like(weight))
        model.tie_weights()
    return model, _tokenizer(name)


def save(name: str, folder: pathlib.Path, positions: int = POSITIONS, **options: Any) -> pathlib.Path:
    """Write a model and its tokenizer to a folder."""
    model, tokenizer = make(name, positions)
    model.save_pretrained(folder, **options)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(name: str) -> Any:
    fast = transformers.PreTrainedTokenizerFast
    if name in MASKED:
        special = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]", "pad_token": "[PAD]"}
        return fast(tokenizer_object=words(), unk_token="[UNK]", **special)
    if name in ("gpt2", "qwen2"):
        end = "<|endoftext|>"
        return fast(tokenizer_object=byte_pairs([end], None), bos_token=end, eos_token=end)
    return fast(tokenizer_object=byte_pairs(["<s>", "</s>"], "<s>"), bos_token="<s>", eos_token="</s>")


def _model(name: str, positions: int) -> Any:
    tokenizer = _tokenizer(name)
    size = len(tokenizer) + 3  # as embeddings that are padded to a round number
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    common = {"vocab_size": size, "max_position_embeddings": positions}
    heads = {"num_key_value_heads": 1, "head_dim": 8}
    match name:
        case "gpt2":
            config = transformers.GPT2Config(
                vocab_size=size, n_positions=positions, n_embd=16, n_layer=2, n_head=2, **ends
            )
            return transformers.GPT2LMHeadModel(config)
        case "llama":
            return transformers.LlamaForCausalLM(transformers.LlamaConfig(**common, **SMALL, **heads, **ends))
        case "mistral":
            config = transformers.MistralConfig(**common, **SMALL, **heads, **ends, sliding_window=6)
            return transformers.MistralForCausalLM(config)
        case "qwen2":
            config = transformers.Qwen2Config(
                **common, **SMALL, num_key_value_heads=1, tie_word_embeddings=True, **ends
            )
            return transformers.Qwen2ForCausalLM(config)
        case "bert":
            return transformers.BertForMaskedLM(transformers.BertConfig(**common, **SMALL, pad_token_id=0))
        case "distilbert":
            config = transformers.DistilBertConfig(**common, dim=16, hidden_dim=32, n_layers=2, n_heads=2)
            return transformers.DistilBertForMaskedLM(config)
        case _:
            ids = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
            config = transformers.ModernBertConfig(**common, **SMALL, **ids, local_attention=8)
            return transformers.ModernBertForMaskedLM(config)
