//! Adapters in PEFT's files: `adapter_config.json` and `adapter_model.safetensors` (PEFT 0.21).

use std::collections::{BTreeSet, HashMap, HashSet};

use safetensors::SafeTensors;
use serde_json::{Map, Value, json};

use super::selection::{PatternValues, Selection};
use super::{ALL_LINEAR, LoraSettings, Module, scale, tensor_name};
use crate::model::config::Config;
use crate::model::dtype::first_non_finite;
use crate::model::error::ModelError;
use crate::model::names::{Groups, TensorSpec};
use crate::model::shard_layout::header_of;
use crate::ops::weight_dtype::WeightDtype;

/// The file of an adapter's settings.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
/// The file of an adapter's tensors.
pub const ADAPTER_MODEL: &str = "adapter_model.safetensors";

/// An adapter in memory.
#[derive(Clone, Debug)]
pub struct AdapterFiles {
    pub settings: LoraSettings,
    pub modules: Vec<Module>,
    /// Notes for the user.
    pub notes: Vec<String>,
    specs: Vec<TensorSpec>,
    values: HashMap<String, Vec<f32>>,
}

/// Settings of PEFT that change the mathematics unless they are null, false or empty.
const REFUSED: [&str; 13] = [
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "modules_to_save",
    "trainable_token_indices",
    "target_parameters",
    "layer_replication",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "velora_config",
    "monteclora_config",
];

/// Initialisations that do not change the base model. The others (pissa, olora, corda, loftq, lora_ga) subtract the new
/// adapter's update from its weights.
const INITIALISATIONS: &str = "true, false, gaussian, orthogonal, eva. Others, such as pissa and olora, change the base model's \
    weights: convert the adapter with PEFT (save_pretrained with path_initial_model_for_weight_conversion), or merge it there \
    (merge_and_unload) and use the merged model";

impl AdapterFiles {
    /// An adapter with these tensors, in this order.
    pub fn new(settings: LoraSettings, modules: Vec<Module>, tensors: Vec<(TensorSpec, Vec<f32>)>) -> Self {
        let specs = tensors.iter().map(|(spec, _)| spec.clone()).collect();
        let values = tensors.into_iter().map(|(spec, values)| (spec.name, values)).collect();
        AdapterFiles { settings, modules, notes: Vec::new(), specs, values }
    }

    /// Reads an adapter from the contents of both files.
    ///
    /// # Errors
    /// An adapter that is not LoRA; settings that are not implemented; damaged or incomplete files; values that are not finite.
    pub fn parse(config: &str, tensors: &[u8]) -> Result<Self, ModelError> {
        let json: Value = serde_json::from_str(config).map_err(|e| ModelError::Json(e.to_string()).in_file(ADAPTER_CONFIG))?;
        let peft = PeftConfig::read(&json).map_err(|e| e.in_file(ADAPTER_CONFIG))?;
        let (mut specs, mut values) = read_tensors(tensors)?;
        let (modules, ignored) = peft.modules(&specs)?;
        let mut notes = Vec::new();
        if let Some(first) = ignored.first() {
            let count = ignored.len();
            notes.push(format!(
                "{ADAPTER_MODEL} has tensors of {count} modules that the targets of {ADAPTER_CONFIG} leave out, {first} the \
                 first: ignored, as by PEFT"
            ));
        }
        let left_out: HashSet<String> =
            ignored.iter().flat_map(|module| ['A', 'B'].map(|which| tensor_name(module, which))).collect();
        specs.retain(|spec| !left_out.contains(&spec.name));
        values.retain(|name, _| !left_out.contains(name));
        Ok(AdapterFiles { settings: peft.settings(&modules), modules, notes, specs, values })
    }

    /// The base model that `adapter_config.json` names.
    ///
    /// # Errors
    /// A config without such a name.
    pub fn base_name(config: &str) -> Result<String, ModelError> {
        let json: Value = serde_json::from_str(config).map_err(|e| ModelError::Json(e.to_string()).in_file(ADAPTER_CONFIG))?;
        let name = json.get("base_model_name_or_path").and_then(Value::as_str).filter(|name| !name.is_empty());
        let missing = || ModelError::MissingKey {
            key: "base_model_name_or_path".into(),
            expected: "the model that was adapted; give its folder with --base DIR".into(),
        };
        name.map(str::to_string).ok_or_else(|| missing().in_file(ADAPTER_CONFIG))
    }

    /// The text of `adapter_config.json` for the base model `base`.
    pub fn config_json(&self, base: &str) -> String {
        let s = &self.settings;
        let pattern = |value: &dyn Fn(&Module) -> Option<Value>| -> Map<String, Value> {
            self.modules.iter().filter_map(|m| Some((m.name.clone(), value(m)?))).collect()
        };
        let json = json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "revision": null,
            "inference_mode": true,
            "r": s.r,
            "lora_alpha": number(s.alpha),
            "lora_dropout": s.dropout,
            "use_rslora": s.rslora,
            "use_dora": false,
            "bias": "none",
            "fan_in_fan_out": false,
            "init_lora_weights": true,
            "modules_to_save": null,
            "target_modules": self.targets(),
            "rank_pattern": pattern(&|m| (m.r != s.r).then(|| m.r.into())),
            "alpha_pattern": pattern(&|m| (m.alpha != s.alpha).then(|| number(m.alpha))),
        });
        format!("{json:#}\n")
    }

    /// `target_modules` for PEFT: the last parts of the names if these select the adapted modules and no others, as after
    /// `all-linear`; otherwise whole names.
    fn targets(&self) -> Vec<String> {
        let in_every_layer = self.settings.targets.iter().all(|t| t == ALL_LINEAR || !t.contains('.'));
        let short = |m: &Module| m.name.rsplit('.').next().unwrap_or(&m.name).to_string();
        let target = |m: &Module| if in_every_layer { short(m) } else { m.name.clone() };
        let names: BTreeSet<String> = self.modules.iter().map(target).collect();
        names.into_iter().collect()
    }

    /// The bytes of `adapter_model.safetensors`, in f32.
    pub fn tensor_bytes(&self) -> Vec<u8> {
        let arrays = self.specs.iter().map(|s| (s.name.as_str(), "F32", &s.shape[..], s.len() as u64 * 4));
        let mut bytes = header_of(arrays);
        self.specs.iter().for_each(|s| WeightDtype::F32.narrow(&self.values[&s.name], &mut bytes));
        bytes
    }

    /// The same in f16, unless a value is beyond it.
    pub fn small_tensor_bytes(&self) -> Vec<u8> {
        if self.values.values().any(|values| WeightDtype::F16.first_out_of_range(values).is_some()) {
            return self.tensor_bytes();
        }
        let arrays = self.specs.iter().map(|s| (s.name.as_str(), "F16", &s.shape[..], s.len() as u64 * 2));
        let mut bytes = header_of(arrays);
        self.specs.iter().for_each(|s| WeightDtype::F16.narrow(&self.values[&s.name], &mut bytes));
        bytes
    }

    /// The values of a tensor.
    ///
    /// # Errors
    /// No tensor of this name.
    pub fn tensor(&self, name: &str) -> Result<&[f32], ModelError> {
        self.values.get(name).map(Vec::as_slice).ok_or_else(|| ModelError::UnknownTensor(name.into()))
    }

    /// Checks that every module is a projection of `config` and that every tensor has its shape.
    ///
    /// # Errors
    /// The first one that does not fit, with both shapes.
    pub fn check(&self, config: &Config) -> Result<(), ModelError> {
        let groups = Groups::of(config);
        for module in &self.modules {
            let shape = groups.list.iter().find_map(|group| {
                let part = group.parts.iter().find(|part| super::module_name(group, part) == Some(&module.name))?;
                Some([part.rows, group.cols])
            });
            let unknown = || {
                let problem = format!("the adapter is for another model: this one has no projection {}", module.name);
                ModelError::Inconsistent(problem)
            };
            let [rows, columns] = shape.ok_or_else(unknown)?;
            for (matrix, expected) in [('A', vec![module.r, columns]), ('B', vec![rows, module.r])] {
                let name = tensor_name(&module.name, matrix);
                let spec = self.specs.iter().find(|s| s.name == name).ok_or_else(|| ModelError::UnknownTensor(name.clone()))?;
                if spec.shape != expected {
                    let (tensor, file, found) = (name, ADAPTER_MODEL.into(), spec.shape.clone());
                    return Err(ModelError::Shape { tensor, file, expected, found });
                }
            }
        }
        Ok(())
    }

    /// Adds the update s B A of a tensor of the model to `values`, the tensor's elements `start ..` in row-major order. A tensor
    /// that is not adapted is not changed.
    pub fn add_to(&self, tensor: &str, start: usize, values: &mut [f32]) {
        let Some(module) = tensor.strip_suffix(".weight").and_then(|name| self.modules.iter().find(|m| m.name == name)) else {
            return;
        };
        let values_of = |matrix| self.values.get(&tensor_name(&module.name, matrix)).map(Vec::as_slice).unwrap_or_default();
        let (a, b) = (values_of('A'), values_of('B'));
        let columns = (a.len() / module.r).max(1);
        let s = scale(module.alpha, module.r, self.settings.rslora);
        let end = start + values.len();
        let mut update = vec![0.0; columns];
        for row in start / columns..end.div_ceil(columns) {
            update.fill(0.0);
            for (k, a_row) in a.chunks_exact(columns).enumerate() {
                let weight = s * b.get(row * module.r + k).map_or(0.0, |x| f64::from(*x));
                update.iter_mut().zip(a_row).for_each(|(y, x)| *y += weight * f64::from(*x));
            }
            let (from, to) = (start.max(row * columns), end.min((row + 1) * columns));
            let update = &update[from - row * columns..to - row * columns];
            for (w, d) in values[from - start..to - start].iter_mut().zip(update) {
                *w = (f64::from(*w) + d) as f32;
            }
        }
    }
}

/// A JSON number, written as an integer if it is one, because other readers expect that.
fn number(x: f64) -> Value {
    if x.fract() == 0.0 && x.abs() < 1e15 { json!(x as i64) } else { json!(x) }
}

/// The settings of `adapter_config.json` that are used here.
struct PeftConfig {
    r: usize,
    alpha: f64,
    dropout: f64,
    rslora: bool,
    bias: String,
    selection: Selection,
    ranks: PatternValues,
    alphas: PatternValues,
}

impl PeftConfig {
    fn read(json: &Value) -> Result<Self, ModelError> {
        let found = |key: &str| json.get(key).unwrap_or(&Value::Null).to_string();
        let unsupported = |key: &str, supported: &str| ModelError::Unsupported {
            key: key.into(),
            found: found(key),
            supported: supported.into(),
        };
        let bad =
            |key: &str, expected: &str| ModelError::BadValue { key: key.into(), expected: expected.into(), found: found(key) };
        if json.get("peft_type") != Some(&json!("LORA")) {
            return Err(unsupported("peft_type", "\"LORA\""));
        }
        if let Some(key) = REFUSED.into_iter().find(|key| json.get(key).is_some_and(|value| !is_off(value))) {
            return Err(unsupported(key, "null, false or nothing in it"));
        }
        if !json.get("init_lora_weights").is_none_or(keeps_base_weights) {
            return Err(unsupported("init_lora_weights", INITIALISATIONS));
        }
        let bias = json.get("bias").filter(|value| !value.is_null()).map_or(Some("none"), Value::as_str);
        let bias = bias
            .filter(|bias| ["none", "all", "lora_only"].contains(bias))
            .ok_or_else(|| bad("bias", "none, all or lora_only"))?;
        let number = |key: &str, default: f64| match json.get(key) {
            None => Ok(default),
            Some(value) => value.as_f64().filter(|x| x.is_finite()).ok_or_else(|| bad(key, "a number")),
        };
        let rslora = match json.get("use_rslora") {
            None | Some(Value::Null) => false,
            Some(value) => value.as_bool().ok_or_else(|| bad("use_rslora", "true or false"))?,
        };
        let r = number("r", 8.0)?;
        Ok(PeftConfig {
            r: rank(r).ok_or_else(|| bad("r", "a whole number of at least 1"))?,
            alpha: number("lora_alpha", 8.0)?,
            dropout: number("lora_dropout", 0.0)?,
            rslora,
            bias: bias.into(),
            selection: Selection::read(json)?,
            ranks: PatternValues::read("rank_pattern", json)?,
            alphas: PatternValues::read("alpha_pattern", json)?,
        })
    }

    /// The settings of an adapter that has these modules.
    fn settings(&self, modules: &[Module]) -> LoraSettings {
        let names = || modules.iter().map(|m| m.name.clone()).collect();
        let targets = self.selection.names().unwrap_or_else(names);
        LoraSettings { r: self.r, alpha: self.alpha, dropout: self.dropout, rslora: self.rslora, targets }
    }

    /// The selected modules that have tensors in the file, and the names of modules with tensors that are not selected. A
    /// selected module without tensors is not adapted; PEFT initialises its update with zero.
    fn modules(&self, specs: &[TensorSpec]) -> Result<(Vec<Module>, Vec<String>), ModelError> {
        let damaged = |reason: String| ModelError::Corrupt { file: ADAPTER_MODEL.into(), reason };
        let (mut modules, mut ignored) = (Vec::new(), Vec::new());
        let mut names: BTreeSet<&str> = specs.iter().map(|s| s.name.as_str()).collect();
        for spec in specs {
            let Some(name) = spec.name.strip_prefix("base_model.model.").and_then(|n| n.strip_suffix(".lora_A.weight")) else {
                continue;
            };
            let [r, _] = spec.shape[..] else { return Err(damaged(format!("{} has shape {:?}", spec.name, spec.shape))) };
            if !names.remove(tensor_name(name, 'B').as_str()) {
                return Err(damaged(format!("{name} has an A and no B")));
            }
            names.remove(spec.name.as_str());
            if !self.selection.selects(name)? {
                ignored.push(name.to_string());
                continue;
            }
            let expected = match self.ranks.of(name)? {
                None => self.r,
                Some(x) => rank(x).ok_or_else(|| damaged(format!("rank_pattern gives {name} the rank {x}")))?,
            };
            if r != expected {
                return Err(damaged(format!("{name} has rank {r}, and {ADAPTER_CONFIG} says {expected}")));
            }
            modules.push(Module { name: name.into(), r, alpha: self.alphas.of(name)?.unwrap_or(self.alpha) });
        }
        if let Some(name) = names.iter().find(|name| name.ends_with(".bias")).filter(|_| self.bias != "none") {
            let found = format!("\"{}\", and {ADAPTER_MODEL} has {name}", self.bias);
            return Err(
                ModelError::Unsupported { key: "bias".into(), found, supported: "\"none\"".into() }.in_file(ADAPTER_CONFIG)
            );
        }
        if let Some(name) = names.first() {
            return Err(ModelError::UnexpectedTensors { count: names.len(), names: name.to_string() });
        }
        match (modules.is_empty(), ignored.first()) {
            (false, _) => Ok((modules, ignored)),
            (true, None) => Err(damaged("it has no lora_A and lora_B".into())),
            (true, Some(first)) => Err(ModelError::Inconsistent(format!(
                "the target_modules of {ADAPTER_CONFIG} mean none of the modules that {ADAPTER_MODEL} has, such as {first}"
            ))),
        }
    }
}

/// `x` as a rank, if it is a positive integer.
fn rank(x: f64) -> Option<usize> {
    (x >= 1.0 && x.fract() == 0.0 && x <= f64::from(u32::MAX)).then_some(x as usize)
}

/// Whether the value is false in Python.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// Whether PEFT loads an adapter with this `init_lora_weights` onto unchanged weights of the base model.
fn keeps_base_weights(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) => true,
        Value::String(name) => matches!(&*name.to_lowercase(), "gaussian" | "mica") || matches!(&**name, "orthogonal" | "eva"),
        _ => false,
    }
}

type Tensors = (Vec<TensorSpec>, HashMap<String, Vec<f32>>);

fn read_tensors(bytes: &[u8]) -> Result<Tensors, ModelError> {
    let file = || ADAPTER_MODEL.to_string();
    let stored = SafeTensors::deserialize(bytes).map_err(|e| ModelError::Corrupt { file: file(), reason: e.to_string() })?;
    let (mut specs, mut values_of) = (Vec::new(), HashMap::new());
    let mut tensors = stored.tensors();
    tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (name, view) in tensors {
        let dtype = WeightDtype::from_safetensors(view.dtype()).ok_or_else(|| ModelError::TensorDtype {
            tensor: name.clone(),
            file: file(),
            found: format!("{:?}", view.dtype()),
        })?;
        let mut values = vec![0.0; view.data().len() / dtype.bytes()];
        dtype.widen(view.data(), &mut values);
        if let Some(index) = first_non_finite(&values) {
            return Err(ModelError::NonFinite { tensor: name, index, value: values[index] });
        }
        // PEFT also accepts names with `.default`, as adapters have them in memory.
        let name = match name.strip_suffix(".default.weight") {
            Some(module) if module.ends_with(".lora_A") || module.ends_with(".lora_B") => format!("{module}.weight"),
            _ => name,
        };
        if values_of.insert(name.clone(), values).is_some() {
            return Err(ModelError::Corrupt { file: file(), reason: format!("it has {name} twice") });
        }
        specs.push(TensorSpec { name, shape: view.shape().to_vec() });
    }
    Ok((specs, values_of))
}

#[cfg(not(target_arch = "wasm32"))]
impl AdapterFiles {
    /// Reads the adapter in the folder `dir`.
    ///
    /// # Errors
    /// As [`AdapterFiles::parse`]; files that are missing.
    pub fn open(dir: &std::path::Path) -> Result<Self, ModelError> {
        let (config, tensors) = (dir.join(ADAPTER_CONFIG), dir.join(ADAPTER_MODEL));
        let text = std::fs::read_to_string(&config).map_err(|e| ModelError::io("read", &config, e))?;
        let bytes = std::fs::read(&tensors).map_err(|e| ModelError::io("read", &tensors, e))?;
        Self::parse(&text, &bytes).map_err(|e| e.in_file(dir.display().to_string()))
    }

    /// Writes both files into the existing folder `dir`. It is not atomic.
    ///
    /// # Errors
    /// Values that are not finite; a full disk.
    pub fn write(&self, dir: &std::path::Path, base: &str) -> Result<(), ModelError> {
        for spec in &self.specs {
            let values = &self.values[&spec.name];
            if let Some(index) = first_non_finite(values) {
                return Err(ModelError::NonFinite { tensor: spec.name.clone(), index, value: values[index] });
            }
        }
        for (name, bytes) in [(ADAPTER_CONFIG, self.config_json(base).into_bytes()), (ADAPTER_MODEL, self.tensor_bytes())] {
            let path = dir.join(name);
            std::fs::write(&path, bytes).map_err(|e| ModelError::io("write", path, e))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter() -> AdapterFiles {
        let module = |name: &str, r, alpha| Module { name: format!("model.layers.0.{name}"), r, alpha };
        let modules = vec![module("self_attn.q_proj", 2, 4.0), module("mlp.up_proj", 1, 3.0)];
        let tensor = |name: String, shape: [usize; 2], first: f32| {
            let values = (0..shape[0] * shape[1]).map(|i| first + i as f32).collect();
            (TensorSpec { name, shape: shape.to_vec() }, values)
        };
        let tensors = vec![
            tensor(tensor_name(&modules[0].name, 'A'), [2, 3], 1.0),
            tensor(tensor_name(&modules[0].name, 'B'), [2, 2], -1.0),
            tensor(tensor_name(&modules[1].name, 'A'), [1, 3], 0.5),
            tensor(tensor_name(&modules[1].name, 'B'), [4, 1], 0.0),
        ];
        let targets = vec!["q_proj".into(), "up_proj".into()];
        let settings = LoraSettings { r: 2, alpha: 4.0, dropout: 0.05, rslora: false, targets };
        AdapterFiles::new(settings, modules, tensors)
    }

    #[test]
    fn written_adapters_are_read_back() {
        let written = adapter();
        let read = AdapterFiles::parse(&written.config_json("base"), &written.tensor_bytes()).unwrap();
        assert_eq!(read.settings, written.settings);
        let names =
            |a: &AdapterFiles| a.modules.iter().map(|m| (m.name.clone(), m.r, m.alpha.to_bits())).collect::<BTreeSet<_>>();
        assert_eq!(names(&read), names(&written));
        assert_eq!(read.tensor(&written.specs[1].name).unwrap(), written.tensor(&written.specs[1].name).unwrap());
        assert_eq!(AdapterFiles::base_name(&written.config_json("some/base")).unwrap(), "some/base");
    }

    #[test]
    fn the_update_is_s_b_a() {
        // Row 1 of q: s = 4 / 2; B[1] = (1, 2); A = ((1, 2, 3), (4, 5, 6)).
        let mut row = [100.0; 3];
        adapter().add_to("model.layers.0.self_attn.q_proj.weight", 3, &mut row);
        assert_eq!(row, [118.0, 124.0, 130.0]);
        adapter().add_to("model.layers.0.self_attn.k_proj.weight", 3, &mut row);
        assert_eq!(row, [118.0, 124.0, 130.0]);
        // A range across rows: the last element of row 0 and the first two of row 1. B[0] = (-1, 0).
        let mut range = [0.0; 3];
        adapter().add_to("model.layers.0.self_attn.q_proj.weight", 2, &mut range);
        assert_eq!(range, [-6.0, 18.0, 24.0]);
    }

    #[test]
    fn settings_that_are_not_implemented_are_refused_by_name() {
        let adapter = adapter();
        let error_with = |key: &str, value: Value| {
            let mut json: Value = serde_json::from_str(&adapter.config_json("base")).unwrap();
            json[key] = value;
            AdapterFiles::parse(&json.to_string(), &adapter.tensor_bytes()).unwrap_err().to_string()
        };
        for (key, value) in [
            ("peft_type", json!("LOHA")),
            ("use_dora", json!(true)),
            ("modules_to_save", json!(["lm_head"])),
            ("bias", json!("some")),
            ("init_lora_weights", json!("pissa")),
            ("r", json!(0)),
        ] {
            let error = error_with(key, value);
            assert!(error.contains(key) && error.contains(ADAPTER_CONFIG), "{key}: {error}");
        }
        assert!(error_with("r", json!(3)).contains("has rank 2"));
        let cut = &adapter.tensor_bytes()[..40];
        assert!(
            AdapterFiles::parse(&adapter.config_json("base"), cut).unwrap_err().to_string().contains("download or copy it again")
        );
    }
}
