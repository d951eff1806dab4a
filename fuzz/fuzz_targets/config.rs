#![no_main]

jurist_fuzz::target!(config);
