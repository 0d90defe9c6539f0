"""Training: schedules, losses, batches, the loop and its checkpoints."""

from companion.training.batching import PairBatch, TokenBatches, collate_pairs
from companion.training.checkpoints import (
    CheckpointError,
    Checkpoints,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from companion.training.errors import TrainingError
from companion.training.evaluation import evaluate
from companion.training.loop import Trainer
from companion.training.losses import (
    label_smoothed_cross_entropy,
    perplexity,
    translation_loss,
)
from companion.training.masked_language import (
    SentencePairs,
    mask_tokens,
    sentence_pairs,
)
from companion.training.recipes import train_transformer
from companion.training.schedules import (
    CosineWithWarmup,
    TransformerLRScheduler,
    cosine_lr,
    transformer_lr,
)

__all__ = [
    "CheckpointError",
    "Checkpoints",
    "CosineWithWarmup",
    "PairBatch",
    "SentencePairs",
    "TokenBatches",
    "Trainer",
    "TrainingError",
    "TransformerLRScheduler",
    "collate_pairs",
    "cosine_lr",
    "evaluate",
    "label_smoothed_cross_entropy",
    "load_checkpoint",
    "load_weights",
    "mask_tokens",
    "perplexity",
    "save_checkpoint",
    "sentence_pairs",
    "train_transformer",
    "transformer_lr",
    "translation_loss",
]
