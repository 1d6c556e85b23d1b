from __future__ import annotations

import numpy as np
from conftest import byte_tokenizer

from riskdistill.text.pieces import NO_PART, by_length, collate, cut
from riskdistill.text.serialise import Serialised
