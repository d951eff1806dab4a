//! The settings of a LoRA adapter and of the frozen weights under it.

use super::{SettingError, TrainConfig};
use crate::model::lora::{ALL_LINEAR, LoraSettings};

#[doc(hidden)]
impl TrainConfig {
    /// The new adapter to train; `None`: every weight is trained, or the adapter of the start model.
    pub(crate) fn lora(&self) -> Option<LoraSettings> {
        let r = self.lora_r as usize;
        let targets = self.lora_target_modules.split(',').map(|t| t.trim().to_string()).filter(|t| !t.is_empty()).collect();
        let (alpha, dropout) = (self.lora_alpha.unwrap_or(2.0 * r as f64), self.lora_dropout);
        (r > 0).then_some(LoraSettings { r, alpha, dropout, rslora: self.use_rslora, targets })
    }

    /// Refuses settings that need an adapter which is missing, or that do not go together with one.
    pub(super) fn check_lora(&self) -> Result<(), SettingError> {
        let conflict = |message: String| Err(SettingError::Conflict(message));
        if self.lora_r == 0 {
            let given = [
                ("lora_alpha", self.lora_alpha.is_some()),
                ("lora_dropout", self.lora_dropout > 0.0),
                ("lora_target_modules", self.lora_target_modules != ALL_LINEAR),
                ("use_rslora", self.use_rslora),
            ];
            return match given.iter().find(|(_, given)| *given) {
                Some((key, _)) => conflict(format!("{key} is for a new adapter: set lora_r, its rank, as well")),
                None => Ok(()),
            };
        }
        if self.model_name_or_path.is_none() {
            return conflict("lora_r needs a model to adapt: set model_name_or_path, not init".into());
        }
        if self.lora_dropout > 0.0 && self.samples_chains() {
            return conflict(format!(
                "lora_dropout = {}: {} samples chains without dropout, and would train another policy than the one it sampled",
                self.lora_dropout, self.method
            ));
        }
        Ok(())
    }
}
