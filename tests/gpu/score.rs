//! Scoring: what goes in comes out with one object more, and the numbers in it are what a direct computation gives.

use std::sync::OnceLock;

use crate::cli::{Task, lines, succeed};
use jurist::data::{ColumnOptions, Example, Reader};
use jurist::experiments::synthetic::{Split, SyntheticTask, TaskVersion};
use jurist::gpu::Gpu;
use jurist::judge::{Judge, Prediction, ScoreOptions, ScoredRow};
use jurist::model::checkpoint::Checkpoint;
use jurist::model::config::Config;
use jurist::model::decoder::{CachePass, CacheSizes, LogitsPass, PackedInputs, PrefillPrompt, PrefillRow, Sampler};
use jurist::model::error::ModelError;
use jurist::model::init::Init;
use jurist::model::source::TensorSource;
use jurist::model::weights::Weights;
use jurist::ops::loss_head::TokenLoss;
use jurist::random::{Stream, threefry2x32};
use jurist::rollout::{Chain, Ending, ReadSizes, Rollout, RolloutObserver, RolloutSizes, Stop};
use pollster::block_on;
use serde_json::{Map, Value, json};

/// A folder with two trained judges: `plain/` writes no chain of thought, `thinker/` does.
pub fn ground() -> &'static Task {
    static GROUND: OnceLock<Task> = OnceLock::new();
    GROUND.get_or_init(|| {
        let task = Task::new(48, 6, true);
        let more =
            ["--num-train-epochs", "4", "--per-device-train-batch-size", "8", "--save-steps", "0", "--learning-rate", "1e-2"];
        succeed(task.train("thinker", &more));
        succeed(task.train("plain", &[&more[..], &["--chain-column", "none"]].concat()));
        let items = SyntheticTask::new(TaskVersion::BASE, 3).items(Split::Test, 9);
        task.write("rows.jsonl", items.iter().map(|i| i.to_row().to_string() + "\n").collect::<String>());
        task
    })
}

fn score(model: &str, input: &str, more: &[&str]) -> Vec<Value> {
    let args = [&["score", "--model", model, "--input", input], more].concat();
    lines(&succeed(ground().jurist(&args)).out)
}

fn without_judge(row: &Value) -> Value {
    let mut row = row.clone();
    row.as_object_mut().unwrap().shift_remove("judge").expect("a judgement");
    row
}

/// Every column, in its order and with its digits; the rows in theirs. One that is too long says so.
#[test]
fn rows_come_out_as_they_went_in() {
    let task = ground();
    let prompt = "rubric tone major plain response voice good judge";
    let long = "ok ".repeat(200);
    let rows = [
        format!("{{\"zeta\":1.50,\"prompt\":\"{prompt}\",\"score\":\"3\",\"ä\":\"ü\\n\",\"id\":7}}"),
        format!("{{\"prompt\":\"{long}\",\"id\":\"long\",\"note\":null}}"),
        format!("{{\"id\":\"a\",\"nested\":{{\"b\":[1,{{\"c\":null}}],\"a\":1e-7}},\"prompt\":\"{prompt}\",\"score\":[2,3]}}"),
        "{\"question\":\"no prompt here\",\"id\":0}".to_string(),
        format!("{{\"prompt\":\"{prompt}\",\"score\":null,\"big\":12345678901234567890}}"),
    ];
    task.write("mixed.jsonl", rows.join("\n") + "\n\n");
    for model in ["plain", "thinker"] {
        let done = succeed(task.jurist(&["score", "--model", model, "--input", "mixed.jsonl"]));
        assert!(done.err.contains("2 of 5 rows could not be judged"), "{}", done.err);
        let scored = lines(&done.out);
        assert_eq!(scored.len(), rows.len());
        for (row, (line, scored)) in rows.iter().zip(done.out.lines().zip(&scored)) {
            let before: Value = serde_json::from_str(row).unwrap();
            assert_eq!(before.to_string(), without_judge(scored).to_string());
            assert!(line.starts_with(&row[..row.len() - 1]), "the judgement comes last, and the rest as it was: {line}");
            let judge = scored["judge"].as_object().unwrap();
            assert_eq!(
                judge.keys().map(String::as_str).collect::<Vec<_>>(),
                ["expected", "decoded", "probs", "mass", "feedback", "forced", "error"]
            );
        }
        for (row, says) in [(1, "the row is too long: its prompt of 201 tokens"), (3, "no `prompt`")] {
            let judge = &scored[row]["judge"];
            assert!(judge["error"].as_str().unwrap().contains(says), "{judge}");
            assert!(judge["expected"].is_null() && judge["probs"].is_null());
        }
        let good: Vec<f64> = [0, 2, 4].iter().map(|r| scored[*r]["judge"]["expected"].as_f64().unwrap()).collect();
        assert!(good.iter().all(|e| (1.0..=5.0).contains(e)) && good[0] == good[1] && good[1] == good[2], "{good:?}");
        let probs: Vec<(&String, f64)> =
            scored[0]["judge"]["probs"].as_object().unwrap().iter().map(|(t, p)| (t, p.as_f64().unwrap())).collect();
        assert_eq!(probs.iter().map(|(t, _)| t.as_str()).collect::<Vec<_>>(), ["1", "2", "3", "4", "5"]);
        assert!((probs.iter().map(|(_, p)| p).sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!(scored[0]["judge"]["feedback"].is_string(), model == "thinker");
    }
    // To a file: the same bytes, and readable for others as any file is.
    let done = succeed(task.jurist(&["score", "--model", "plain", "--input", "mixed.jsonl"]));
    let other = succeed(task.jurist(&["score", "--model", "plain", "--input", "mixed.jsonl", "--output", "scored.jsonl"]));
    assert_eq!((task.read("scored.jsonl"), other.out.as_str()), (done.out, ""));
    // Scored again, the judgement is replaced where it stands.
    let again = score("plain", "scored.jsonl", &["--overwrite-judge"]);
    for (again, once) in again.iter().zip(lines(&task.read("scored.jsonl"))) {
        assert_eq!(again["judge"]["expected"], once["judge"]["expected"]);
        assert_eq!(without_judge(again), without_judge(&once));
    }
}

#[test]
fn eval_of_scored_rows_is_eval_of_the_model() {
    let task = ground();
    for model in ["plain", "thinker"] {
        let scored = score(model, "rows.jsonl", &[]);
        task.write("for-eval.jsonl", scored.iter().map(|r| r.to_string() + "\n").collect::<String>());
        let json = |args: &[&str]| -> Map<String, Value> { serde_json::from_str(&succeed(task.jurist(args)).out).unwrap() };
        let from_file = json(&["eval", "for-eval.jsonl", "--json"]);
        let mut of_model = json(&["eval", "--model", model, "--input", "rows.jsonl", "--json"]);
        // What only a model can be asked: the same rows with other chains.
        let figures = of_model["expected score"].as_object_mut().unwrap();
        let swaps: Vec<Option<Value>> = ["moved", "follows_chain", "follows_prompt"]
            .iter()
            .map(|k| figures.shift_remove(&format!("chain_swap_{k}")))
            .collect();
        assert_eq!(swaps.iter().all(Option::is_some), model == "thinker", "{swaps:?}");
        assert_eq!(from_file, of_model);
        // The numbers, from the rows as they are.
        let (human, judge): (Vec<f64>, Vec<f64>) =
            scored.iter().map(|r| (r["score"].as_f64().unwrap(), r["judge"]["expected"].as_f64().unwrap())).unzip();
        let found = |key: &str| from_file["expected score"][key].as_f64();
        let shown = format!("{}", Value::Object(from_file.clone()));
        for (key, expected) in [
            ("pearson", jurist::eval::pearson(&human, &judge)),
            ("spearman", jurist::eval::spearman(&human, &judge)),
            ("rmse", jurist::eval::rmse(&human, &judge)),
            ("mae", jurist::eval::mae(&human, &judge)),
        ] {
            let gap = found(key).zip(expected.ok()).map(|(a, b)| (a - b).abs());
            assert!(gap.is_some_and(|gap| gap < 1e-12), "{key} in {shown}");
        }
        assert!(from_file.keys().any(|k| k.starts_with("constant")) && from_file.keys().any(|k| k.starts_with("length")));
        let table = succeed(task.jurist(&["eval", "for-eval.jsonl", "--report", "page.html"])).out;
        assert!(table.contains("expected score") && table.contains("n 9, skipped 0"), "{table}");
        assert!(task.read("page.html").contains("<svg"));
    }
}

/// A judge opened as the command line opens it.
fn open(model: &str, gpu: &Gpu) -> Judge {
    Judge::open(gpu, &ground().at(model)).unwrap()
}

fn weights(model: &str, gpu: &Gpu) -> Weights {
    Weights::upload(gpu, &Checkpoint::open(&ground().at(model)).unwrap()).unwrap()
}

fn examples() -> Vec<Example> {
    Reader { columns: ColumnOptions::for_scoring(), ..Reader::default() }.read_path(&ground().at("rows.jsonl")).unwrap().examples
}

fn judged(judge: &Judge, examples: &[Example], judging: &ScoreOptions) -> Vec<ScoredRow> {
    block_on(judge.judge(examples, judging, |_| {})).unwrap()
}

/// Rows that begin alike, in any order, are computed together, and get the scores that they get alone. Rows that share nothing
/// stay as they are.
#[test]
fn rows_that_begin_alike_share_the_beginning() {
    let gpu = crate::common::gpu();
    let rubric = |first: &str| format!("{first} {}", "rubric tone major plain ".repeat(7));
    let prompts = [
        rubric("good") + "response voice",
        rubric("judge") + "plain response voice good",
        rubric("good") + "voice",
        rubric("judge") + "response tone",
        "voice good tone major".to_string(),
        rubric("good") + "response plain tone judge",
    ];
    let chains = ["good voice", "tone plain", "plain", "good voice", "major", "voice"];
    let rows = |prompts: &[String]| {
        let rows = prompts.iter().zip(chains).map(|(prompt, chain)| json!({"prompt": prompt, "chain": chain}).to_string());
        let file = ground().write("alike.jsonl", rows.collect::<Vec<_>>().join("\n"));
        Reader { columns: ColumnOptions::for_scoring(), ..Reader::default() }.read_path(&file).unwrap().examples
    };
    for model in ["plain", "thinker"] {
        let judge = open(model, &gpu);
        let options = ScoreOptions { given_chains: model == "thinker", ..ScoreOptions::default() };
        let examples = rows(&prompts);
        let alone = |example: &Example| std::slice::from_ref(example).to_vec();
        let each: Vec<ScoredRow> = examples.iter().flat_map(|e| judged(&judge, &alone(e), &options)).collect();
        let (gap, _) = apart(&judged(&judge, &examples, &options), &each);
        let one_by_one: usize = examples.iter().map(|e| judge.pass_tokens(&alone(e), &options)).sum();
        let together = judge.pass_tokens(&examples, &options);
        println!("{model}: {together} tokens instead of {one_by_one}, scores differ by at most {gap:.1e}");
        assert!(gap < 1e-6 && each.iter().all(|row| row.prediction.is_some()));
        // Three rows share 30 tokens (with the BOS), two rows another 30; what is shared may end with an equal word behind it.
        let saved = one_by_one - together;
        assert!((2 * 30 + 30..=2 * 30 + 30 + 6).contains(&saved), "{saved}");
        let apart_from_the_start = rows(&[3, 4].map(|row| prompts[row].clone()));
        let of_each: usize = apart_from_the_start.iter().map(|e| judge.pass_tokens(&alone(e), &options)).sum();
        assert_eq!(judge.pass_tokens(&apart_from_the_start, &options), of_each);
    }
}

/// Logits behind the last token of each sequence, from plain packed sequences.
fn last_logits(gpu: &Gpu, weights: &Weights, sequences: &[Vec<u32>]) -> Vec<Vec<f64>> {
    let mut batch = PackedInputs::default();
    for ids in sequences {
        let start = batch.push(ids);
        batch.push_loss(start + ids.len() as u32 - 1, TokenLoss::default());
    }
    let pass = LogitsPass::new(gpu, weights, batch.ids.len(), batch.loss_positions.len()).unwrap();
    let logits = block_on(pass.run(&batch)).unwrap();
    logits.chunks(weights.config.vocab_size).map(|row| row.iter().map(|z| f64::from(*z)).collect()).collect()
}

/// Log-probabilities of the score tokens, by the textbook.
fn score_log_probs(logits: &[f64], ids: &[u32]) -> Vec<f64> {
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|z| (z - top).exp()).sum();
    ids.iter().map(|id| logits[*id as usize] - top - sum.ln()).collect()
}

#[test]
fn scores_are_what_a_direct_computation_gives() {
    let gpu = crate::common::gpu();
    let (judge, weights) = (open("plain", &gpu), weights("plain", &gpu));
    let examples = examples();
    let settings = judge.settings();
    let (prompt, tokens) = (settings.prompt(judge.tokenizer()).unwrap(), judge.score_tokens());
    let sequences: Vec<Vec<u32>> = examples
        .iter()
        .map(|e| {
            let (mut ids, space) = prompt.prompt(e, judge.tokenizer()).unwrap();
            ids.extend(tokens.stem_after(space));
            ids
        })
        .collect();
    let direct = last_logits(&gpu, &weights, &sequences);
    let mut worst = 0.0f64;
    for (judged, logits) in judged(&judge, &examples, &ScoreOptions::default()).iter().zip(&direct) {
        let expected = Prediction::from_log_probs(&settings.scale, &score_log_probs(logits, tokens.alphabet())).unwrap();
        let found = judged.prediction.as_ref().unwrap();
        worst = worst.max((found.expected - expected.expected).abs()).max((found.mass - expected.mass).abs());
        assert_eq!(found.decoded, expected.decoded);
    }
    println!("scores differ from the direct computation by at most {worst:.1e}");
    assert!(worst < 1e-5);
}

/// How far two judgings of the same rows are apart, and whether they have the same bits.
fn apart(a: &[ScoredRow], b: &[ScoredRow]) -> (f64, bool) {
    assert_eq!(a.len(), b.len());
    let gaps = a.iter().zip(b).map(|(a, b)| {
        assert_eq!(a.chains, b.chains);
        (a.prediction.as_ref().unwrap().expected - b.prediction.as_ref().unwrap().expected).abs()
    });
    let gap = gaps.fold(0.0, f64::max);
    (gap, gap == 0.0)
}

#[test]
fn scores_do_not_depend_on_the_batch() {
    let gpu = crate::common::gpu();
    let examples = examples();
    for model in ["plain", "thinker"] {
        let judge = open(model, &gpu);
        let all = judged(&judge, &examples, &ScoreOptions::default());
        for batch_size in [1, 2, 5] {
            let other = judged(&judge, &examples, &ScoreOptions { batch_size, ..ScoreOptions::default() });
            let (gap, same) = apart(&all, &other);
            println!("{model}, batch size {batch_size}: {gap:.1e}{}", if same { ", the same bits" } else { "" });
            assert!(gap < 1e-6);
        }
        // Each row alone, in its own pass; and the other way round.
        let alone: Vec<ScoredRow> =
            examples.iter().flat_map(|e| judged(&judge, std::slice::from_ref(e), &ScoreOptions::default())).collect();
        let reversed: Vec<Example> = examples.iter().rev().cloned().collect();
        let mut back = judged(&judge, &reversed, &ScoreOptions::default());
        back.reverse();
        for (what, other) in [("alone", alone), ("reversed", back)] {
            let (gap, same) = apart(&all, &other);
            println!("{model}, {what}: {gap:.1e}{}", if same { ", the same bits" } else { "" });
            assert!(gap < 1e-6);
        }
    }
}

/// The prompts of the rows, and when a chain over them ends.
fn rollout_task(judge: &Judge) -> (Vec<Vec<u32>>, Stop) {
    let prompt = judge.settings().prompt(judge.tokenizer()).unwrap();
    let prompts = examples().iter().map(|e| prompt.prompt(e, judge.tokenizer()).unwrap().0).collect();
    let tokens = judge.score_tokens();
    let stop = Stop {
        phrases: vec![tokens.stem.clone(), tokens.opening.clone()],
        eos: judge.tokenizer().eos_ids().to_vec(),
        max_tokens: judge.settings().max_completion_length,
    };
    (prompts, stop)
}

/// Looks at what was drawn every so many tokens.
struct Every(Option<usize>);

impl RolloutObserver for Every {
    fn sync_interval(&self) -> Option<usize> {
        self.0
    }
}

fn roll(gpu: &Gpu, weights: &Weights, prompts: &[Vec<u32>], sizes: (usize, usize), stream: u32, stop: &Stop) -> Vec<Vec<Chain>> {
    roll_looking(gpu, weights, prompts, sizes, stream, stop, None)
}

fn roll_looking(
    gpu: &Gpu,
    weights: &Weights,
    prompts: &[Vec<u32>],
    (rows, group): (usize, usize),
    stream: u32,
    stop: &Stop,
    every: Option<usize>,
) -> Vec<Vec<Chain>> {
    let prompt = prompts.iter().map(Vec::len).max().unwrap();
    let rollout =
        Rollout::new(gpu, weights, RolloutSizes { rows, group, prompt, new_tokens: stop.max_tokens, read: ReadSizes::default() })
            .unwrap();
    let sampler = Sampler { temperature: 1.0, top_p: 1.0, top_k: 0, key: threefry2x32([0, 0], [0, 0]) };
    block_on(rollout.run(prompts, stream, sampler, stop, &mut Every(every))).unwrap()
}

fn tokens_of(chains: &[Vec<Chain>]) -> Vec<Vec<u32>> {
    chains.iter().flatten().map(|c| c.draws.iter().map(|d| d.token).collect()).collect()
}

/// A chain depends on its prompt, the key and its stream, not on what else is in the batch.
#[test]
fn chains_do_not_depend_on_the_batch() {
    let gpu = crate::common::gpu();
    let (judge, weights) = (open("thinker", &gpu), weights("thinker", &gpu));
    let (prompts, stop) = rollout_task(&judge);
    for group in [1, 3] {
        let all = tokens_of(&roll(&gpu, &weights, &prompts, (64, group), 100, &stop));
        assert!(all.iter().any(|c| c != &all[0]), "sampled chains differ");
        // Two prompts at a time, the others as room is made; however often the host looks.
        for every in [None, Some(1), Some(3), Some(8)] {
            let two = roll_looking(&gpu, &weights, &prompts, (group * 2, group), 100, &stop, every);
            assert_eq!(all, tokens_of(&two), "two prompts at a time, a look every {every:?} tokens");
        }
        // Each prompt alone, last to first, with the stream that it had.
        for p in (0..prompts.len()).rev() {
            let stream = 100 + (p * group) as u32;
            let alone = tokens_of(&roll(&gpu, &weights, &prompts[p..=p], (group, group), stream, &stop));
            assert_eq!(alone, all[p * group..(p + 1) * group], "prompt {p} in groups of {group}");
        }
    }
}

/// Behind a long prompt the context leaves less room: the chain ends there, its neighbours go on.
#[test]
fn a_chain_ends_with_the_context() {
    let gpu = crate::common::gpu();
    let weights = Weights::upload(&gpu, &Init::new(config(json!({"max_position_embeddings": 40})), 1)).unwrap();
    let prompts: Vec<Vec<u32>> = [35, 10, 40].iter().map(|n| (0..*n).map(|i| i % 90).collect()).collect();
    let stop = Stop { phrases: Vec::new(), eos: Vec::new(), max_tokens: 20 };
    let together = roll(&gpu, &weights, &prompts, (3, 1), 0, &stop);
    assert_eq!(together.iter().map(|c| c[0].draws.len()).collect::<Vec<_>>(), [5, 20, 0]);
    assert!(together.iter().all(|c| c[0].ending == Ending::Length));
    let alone = roll(&gpu, &weights, &prompts[1..2], (1, 1), 1, &stop);
    assert_eq!(together[1][0], alone[0][0], "a row that runs on touches no other");
}

/// `--chains 3`: the mean of what each chain says, each computed on its own.
#[test]
fn several_chains_are_averaged() {
    let gpu = crate::common::gpu();
    let (judge, weights) = (open("thinker", &gpu), weights("thinker", &gpu));
    let (prompts, stop) = rollout_task(&judge);
    let rolled = roll(&gpu, &weights, &prompts, (64, 3), 0, &stop);
    let (tokens, scale) = (judge.score_tokens(), &judge.settings().scale);
    let sequences: Vec<Vec<u32>> = prompts
        .iter()
        .zip(&rolled)
        .flat_map(|(prompt, chains)| chains.iter().map(move |chain| (prompt, chain)))
        .map(|(prompt, chain)| {
            let mut ids = prompt.clone();
            ids.extend(chain.body());
            let drawn: Vec<u32> = chain.draws[chain.draws.len() - chain.tail..].iter().map(|d| d.token).collect();
            ids.extend(if chain.ending == Ending::Phrase { drawn } else { tokens.stem.clone() });
            ids
        })
        .collect();
    let direct = last_logits(&gpu, &weights, &sequences);
    let scored = score("thinker", "rows.jsonl", &["--chains", "3"]);
    for (row, (scored, logits)) in scored.iter().zip(direct.chunks(3)).enumerate() {
        let three: Vec<Prediction> =
            logits.iter().map(|z| Prediction::from_log_probs(scale, &score_log_probs(z, tokens.alphabet())).unwrap()).collect();
        let mean = three.iter().map(|p| p.expected).sum::<f64>() / 3.0;
        let found = scored["judge"]["expected"].as_f64().unwrap();
        assert!((found - mean).abs() < 1e-5, "row {row}: {found} and {mean}");
    }
    let greedy = |chains: &str| score("thinker", "rows.jsonl", &["--chains", chains, "--temperature", "0"]);
    for (one, three) in greedy("1").iter().zip(greedy("3")) {
        let expected = |row: &Value| row["judge"]["expected"].as_f64().unwrap();
        assert!((expected(one) - expected(&three)).abs() < 1e-6, "three times the greedy chain is the greedy chain");
        assert_eq!(one["judge"]["feedback"], three["judge"]["feedback"]);
    }
    assert_eq!(
        score("thinker", "rows.jsonl", &["--chains", "2", "--seed", "5"]),
        score("thinker", "rows.jsonl", &["--chains", "2", "--seed", "5"])
    );
}

pub fn config(changes: Value) -> Config {
    let mut config = crate::cli::tiny_config();
    changes.as_object().unwrap().iter().for_each(|(k, v)| config[k] = v.clone());
    Config::from_json(&config.to_string()).unwrap()
}

/// Random weights with nothing at rest: norms that are not 1, biases that are not 0.
pub struct Restless(pub Init);

impl TensorSource for Restless {
    fn config(&self) -> &Config {
        self.0.config()
    }

    fn read(&self, tensor: &str, start: usize, out: &mut [f32]) -> Result<(), ModelError> {
        self.0.read(tensor, start, out)?;
        if tensor.ends_with(".bias") || tensor.contains("norm") {
            let name = tensor.bytes().fold(7u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
            for (i, value) in out.iter_mut().enumerate() {
                *value += 0.3 * Stream::new(name, (start + i) as u64).normal() as f32;
            }
        }
        Ok(())
    }
}

/// A cache that no binding holds is refused before anything is made, with what to lower.
#[test]
fn a_cache_larger_than_a_binding_says_what_to_lower() {
    let (gpu, weights) = (crate::common::gpu(), weights("thinker", &crate::common::gpu()));
    let sizes = RolloutSizes { rows: 1 << 20, group: 8, prompt: 20, new_tokens: 100, read: ReadSizes::default() };
    let entries = sizes.cache(weights.config.max_position_embeddings).entries;
    let error = Rollout::new(&gpu, &weights, sizes).err().expect("a refusal");
    // A key and a value of each head, in f32.
    let bytes = entries * 2 * weights.config.num_key_value_heads * weights.config.head_dim * 4;
    let found = matches!(error, ModelError::CacheTooLarge { needed, .. } if needed == bytes as u64);
    let error = error.to_string();
    assert!(found, "{bytes}: {error}");
    for part in [&*format!("{entries} positions"), "128 MiB", "num_generations", "max_completion_length", "--batch-size"] {
        assert!(error.contains(part), "{error}");
    }
}

/// Decoding from the cache gives the logits of the packed forward, for prompts of different length in one batch, rows
/// that share a prompt, and every kind of decoder.
#[test]
fn cached_decoding_is_the_packed_forward() {
    let gpu = crate::common::gpu();
    let family = |name: &str, class: &str| json!({"model_type": name, "architectures": [class]});
    let with = |mut base: Value, more: Value| {
        more.as_object().unwrap().iter().for_each(|(k, v)| base[k] = v.clone());
        base
    };
    let cases = [
        ("llama", json!({})),
        (
            "llama, untied, 7 query heads on one",
            json!({"tie_word_embeddings": false, "num_attention_heads": 7, "hidden_size": 28}),
        ),
        ("mistral, a window of 5", with(family("mistral", "MistralForCausalLM"), json!({"sliding_window": 5}))),
        ("qwen2, biases", family("qwen2", "Qwen2ForCausalLM")),
        ("smollm3, a layer without rope", with(family("smollm3", "SmolLM3ForCausalLM"), json!({"no_rope_layer_interval": 2}))),
        (
            "gemma 3, a window of 5 in one layer",
            with(family("gemma3_text", "Gemma3ForCausalLM"), json!({"sliding_window": 5, "sliding_window_pattern": 2})),
        ),
        ("qwen3, q and k norms", with(family("qwen3", "Qwen3ForCausalLM"), json!({"num_key_value_heads": 2}))),
        (
            "llama 3 rope",
            json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 16}}),
        ),
    ];
    for (name, changes) in cases {
        let source = Restless(Init::new(config(changes), 4));
        let weights = Weights::upload(&gpu, &source).unwrap();
        let vocab = weights.config.vocab_size;
        let mut stream = Stream::new(8, 8);
        let mut text = |n: usize| -> Vec<u32> { (0..n).map(|_| stream.below(vocab) as u32).collect() };
        let prompts: Vec<Vec<u32>> = [1, 7, 19, 30].map(&mut text).to_vec();
        // Prompts 1 and 3 are shared by two rows each, which write before and behind them; 0 and 2 are continued in place.
        let (steps, at) = (8, [0, 17, 32, 67]);
        let row = |(prompt, at)| PrefillRow { prompt, at, stream: 0, sampler: Sampler::GREEDY };
        let rows = [(0, 1), (1, 9), (1, 24), (2, 51), (3, 59), (3, 97)].map(row);
        let forced: Vec<Vec<u32>> = (0..steps).map(|_| text(rows.len())).collect();
        let sizes = CacheSizes { entries: 105, rows: 6, prefill: 57, own: steps, max_length: 30 + steps, history: 1, scores: 0 };
        let pass = CachePass::new(&gpu, &weights, sizes).unwrap();
        let filled = at.into_iter().zip(&prompts).map(|(at, ids)| PrefillPrompt { ids, at });
        pass.prefill(&filled.collect::<Vec<_>>(), 0, &rows).unwrap();
        let mut sequences: Vec<Vec<u32>> = rows.iter().map(|r| prompts[r.prompt as usize].clone()).collect();
        let mut worst = 0.0f64;
        for step in 0..=steps {
            let cached = block_on(pass.logits(rows.len())).unwrap();
            for (cached, packed) in cached.chunks(vocab).zip(last_logits(&gpu, &weights, &sequences)) {
                assert!(
                    packed.iter().all(|z| z.is_finite()) && packed.iter().any(|z| z.abs() > 0.1),
                    "logits that say something"
                );
                // A NaN is as far as can be.
                let gap = |(c, p): (&f32, &f64)| if c.is_finite() { (f64::from(*c) - p).abs() } else { f64::INFINITY };
                worst = cached.iter().zip(&packed).map(gap).fold(worst, f64::max);
            }
            if let Some(ids) = forced.get(step) {
                block_on(pass.force(ids)).unwrap();
                sequences.iter_mut().zip(ids).for_each(|(s, id)| s.push(*id));
            }
        }
        println!("{name}: cached and packed logits differ by at most {worst:.1e}");
        assert!(worst < 1e-4, "{name}: {worst}");
    }
}
