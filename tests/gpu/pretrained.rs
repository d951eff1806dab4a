//! Real pretrained models, where they are at hand: stories260k against an independent float64 forward pass, SmolLM2 and Gemma 3
//! from GGUF files against transformers.
//!
//! The files are not part of this repository. `JURIST_SHARED` names the folder that holds `models/`, else `../shared` is
//! looked for beside it; `scripts/fetch-model.sh` fetches SmolLM2 and Gemma 3. Without them these tests are skipped
//! and say so.

use std::path::PathBuf;

use jurist::gguf::GgufModel;
use jurist::model::checkpoint::Checkpoint;
use jurist::model::decoder::{LogitsPass, PackedInputs, Sampler};
use jurist::model::weights::Weights;
use jurist::ops::loss_head::TokenLoss;
use jurist::rollout::{ReadSizes, Rollout, RolloutSizes, Stop};
use pollster::block_on;
use serde_json::Value;

fn shared_models() -> PathBuf {
    let shared = std::env::var("JURIST_SHARED").unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").into());
    PathBuf::from(shared).join("models")
}

/// Token ids and scores of ten prompts, as transformers has them with the weights that it decodes from the same file
/// (`scripts/make_gemma_reference.py`). One prompt is longer than the window of local layers.
#[test]
fn gemma3_270m_from_gguf() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let file = root.join("target/models/gemma-3-270m-q4_k_m.gguf");
    if !file.is_file() {
        return crate::common::skip(format!("there is no {} (scripts/fetch-model.sh gemma3 fetches it)", file.display()));
    }
    let reference = std::fs::read_to_string(root.join("tests/fixtures/gguf/gemma3_270m.json")).unwrap();
    let reference: Value = serde_json::from_str(&reference).unwrap();
    let ids_of = |list: &Value| -> Vec<u32> { list.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect() };
    let model = GgufModel::open(&file).unwrap();
    let tokenizer = model.tokenizer().unwrap();
    let gpu = crate::common::gpu();
    let weights = Weights::upload(&gpu, &model).unwrap();
    let scores = ids_of(&reference["score_tokens"]);

    let mut batch = PackedInputs::default();
    let rows = reference["rows"].as_array().unwrap();
    for row in rows {
        let (prompt, ids) = (row["prompt"].as_str().unwrap(), ids_of(&row["ids"]));
        assert_eq!(tokenizer.encode(prompt, true).unwrap(), ids, "{prompt}");
        batch.push(&ids);
        batch.push_loss(batch.ids.len() as u32 - 1, TokenLoss::default());
    }
    let pass = LogitsPass::new(&gpu, &weights, batch.ids.len(), rows.len()).unwrap();
    let logits = block_on(pass.run(&batch)).unwrap();
    let mut worst = [0.0f64; 2];
    for (row, logits) in rows.iter().zip(logits.chunks(weights.config.vocab_size)) {
        let found: Vec<f64> = scores.iter().map(|id| f64::from(logits[*id as usize])).collect();
        let apart = row["logits"].as_array().unwrap().iter().zip(&found).map(|(a, b)| (a.as_f64().unwrap() - b).abs());
        worst[0] = apart.fold(worst[0], f64::max);
        let weight = |z: &f64| (z - found[0]).exp();
        let total: f64 = found.iter().map(weight).sum();
        let expected: f64 = found.iter().enumerate().map(|(score, z)| score as f64 * weight(z) / total).sum();
        worst[1] = worst[1].max((expected - row["expected"].as_f64().unwrap()).abs());
    }
    println!("logits within {:.1e}, expected scores within {:.1e}", worst[0], worst[1]);
    assert!(worst[1] < 1e-3, "{worst:?}");
}

fn models() -> Option<PathBuf> {
    let models = shared_models();
    if models.join("stories260k/model.safetensors").is_file() && models.join("stories260K_reference.json").is_file() {
        return Some(models);
    }
    crate::common::skip(format!("there is no stories260k in {}", models.display()));
    None
}

/// Token ids, score distributions and greedy continuations of six prompts, as transformers has them with the weights that it
/// decodes from the same file.
#[test]
fn smollm2_from_gguf() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    let reference = shared_models().join("smollm2_reference.json");
    if let Some(missing) = [&file, &reference].into_iter().find(|path| !path.is_file()) {
        return crate::common::skip(format!("there is no {}", missing.display()));
    }
    let reference: Value = serde_json::from_str(&std::fs::read_to_string(reference).unwrap()).unwrap();
    let rows = reference["rows"].as_array().unwrap();
    let ids_of = |row: &Value, key: &str| -> Vec<u32> {
        row[key].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
    };
    let model = GgufModel::open(&file).unwrap();
    let tokenizer = model.tokenizer().unwrap();
    let gpu = crate::common::gpu();
    let weights = Weights::upload(&gpu, &model).unwrap();

    let mut batch = PackedInputs::default();
    for row in rows {
        let (text, ids) = (row["chat_text"].as_str().unwrap(), ids_of(row, "input_ids"));
        assert_eq!(tokenizer.encode(&format!("{text}{}", reference["phrase"].as_str().unwrap()), false).unwrap(), ids);
        batch.push(&ids);
        batch.push_loss(batch.ids.len() as u32 - 1, TokenLoss::default());
    }
    let pass = LogitsPass::new(&gpu, &weights, batch.ids.len(), rows.len()).unwrap();
    let logits = block_on(pass.run(&batch)).unwrap();
    let mut worst = 0.0f64;
    for (row, logits) in rows.iter().zip(logits.chunks(weights.config.vocab_size)) {
        let largest = logits.iter().fold(f64::NEG_INFINITY, |largest, x| largest.max(f64::from(*x)));
        let total: f64 = logits.iter().map(|x| (f64::from(*x) - largest).exp()).sum();
        for (id, expected) in ids_of(row, "score_token_ids").into_iter().zip(row["p"].as_array().unwrap()) {
            let p = (f64::from(logits[id as usize]) - largest).exp() / total;
            worst = worst.max((p - expected.as_f64().unwrap()).abs());
        }
    }
    println!("probabilities of the scores within {worst:.1e}");
    assert!(worst < 1e-4);

    let prompts: Vec<Vec<u32>> =
        rows.iter().map(|row| tokenizer.encode(row["chat_text"].as_str().unwrap(), false).unwrap()).collect();
    let prompt = prompts.iter().map(Vec::len).max().unwrap();
    let sizes = RolloutSizes { rows: rows.len(), group: 1, prompt, new_tokens: 24, read: ReadSizes::default() };
    let rollout = Rollout::new(&gpu, &weights, sizes).unwrap();
    let stop = Stop { max_tokens: 24, ..Stop::default() };
    let chains = block_on(rollout.run(&prompts, 0, Sampler::GREEDY, &stop, &mut ())).unwrap();
    for (row, chain) in rows.iter().zip(chains) {
        let gaps = row["greedy_gap"].as_array().unwrap().iter().map(|gap| gap.as_f64().unwrap());
        let near_tie = gaps.take_while(|gap| *gap > 1e-3).count();
        let found: Vec<u32> = chain[0].draws.iter().map(|draw| draw.token).collect();
        assert_eq!(found[..near_tie], ids_of(row, "greedy_ids")[..near_tie], "{}", row["prompt"]);
    }
}

#[test]
fn stories260k() {
    let Some(models) = models() else { return };
    let text = std::fs::read_to_string(models.join("stories260K_reference.json")).unwrap();
    let reference: Value = serde_json::from_str(&text).unwrap();
    let ids: Vec<u32> = reference["greedy_token_ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
    let gpu = crate::common::gpu();
    let weights = Weights::upload(&gpu, &Checkpoint::open(&models.join("stories260k")).unwrap()).unwrap();

    let new_tokens = ids.len() - 1;
    let rollout =
        Rollout::new(&gpu, &weights, RolloutSizes { rows: 1, group: 1, prompt: 1, new_tokens, read: ReadSizes::default() })
            .unwrap();
    let stop = Stop { max_tokens: new_tokens, ..Stop::default() };
    let chains = block_on(rollout.run(&[ids[..1].to_vec()], 0, Sampler::GREEDY, &stop, &mut ())).unwrap();
    let greedy: Vec<u32> = chains[0][0].draws.iter().map(|d| d.token).collect();
    assert_eq!(greedy, ids[1..], "greedy ids from the cache");

    let mut positions: Vec<(u32, &Vec<Value>)> = reference["logits_at_position"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(p, l)| (p.parse().unwrap(), l.as_array().unwrap()))
        .collect();
    positions.sort_by_key(|(p, _)| *p);
    let mut batch = PackedInputs::default();
    batch.push(&ids[..256]);
    positions.iter().for_each(|(p, _)| batch.push_loss(*p, TokenLoss::default()));
    let pass = LogitsPass::new(&gpu, &weights, 256, positions.len()).unwrap();
    let logits = block_on(pass.run(&batch)).unwrap();
    let mut worst = 0.0f64;
    for ((_, expected), found) in positions.iter().zip(logits.chunks(weights.config.vocab_size)) {
        assert_eq!(expected.len(), found.len());
        worst = expected.iter().zip(found).map(|(e, f)| (e.as_f64().unwrap() - f64::from(*f)).abs()).fold(worst, f64::max);
    }
    println!("{} greedy ids equal; logits at {} positions within {worst:.1e}", ids.len(), positions.len());
    assert!(worst < 1e-3);
}
