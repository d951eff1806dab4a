#![no_main]

jurist_fuzz::target!(gguf);
