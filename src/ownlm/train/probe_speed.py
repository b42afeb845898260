"""How fast this machine trains: a few steps on text of random ids."""

import numpy as np

from ownlm.corpus.shards import TokenDocuments
from ownlm.machine import probe
from ownlm.model import Decoder
from ownlm.train.config import TrainConfig
from ownlm.train.pack import DocumentRows
from ownlm.train.plan import seconds_a_step


def training_flops_per_second(model: Decoder, config: TrainConfig, flops_per_token: int) -> float:
    """Operations a second of whole training steps, eager: what a plan may count on."""
    machine = probe(model.device.type)
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, 4 * config.context)
    rows = DocumentRows(TokenDocuments.of([ids]), context=config.context, seed=0)
    precision = machine.precision if config.precision == "auto" else config.precision
    seconds = seconds_a_step(config, model, rows, precision, compact_loss=False, compiled=False)
    return flops_per_token * config.rows * config.context / seconds
