"""Whole models: what goes in, the recurrent backbone, what comes out."""

from __future__ import annotations

from seqmodels.models.attention import Attention
from seqmodels.models.bridge import Bridge
from seqmodels.models.cache import ContinuousCache, with_cache
from seqmodels.models.echo_state import EchoStateModel
from seqmodels.models.linear_cross_entropy import linear_cross_entropy
from seqmodels.models.parts import TokenEmbedding
from seqmodels.models.pixel_sampling import sample_images
from seqmodels.models.pixelrnn import PixelRNN
from seqmodels.models.pooling import Pool
from seqmodels.models.prediction import LinearHead, OneHot, PredictionModel, RealInputs
from seqmodels.models.seq2seq import Decoded, EncoderDecoder
from seqmodels.models.sequence import SequenceModel
from seqmodels.models.token_heads import AdaptiveHead, TokenHead

__all__ = [
    "AdaptiveHead",
    "Attention",
    "Bridge",
    "ContinuousCache",
    "Decoded",
    "EchoStateModel",
    "EncoderDecoder",
    "LinearHead",
    "OneHot",
    "PixelRNN",
    "Pool",
    "PredictionModel",
    "RealInputs",
    "SequenceModel",
    "TokenEmbedding",
    "TokenHead",
    "linear_cross_entropy",
    "sample_images",
    "with_cache",
]
