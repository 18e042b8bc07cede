"""Packages and dependencies; the rest of the metadata is in pyproject.toml, exact versions in constraints.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "recbole_dgrm" / "start.py").read_text()).group(1)

setup(
    version=VERSION,
    packages=[*find_packages(include=["recbole_dgrm", "recbole_dgrm.*"]), "recbole_dgrm.properties"],
    package_dir={"recbole_dgrm": "recbole_dgrm", "recbole_dgrm.properties": "properties"},
    package_data={
        "recbole_dgrm": ["reports/*.html", "py.typed"],
        "recbole_dgrm.properties": ["*.yaml", "*/*.yaml", "model/*/*.yaml", "model/tuned/*/*.yaml"],
    },
    install_requires=[
        'recbole==1.2.1; python_version<"3.12"',  # its pin of ray has no wheel for 3.12: see docs/install.md
        "torch>=2.10",  # before, weights_only loading could be made to run code (CVE-2026-24747)
        "numpy>=1.26,<3",
        "pandas>=2.0,<4",
        "narwhals>=2.0.1",  # DataFrames of polars and others; pure Python, under plotly and scikit-learn anyway
        "scipy>=1.12",
        "pyyaml>=6.0",
        "pydantic>=2.7",  # what options, plans and records may be
        "rich>=13.0",  # tables in the terminal
        "tqdm>=4.60",  # progress bars, RecBole's too
        "tensorboard>=2.10",  # training curves
        "matplotlib>=3.8",  # figures of reports
        "jinja2>=3.1",  # the page of a report
        "filelock>=3.21",  # one benchmark or search at a time in a folder
        "optuna>=5,<6",  # hyper-parameter search
        "safetensors>=0.4",  # exported weights
        "packaging>=23.1",  # which versions of libraries fit: doctor
        # What RecBole 1.2.1 imports, said here because from Python 3.12 on it is installed without dependencies.
        "scikit-learn>=1.3",
        "colorlog==4.7.2",
        "colorama==0.4.4",
        "texttable>=0.9",
        "tabulate>=0.8.10",
        "psutil>=5.9",
        "thop>=0.1.1.post2207130030",
        "plotly>=4.0",
    ],
    extras_require={
        "distributed": ["distributed>=2024.1"],  # Dask cluster
        "parquet": ["pyarrow>=15"],  # ratings and lists as Parquet; an extra: 55 MB for one format
        "test": [
            "pytest>=8.0",
            "pytest-xdist>=3.6.1",  # tests in as many processes as there are cores
            "pytest-cov>=7.0",  # which lines no test runs, those of worker processes included
            "distributed>=2024.1",
            "hypothesis>=6.100",  # properties of the chain and of the metrics; arbitrary input
            "pytrec-eval-terrier>=0.5.6",  # an independent ranking evaluator, as an oracle
            "polars>=1.0",  # DataFrames that are not of pandas
            "pyarrow>=15",
            "ruff>=0.6",
            "mypy>=1.11",
            "setuptools>=70.1",  # builds a wheel without network
        ],
        "docs": [
            "mkdocs-material>=9.5",  # the theme, and mkdocs with it
            "mkdocstrings[python]>=0.26",  # pages from docstrings
            "ruff>=0.6",  # mkdocstrings wraps long signatures with it
        ],
    },
)
