use super::*;
use crate::model::names;
use crate::model::tests::{FAMILIES, edited, shared, tiny};
use crate::ops::weight_dtype::WeightDtype;
use serde_json::json;

const GOLDEN: [&str; 7] = ["qwen3_tied", "qwen3_untied", "qwen2", "llama", "llama3_rope", "mistral", "mistral_window"];

/// Old-form files, shortened from those on the hub (Qwen3-0.6B, Qwen2.5-0.5B-Instruct, Llama-3.2-1B, Mistral-7B-v0.1).
const QWEN3_06B: &str = r#"{"architectures":["Qwen3ForCausalLM"],"attention_bias":false,"attention_dropout":0.0,
"bos_token_id":151643,"eos_token_id":151645,"head_dim":128,"hidden_act":"silu","hidden_size":1024,
"initializer_range":0.02,"intermediate_size":3072,"max_position_embeddings":40960,"max_window_layers":28,
"model_type":"qwen3","num_attention_heads":16,"num_hidden_layers":28,"num_key_value_heads":8,"rms_norm_eps":1e-06,
"rope_scaling":null,"rope_theta":1000000,"sliding_window":null,"tie_word_embeddings":true,"torch_dtype":"bfloat16",
"transformers_version":"4.51.0","use_cache":true,"use_sliding_window":false,"vocab_size":151936}"#;
const QWEN25_05B: &str = r#"{"architectures":["Qwen2ForCausalLM"],"attention_dropout":0.0,"bos_token_id":151643,
"eos_token_id":[151645,151643],"hidden_act":"silu","hidden_size":896,"intermediate_size":4864,
"max_position_embeddings":32768,"max_window_layers":21,"model_type":"qwen2","num_attention_heads":14,
"num_hidden_layers":24,"num_key_value_heads":2,"rms_norm_eps":1e-06,"rope_theta":1000000.0,"sliding_window":32768,
"tie_word_embeddings":true,"torch_dtype":"bfloat16","use_cache":true,"use_mrope":false,"use_sliding_window":false,
"vocab_size":151936}"#;
const LLAMA32_1B: &str = r#"{"architectures":["LlamaForCausalLM"],"attention_bias":false,"attention_dropout":0.0,
"bos_token_id":128000,"eos_token_id":128001,"head_dim":64,"hidden_act":"silu","hidden_size":2048,
"intermediate_size":8192,"max_position_embeddings":131072,"mlp_bias":false,"model_type":"llama",
"num_attention_heads":32,"num_hidden_layers":16,"num_key_value_heads":8,"pretraining_tp":1,"rms_norm_eps":1e-05,
"rope_scaling":{"factor":32.0,"high_freq_factor":4.0,"low_freq_factor":1.0,"original_max_position_embeddings":8192,
"rope_type":"llama3"},"rope_theta":500000.0,"tie_word_embeddings":true,"torch_dtype":"bfloat16","vocab_size":128256}"#;
const MISTRAL_7B: &str = r#"{"architectures":["MistralForCausalLM"],"bos_token_id":1,"eos_token_id":2,
"hidden_act":"silu","hidden_size":4096,"intermediate_size":14336,"max_position_embeddings":32768,
"model_type":"mistral","num_attention_heads":32,"num_hidden_layers":32,"num_key_value_heads":8,"rms_norm_eps":1e-05,
"rope_theta":10000.0,"sliding_window":4096,"tie_word_embeddings":false,"torch_dtype":"bfloat16","vocab_size":32000}"#;

/// The window of all layers.
fn window(config: &Config) -> Option<usize> {
    assert!(config.layers.iter().all(|layer| *layer == config.layers[0]));
    config.layers[0].window
}

fn read(text: &str) -> Config {
    Config::from_json(text).unwrap_or_else(|e| panic!("{e}"))
}

/// Parameter counts as published (Mistral-7B: 7.24 billion) or counted from the hub's files.
#[test]
fn published_models_are_read_in_the_old_form() {
    let qwen3 = read(QWEN3_06B);
    assert_eq!(qwen3.parameter_count(), 596_049_920);
    assert_eq!((qwen3.head_dim, qwen3.q_rows(), qwen3.qk_norm, qwen3.qkv_bias), (128, 2048, true, false));
    assert_eq!(qwen3.ropes, [Rope { theta: 1e6, scaling: RopeScaling::Default }]);
    assert_eq!(qwen3.dtype, Some(WeightDtype::Bf16));

    let qwen2 = read(QWEN25_05B);
    assert_eq!(qwen2.parameter_count(), 494_032_768);
    assert_eq!((qwen2.head_dim, window(&qwen2), qwen2.qkv_bias), (64, None, true));
    assert_eq!(qwen2.eos_token_ids, [151_645, 151_643]);

    let llama = read(LLAMA32_1B);
    assert_eq!(llama.parameter_count(), 1_235_814_400);
    assert!(matches!(llama.ropes[0].scaling, RopeScaling::Llama3 { factor: 32.0, original_max_position_embeddings: 8192, .. }));

    let mistral = read(MISTRAL_7B);
    assert_eq!(mistral.parameter_count(), 7_241_732_096);
    assert_eq!(window(&mistral), Some(4096));
}

#[test]
fn golden_configs_are_read() {
    let Some(golden) = shared("reference/golden") else { return };
    for model in GOLDEN {
        let config = Config::open(&golden.join(model).join("checkpoint")).unwrap_or_else(|e| panic!("{model}: {e}"));
        assert_eq!((config.hidden_size, config.num_hidden_layers, config.vocab_size), (64, 2, 512), "{model}");
        assert_eq!(config.head_dim, if model == "qwen2" { 16 } else { 32 }, "{model}");
        assert_eq!(window(&config), (model == "mistral_window").then_some(8), "{model}");
        assert_eq!(config.tie_word_embeddings, ["qwen3_tied", "qwen2", "llama3_rope"].contains(&model), "{model}");
        assert_eq!(config.dtype, Some(WeightDtype::F32), "{model}");
        let total: usize = names::tensors(&config).iter().map(|t| t.len()).sum();
        assert_eq!(config.parameter_count(), total as u64, "{model}");
    }
}

/// The defaults of transformers 5.23 for absent keys.
#[test]
fn absent_keys_have_the_defaults_of_the_family() {
    let config = read(&edited("mistral", json!({"sliding_window": "-", "num_key_value_heads": null, "head_dim": null})));
    assert_eq!((window(&config), config.num_key_value_heads, config.head_dim), (Some(4096), 4, 4));
    let config =
        read(&edited("llama", json!({"num_key_value_heads": "-", "rope_theta": "-", "rms_norm_eps": "-", "eos_token_id": "-"})));
    assert_eq!((config.num_key_value_heads, config.ropes[0].theta, config.rms_norm_eps), (4, 1e4, 1e-6));
    assert_eq!((config.bos_token_id, config.eos_token_ids.as_slice(), config.max_position_embeddings), (Some(1), &[2][..], 2048));
    let config = read(&edited("qwen3", json!({"head_dim": "-"})));
    assert_eq!((config.head_dim, config.bos_token_id, config.tie_word_embeddings), (128, None, true));
    let config = read(&edited(
        "llama",
        json!({"pad_token_id": -1, "eos_token_id": null, "attention_dropout": 0.1, "hidden_act": "swish"}),
    ));
    assert_eq!((config.pad_token_id, config.eos_token_ids.len()), (None, 0));
    assert_eq!(read(&edited("llama", json!({"architectures": "-"}))).family, Family::Llama);
    assert_eq!(read(&edited("llama", json!({"model_type": "-"}))).family, Family::Llama);
}

/// Old-form files, shortened from those on the hub (Gemma 3 4B's text part, SmolLM3 3B).
const GEMMA3_4B: &str = r#"{"architectures":["Gemma3ForCausalLM"],"model_type":"gemma3_text","hidden_size":2560,
"intermediate_size":10240,"num_hidden_layers":34,"rope_scaling":{"factor":8.0,"rope_type":"linear"},"sliding_window":1024,
"torch_dtype":"bfloat16"}"#;
const SMOLLM3_3B: &str = r#"{"architectures":["SmolLM3ForCausalLM"],"attention_bias":false,"bos_token_id":null,
"eos_token_id":128012,"hidden_act":"silu","hidden_size":2048,"intermediate_size":11008,"max_position_embeddings":65536,
"max_window_layers":28,"mlp_bias":false,"model_type":"smollm3","no_rope_layer_interval":4,"num_attention_heads":16,
"num_hidden_layers":36,"num_key_value_heads":4,"pad_token_id":128004,"pretraining_tp":2,"rms_norm_eps":1e-06,
"rope_scaling":null,"rope_theta":5000000.0,"sliding_window":null,"torch_dtype":"bfloat16","use_sliding_window":false,
"vocab_size":128256}"#;

#[test]
fn layers_of_gemma_and_smollm3() {
    let gemma = read(GEMMA3_4B);
    let (local, global) = (Layer { rope: Some(0), window: Some(1024) }, Layer { rope: Some(1), window: None });
    let kinds: Vec<Layer> = (1..=34).map(|n| if n % 6 == 0 { global } else { local }).collect();
    assert_eq!(gemma.layers, kinds);
    assert_eq!(gemma.ropes[0], Rope { theta: 1e4, scaling: RopeScaling::Default });
    assert_eq!(gemma.ropes[1], Rope { theta: 1e6, scaling: RopeScaling::Linear { factor: 8.0 } });
    let defaults = (gemma.vocab_size, gemma.num_attention_heads, gemma.num_key_value_heads, gemma.head_dim);
    assert_eq!(defaults, (262_208, 8, 4, 256));
    assert_eq!((gemma.embedding_scale, gemma.attention_scale(), gemma.norm_offset), (2560f64.sqrt(), 0.0625, 1.0));
    assert_eq!((gemma.bos_token_id, gemma.eos_token_ids.as_slice(), gemma.tie_word_embeddings), (Some(2), &[1][..], true));
    assert_eq!(gemma.parameter_count(), 3_880_263_168, "as published: 3.88 billion without images");

    let smol = read(SMOLLM3_3B);
    assert!(smol.layers.iter().enumerate().all(|(n, layer)| layer.rope.is_none() == (n % 4 == 3) && layer.window.is_none()));
    assert_eq!(smol.ropes, [Rope { theta: 5e6, scaling: RopeScaling::Default }]);
    assert_eq!(smol.parameter_count(), 3_075_098_624, "as published: 3.08 billion");

    let forms = json!({"rope_parameters": {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }});
    assert_eq!(read(&edited("gemma3_text", forms)).ropes, gemma.ropes);
    let pattern = read(&edited("gemma3_text", json!({"sliding_window_pattern": 2, "sliding_window": null})));
    assert_eq!(pattern.layers, [Layer { rope: Some(0), window: None }, global]);
}

#[test]
fn windows_that_apply_to_no_layer_are_accepted() {
    for edit in [
        json!({"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 2}),
        json!({"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 0, "layer_types": ["full_attention", "full_attention"]}),
        json!({"use_sliding_window": true, "sliding_window": null, "max_window_layers": 0}),
    ] {
        assert_eq!(window(&read(&edited("qwen2", edit))), None);
    }
}

#[test]
fn both_forms_mean_the_same() {
    let old = read(LLAMA32_1B);
    let mut map = old.raw().clone();
    let mut rope = map.remove("rope_scaling").unwrap();
    rope["rope_theta"] = map.remove("rope_theta").unwrap();
    let dtype = map.remove("torch_dtype").unwrap();
    map.insert("rope_parameters".into(), rope);
    map.insert("dtype".into(), dtype);
    let new = read(&Value::Object(map).to_string());
    assert_eq!((new.ropes, new.dtype), (old.ropes, old.dtype));
    // "type" is the older name of "rope_type".
    let legacy = LLAMA32_1B.replace("\"rope_type\"", "\"type\"");
    assert_eq!(read(&legacy).ropes, read(LLAMA32_1B).ropes);
}

#[test]
fn a_config_is_written_back_as_it_was_read() {
    let text = edited("qwen3", json!({"my_note": {"b": [1, 2.5], "a": null}, "torch_dtype": "float32"}));
    let config = read(&text);
    assert_eq!(config.to_json(WeightDtype::F32), text, "nothing to change: the same bytes");
    let bf16 = config.to_json(WeightDtype::Bf16);
    let keys = |text: &str| read(text).raw().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&bf16), keys(&text), "same keys, same order");
    assert_eq!(read(&bf16).dtype, Some(WeightDtype::Bf16));
    assert_eq!(read(&bf16).raw()["my_note"].to_string(), r#"{"b":[1,2.5],"a":null}"#);
    // Where the file has no dtype, it is added in the form of the file.
    let old = read(&edited("llama", json!({"torch_dtype": "-"}))).to_json(WeightDtype::F16);
    assert!(old.contains("\"torch_dtype\": \"float16\"") && !old.contains("\"dtype\""));
    let new = json!({"torch_dtype": "-", "rope_theta": "-", "rope_parameters": {"rope_theta": 1e4, "rope_type": "default"}});
    let new = read(&edited("llama", new)).to_json(WeightDtype::F16);
    assert!(new.contains("\"dtype\": \"float16\"") && !new.contains("torch_dtype"));
}

#[test]
fn default_frequencies_are_powers_of_theta() {
    let frequencies = read(&tiny("llama")).inv_freqs().remove(0);
    assert_eq!(frequencies, [1.0, 1e4f64.powf(-0.5)]);
}

/// The three branches of `_compute_llama3_parameters` of transformers 5.23.
#[test]
fn llama3_frequencies_are_those_of_transformers() {
    let (config, original, factor) = (read(LLAMA32_1B), 8192.0, 32.0);
    let (low, high) = (original / 1.0, original / 4.0);
    for (i, got) in config.inv_freqs().remove(0).into_iter().enumerate() {
        let plain = 5e5f64.powf(-(i as f64) / 32.0);
        let wavelength = std::f64::consts::TAU / plain;
        let want = if wavelength < high {
            plain
        } else if wavelength > low {
            plain / factor
        } else {
            let smooth = (original / wavelength - 1.0) / 3.0;
            (1.0 - smooth) * plain / factor + smooth * plain
        };
        assert!((got / want - 1.0).abs() < 1e-14, "{i}: {got} {want}");
    }
}

#[test]
fn a_refusal_names_the_key_the_value_and_what_is_supported() {
    let llama3 = |edit: Value| {
        let mut rope =
            json!({"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0});
        rope.as_object_mut().unwrap().extend(edit.as_object().unwrap().clone());
        json!({"rope_theta": "-", "rope_parameters": rope})
    };
    let full = "full_attention";
    let table: Vec<(&str, Value, &[&str])> = vec![
        (
            "llama",
            json!({"model_type": "gemma2", "architectures": "-"}),
            &["model_type", "gemma2", "soft-capping", "llama, mistral"],
        ),
        ("llama", json!({"model_type": "gemma3n_text", "architectures": "-"}), &["gemma3n_text", "AltUp"]),
        ("llama", json!({"model_type": "gemma3", "architectures": "-"}), &["gemma3", "images", "gemma3_text"]),
        ("llama", json!({"model_type": "gemma4_text", "architectures": "-"}), &["gemma4_text", "per-layer embeddings"]),
        ("llama", json!({"model_type": "qwen3_5_text", "architectures": "-"}), &["qwen3_5_text", "gated delta nets"]),
        ("llama", json!({"model_type": "mamba", "architectures": "-"}), &["`model_type` is \"mamba\", which"]),
        ("gemma3_text", json!({"attn_logit_softcapping": 50.0}), &["attn_logit_softcapping", "50"]),
        ("gemma3_text", json!({"final_logit_softcapping": 30.0}), &["final_logit_softcapping", "30"]),
        ("gemma3_text", json!({"hidden_activation": "gelu"}), &["hidden_activation", "gelu_pytorch_tanh"]),
        ("gemma3_text", json!({"use_bidirectional_attention": true}), &["use_bidirectional_attention"]),
        (
            "gemma3_text",
            json!({"layer_types": [full, "chunked_attention"]}),
            &["layer_types", "chunked_attention", "sliding_attention"],
        ),
        ("gemma3_text", json!({"layer_types": [full]}), &["layer_types", "num_hidden_layers"]),
        ("gemma3_text", json!({"query_pre_attn_scalar": 0}), &["query_pre_attn_scalar", "above 0"]),
        (
            "gemma3_text",
            json!({"rope_scaling": {"rope_type": "yarn", "factor": 8.0}}),
            &["rope_scaling.rope_type", "yarn", "linear"],
        ),
        ("gemma3_text", json!({"rope_scaling": {"rope_type": "linear"}}), &["rope_scaling.factor", "missing"]),
        ("gemma3_text", json!({"rope_parameters": {"rope_theta": 1e4}}), &["rope_parameters.rope_theta", "sliding_attention"]),
        ("smollm3", json!({"no_rope_layers": [1]}), &["no_rope_layers", "num_hidden_layers"]),
        ("smollm3", json!({"no_rope_layers": [1, 2]}), &["no_rope_layers", "0 and 1"]),
        ("smollm3", json!({"use_sliding_window": true, "sliding_window": 8}), &["use_sliding_window"]),
        ("llama", json!({"model_type": "-", "architectures": "-"}), &["model_type", "missing"]),
        ("llama", json!({"model_type": 3}), &["`model_type`", "a string", "found 3"]),
        ("llama", json!({"model_type": "mistral"}), &["same family"]),
        ("qwen2", json!({"architectures": ["Qwen2ForRewardModel"]}), &["architectures", "Qwen2ForRewardModel"]),
        (
            "llama",
            json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}),
            &["rope_scaling.rope_type", "yarn", "default, llama3"],
        ),
        ("llama", json!({"rope_scaling": {"type": "linear", "factor": 2.0}}), &["rope_scaling.type", "linear"]),
        ("llama", json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}}), &["dynamic"]),
        ("qwen3", json!({"rope_parameters": {"rope_type": "longrope"}}), &["rope_parameters.rope_type", "longrope"]),
        ("llama", json!({"rope_parameters": {"full_attention": {}}}), &["rope_parameters.full_attention"]),
        ("llama", json!({"rope_parameters": {"rope_type": "default"}, "rope_scaling": {"factor": 2}}), &["both"]),
        ("llama", json!({"rope_parameters": 3}), &["rope_parameters", "an object", "3"]),
        ("llama", json!({"rope_parameters": {"partial_rotary_factor": 0.5}}), &["rope_parameters.partial_rotary_factor", "0.5"]),
        ("llama", llama3(json!({"factor": null})), &["rope_parameters.factor", "missing"]),
        ("llama", llama3(json!({"factor": "8"})), &["rope_parameters.factor", "a number above 0", "\"8\""]),
        ("llama", llama3(json!({"low_freq_factor": 4.0})), &["low_freq_factor", "smaller"]),
        ("llama", json!({"rope_theta": -1}), &["rope_theta", "above 0", "-1"]),
        ("llama", json!({"partial_rotary_factor": 0.25}), &["partial_rotary_factor", "0.25"]),
        ("llama", json!({"hidden_act": "gelu"}), &["hidden_act", "gelu", "silu"]),
        ("llama", json!({"attention_bias": true}), &["attention_bias", "true"]),
        ("qwen3", json!({"attention_bias": true}), &["attention_bias", "true"]),
        ("llama", json!({"mlp_bias": true}), &["mlp_bias"]),
        ("llama", json!({"pretraining_tp": 2}), &["pretraining_tp", "2"]),
        ("llama", json!({"quantization_config": {"quant_method": "gptq"}}), &["quantization_config", "gptq", "unquantised"]),
        ("llama", json!({"attn_logit_softcapping": 50.0}), &["attn_logit_softcapping", "50"]),
        ("llama", json!({"final_logit_softcapping": 30.0}), &["final_logit_softcapping"]),
        ("qwen3", json!({"num_experts": 128}), &["num_experts", "128", "dense"]),
        ("mistral", json!({"num_local_experts": 8}), &["num_local_experts", "dense"]),
        ("llama", json!({"auto_map": {"AutoModelForCausalLM": "mine.Model"}}), &["auto_map.AutoModelForCausalLM", "mine.Model"]),
        ("qwen3", json!({"layer_types": [full, "sliding_attention"]}), &["layer_types", "sliding_attention"]),
        ("qwen3", json!({"layer_types": [full]}), &["layer_types", "num_hidden_layers"]),
        (
            "qwen2",
            json!({"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 1}),
            &["use_sliding_window", "1 of 2"],
        ),
        ("mistral", json!({"sliding_window": 8, "layer_types": [full, full]}), &["sliding_window", "layer_types"]),
        ("mistral", json!({"sliding_window": 0}), &["sliding_window", "at least 1", "found 0"]),
        ("llama", json!({"head_dim": 5}), &["head_dim", "even", "5"]),
        ("llama", json!({"hidden_size": 18, "head_dim": "-"}), &["hidden_size", "18", "multiple"]),
        ("llama", json!({"num_key_value_heads": 3}), &["num_attention_heads", "num_key_value_heads", "multiple"]),
        ("llama", json!({"vocab_size": 0}), &["vocab_size", "at least 1", "found 0"]),
        ("llama", json!({"vocab_size": "-"}), &["vocab_size", "missing"]),
        ("llama", json!({"hidden_size": -16}), &["hidden_size", "-16"]),
        ("llama", json!({"hidden_size": 16.5}), &["hidden_size", "integer", "16.5"]),
        ("llama", json!({"hidden_size": "16"}), &["hidden_size", "integer", "\"16\""]),
        ("llama", json!({"hidden_size": [16]}), &["hidden_size", "the list [16]"]),
        ("llama", json!({"intermediate_size": 1e300}), &["intermediate_size", "1e"]),
        ("llama", json!({"vocab_size": u64::MAX}), &["vocab_size", "at most"]),
        (
            "llama",
            json!({"vocab_size": 1 << 26, "hidden_size": 1 << 26, "intermediate_size": 1 << 26}),
            &["parameters", "at most"],
        ),
        ("llama", json!({"num_attention_heads": 1 << 26, "num_key_value_heads": 1 << 26, "head_dim": 1 << 26}), &["parameters"]),
        ("llama", json!({"num_hidden_layers": 100_000}), &["num_hidden_layers", "at most"]),
        ("llama", json!({"rms_norm_eps": 0}), &["rms_norm_eps", "above 0"]),
        ("llama", json!({"tie_word_embeddings": "yes"}), &["tie_word_embeddings", "true or false", "yes"]),
        ("llama", json!({"eos_token_id": [2, "x"]}), &["eos_token_id", "token id"]),
        ("llama", json!({"eos_token_id": 1u64 << 40}), &["eos_token_id", "token id"]),
        ("llama", json!({"torch_dtype": "float8_e4m3fn"}), &["torch_dtype", "float8", "bfloat16"]),
    ];
    for (family, edit, needles) in table {
        let error = Config::from_json(&edited(family, edit.clone())).expect_err(&edit.to_string()).to_string();
        for needle in needles {
            assert!(error.contains(needle), "{edit}: \"{error}\" lacks \"{needle}\"");
        }
    }
}

#[test]
fn texts_that_are_not_a_json_object_are_refused() {
    for (text, needle) in
        [("", "JSON"), ("{\"a\": 1", "JSON"), ("[1]", "the list [1]"), ("{\"rope_theta\": NaN}", "JSON"), ("\u{0}", "JSON")]
    {
        let error = Config::from_json(text).unwrap_err().to_string();
        assert!(error.contains(needle), "{text:?}: {error}");
    }
}

#[test]
fn the_parameter_count_is_that_of_the_listed_tensors() {
    for family in FAMILIES {
        let config = read(&tiny(family));
        let total: usize = names::tensors(&config).iter().map(|t| t.len()).sum();
        assert_eq!(config.parameter_count(), total as u64, "{family}");
    }
}
