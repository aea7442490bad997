"""`bench experiment`: files, sweeps, and what commands amount to."""

import inspect
import json
import shutil
from pathlib import Path

import pytest
import yaml

from bench.app import main
from bench.commands.train import train_command
from bench.experiment_file import config_text, parse_experiment, read_experiment
from domainlift.errors import BenchError, Malformed
from engines.registry import tiny_folder
from finetune.axolotl import export_config, import_config
from finetune.data.recipe import Recipe, with_stages
from finetune.jobs import training_arguments
from finetune.training.settings import TrainingArguments
from recipes import shop_agent
from recipes.shop_agent.shop import shop_traces
from traces.store import TraceStore

GUIDE = """
base_model: Qwen/Qwen2.5-0.5B
trust_remote_code: true
datasets: [{path: data.jsonl, type: alpaca}]
val_set_size: 0.05
adapter: lora
lora_r: 8
lora_alpha: 32
lora_dropout: 0.05
lora_target_modules: [q_proj, v_proj]
sequence_len: 2048
sample_packing: true
wandb_project: mine
gradient_accumulation_steps: 4
micro_batch_size: 2
num_epochs: 3
optimizer: adamw_torch
learning_rate: 0.0002
train_on_inputs: false
bf16: true
tf32: false
gradient_checkpointing: true
early_stopping_patience: 3
warmup_steps: 10
eval_steps: 0.05
save_steps: 20
weight_decay: 0.01
"""


def parse(text):
    return parse_experiment(text, Path("e.yaml"))


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("modl: tiny", "unknown key `modl`", "did you mean `model`?"),
        ("command: trian", "unknown command `trian`", "did you mean `train`?"),
        ("command: train\nmodel: tiny", "`train` needs `domains`", "domains"),
        ("command: train\ndomains: [a]\ntraining: {rnk: 3}", "unknown key `rnk`", "`rank`"),
        ("command: train\ndomains: [a]\ntraining: {rank: two}", "`rank` must be a whole", None),
        ("command: run\nexport: [gguf]", "cannot export `gguf`", "`train`"),
        ("export: [gguff]", "cannot export `gguff`", "gguf"),
        ("grid: {target: [0.5, 0.6]}", "looked at once", "sweep `train`"),
        ("command: train\ndomains: [a]\ntraces: {ratng: good}", "key `ratng`", "`rating`"),
        ("command: train\ndomains: [a]\ntraces: {rating: godo}", "rating `godo`", "`good`"),
        ("command: train\ndomains: [a]\ntraces: good", "`traces` must be", None),
        ("command: train\ndomains: [a]\ntrces: {}", "unknown key `trces`", "`traces`"),
        ("command: train\ndomains: [a]\ndpo: {betta: 1}", "unknown key `betta`", "`beta`"),
        ("command: run\ntraces: {}", "unknown key `traces`", None),
        ("command: train\ndomains: [a]\ngrid: {beta: [1]}", "no key `beta`", "`dpo.beta`"),
        ("command: train\ndomains: [a]\ngrid: {traces: [1]}", "no key `traces`", None),
        ("command: run\ngrid: {shotz: [0]}", "no key `shotz`", "`shots`"),
        ("command: train\ndomains: [a]\ngrid: {rank: [1]}", "no key `rank`", "`training.rank`"),
        ("command: run\nlimit: 0", "`limit` must be a whole number, 1 or more", None),
        ("command: run\ngrid: {shots: 3}", "`shots` must be a list", "[1, 2]"),
        ("command: run\nshots: &a 3\nseed: *a", "alias", None),
        ("command: run\ngrid: {seed: [1]}\nrandom: {seed: [1]}", "exclude each other", None),
        ("api_key: sk-123456789012345", "unknown key `api_key`", None),
    ],
)
def test_what_is_wrong_is_named(text, what, hint):
    with pytest.raises(Malformed) as caught:
        parse(text)
    assert what in caught.value.what
    assert "123456" not in f"{caught.value.what} {caught.value.hint}"
    if hint:
        assert hint in str(caught.value.hint)


def test_names_that_commas_separate_may_be_a_list():
    text = "command: train\ndomains: [a]\nstages: [sft, dpo]\ngrid: {stages: [sft, [sft, orpo]]}"
    assert parse(text).options["stages"] == "sft,dpo"
    assert [each.options["stages"] for _, each in parse(text).variants()] == ["sft", "sft,orpo"]
    assert parse("command: run\nmetric: [f1, em]").options["metric"] == "f1,em"
    with pytest.raises(Malformed, match="`model` must be a text, not a list"):
        parse("command: run\nmodel: [tiny, smollm2]")


def test_a_grid_has_every_combination():
    text = """
command: train
domains: [biology]
training: {rank: 2}
grid: {training.rank: [2, 4], training.learning_rate: [1.0e-3, 2.0e-3], model: [tiny]}
"""
    variants = dict(parse(text).variants())
    assert len(variants) == 4
    one = variants["training.rank=4, training.learning_rate=0.001, model=tiny"]
    assert one.options["training"] == {"rank": 4, "learning_rate": 0.001}
    assert one.options["model"] == "tiny"


def test_values_of_a_grid_are_checked_as_if_they_stood_there():
    with pytest.raises(Malformed, match="rank"):
        parse("command: train\ndomains: [a]\ngrid: {training.rank: [2, x]}").variants()


def test_random_draws_some_of_the_combinations_always_the_same_ones():
    text = "command: run\nrandom: {shots: [0, 1, 2], seed: [1, 2, 3, 4]}\ndraws: 5"
    drawn = parse(text).sweep
    assert len(drawn) == len({tuple(each.items()) for each in drawn}) == 5
    assert parse(text).sweep == drawn
    many = ", ".join(map(str, range(40)))
    with pytest.raises(Malformed, match="1,600 combinations"):
        parse(f"command: run\ngrid: {{shots: [{many}], seed: [{many}]}}")


@pytest.mark.parametrize(
    "command",
    [
        ["train", "biology", "mathematics", "--model", "tiny", "--set", "rank=3", "--rows", "9"],
        ["run", "--model", "tiny", "--task", "a.jsonl", "--metric", "f1", "--chat", "--limit", "3"],
        ["improve", "--model", "tiny", "--docs", "folder", "--min-gain", "3pt", "--skip-rag"],
        ["improve", "--model", "tiny"],
        ["train", "x", "--stages", "sft,dpo", "--set", "dpo.beta=0.2", "--set", "rank=3"],
        ["train", "x", "--traces", "rating=good", "--traces", "hold_out=0.2"],
    ],
)
def test_a_printed_file_is_read_as_the_same_command(command, tmp_path, capsys):
    assert main([*command, "--print-config"]) == 0
    text = capsys.readouterr().out
    path = tmp_path / "e.yaml"
    path.write_text(text)
    read = read_experiment(path)
    assert read.command == command[0]
    printed = yaml.safe_load(text)
    assert {"command": read.command, **read.options} == printed


def test_secrets_are_masked(capsys):
    model = "http://me:pass@host:80/v1?api_key=abc#m"
    assert main(["run", "--model", model, "--print-config"]) == 0
    text = capsys.readouterr().out
    assert "pass" not in text
    assert "abc" not in text
    assert "hf_…" in config_text("train", train_values(model="hf_abcdefghijklmnop"))


def test_settings_reach_the_command_as_they_stand_in_the_file(monkeypatch, tmp_path):
    from bench import experiment_file

    seen = {}

    def command(**given):
        seen.update(given)

    command.__signature__ = inspect.signature(train_command, eval_str=True)
    command.__annotations__ = inspect.get_annotations(train_command, eval_str=True)
    text = """
command: train
domains: [biology]
workspace: w
training: {learning_rate: 1.0e-05, targets: [q_proj, v_proj], anchor: false, epochs: 0.5}
rloo: {reward: exact}
dpo: {}
traces: {}
"""
    monkeypatch.setattr(experiment_file, "_function", lambda _: command)
    monkeypatch.setenv("BENCH_MODEL", "from-the-environment")
    parse(text).run(as_json=True)
    assert (seen["name"], seen["model"]) == (["biology"], "from-the-environment")
    assert seen["workspace"] == Path("w")
    assert seen["traces"] == []
    recipe, changes = with_stages(Recipe({"biology": 1.0}), "sft,rloo", seen["change"])
    assert recipe.settings_of("rloo").reward == "exact"
    settings = training_arguments(recipe, changes)
    assert (settings.learning_rate, settings.targets) == (1e-5, ("q_proj", "v_proj"))
    assert (settings.anchor, settings.epochs) == (False, 0.5)


def train_values(**more):
    parameters = inspect.signature(train_command).parameters
    return {**{n: p.default for n, p in parameters.items()}, "name": ["biology"], **more}


def test_a_file_of_runs_is_run_and_compared(tmp_path, capsys):
    questions = tmp_path / "q.jsonl"
    row = {"question": "Capital of France?", "options": ["Paris", "Rome"], "answer": 0}
    rows = [{**row, "question": f"{row['question']} {n}"} for n in range(4)]
    questions.write_text("".join(json.dumps(each) + "\n" for each in rows))
    file = tmp_path / "e.yaml"
    config = {"command": "run", "model": "tiny", "task": [str(questions)]}
    config |= {"workspace": str(tmp_path / "w"), "grid": {"scoring": ["letter", "cloze"]}}
    file.write_text(yaml.safe_dump(config))
    assert main(["experiment", "run", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["variant"] for each in found["variants"]] == ["scoring=letter", "scoring=cloze"]
    assert all(each["results"][0]["overall"]["n"] == 4 for each in found["variants"])
    assert main(["experiment", "run", str(file)]) == 0
    assert "candidate" in capsys.readouterr().out


@pytest.mark.slow
def test_traces_train_beside_pairs_and_a_stage_of_preference(tmp_path, capsys, monkeypatch):
    pytest.importorskip("trl")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_folder(), "model")
    shutil.copy(Path(shop_agent.__file__).with_name("chat_template.jinja"), "model")
    for trace in shop_traces(40):
        TraceStore(Path("workspace")).add(trace)
    pairs = [
        {"prompt": f"Number {n} is", "chosen": " even" if n % 2 else " odd", "rejected": " red"}
        for n in range(60)
    ]
    Path("pairs.jsonl").write_text("".join(json.dumps(each) + "\n" for each in pairs))
    assert main(["data", "prepare", "pairs", "--file", "pairs.jsonl", "--json"]) == 0
    Path("recipe.yaml").write_text("""
proportions: {shop: 0.5, pairs: 0.5}
replay: 0
stages: [sft, dpo]
dpo: {steps: 2, batch: 4}
""")
    Path("e.yaml").write_text("""
command: train
model: ./model
domains: [shop]
recipe: recipe.yaml
traces: {hold_out: 0.2}
training: {steps: 3, batch: 4, eval_every: 0}
dpo: {steps: 3}
""")
    capsys.readouterr()
    assert main(["experiment", "run", "e.yaml", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert {name: each["steps"] for name, each in made["stages"].items()} == {"sft": 3, "dpo": 3}
    assert made["kept"] == "dpo"
    traces = made["traces"]
    assert traces["turns"] == traces["rows"] + traces["held_out_turns"]
    card = json.loads(next(Path("workspace/adapters/shop").glob("v0001/card*.json")).read_text())
    assert {"shop", "pairs"} <= {*card["data"]}
    # Other traces make another data set beside it.
    TraceStore(Path("workspace")).drop(next(shop_traces(1)).id)
    again = [
        "train",
        "shop",
        "--model",
        "./model",
        "--traces",
        "hold_out=0.2",
        "--dry-run",
        "--json",
    ]
    assert main(again) == 0
    assert json.loads(capsys.readouterr().out)["traces"]["path"] != traces["path"]


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        (["shop", "--traces", "good"], "`good` is no setting"),
        (["shop", "--traces", "hold_out=2"], "not from 0 to 0.9"),
        (["shop", "other", "--traces", "rating=any"], "data set of one adapter"),
        (["shop", "--traces", "rating=any", "--data-set", "d"], "data set of one adapter"),
        (["shop", "--traces", "rating=any"], "there are no traces in this workspace"),
    ],
)
def test_traces_that_cannot_be_learned_are_told(argv, what, tmp_path, capsys):
    assert main(["train", *argv, "--model", "tiny", "--workspace", str(tmp_path)]) == 2
    assert what in capsys.readouterr().err


# --- axolotl


def test_the_guides_configuration_is_imported(tmp_path, capsys):
    file = tmp_path / "axolotl.yaml"
    file.write_text(GUIDE)
    text, left_out = import_config(file)
    read = parse(text)
    training = read.options["training"]
    assert read.options["model"] == "Qwen/Qwen2.5-0.5B"
    assert (training["rank"], training["alpha"], training["batch"]) == (8, 32, 8)
    assert (training["targets"], training["dtype"]) == (["q_proj", "v_proj"], "bfloat16")
    assert (training["save_every"], training["patience"]) == (20, 3)
    assert left_out.keys() == {
        *("trust_remote_code", "datasets", "val_set_size", "wandb_project", "tf32"),
        *("warmup_steps", "eval_steps"),
    }
    assert main(["experiment", "import", str(file)]) == 0
    assert "`trust_remote_code` has no counterpart" in capsys.readouterr().err


def test_values_are_read_as_axolotl_reads_them(tmp_path):
    file = tmp_path / "axolotl.yaml"
    batch = "micro_batch_size:\ngradient_accumulation_steps: auto\n"
    file.write_text(f"learning_rate: 2e-5\nlora_r: 8\n{batch}")
    text, left_out = import_config(file)
    assert parse(text).options["training"] == {"learning_rate": 2e-5, "rank": 8}
    assert left_out.keys() == {"gradient_accumulation_steps"}


@pytest.mark.parametrize("text", ["", "[1]", "a: [", "lora_r: {a: 1}", "lora_r: many"])
def test_what_is_no_configuration_is_refused(text, tmp_path):
    file = tmp_path / "axolotl.yaml"
    file.write_text(text)
    with pytest.raises(BenchError):
        import_config(file)


def test_what_is_exported_comes_back(tmp_path):
    text = "command: train\ndomains: [biology]\nmodel: a/b\nrows: 3\n"
    settings = {"rank": 4, "alpha": 8, "batch": 8, "learning_rate": 0.001, "shuffle": False}
    read = parse(text + yaml.safe_dump({"training": settings}))
    made, left_out = export_config(read.options)
    assert sorted(left_out) == ["rows", "training.shuffle"]
    file = tmp_path / "axolotl.yaml"
    file.write_text(made)
    again = parse(import_config(file)[0]).options["training"]
    assert {key: again[key] for key in settings if key != "shuffle"} == {
        key: value for key, value in settings.items() if key != "shuffle"
    }
    TrainingArguments(**{**again, "targets": tuple(again.get("targets", ()))})


@pytest.mark.parametrize(
    "training",
    [
        {},
        {"method": "qlora", "dtype": "auto"},
        {"steps": 9, "dropout": 0.1, "targets": ["q_proj"], "weight_decay": 0.0, "clip": 1.0},
        {"eval_every": 5, "save_every": 5, "patience": 2, "dtype": "bfloat16", "batch": 4},
        {"epochs": 2, "warm_up": 0.1, "seed": 3, "max_tokens": 512, "checkpointing": True},
    ],
)
def test_axolotl_accepts_what_is_exported(training):
    schema = pytest.importorskip("axolotl.utils.schemas.config")
    made, left_out = export_config({"domains": ["a"], "model": "b/c", "training": training})
    assert not left_out
    schema.AxolotlInputConfig(**yaml.safe_load(made))


def test_four_bits_go_to_axolotl_and_back(tmp_path):
    options = {"domains": ["a"], "model": "b/c", "training": {"method": "qlora"}}
    file = tmp_path / "axolotl.yaml"
    file.write_text(export_config(options)[0])
    assert yaml.safe_load(file.read_text())["load_in_4bit"] is True
    text, left_out = import_config(file)
    assert parse(text).options["training"]["method"] == "qlora"
    assert left_out.keys() == {"datasets"}
