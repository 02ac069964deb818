"""Settings that earlier versions saved, under today's names: a run folder of theirs evaluates, separates, resumes."""

from omegaconf import DictConfig, open_dict

RENAMED_MODULES = {
    "separation.data.demo": "separation.data.corpora.demo",
    "separation.data.folder": "separation.data.corpora.folder",
    "separation.data.fsdd": "separation.data.corpora.fsdd",
    "separation.data.librimix": "separation.data.corpora.librimix",
    "separation.data.librispeech": "separation.data.corpora.librispeech",
    "separation.data.musdb18": "separation.data.corpora.musdb18",
    "separation.data.tables": "separation.data.corpora.csv_tables",
    "separation.data.vctk": "separation.data.corpora.vctk",
    "separation.data.wsj0_2mix": "separation.data.corpora.wsj0_2mix",
    "separation.evaluation": "separation.evaluation.evaluator",
    "separation.features": "separation.model.features",
    "separation.losses": "separation.model.losses",
    "separation.models": "separation.model.networks",
    "separation.separators": "separation.model.separators",
    "separation.trainer": "separation.training.trainer",
}
"""From version 0.1 to 0.2, of what a `_target_` may name; and separation.clip became gradclip."""
MOVED_KEYS = {
    "trainer.loss_scale": "loss_scale",
    "trainer.magnitude_scale": "magnitude_scale",
    "trainer.fold_clipping": None,
}
"""None: the setting is gone, and changed no number."""

RENAMED_ARGUMENTS = {"gradclip.autoclip_on_device.AutoClipOnDevice": {"capacity": "window"}}
NEW_ARGUMENTS: dict[str, dict[str, int | str | None]] = {
    "separation.data.corpora.demo.DemoCorpus": {"first_voice": 0},
    "gradclip.autoclip.AutoClip": {"warmup": 0},
    "gradclip.autoclip_on_device.AutoClipOnDevice": {"capturable": True},
    "separation.training.trainer.Trainer": {"monitor": "loss", "patience": None, "accumulate": 1, "ema": None},
    "torch.optim.Adam": {"weight_decay": 0},
    "torch.optim.SGD": {"weight_decay": 0},
}
"""Arguments that a class hadn't then, with what it did."""


def use_todays_names(config: DictConfig) -> None:
    """Renames what version 0.1 called otherwise and adds what it hadn't, in place; settings of this version stay."""
    with open_dict(config):
        for old, new in MOVED_KEYS.items():
            group, _, key = old.partition(".")
            if key in config[group]:
                value = config[group].pop(key)
                if new is not None:
                    config[new] = value
        config.setdefault("scheduler", {})
        _rename_targets(config)


def _rename_targets(node: DictConfig) -> None:
    for key in list(node):
        value = node._get_node(key)  # as it is: a missing value stays missing
        if isinstance(value, DictConfig):
            _rename_targets(value)
        elif key == "_target_":
            module, _, name = str(node[key]).rpartition(".")
            if module.startswith("separation.clip."):
                module = module.replace("separation.clip", "gradclip", 1)
            node[key] = f"{RENAMED_MODULES.get(module, module)}.{name}"
            for old, new in RENAMED_ARGUMENTS.get(node[key], {}).items():
                if old in node:
                    node[new] = node.pop(old)
            for argument, default in NEW_ARGUMENTS.get(node[key], {}).items():
                node.setdefault(argument, default)
