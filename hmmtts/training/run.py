"""One training from config to figures, top-down: prepare, learn the facts of the data, train, judge, report."""

import logging
import shlex
import sys
import time
from pathlib import Path

import lightning
import torch
import yaml
from lightning.pytorch import Callback, Trainer
from torch import distributed

from hmmtts.build import checkpoint, objects
from hmmtts.build.bundle import Bundle, weights
from hmmtts.build.facts import Facts
from hmmtts.data.manifest import Utterance
from hmmtts.data.survey import Survey, feasible, survey
from hmmtts.training import console, launch, slurm
from hmmtts.training.callbacks.agreement import Agreement
from hmmtts.training.callbacks.position import Position
from hmmtts.training.callbacks.pulse import Pulse
from hmmtts.training.checkpoint_io import AtomicCheckpointIO
from hmmtts.training.config import difference
from hmmtts.training.data import SpeechData, dataset_of, read_splits, seconds
from hmmtts.training.evaluate import define_all, evaluate
from hmmtts.training.faults import ConfigError, DataError, Interrupted, exit_code
from hmmtts.training.judge import Judge
from hmmtts.training.logger import EventLogger
from hmmtts.training.out_of_memory import advice
from hmmtts.training.prepare import first_alone, prepare
from hmmtts.training.report import write_report
from hmmtts.training.run_folder import RunFolder, Start, write_json
from hmmtts.training.splitting import SplittingTask
from hmmtts.training.table import print_table, rows
from hmmtts.training.task import Task

log = logging.getLogger(__name__)

# What two lives of one run may differ in: none of it changes what is computed.
MAY_CHANGE = (
    "bars",
    "callbacks",
    "debug",
    "logger",
    "memory",
    "metrics",
    "objective",
    "resume",
    "run",
    "resume_allow",
    "threads",
    "trainer",
)
# The same of data: where things lie and who fetches them. A job that is put back may be on another node.
DATA_MAY_CHANGE = ("cache_dir", "pin_memory", "prefetch", "spool", "spool_gb", "workers")
# What they may differ in only if resume_allow names it: the run then ends elsewhere than it would have.
WITH_CONSENT = ("data", "data_dir", "loss", "optim", "prepare", "requires", "seed", "vocoder")


def run(config: dict) -> dict:
    """The content of metrics.json. `config` is plain and checked (hmmtts.training.config)."""
    if config["threads"]:
        torch.set_num_threads(config["threads"])
    folder = RunFolder(Path(config["run"]["dir"]))
    if launch.needed(config["trainer"]) and folder.finished() is None:
        launch.launch(config)
        return folder.finished() or {"best": {}}  # another node's, where the first rank is not ours
    if launch.rank() != 0:
        return folder.finished() or _train(config, folder, folder.start(config["resume"])) or {"best": {}}
    with folder, console.logging_to(folder.path / "train.log"):
        metrics = folder.finished()
        if metrics is not None:
            log.info("%s is finished; these are its figures. For another run: run.name=...", folder.path)
        else:
            metrics = _live(config, folder)
            write_json(folder.metrics, metrics)
        print_table(
            rows(metrics["best"], metrics["definitions"], config["bars"]), console.of_terminal(stderr=False)
        )
        log.info("%s: checkpoints, TensorBoard events, metrics.json and report.html", folder.path)
        return metrics


def _live(config: dict, folder: RunFolder) -> dict:
    """One life of a run, which says how to begin the next."""
    start = folder.start(config["resume"])
    log.info("%s: %s", folder.path, start.message)
    command = resume_command(config)
    try:
        metrics = _train(config, folder, start)
    except Interrupted as end:
        raise Interrupted(f"{end}\nresume with: {command}", end.exit_code, end.signal) from end
    except BaseException as error:
        # A config (2) or a checkpoint (4) that was refused would be refused again.
        if exit_code(error) not in (2, 4) and any(folder.checkpoints.glob("*.ckpt")):
            log.info("resume with: %s", command)
        raise
    assert metrics is not None
    return metrics


def resume_command(config: dict) -> str:
    """The command line of this run with its name in it, so that it finds its folder again."""
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith("run.name=")]
    return shlex.join(["python", sys.argv[0], *arguments, f"run.name={config['run']['name']}"])


def _train(config: dict, folder: RunFolder, start: Start) -> dict | None:
    """The content of metrics.json; None on all ranks but the first, which alone judges the trained voice."""
    began = time.monotonic()
    _refuse_another_config(config, start)
    lightning.seed_everything(config["seed"], verbose=False)
    bundle, data = voice_and_data(config, start)
    task = _task(config, bundle)
    utterances = [utterance.id for split in data.splits.values() for utterance in split]
    agreement = Agreement(config, start.step, utterances)
    trainer = _trainer(
        config, folder, start, [agreement, Position(config["seed"], data.position - start.batches)]
    )
    if trainer.is_global_zero:
        (folder.path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        parameters = sum(p.numel() for p in task.parameters())
        log.info("training %d parameters from step %d to %d", parameters, start.step, trainer.max_steps)
    trainer.fit(task, data, ckpt_path=start.checkpoint, weights_only=True)
    if distributed.is_initialized():
        distributed.destroy_process_group()  # what follows is the first rank's alone
    if not trainer.is_global_zero:
        return None
    trained = time.monotonic()
    log.info("judging %d test sentences", len(data.splits["test"]))
    best = _judge(bundle, data, folder.checkpoints / "best.ckpt", anchors=True)
    last = folder.checkpoints / "last.ckpt"
    same = checkpoint.header(last)["step"] == checkpoint.header(folder.checkpoints / "best.ckpt")["step"]
    figures = {"best": best, "last": dict(best) if same else _judge(bundle, data, last, anchors=False)}
    figures["best"] |= {"train/seconds": trained - began, "train/steps": trainer.global_step}
    metrics = {**figures, "definitions": define_all(figures["best"]), "health": task.health}
    if isinstance(trainer.logger, EventLogger):
        write_report(folder.path, metrics, config)
    return metrics


def _judge(bundle: Bundle, data: SpeechData, path: Path, anchors: bool) -> dict[str, float]:
    """The figures of a checkpoint on the test split, with the weights that build.load takes."""
    bundle.model.load_state_dict(weights(checkpoint.load(path)))
    voice = bundle._replace(model=bundle.model.cpu().eval())
    return evaluate(voice, data.evaluation("test"), data.splits["test"], anchors, data.loading.workers)


def _refuse_another_config(config: dict, start: Start) -> None:
    """A resumed run goes on with the model and the data that it began with, or says what differs."""
    if start.checkpoint is None:
        return
    allowed = config.get("resume_allow") or []
    unknown = [name for name in allowed if name not in WITH_CONSENT]
    if unknown:
        raise ConfigError(f"resume_allow must be of {', '.join(WITH_CONSENT)}, got {', '.join(unknown)}")
    before, config = _compared(checkpoint.header(start.checkpoint)["config"]), _compared(config)
    differing = [key for key in sorted(before.keys() | config.keys()) if before.get(key) != config.get(key)]
    refused = [key for key in differing if key not in (*MAY_CHANGE, *allowed)]
    if refused:
        told = "; ".join(
            line for key in refused for line in difference(before.get(key), config.get(key), key)
        )
        mend = "choose another run.name=..., or take the changes back"
        if set(refused) <= set(WITH_CONSENT):
            mend += f"; to go on with them all the same: resume_allow=[{','.join({*refused, *allowed})}]"
        raise ConfigError(f"{start.checkpoint} was trained with another config: {told}. What to do: {mend}")
    for key in differing:
        if key in allowed:
            for line in difference(before.get(key), config.get(key), key):
                log.warning("resumed with another config, as resume_allow says: %s", line)


def _compared(config: dict) -> dict:
    data = {key: value for key, value in (config.get("data") or {}).items() if key not in DATA_MAY_CHANGE}
    return config | {"data": data}


def voice_and_data(config: dict, start: Start) -> tuple[Bundle, SpeechData]:
    """The untrained voice for a corpus, and the corpus as batches."""
    corpus = prepare(config["recipe"], config["prepare"], config["data_dir"])
    splits = read_splits(corpus)
    features, frontend, loading = objects.features(config), objects.frontend(config), objects.loading(config)
    log.info(
        "%s: looking at %d utterances; features that %s lacks are computed now",
        corpus, sum(map(len, splits.values())), loading.cache_dir or "no cache",
    )  # fmt: skip
    try:
        with first_alone(loading.cache_dir, config["run"]["dir"]):
            surveys = {
                split: survey(
                    utterances, loading.cache(features), loading.transcriber(frontend), loading.workers
                )
                for split, utterances in splits.items()
            }
        facts = _kept(_facts(surveys["train"]), start)
        _refuse_untrained_symbols(surveys, facts)
        model = objects.model(config, facts, features)
        per_symbol = model.aligner.states_per_symbol
        splits = {split: feasible(splits[split], surveys[split].sizes, per_symbol) for split in splits}
    except ValueError as error:
        raise DataError(str(error)) from error
    log.info("%s", "; ".join(f"{split}: {_size(utterances)}" for split, utterances in splits.items()))
    objects.make(config["memory"]).apply(model)
    dataset = dataset_of(loading, features, frontend, facts, config["seed"])
    bundle = Bundle(model, facts, features, frontend, objects.vocoder(config, features), config, start.step)
    symbols = {name: size.symbols for name, size in surveys["train"].sizes.items()}
    position, ranks = start.drawn, launch.all_processes(config["trainer"])
    if start.ranks not in (0, ranks):
        position = loading.epochs(splits["train"], ranks).after(start.drawn, start.ranks, config["seed"])
        log.warning(
            "%d processes trained this run, now %d: the order of the data is kept, the bits are not",
            start.ranks,
            ranks,
        )
    return bundle, SpeechData(splits, dataset, loading, config["seed"], position, symbols)


def _refuse_untrained_symbols(surveys: dict[str, Survey], facts: Facts) -> None:
    """Now, and not when hours later the first of them is to be judged."""
    for split, found in surveys.items():
        lacking = [symbol for symbol in found.symbols.symbols if symbol not in facts.symbols]
        if lacking:
            raise ValueError(
                f"{split} holds symbols that no text of train has: {', '.join(lacking)}. Move the utterances that have "
                "them to train, or leave them out"
            )


def _size(utterances: list[Utterance]) -> str:
    return f"{len(utterances)} utterances, {seconds(utterances) / 60:.1f} minutes"


def _facts(train: Survey) -> Facts:
    symbols = sum(size.symbols for size in train.sizes.values())
    return Facts(
        symbols=train.symbols,
        mel=train.mel_normaliser(),
        acoustic=train.acoustic_normaliser(),
        speakers=tuple(train.speakers),
        languages=tuple(train.languages),
        frames_per_symbol=sum(size.acoustic_frames for size in train.sizes.values()) / symbols,
    )


def _kept(found: Facts, start: Start) -> Facts:
    """A resumed run keeps the facts that its weights were trained with, and goes on only with what they cover."""
    if start.checkpoint is None:
        return found
    kept = Facts.from_state(checkpoint.header(start.checkpoint)["facts"])
    for what, now, before in (
        ("symbols", found.symbols.symbols, kept.symbols.symbols),
        ("speakers", found.speakers, kept.speakers),
        ("languages", found.languages, kept.languages),
    ):
        if new := [name for name in now if name not in before]:
            raise ValueError(
                f"train holds {what} that {start.checkpoint} was not trained with: {', '.join(new)}. What to do: choose "
                "another run.name=..., or take the change of the corpus back"
            )
    if found != kept:
        log.warning(
            "the corpus has changed since this run began; its symbols, means and deviations stay those of %s",
            start.checkpoint.name,
        )
    return kept


def _task(config: dict, bundle: Bundle) -> Task:
    kinds = {"stop": Task, "split": SplittingTask}
    return kinds[config["memory"]["out_of_memory"]](
        model=bundle.model,
        weights=config["loss"]["weights"],
        optimizer=objects.make(config["optim"]["optimizer"]),
        schedule=objects.make(config["optim"]["schedule"]),
        judge=Judge(bundle),
        bundle=bundle,
        pace=config["optim"]["pace"],
        mend=advice(objects.loading(config)),
    )


def _trainer(config: dict, folder: RunFolder, start: Start, ours: list[Callback]) -> Trainer:
    callbacks = [objects.make(node) for node in config["callbacks"].values() if node]
    logger = (
        objects.make(config["logger"], folder=str(folder.path), resumed_at=start.step)
        if config["logger"]
        else False
    )
    settings = config["trainer"]
    if launch.all_processes(settings) == 1:
        settings = settings | {"strategy": "auto"}
    batches = settings["max_steps"] * settings["accumulate_grad_batches"]
    return objects.make(
        # A run shorter than the interval is validated at its end: best.ckpt comes from a validation.
        settings | {"val_check_interval": min(settings["val_check_interval"], batches)},
        callbacks=[*ours, Pulse(), *callbacks],
        logger=logger,
        plugins=[AtomicCheckpointIO(), *slurm.environment()],
        default_root_dir=str(folder.path),
    )
