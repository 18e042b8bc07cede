"""DGRM and DGRMPlus: the contract, and what is their own."""

import pytest
import torch
from contract import ModelContract, interaction

from recbole_dgrm import data, registry


class TestDGRM(ModelContract):
    model = "DGRM"


class TestDGRMPlus(ModelContract):
    model = "DGRMPlus"
