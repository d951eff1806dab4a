#![no_main]

jurist_fuzz::target!(rows);
