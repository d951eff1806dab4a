//! What needs no adapter: the command line, the page's server, the shaders as text, the source itself.
//!
//! One binary for all of it, and one for what needs an adapter (`tests/gpu`): each binary costs a link of the whole crate.

#[path = "../common/cli.rs"]
mod cli;
#[path = "../common/http.rs"]
mod http;
#[path = "../common/messages.rs"]
mod messages;

mod agree;
mod command_line;
mod few_labels;
mod gates;
mod labels;
mod serve;
mod serve_api;
mod shaders;
mod split;
mod style;
mod tint;
