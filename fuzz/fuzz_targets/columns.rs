#![no_main]

jurist_fuzz::target!(columns);
