"""Pretrained weights from Hugging Face: read a checkpoint, map its names to ours, load all or fail.

A model's ``from_hf`` is a few lines around three functions: `read_hf` gives the
config and the weights, `check_options` refuses what our class doesn't implement,
`load_hf` maps each name by a table of rules and loads the weights.

Nothing is downloaded, nothing is unpickled, and ``transformers`` is not imported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
SHARDS = "model.safetensors.index.json"


class HFConfig(dict[str, Any]):
    """The options of a checkpoint. Asking for one that it lacks is a ValueError that names it."""

    def __missing__(self, option: str) -> Any:
        raise ValueError(f"the config of the checkpoint has no option {option!r}")


def read_hf(
    path_or_model: str | Path | nn.Module,
) -> tuple[HFConfig, dict[str, Tensor]]:
    """The config and the weights of a live ``transformers`` model or a checkpoint folder.

    Args:
        path_or_model: the model, or a local folder that holds ``config.json`` and
            either ``model.safetensors`` or ``model.safetensors.index.json`` with its
            shards.

    Returns:
        The config, a dict, and the tensors by the names that Hugging Face gives them.

    Raises:
        TypeError: neither a path nor a model of ``transformers``.
        ValueError: not a folder, or a folder whose files are missing or unreadable.
    """
    if isinstance(path_or_model, nn.Module):
        config = getattr(path_or_model, "config", None)
        if not hasattr(config, "to_dict"):
            raise TypeError(
                f"path_or_model must be a transformers model or a local folder, but it is "
                f"a {type(path_or_model).__name__}, which has no Hugging Face config"
            )
        return HFConfig(config.to_dict()), path_or_model.state_dict()
    if not isinstance(path_or_model, str | Path):
        raise TypeError(
            f"path_or_model must be a transformers model or a local folder, but it is a "
            f"{type(path_or_model).__name__}"
        )
    folder = Path(path_or_model).expanduser()
    if not folder.is_dir():
        raise ValueError(
            f"path_or_model must be a local folder with {CONFIG} and {WEIGHTS}, but "
            f"{str(path_or_model)!r} is not a folder; names on the Hugging Face hub are "
            "not looked up"
        )
    return HFConfig(_read_json(folder / CONFIG)), _read_weights(folder)


def check_options(
    config: Mapping[str, Any], supported: Mapping[str, Collection[Any]], model: str
) -> None:
    """Refuse a config that asks for what ``model`` does not implement.

    Args:
        config: the config of a checkpoint.
        supported: for each option, the values that are implemented. An option that the
            config leaves out is not checked.
        model: the name of our class, for the error.

    Raises:
        ValueError: lists every option with an unsupported value.
    """
    refused = [
        f"  {option} is {config[option]!r}, but it may be {_one_of(values)}"
        for option, values in supported.items()
        if option in config and config[option] not in values
    ]
    if refused:
        raise ValueError(
            f"{model} does not implement this config:\n" + "\n".join(refused)
        )


def load_hf(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    rules: Mapping[str, str],
    ignored: Iterable[str] = (),
) -> None:
    """Load ``weights`` into ``model``, every one of them, under our names.

    A rule is a pattern of their names and a template of ours, in which ``*`` stands for
    one part of a dotted name, the same one on both sides:
    ``"encoder.layer.*.output.dense.*": "layers.*.feed_forward.W_2.*"``. Weights are
    copied, and take the dtype and the device of ``model``.

    Args:
        model: our module.
        weights: tensors by their names.
        rules: pattern -> template; the first pattern that fits a name counts.
        ignored: patterns of names that have no place in ``model``.

    Raises:
        ValueError: lists every weight that no rule takes or that has no place in the
            model, every parameter that nothing fills, and every shape that differs.
            Then nothing has been loaded.
    """
    ignored = dict.fromkeys(ignored, "")
    ours = model.state_dict()
    found: dict[str, Tensor] = {}
    problems: dict[str, list[str]] = {}

    def problem(kind: str, what: str) -> None:
        problems.setdefault(kind, []).append(f"    {what}")

    for theirs, tensor in weights.items():
        name = translate_name(theirs, rules)
        if name is None:
            if translate_name(theirs, ignored) is None:
                problem("left over, no rule takes them", theirs)
        elif name not in ours:
            problem("left over, the model has no such parameter", f"{theirs} -> {name}")
        elif name in found:
            problem("given twice", f"{theirs} -> {name}")
        else:
            found[name] = tensor
            if tensor.shape != ours[name].shape:
                problem(
                    "wrong shape",
                    f"{theirs} is {tuple(tensor.shape)}, but {name} is "
                    f"{tuple(ours[name].shape)}",
                )
    backwards = {template: pattern for pattern, template in rules.items()}
    for name in ours.keys() - found.keys():
        source = translate_name(name, backwards)
        problem("missing", name + (f", from {source}" if source else ""))

    if problems:
        raise ValueError(
            f"these weights do not fit {type(model).__name__}:\n"
            + "\n".join(
                f"  {kind}:\n" + "\n".join(sorted(names))
                for kind, names in problems.items()
            )
        )
    model.load_state_dict(found)


def translate_name(name: str, rules: Mapping[str, str]) -> str | None:
    """``name`` by the first rule that fits it, or None."""
    for pattern, template in rules.items():
        parts = re.fullmatch(re.escape(pattern).replace(r"\*", "([^.]+)"), name)
        if parts:
            stars = iter(parts.groups())
            return re.sub(r"\*", lambda _, stars=stars: next(stars), template)
    return None


def _one_of(values: Collection[Any]) -> str:
    return " or ".join(map(repr, values))


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{str(path.parent)!r} holds no {path.name}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not readable as JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object")
    return content


def _read_weights(folder: Path) -> dict[str, Tensor]:
    if (folder / WEIGHTS).is_file():
        return _read_safetensors(folder / WEIGHTS)
    if (folder / SHARDS).is_file():
        place = _read_json(folder / SHARDS).get("weight_map", {})  # name -> file
        weights: dict[str, Tensor] = {}
        for file in sorted(set(place.values())):
            weights |= _read_safetensors(folder / file)
        if absent := sorted(place.keys() - weights.keys()):
            raise ValueError(
                f"{folder / SHARDS} lists weights that its files don't hold: "
                + ", ".join(absent)
            )
        return weights
    pickled = sorted(
        path.name
        for end in ("bin", "pt", "pth", "ckpt")
        for path in folder.glob(f"*.{end}")
    )
    if pickled:
        raise ValueError(
            f"{str(folder)!r} holds its weights only as {', '.join(pickled)}. Such a file "
            "is a pickle, which can run any code, and is not read. Load the model in "
            "transformers and write it again: model.save_pretrained(folder) writes "
            f"{WEIGHTS}"
        )
    raise ValueError(f"{str(folder)!r} holds neither {WEIGHTS} nor {SHARDS}")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"{path} is missing: it is listed in {SHARDS}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a readable safetensors file ({error}): it may be cut short, "
            "or a Git LFS pointer whose file was not pulled"
        ) from error
