//! A judge so small that all its chains of thought can be listed.

use jurist::judge::{AnswerFormat, Decode, Scale, ScoreReads, ScoreTokens};
use jurist::model::config::Config;
use jurist::model::error::ModelError;
use jurist::model::source::TensorSource;
use jurist::reference::{self, DecoderConfig};
use jurist::rollout::{Ending, Stop};
use jurist::text::TextError;
use jurist::train::data::examples::LabelledPrompt;
use jurist::train::objective::policy::AnswerSpec;
use serde_json::{Value, json};

use crate::faults::exact;

pub const MAX_TOKENS: usize = 2;

/// A decoder of a few hundred parameters, and a judge who speaks its few tokens.
pub struct Toy {
    pub model: Model,
    pub scale: Scale,
    pub tokens: ScoreTokens,
    pub reads: ScoreReads,
    pub eos: Vec<u32>,
    /// Tokens behind which the phrase has its opening form.
    pub spaces: Vec<u32>,
    pub prompts: Vec<LabelledPrompt>,
}

/// The same weights for both sides: `f32` numbers.
pub struct Model {
    config: Config,
    pub reference_config: DecoderConfig,
    pub weights: reference::Weights,
}

impl Model {
    fn new(family: Value, vocab: usize, seed: u64) -> Self {
        let mut json = json!({
            "vocab_size": vocab, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 1, "head_dim": 4, "hidden_act": "silu", "max_position_embeddings": 16, "rope_theta": 100.0,
            "rms_norm_eps": 1e-6, "tie_word_embeddings": false, "torch_dtype": "float32",
        });
        json.as_object_mut().unwrap().extend(family.as_object().unwrap().clone());
        let config = Config::from_json(&json.to_string()).unwrap_or_else(|e| panic!("{e}"));
        let reference_config = exact::reference_config(&config);
        let mut weights = reference::Weights::random(&reference_config, seed);
        for (name, values) in &mut weights.0 {
            // Larger logits: probabilities of very different size.
            let factor = if name == reference_config.head_name() { 1.5 } else { 1.0 };
            values.iter_mut().for_each(|v| *v = f64::from((*v * factor) as f32));
        }
        Model { config, reference_config, weights }
    }
}

/// A letter for every token, but for the spaces.
impl Decode for Toy {
    fn text(&self, ids: &[u32]) -> Result<String, TextError> {
        Ok(ids.iter().map(|id| if self.spaces.contains(id) { ' ' } else { 'x' }).collect())
    }
}

impl TensorSource for Model {
    fn config(&self) -> &Config {
        &self.config
    }

    fn read(&self, tensor: &str, start: usize, out: &mut [f32]) -> Result<(), ModelError> {
        let values = self.weights.0.get(tensor).ok_or_else(|| ModelError::UnknownTensor(tensor.into()))?;
        out.iter_mut().zip(&values[start..]).for_each(|(o, v)| *o = *v as f32);
        Ok(())
    }
}

fn prompt(scale: &Scale, ids: &[u32], value: f64, ends_in_space: bool) -> LabelledPrompt {
    LabelledPrompt { ids: ids.to_vec(), ends_in_space, label: scale.split(value).unwrap(), value }
}

/// The tokens of three scores behind a phrase and its opening form; an EOS of 3 ends them where it has to.
fn tokens(paths: &[&[u32]], stem: &[u32], opening: &[u32]) -> ScoreTokens {
    ScoreTokens::new(paths.iter().map(|p| p.to_vec()).collect(), Some(3), stem.to_vec(), opening.to_vec()).unwrap()
}

impl Toy {
    /// Seven tokens: two words, a phrase of one token, EOS, three scores. 37 chains.
    pub fn llama() -> Self {
        let scale: Scale = "a,b,c=0.5,4,1".parse().unwrap();
        // Between two scores: λ log π is split over both.
        let prompts = vec![prompt(&scale, &[1, 0, 5], 2.2, false)];
        let tokens = tokens(&[&[4], &[5], &[6]], &[2], &[2]);
        let model = Model::new(json!({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}), 7, 3);
        Toy { model, scale, tokens, reads: ScoreReads::Prompt, eos: vec![3], spaces: vec![], prompts }
    }

    /// Scores of two tokens: one beginning for two of them (4 5, 4 6, 6), or one that begins another and so is ended
    /// (4 end, 4 5 end, 5 end).
    pub fn scores_of_several_tokens(ended: bool) -> Self {
        let paths: [&[u32]; 3] = if ended { [&[4], &[4, 5], &[5]] } else { [&[4, 5], &[4, 6], &[6]] };
        Toy { tokens: tokens(&paths, &[2], &[2]), ..Toy::llama() }
    }

    /// Eight tokens, a phrase of two tokens or (behind white space) one, and two prompts of different length. 50 chains.
    pub fn two_token_phrase(family: Value) -> Self {
        let scale: Scale = "a,b,c=3,0,1".parse().unwrap();
        let prompts = vec![prompt(&scale, &[6, 0], 1.0, false), prompt(&scale, &[1, 0, 7, 1], 1.6, true)];
        let tokens = tokens(&[&[5], &[6], &[7]], &[2, 3], &[3]);
        Toy { model: Model::new(family, 8, 11), scale, tokens, reads: ScoreReads::Prompt, eos: vec![4], spaces: vec![1], prompts }
    }

    pub fn stop(&self) -> Stop {
        let phrases = vec![self.tokens.stem.clone(), self.tokens.opening.clone()];
        Stop { phrases, eos: self.eos.clone(), max_tokens: MAX_TOKENS }
    }

    /// Every chain that can be sampled, as tokens with their ending and the length of its tail.
    pub fn records(&self) -> Vec<(Vec<u32>, Ending, usize)> {
        let mut open = vec![vec![]];
        let mut records = Vec::new();
        for _ in 0..MAX_TOKENS {
            let grown = open
                .iter()
                .flat_map(|c: &Vec<u32>| (0..self.model.reference_config.vocab as u32).map(|t| [&c[..], &[t]].concat()));
            let mut still_open = Vec::new();
            for chain in grown {
                let phrase = [&self.tokens.stem, &self.tokens.opening].into_iter().find(|p| chain.ends_with(p));
                if self.eos.contains(&chain[chain.len() - 1]) {
                    records.push((chain, Ending::Eos, 1));
                } else if let Some(phrase) = phrase {
                    records.push((chain, Ending::Phrase, phrase.len()));
                } else if chain.len() == MAX_TOKENS {
                    records.push((chain, Ending::Length, 0));
                } else {
                    still_open.push(chain);
                }
            }
            open = still_open;
        }
        records
    }

    pub fn with_answer<T>(&self, then: impl FnOnce(&AnswerSpec) -> T) -> T {
        let format = AnswerFormat { tokens: &self.tokens, decode: self };
        then(&AnswerSpec { scale: &self.scale, format, eos: &self.eos })
    }
}
