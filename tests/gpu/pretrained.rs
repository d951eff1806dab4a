//! A real pretrained model, where it is at hand: stories260k against an independent float64 forward pass.
//!
//! The files are not part of this repository. `JURIST_SHARED` names the folder that holds `models/`, else `../shared` is
//! looked for beside it; without them these tests are skipped and say so.

use std::path::PathBuf;

use jurist::model::checkpoint::Checkpoint;
use jurist::model::decoder::{LogitsPass, PackedInputs, Sampler};
use jurist::model::weights::Weights;
use jurist::ops::loss_head::TokenLoss;
use jurist::rollout::{Rollout, RolloutSizes, Stop};
use pollster::block_on;
use serde_json::Value;

fn models() -> Option<PathBuf> {
    let shared = std::env::var("JURIST_SHARED").unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").into());
    let models = PathBuf::from(shared).join("models");
    if models.join("stories260k/model.safetensors").is_file() && models.join("stories260K_reference.json").is_file() {
        return Some(models);
    }
    crate::common::skip(format!("there is no stories260k in {}", models.display()));
    None
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
    let rollout = Rollout::new(&gpu, &weights, RolloutSizes { rows: 1, group: 1, prompt: 1, new_tokens }).unwrap();
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
