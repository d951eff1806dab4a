//! What runs on an adapter: kernels, models, training, judging, and the program that does them. `tests/cpu` has the rest.

#[path = "../common/cli.rs"]
mod cli;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/http.rs"]
mod http;
#[path = "../common/messages.rs"]
mod messages;

mod bundle;
mod calibrated;
mod compare;
mod compare_files;
mod data;
mod determinism;
mod enumeration;
mod families;
mod faults;
mod gguf;
mod golden;
mod habits;
mod inputs;
mod kernels;
mod library;
mod limits;
mod lora;
mod memory;
mod methods;
mod pairs;
mod policy;
mod pretrained;
mod quantised;
mod ranks;
mod resume;
mod rollout_reads;
mod rollout_shared;
mod score;
mod score_ranks;
mod serve;
mod serve_company;
