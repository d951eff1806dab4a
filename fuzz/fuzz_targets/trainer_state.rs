#![no_main]

jurist_fuzz::target!(trainer_state);
