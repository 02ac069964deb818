"""The adapters in short training runs of the real frameworks: the same steps as a plain loop, and resumed."""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from gradclip import AutoClip, Clipper, ClipResult, NoClip
from gradclip.gradients import Gradients

STEPS, ACCUMULATE, LEARNING_RATE = 12, 2, 0.05


class Rows(Dataset):
    """Twenty-four examples of a regression whose targets differ in scale; one to a batch."""

    def __len__(self) -> int:
        return STEPS * ACCUMULATE

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(index)
        x = torch.randn(3, generator=generator)
        return {"x": x, "y": x.sum().view(1) * (1 + index % 5) ** 2}


class Regression(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {"loss": nn.functional.mse_loss(self.layers(x), y)}


class Skip(NoClip):
    """Leaves out every step."""

    def _clip(self, grads: Gradients) -> ClipResult:
        return ClipResult(grads.norm, should_step=False)


def batches() -> Iterator[dict[str, Tensor]]:
    return iter(DataLoader(Rows(), batch_size=1))


def autoclip() -> AutoClip:
    """As AutoClip(p=25), but it needs the parameters' names."""
    return AutoClip(p=25, groups={"all": ["*"]})


def history(clipper: Clipper) -> list[float]:
    return list(clipper.histories["all"])


@pytest.fixture(scope="module")
def plain() -> tuple[list[float], list[Tensor]]:
    """Norms and parameters of a plain loop, with clipping by hand once per optimizer step."""
    model, clipper = Regression(), autoclip()
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    clipped = 0
    for position, batch in enumerate(batches()):
        (model(**batch)["loss"] / ACCUMULATE).backward()
        if (position + 1) % ACCUMULATE == 0:
            clipped += clipper.clip_(model.named_parameters()).clipped
            optimizer.step()
            optimizer.zero_grad()
    assert 3 < clipped < STEPS
    return history(clipper), [parameter.detach() for parameter in model.parameters()]


def check(clipper: Clipper, model: nn.Module, plain: tuple[list[float], list[Tensor]]) -> None:
    torch.testing.assert_close(torch.tensor(history(clipper)), torch.tensor(plain[0]))
    for got, want in zip(model.parameters(), plain[1], strict=True):
        torch.testing.assert_close(got.detach(), want)


def check_metrics(metrics: dict[str, Tensor | float], norms: list[float]) -> None:
    threshold = torch.tensor(norms, dtype=torch.float64).quantile(0.25).item()
    assert metrics["train/grad_norm"] == pytest.approx(norms[-1])
    assert metrics["train/clip_threshold"] == pytest.approx(threshold)
    assert metrics["train/clip_coefficient"] == pytest.approx(min(1.0, threshold / norms[-1]))
    so_far = [torch.tensor(norms[:step]).quantile(0.25).item() for step in range(1, len(norms) + 1)]
    clipped = sum(norm > threshold * (1 + 1e-6) for norm, threshold in zip(norms, so_far, strict=True))
    assert metrics["train/clipped_fraction"] == pytest.approx(clipped / len(norms))


@pytest.mark.slow
def test_lightning(tmp_path: Path, plain):
    lightning = pytest.importorskip("lightning.pytorch")
    adapter = importlib.import_module("gradclip.adapters.lightning")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = Regression()

        def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
            return self.model(**batch)["loss"]

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=LEARNING_RATE)

    def fit(clipper: Clipper, max_steps: int, ckpt_path: Path | None = None, **settings) -> lightning.Trainer:
        trainer = lightning.Trainer(
            max_steps=max_steps,
            accumulate_grad_batches=ACCUMULATE,
            callbacks=[adapter.ClipCallback(clipper)],
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **settings,
        )
        trainer.fit(module := Module(), DataLoader(Rows(), batch_size=1), ckpt_path=ckpt_path)
        trainer.module = module
        return trainer

    whole = autoclip()
    trainer = fit(whole, STEPS)
    check(whole, trainer.module.model, plain)
    check_metrics(trainer.callback_metrics, plain[0])
    fit(autoclip(), 5).save_checkpoint(tmp_path / "half.ckpt")
    resumed = autoclip()
    trainer = fit(resumed, STEPS, tmp_path / "half.ckpt")
    assert len(history(resumed)) == STEPS and history(resumed)[:5] == pytest.approx(plain[0][:5])
    skipped = fit(Skip(), 2).module.model
    assert all(
        torch.equal(got, want) for got, want in zip(skipped.parameters(), Regression().parameters(), strict=True)
    )
    with pytest.raises(ValueError, match="gradient_clip_val: expected None beside ClipCallback, got 1.0"):
        fit(AutoClip(), 1, gradient_clip_val=1.0)


@pytest.mark.slow
def test_hugging_face_trainer(tmp_path: Path, plain, monkeypatch: pytest.MonkeyPatch):
    transformers = pytest.importorskip("transformers")
    # transformers imports torchaudio where it is installed, even one that was built for another torch and can't be.
    monkeypatch.setattr("transformers.utils.is_torchaudio_available", lambda: False)
    pytest.importorskip("accelerate")  # its Trainer needs it
    adapter = importlib.import_module("gradclip.adapters.huggingface")

    class Ordered(transformers.Trainer):
        def _get_train_sampler(self, *_):
            return torch.utils.data.SequentialSampler(self.train_dataset)

    def train(clipper: Clipper, resume: str | None = None, folder: str = "out", **settings) -> nn.Module:
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path / folder),
            per_device_train_batch_size=1,
            gradient_accumulation_steps=ACCUMULATE,
            max_steps=STEPS,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            optim="sgd",
            save_steps=4,
            use_cpu=True,
            disable_tqdm=True,
            report_to=[],
            **{"max_grad_norm": 0, **settings},
        )
        model = Regression()
        trainer = Ordered(model=model, args=arguments, train_dataset=Rows(), callbacks=[adapter.ClipCallback(clipper)])
        trainer.train(resume_from_checkpoint=resume)
        return model

    whole, resumed = autoclip(), autoclip()
    check(whole, train(whole), plain)
    half = tmp_path / "out/checkpoint-4"
    assert len(dict(torch.load(half / "clipper.pt", weights_only=True)["history"])["all"]) == 4
    check(resumed, train(resumed, str(half)), plain)
    (half / "clipper.pt").unlink()
    with pytest.raises(ValueError, match="clipper.pt: the training resumes, but its clipper's state isn't there"):
        train(AutoClip(), str(half))
    with pytest.raises(ValueError, match="max_grad_norm: expected 0 beside ClipCallback, got 1.0"):
        train(AutoClip(), folder="other", max_grad_norm=1.0)


@pytest.mark.slow
def test_accelerate(tmp_path: Path, plain):
    accelerate = pytest.importorskip("accelerate")
    adapter = importlib.import_module("gradclip.adapters.accelerate")

    def parts() -> tuple:
        accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=ACCUMULATE)
        model = Regression()
        optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
        model, optimizer = accelerator.prepare(model, optimizer)
        clipper = autoclip()
        return accelerator, model, optimizer, clipper, adapter.attach(clipper, accelerator, optimizer, model)

    def train(accelerator, model, optimizer, rows: list[dict[str, Tensor]]) -> None:
        for batch in rows:
            with accelerator.accumulate(model):
                accelerator.backward(model(**batch)["loss"])
                optimizer.step()
                optimizer.zero_grad()

    rows = list(batches())
    accelerator, model, optimizer, clipper, attachment = parts()
    train(accelerator, model, optimizer, rows[:8])
    accelerator.save_state(str(tmp_path / "state"))
    train(accelerator, model, optimizer, rows[8:])
    check(clipper, model, plain)
    assert attachment.result.grad_norm == pytest.approx(plain[0][-1])
    accelerator, model, optimizer, clipper, _ = parts()
    accelerator.load_state(str(tmp_path / "state"))
    assert len(history(clipper)) == 4
    train(accelerator, model, optimizer, rows[8:])
    check(clipper, model, plain)
    (tmp_path / "state/custom_checkpoint_0.pkl").unlink()
    accelerator, *_ = parts()
    with pytest.raises(RuntimeError, match="Found checkpoints: 0\n\tRegistered objects: 1"):
        accelerator.load_state(str(tmp_path / "state"))


def ignite_update(model: nn.Module, optimizer: torch.optim.Optimizer) -> Callable:
    def update(engine, batch: dict[str, Tensor]) -> float:
        loss = model(**batch)["loss"] / ACCUMULATE
        loss.backward()
        if engine.state.iteration % ACCUMULATE == 0:
            optimizer.step()
            optimizer.zero_grad()
        return loss.item()

    return update


def test_ignite(tmp_path: Path, plain):
    ignite_engine, handlers = pytest.importorskip("ignite.engine"), pytest.importorskip("ignite.handlers")
    adapter = importlib.import_module("gradclip.adapters.ignite")

    def parts() -> tuple:
        model = Regression()
        optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
        engine = ignite_engine.Engine(ignite_update(model, optimizer))
        clipper = autoclip()
        adapter.attach(clipper, engine, optimizer, model)
        return engine, {"model": model, "optimizer": optimizer, "clipper": clipper}

    rows = list(batches())
    engine, objects = parts()
    engine.run(rows[:8])
    handlers.Checkpoint(objects, handlers.DiskSaver(str(tmp_path), require_empty=False))(engine)
    engine.run(rows[8:])
    check(objects["clipper"], objects["model"], plain)
    check_metrics(engine.state.metrics, plain[0])
    engine, objects = parts()
    state = torch.load(next(tmp_path.glob("*.pt")), weights_only=True)
    handlers.Checkpoint.load_objects(objects, state)
    assert len(history(objects["clipper"])) == 4
    engine.run(rows[8:])
    check(objects["clipper"], objects["model"], plain)
    del state["clipper"]
    with pytest.raises(ValueError, match="Key 'clipper' from x is not found"):
        handlers.Checkpoint.load_objects(parts()[1], state)
