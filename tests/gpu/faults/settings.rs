//! A judge's settings, the phrase behind a chain and the form of the weights: each the same for every command.

use std::path::Path;

use jurist::data::{ColumnOptions, Example, Reader};
use jurist::gpu::{Class, Gpu, GpuOptions};
use jurist::judge::{JUDGE_FILE, JudgeFiles, JudgeOverrides, JudgeSettings, ScoreOptions};
use jurist::model::config::Config;
use jurist::model::decoder::Draw;
use jurist::model::init::Init;
use jurist::model::save::save_checkpoint;
use jurist::model::shard_layout::DEFAULT_SHARD_BYTES;
use jurist::model::weight_policy::WeightPolicy;
use jurist::model_folder::ModelFolder;
use jurist::ranks::Ranks;
use jurist::rollout::{Chain, Ending};
use jurist::text::{SpecialTokens, Tokenizer, train_bpe};
use jurist::train::TrainConfig;
use jurist::train::memory;
use jurist::train::objective::policy::{AnswerSpec, close};
use jurist::train::run::start::RunInputs;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::cli::{Task, finish, lines, path, succeed, tiny_config};
use jurist::ops::weight_dtype::WeightDtype;

/// A Llama whose matrices can be held in every form, with a tokenizer that cuts words.
struct Model {
    task: Task,
    tokenizer: Tokenizer,
}

const TEXTS: &str =
    "Rate this. The answer is good, so the overall score is 1 2 3 4 5. So the overall score is high, or is it low?";

impl Model {
    /// Saved in `dtype` as the folder `model`, with a vocabulary of at least `vocab`.
    fn new(dtype: WeightDtype, vocab: usize) -> Self {
        let task = Task::new(0, 0, false);
        let tokenizer = train_bpe([TEXTS; 4].into_iter(), 320, &SpecialTokens::for_decoder()).unwrap();
        let mut config = tiny_config();
        let sizes = json!({
            "vocab_size": tokenizer.vocab_size().max(vocab), "hidden_size": 64, "intermediate_size": 96, "head_dim": 32,
            "max_position_embeddings": 2048, "tie_word_embeddings": false, "torch_dtype": dtype.config_name(),
        });
        config.as_object_mut().unwrap().extend(sizes.as_object().unwrap().clone());
        let source = Init::new(Config::from_json(&config.to_string()).unwrap(), 5);
        save_checkpoint(&task.at("model"), dtype, &source, &[], DEFAULT_SHARD_BYTES).unwrap();
        tokenizer.save_to(&task.at("model")).unwrap();
        Model { task, tokenizer }
    }

    fn folder(&self) -> ModelFolder {
        ModelFolder::open(&self.task.at("model")).unwrap()
    }

    /// The rows that `jurist score` makes of `rows.jsonl`, none of which may fail.
    #[track_caller]
    fn scored(&self, more: &[&str]) -> Vec<Value> {
        let args = ["score", "-q", "--model", "model", "--input", "rows.jsonl"];
        let scored = lines(&succeed(self.task.jurist(&[&args[..], more].concat())).out);
        scored.iter().for_each(|row| assert!(row["judge"]["error"].is_null(), "{row}"));
        scored
    }
}

fn expected(row: &Value) -> f64 {
    row["judge"]["expected"].as_f64().unwrap()
}

fn read(task: &Task, file: &str) -> Vec<Example> {
    Reader { columns: ColumnOptions::for_scoring(), ..Reader::default() }.read_path(&task.at(file)).unwrap().examples
}

fn judge_json(dir: &Path) -> JudgeSettings {
    JudgeSettings::from_json(&std::fs::read_to_string(dir.join(JUDGE_FILE)).unwrap()).unwrap()
}

/// Without a `judge.json`, `data check`, `train`, `score` and `eval` ask in the same way.
#[test]
fn a_plain_folder_is_asked_the_same_way_by_every_command() {
    let model = Model::new(WeightDtype::F32, 0);
    let task = &model.task;
    let whole = json!({"prompt": "Rate this"});
    let parts = json!({"instruction": "Rate this", "response": "good"});
    for (name, row, template) in [("whole", whole, "plain"), ("parts", parts, "judge")] {
        let labelled = [4, 2].map(|score| {
            let mut row = row.clone();
            row["score"] = json!(score);
            row.to_string()
        });
        task.write("rows.jsonl", labelled.join("\n"));
        let check = succeed(task.jurist(&["data", "check", "rows.jsonl", "--model", "model", "--json"])).out;
        let check: Value = serde_json::from_str(&check).unwrap();
        assert_eq!(check["template"], template, "{name}");
        model.scored(&[]);
        succeed(task.jurist(&["eval", "-q", "--model", "model", "--input", "rows.jsonl", "--resamples", "10"]));
        let output = format!("trained-{name}");
        let train =
            ["train", "-q", "--model", "model", "--train-file", "rows.jsonl", "--max-steps", "1", "--output-dir", &output];
        succeed(task.jurist(&train));
        assert_eq!(judge_json(&task.at(&output)).template, template, "{name}");
    }
}

/// A judge that is trained further stays what it was, but for what is asked for: also its own template, whose file is gone.
#[test]
fn a_judge_that_is_trained_further_keeps_its_settings() {
    let model = Model::new(WeightDtype::F32, 0);
    let task = &model.task;
    let own = task.write("own.jinja", "Rate {{ text }}: ");
    task.write("rows.jsonl", "{\"text\": \"this\", \"score\": 2}\n{\"text\": \"it\", \"score\": 0}");
    let train = |model: &str, output: &str, more: &[&str]| {
        let args = ["train", "--model", model, "--train-file", "rows.jsonl", "--max-steps", "1", "--output-dir", output];
        succeed(task.jurist(&[&args[..], more].concat()))
    };
    train("model", "first", &["--template", "own.jinja", "--scale", "0..2", "--phrase", "so the score is "]);
    std::fs::remove_file(own).unwrap();
    let said = train("first", "second", &[]).err;
    assert!(said.contains("scale, phrase, template as in first"), "{said}");
    assert_eq!(judge_json(&task.at("first")), judge_json(&task.at("second")));
    train("second", "third", &["--phrase", "So the overall score is "]);
    let third = judge_json(&task.at("third"));
    assert_eq!(
        (third.phrase.as_str(), third.template_source),
        ("So the overall score is ", judge_json(&task.at("first")).template_source)
    );
    // As do commands that only ask.
    for more in [&[][..], &["--template", "plain"]] {
        let check = [&["data", "check", "rows.jsonl", "--model", "third", "--json"][..], more].concat();
        let check: Value = serde_json::from_str(&finish(task.jurist(&check)).out).unwrap();
        assert_eq!(&check["template"], more.last().unwrap_or(&"own.jinja"), "{check}");
    }
}

/// A chain that ends at once leaves the phrase behind the prompt: the same tokens in training, in scoring, and where a row
/// without a chain is given.
#[test]
fn the_phrase_behind_an_empty_chain() {
    let model = Model::new(WeightDtype::F32, 0);
    let task = &model.task;
    let settings = JudgeSettings::resolve(None, &JudgeOverrides::default(), &model.tokenizer, &[]).unwrap();
    let tokens = settings.prompt(&model.tokenizer).unwrap().score_tokens(&model.tokenizer).unwrap();
    assert_ne!(tokens.stem, tokens.opening, "the two forms differ");
    for (prompt, phrase) in [("Rate this", &tokens.stem), ("Rate this\n", &tokens.opening)] {
        task.write("rows.jsonl", json!({"prompt": prompt}).to_string());
        // Whatever token the judge likes best behind this prompt becomes an EOS.
        std::fs::remove_file(task.at("model/generation_config.json")).ok();
        let first = &model.scored(&["--max-completion-length", "1"])[0]["judge"]["feedback"];
        let says = |id: &u32| model.tokenizer.decode(&[*id], true).unwrap().trim() == first.as_str().unwrap();
        let ends: Vec<u32> = (0..model.tokenizer.vocab_size() as u32).filter(says).collect();
        task.write("model/generation_config.json", json!({"eos_token_id": ends}).to_string());

        let sampled = &model.scored(&["--max-completion-length", "4"])[0];
        assert_eq!((&sampled["judge"]["feedback"], &sampled["judge"]["forced"]), (&json!(""), &json!(true)));
        let given = &model.scored(&["--given-chains"])[0];
        let none = &model.scored(&["--max-completion-length", "0"])[0];
        for other in [given, none] {
            assert!((expected(sampled) - expected(other)).abs() < 1e-6, "{prompt:?}: {sampled} {other}");
        }

        let chain = Chain { draws: vec![Draw { token: ends[0], log_p: 0.0 }], ending: Ending::Eos, tail: 1 };
        let format = jurist::judge::AnswerFormat { tokens: &tokens, decode: &model.tokenizer };
        let answer = AnswerSpec { scale: &settings.scale, format, eos: &ends };
        let row = &read(task, "rows.jsonl")[0];
        let (_, space) = settings.prompt(&model.tokenizer).unwrap().prompt(row, &model.tokenizer).unwrap();
        assert_eq!(close(&chain, space, &answer).unwrap().continuation, *phrase, "{prompt:?}");
    }
}

/// Weights are judged with as they are stored: the same scores as widened, in half the memory.
#[test]
fn half_precision_is_judged_as_it_is_stored() {
    for dtype in [WeightDtype::F32, WeightDtype::Bf16, WeightDtype::F16] {
        let model = Model::new(dtype, 0);
        model.task.write("rows.jsonl", "{\"prompt\": \"Rate this\"}\n{\"prompt\": \"The answer is good.\"}");
        let folder = model.folder();
        assert_eq!(folder.weights().unwrap().source.stored_dtype("lm_head.weight"), dtype);
        let held = |policy: WeightPolicy| {
            let dry = Gpu::dry_of(Class::Discrete, &GpuOptions::default()).unwrap();
            let files =
                JudgeFiles::resolve(&folder, policy, &JudgeOverrides::default(), &read(&model.task, "rows.jsonl")).unwrap();
            let _judge = files.upload(&dry).unwrap();
            dry.allocated() as f64
        };
        let share = held(WeightPolicy::AS_STORED) / held(WeightDtype::F32.into());
        assert!(if dtype == WeightDtype::F32 { share == 1.0 } else { share < 0.55 }, "{dtype:?}: {share}");
        let [stored, wide] = ["auto", "f32"].map(|weights| model.scored(&["--weights", weights]));
        for (a, b) in stored.iter().zip(&wide) {
            let off = (expected(a) - expected(b)).abs();
            println!("{dtype:?}: scores differ by {off:.1e}");
            assert!(off < 1e-6, "{dtype:?}: {a} {b}");
        }
        // Other forms are taken at their word, and lose what they lose.
        let q8 = model.scored(&["--weights", "q8"]);
        assert!((expected(&q8[0]) - expected(&wide[0])).abs() < 0.1);
    }
    let model = Model::new(WeightDtype::F32, 0);
    let refused = finish(model.task.jurist(&["score", "--model", "model", "--input", "rows.jsonl", "--weights", "q5"]));
    assert_eq!(refused.code, Some(2), "{}", refused.err);
    assert!(refused.err.contains("[possible values: auto, f32, bf16, f16, q8, q4]"), "{}", refused.err);
}

/// One matrix in f32 among others in bf16: nothing is rounded.
#[test]
fn each_matrix_of_a_folder_is_held_as_it_is_stored() {
    let model = Model::new(WeightDtype::Bf16, 0);
    let file = model.task.at("model/model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let head = tensors.tensor("lm_head.weight").unwrap();
    let wide: Vec<u8> = head.data().chunks(2).flat_map(|half| [1, 0, half[0], half[1]]).collect();
    let all = tensors.iter().map(|(name, view)| match name {
        "lm_head.weight" => (name, TensorView::new(safetensors::Dtype::F32, view.shape().to_vec(), &wide).unwrap()),
        _ => (name, view),
    });
    std::fs::write(&file, safetensors::serialize(all, None).unwrap()).unwrap();
    let weights = model.folder().weights().unwrap();
    let held = |tensor| weights.source.stored_dtype(tensor);
    assert_eq!((held("lm_head.weight"), held("model.embed_tokens.weight")), (WeightDtype::F32, WeightDtype::Bf16));
}

/// A GPU with a budget for its buffers; `None` on an adapter with memory of its own, which has none.
fn budgeted(bytes: u64) -> Option<Gpu> {
    let adapter = std::env::var("JURIST_ADAPTER").ok();
    let options = GpuOptions { adapter, software_memory: Some(bytes), ..GpuOptions::default() };
    let gpu = pollster::block_on(Gpu::open_untested(&options)).unwrap();
    gpu.memory_left().is_some().then_some(gpu)
}

/// What does not fit is refused before anything is allocated, with figures and with what helps.
#[test]
fn a_model_that_does_not_fit_is_refused_first() {
    let model = Model::new(WeightDtype::F32, 20_000);
    let task = &model.task;
    task.write("rows.jsonl", "{\"prompt\": \"Rate this\", \"score\": 3}\n");
    let rows = read(task, "rows.jsonl");
    let files = JudgeFiles::resolve(&model.folder(), WeightPolicy::AS_STORED, &JudgeOverrides::default(), &rows).unwrap();
    let output = task.at("out");
    let config = TrainConfig {
        model_name_or_path: Some(path(&task.at("model")).into()),
        train_file: path(&task.at("rows.jsonl")).into(),
        output_dir: path(&output).into(),
        ..TrainConfig::default()
    };
    for (budget, judging, training) in [
        (1 << 20, "no form of the weights makes it fit", "a smaller model"),
        (9 << 20, "--weights bf16 needs", "the run does not fit: it needs "),
        (1 << 30, "", ""),
    ] {
        let Some(gpu) = budgeted(budget) else { return };
        let judged = files.check_memory(&gpu, &rows, &[ScoreOptions::default()]).err().map_or(String::new(), |e| e.to_string());
        let trained = memory::check(&gpu, &config, &RunInputs::read(&config).unwrap(), &Ranks::alone());
        let trained = trained.err().map_or(String::new(), |e| e.to_string());
        assert_eq!(gpu.allocated(), 0);
        for (found, fix) in [(&judged, judging), (&trained, training)] {
            assert!(found.contains(fix) && found.is_empty() == fix.is_empty(), "{budget}: {found}");
        }
        assert_eq!(files.upload(&gpu).is_ok(), judged.is_empty(), "and so is whoever does not ask");
        assert!(judged.is_empty() || judged.contains("MiB for GPU buffers (weights "), "{judged}");
    }
    assert!(!output.exists());
}
